//! What is kept of other servers: their keys, and what is still to be sent to them.
//!
//! Deliberately not here: which rooms a server is in (`rooms`), and how it is reached (`remote`).

use store::TableInfo;

/// The tables of this crate.
pub const TABLES: &[TableInfo] = &[];
