//! What is kept of other servers: their keys, and what is still to be sent to them.
//!
//! Deliberately not here: which rooms a server is in (`rooms`), and how it is reached (`remote`).

mod error;
pub mod keys;
mod schema;

use store::TableInfo;

pub use error::{Error, Result};

/// The tables of this crate.
pub const TABLES: &[TableInfo] = &[schema::SERVER_KEYS.info(), schema::KEY_ANSWERS.info()];
