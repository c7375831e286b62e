//! relations
