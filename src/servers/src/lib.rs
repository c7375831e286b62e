//! What is kept of other servers: their keys, and what is still to be sent to them.
//!
//! Deliberately not here: which rooms a server is in (`rooms`), and how it is reached (`remote`).

pub mod backoff;
pub mod keys;
pub mod outbox;
mod queue;
mod schema;

pub use queue::{News, Queue};
pub use schema::TABLES;

/// What every fallible call of this crate returns.
pub type Result<T, E = store::StoreError> = std::result::Result<T, E>;
