//! What this crate can fail with.

use store::StoreError;

/// A failure, or a refusal of what another server sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// That is no document of a server's keys; says why.
    #[error("no usable keys: {0}")]
    BadKeys(&'static str),
}

/// What fallible calls of this crate answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;
