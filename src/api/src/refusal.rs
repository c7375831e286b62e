//! How refusals and failures of the core and the shell look to clients: the default translation. An
//! endpoint for which the specification says something else matches on the error before.

use http::StatusCode;
use media::MediaError;
use node::NodeError;
use remote::RemoteError;
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
            NodeError::Media(error) => error.into(),
            NodeError::UnknownPos => ApiError::new(ErrCode::UnknownPos, error.to_string()),
            NodeError::Remote(error) => error.into(),
            NodeError::PolicyServer(error) => of_policy_server(error),
            NodeError::BadTransaction(_) | NodeError::BadEvent(_) => {
                ApiError::bad_json(error.to_string())
            }
            NodeError::Unobtainable(_) => ApiError::not_found(error.to_string()),
            NodeError::MembersMissing => ApiError::unavailable(error.to_string()),
            NodeError::Overloaded | NodeError::Stopped => {
                ApiError::new(ErrCode::Unknown, error.to_string())
                    .with_status(StatusCode::SERVICE_UNAVAILABLE)
            }
            other => ApiError::internal(other),
        }
    }
}

/// What another server may say to a client through this one. Other codes speak of the client's session here, or of how the
/// two servers understand each other.
const RELAYED: [&str; 11] = [
    "M_BAD_STATE",
    "M_FORBIDDEN",
    "M_INCOMPATIBLE_ROOM_VERSION",
    "M_INVITE_BLOCKED",
    "M_LIMIT_EXCEEDED",
    "M_NOT_FOUND",
    "M_TOO_LARGE",
    "M_UNABLE_TO_AUTHORISE_JOIN",
    "M_UNABLE_TO_GRANT_JOIN",
    "M_UNKNOWN",
    "M_UNSUPPORTED_ROOM_VERSION",
];

/// What another server refused is refused in its words; one that can't be asked is a bad gateway.
impl From<RemoteError> for ApiError {
    fn from(error: RemoteError) -> Self {
        let message = error.to_string();
        match error {
            RemoteError::Refused {
                status,
                errcode,
                error,
                ..
            } if (400..500).contains(&status)
                && status != 401
                && RELAYED.contains(&errcode.as_str()) =>
            {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                ApiError::relayed(status, &errcode, &error)
            }
            RemoteError::NotAllowed(_) => ApiError::forbidden(message),
            RemoteError::TooLarge { .. } => {
                ApiError::too_large(message).with_status(StatusCode::BAD_GATEWAY)
            }
            RemoteError::TimedOut => {
                ApiError::new(ErrCode::Unknown, message).with_status(StatusCode::GATEWAY_TIMEOUT)
            }
            _ => ApiError::new(ErrCode::Unknown, message).with_status(StatusCode::BAD_GATEWAY),
        }
    }
}

/// "If the Policy Server returned an error, that error SHOULD be provided to the client verbatim." But who is logged in here
/// is not for it to say.
fn of_policy_server(error: RemoteError) -> ApiError {
    match &error {
        RemoteError::Refused {
            status: status @ (400 | 403 | 404 | 429),
            errcode,
            error,
            body,
        } if !errcode.is_empty() && !OF_SESSIONS.contains(&errcode.as_str()) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
            let refusal = ApiError::relayed(status, errcode, error);
            #[derive(serde::Deserialize)]
            struct Wait {
                retry_after_ms: u64,
            }
            match serde_json::from_slice::<Wait>(body) {
                Ok(wait) => refusal.with_field("retry_after_ms", wait.retry_after_ms),
                Err(_) => refusal,
            }
        }
        _ => error.into(),
    }
}

/// Codes by which clients are told of their own session and account.
const OF_SESSIONS: [&str; 9] = [
    "M_CONSENT_NOT_GIVEN",
    "M_MISSING_TOKEN",
    "M_RESOURCE_LIMIT_EXCEEDED",
    "M_UNAUTHORIZED",
    "M_UNKNOWN_DEVICE",
    "M_UNKNOWN_TOKEN",
    "M_USER_DEACTIVATED",
    "M_USER_LOCKED",
    "M_USER_SUSPENDED",
];

impl From<MediaError> for ApiError {
    fn from(error: MediaError) -> Self {
        let message = error.to_string();
        let code = match error {
            MediaError::TooLarge { .. } | MediaError::PictureTooLarge => ErrCode::TooLarge,
            MediaError::UnknownMedia | MediaError::InvalidMediaId => ErrCode::NotFound,
            MediaError::NotYetUploaded => ErrCode::NotYetUploaded,
            MediaError::AlreadyUploaded => ErrCode::CannotOverwriteMedia,
            MediaError::NotTheCreator => ErrCode::Forbidden,
            MediaError::TooManyPending { .. } => ErrCode::LimitExceeded,
            MediaError::NotThumbnailable { .. } => return ApiError::bad_request(message),
            MediaError::OutOfTime => return ApiError::unavailable(message),
            MediaError::DiskFull => return StoreError::Full.into(),
            MediaError::Store(error) => return error.into(),
            // Known, and yet its file is not there.
            MediaError::Missing | MediaError::Io(_) => return ApiError::internal(error),
        };
        ApiError::new(code, message)
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
