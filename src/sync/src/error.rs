//! What can go wrong while an answer is built.

/// A failure of a sync.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The core of rooms failed.
    #[error(transparent)]
    Rooms(#[from] rooms::Error),
    /// The core of users failed.
    #[error(transparent)]
    Users(#[from] users::Error),
}
