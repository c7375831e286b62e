//! What can go wrong in the core of users, by what the caller can do about it.

use std::borrow::Cow;

use store::StoreError;

/// A refusal or a failure of this crate. A refused change has written nothing that may be committed:
/// the caller drops the transaction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such thing; the word says what.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// There is one already; the word says what.
    #[error("{0} exists already")]
    Exists(&'static str),
    /// A value that may not be; the sentence says why.
    #[error("{0}")]
    Invalid(Cow<'static, str>),
    /// Something required is missing; the sentence says what.
    #[error("{0}")]
    Missing(Cow<'static, str>),
    /// The request is well-formed and not allowed; the sentence says why.
    #[error("{0}")]
    Forbidden(&'static str),
    /// A value is larger than it may be; the sentence says which and how large.
    #[error("{0}")]
    TooLarge(Cow<'static, str>),
    /// The name of a profile field is longer than 255 bytes.
    #[error("the name of a profile field has at most 255 bytes")]
    KeyTooLarge,
    /// The profile would be larger than 64 KiB.
    #[error("a profile has at most 64 KiB")]
    ProfileTooLarge,
    /// The value does not have the shape it must have; the sentence says how.
    #[error("{0}")]
    Malformed(Cow<'static, str>),
    /// A signature that should hold does not; the sentence says whose.
    #[error("{0}")]
    InvalidSignature(Cow<'static, str>),
    /// The backup version is not the current one.
    #[error("wrong backup version, the current one is {current}")]
    WrongBackupVersion {
        /// The version that can be written to.
        current: u64,
    },
}

impl Error {
    /// An [`Error::Invalid`].
    pub fn invalid(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(why.into())
    }

    /// An [`Error::Malformed`].
    pub fn malformed(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed(why.into())
    }
}

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
