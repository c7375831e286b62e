//! key_backup
