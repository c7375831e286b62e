//! configured
