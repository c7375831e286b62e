//! push_rules
