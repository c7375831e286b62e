//! What the operator asks of a server's data, by `meyrin user` and `meyrin db`.
//!
//! A running server is asked through a unix socket in the data folder, which only its user can reach; the data
//! of a stopped one are opened directly. Both run the same code, [`execute::execute`].
//! Through the socket goes one request per connection, as a line of JSON, and back go [`Line`]s.

pub mod connect;
pub mod execute;
pub mod listener;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Walk over the database and prove that it is whole.
    DatabaseCheck,
    /// The sizes of the database.
    DatabaseStats,
    /// Write a copy of the database into a new folder.
    DatabaseBackup {
        /// Absolute; must not be there yet.
        folder: PathBuf,
    },
}

/// A line of the answer. The last is `Done` or `Failed`; without one the server went away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// To be printed.
    Text(String),
    /// It is done.
    Done,
    /// It is not done, and why.
    Failed(String),
}
