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
    /// Another server did not answer, or not as it should.
    #[error(transparent)]
    Remote(#[from] remote::RemoteError),
    /// The policy server of a room does not sign an event of this server, or can't be asked. Where it said why, that is
    /// for the client.
    #[error("the room's policy server: {0}")]
    PolicyServer(#[source] remote::RemoteError),
    /// An event of another server is none, or is not as its sender made it.
    #[error("{0}")]
    BadEvent(String),
    /// What came as a transaction is none.
    #[error("this is no transaction: {0}")]
    BadTransaction(String),
    /// What an event needs could not be had from other servers.
    #[error("what it needs can't be had: {0}")]
    Unobtainable(&'static str),
    /// An event can't be judged before the members of its room are known.
    #[error("the members of the room are not known yet")]
    MembersMissing,
    /// Something could not be signed.
    #[error(transparent)]
    Signing(#[from] event::SigningKeyError),
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
