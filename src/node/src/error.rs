//! What the shell can fail with.

use store::StoreError;

/// A failure of the shell, as opposed to a refusal by the core.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store failed; see its error for whether it helps to try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The core of rooms failed.
    #[error(transparent)]
    Rooms(#[from] rooms::Error),
    /// The core of users failed.
    #[error(transparent)]
    Users(#[from] users::Error),
    /// The media repository refused or failed.
    #[error(transparent)]
    Media(#[from] media::MediaError),
    /// An answer to /sync could not be built.
    #[error(transparent)]
    Sync(#[from] sync::Error),
    /// What is kept of other servers failed.
    #[error(transparent)]
    Servers(#[from] servers::Error),
    /// Another server did not answer, or not as it should.
    #[error(transparent)]
    Remote(#[from] remote::RemoteError),
    /// A file that the configuration names can't be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A position of sliding sync is not known, or not any more: the client begins anew.
    #[error("this position is not known any more")]
    UnknownPos,
    /// Too much work is waiting already. The client may try again.
    #[error("too much work is waiting")]
    Overloaded,
    /// Work on a lane panicked; the panic was reported where it happened.
    #[error("the work did not finish")]
    Panicked,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopped,
}
