//! device_keys
