//! The crate's errors: one variant for each thing a caller can do about a failure.

use std::io;

/// Why an operation on media failed.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The content is longer than the given limit, in bytes. `M_TOO_LARGE`.
    #[error("the content is longer than {limit_bytes} bytes")]
    TooLarge {
        /// The limit that was exceeded.
        limit_bytes: u64,
    },
    /// The disk or a quota on it is full; nothing was kept. Reads go on working.
    #[error("no space is left for media")]
    DiskFull,
    /// The file is not on this disk. `M_NOT_FOUND`.
    #[error("the file does not exist")]
    Missing,
    /// A media id with characters that the specification forbids, or of absurd length.
    #[error("not a valid media id")]
    InvalidMediaId,
    /// Not a picture that this server can make thumbnails of, or a broken one. `M_UNKNOWN`, status 400.
    #[error("cannot make a thumbnail: {reason}")]
    NotThumbnailable {
        /// What the decoder found.
        reason: String,
    },
    /// The picture would need more pixels, memory or frames than the limits allow. `M_TOO_LARGE`.
    #[error("the picture is too large for a thumbnail")]
    PictureTooLarge,
    /// The deadline of a rendering passed. Trying again when the server is idle may succeed.
    #[error("the thumbnail took too long")]
    OutOfTime,
    /// No such media, or none that may be served: never created, expired, or quarantined.
    /// `M_NOT_FOUND`.
    #[error("no such media")]
    UnknownMedia,
    /// The id was created, its content has not come yet. `M_NOT_YET_UPLOADED`, status 504.
    #[error("the content has not been uploaded yet")]
    NotYetUploaded,
    /// The id has content, which is never replaced. `M_CANNOT_OVERWRITE_MEDIA`, status 409.
    #[error("the content was uploaded already")]
    AlreadyUploaded,
    /// Another user created the id. `M_FORBIDDEN`.
    #[error("another user created this media id")]
    NotTheCreator,
    /// The user has as many unfinished uploads as are allowed. `M_LIMIT_EXCEEDED`, status 429.
    #[error("too many unfinished uploads")]
    TooManyPending {
        /// When the first of them expires, in milliseconds since the epoch.
        until_ms: u64,
    },
    /// The database failed.
    #[error("media metadata failed")]
    Store(#[from] store::StoreError),
    /// The disk failed in another way.
    #[error("media storage failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for MediaError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => MediaError::DiskFull,
            io::ErrorKind::NotFound => MediaError::Missing,
            _ => MediaError::Io(error),
        }
    }
}
