//! How refusals and failures of the core and the shell look to clients: the default translation. An
//! endpoint for which the specification says something else matches on the error before.

use http::StatusCode;
use node::NodeError;
use store::StoreError;

use crate::error::{ApiError, ErrCode};

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => ApiError::new(
                ErrCode::Unknown,
                "The server's disk is full: nothing can be written for now",
            )
            .with_status(StatusCode::INSUFFICIENT_STORAGE),
            other => ApiError::internal(other),
        }
    }
}

impl From<NodeError> for ApiError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Store(error) => error.into(),
            NodeError::Rooms(error) => error.into(),
            NodeError::Users(error) => error.into(),
            NodeError::Overloaded | NodeError::Stopped => {
                ApiError::new(ErrCode::Unknown, error.to_string())
                    .with_status(StatusCode::SERVICE_UNAVAILABLE)
            }
            other => ApiError::internal(other),
        }
    }
}

impl From<users::Error> for ApiError {
    fn from(error: users::Error) -> Self {
        let code = match &error {
            users::Error::Store(_) => ErrCode::Unknown,
            users::Error::NotFound(_) => ErrCode::NotFound,
            users::Error::Exists(_) | users::Error::Invalid(_) => ErrCode::InvalidParam,
            users::Error::Missing(_) => ErrCode::MissingParam,
            users::Error::Forbidden(_) => ErrCode::Forbidden,
            users::Error::TooLarge(_) => ErrCode::TooLarge,
            users::Error::KeyTooLarge => ErrCode::KeyTooLarge,
            users::Error::ProfileTooLarge => ErrCode::ProfileTooLarge,
            users::Error::Malformed(_) => ErrCode::BadJson,
            users::Error::InvalidSignature(_) => ErrCode::InvalidSignature,
            users::Error::WrongBackupVersion { .. } => ErrCode::WrongRoomKeysVersion,
        };
        match error {
            users::Error::WrongBackupVersion { current } => {
                ApiError::wrong_room_keys_version(&current.to_string())
            }
            users::Error::Store(error) => error.into(),
            other => ApiError::new(code, other.to_string()),
        }
    }
}
