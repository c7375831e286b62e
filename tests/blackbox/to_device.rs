//! to_device
