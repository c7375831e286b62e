//! The standard error response: the one place that knows `M_*` codes and how they look on the wire.
//!
//! Owns: [`ErrCode`] (every code the specification lists), [`ApiError`] and its rendering.
//! Invariant: whatever fails in a handler or an extractor leaves as a JSON object with `errcode` and
//! `error`; only the 401 of interactive authentication may have no code, for its body is the list of
//! flows. CORS headers are not added here: the server's door puts them on every response.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

/// An error code of the specification (client-server API, "Common error codes" and "Other error codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrCode {
    AppserviceLoginUnsupported,
    BadAlias,
    BadJson,
    BadState,
    BadStatus,
    CannotLeaveServerNoticeRoom,
    CannotOverwriteMedia,
    CaptchaInvalid,
    CaptchaNeeded,
    ConnectionFailed,
    ConnectionTimeout,
    DuplicateAnnotation,
    Exclusive,
    Forbidden,
    GuestAccessForbidden,
    IncompatibleRoomVersion,
    InvalidParam,
    InvalidRoomState,
    InvalidSignature,
    InvalidUsername,
    InviteBlocked,
    KeyTooLarge,
    LimitExceeded,
    MissingParam,
    MissingToken,
    NotFound,
    NotJson,
    NotYetUploaded,
    ProfileTooLarge,
    ResourceLimitExceeded,
    RoomInUse,
    ServerNotTrusted,
    SessionExpired,
    SessionNotValidated,
    ThreepidAuthFailed,
    ThreepidDenied,
    ThreepidInUse,
    ThreepidMediumNotSupported,
    ThreepidNotFound,
    TooLarge,
    UnableToAuthoriseJoin,
    UnableToGrantJoin,
    Unauthorized,
    Unknown,
    UnknownDevice,
    /// `M_UNKNOWN_POS`: a sliding sync position that is not (or no longer) known (MSC4186).
    UnknownPos,
    UnknownToken,
    Unrecognized,
    UnsupportedRoomVersion,
    UrlNotSet,
    UserDeactivated,
    UserInUse,
    UserLimitExceeded,
    UserLocked,
    UserSuspended,
    WeakPassword,
    WrongRoomKeysVersion,
}

impl ErrCode {
    /// The code as it stands in the `errcode` field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AppserviceLoginUnsupported => "M_APPSERVICE_LOGIN_UNSUPPORTED",
            Self::BadAlias => "M_BAD_ALIAS",
            Self::BadJson => "M_BAD_JSON",
            Self::BadState => "M_BAD_STATE",
            Self::BadStatus => "M_BAD_STATUS",
            Self::CannotLeaveServerNoticeRoom => "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM",
            Self::CannotOverwriteMedia => "M_CANNOT_OVERWRITE_MEDIA",
            Self::CaptchaInvalid => "M_CAPTCHA_INVALID",
            Self::CaptchaNeeded => "M_CAPTCHA_NEEDED",
            Self::ConnectionFailed => "M_CONNECTION_FAILED",
            Self::ConnectionTimeout => "M_CONNECTION_TIMEOUT",
            Self::DuplicateAnnotation => "M_DUPLICATE_ANNOTATION",
            Self::Exclusive => "M_EXCLUSIVE",
            Self::Forbidden => "M_FORBIDDEN",
            Self::GuestAccessForbidden => "M_GUEST_ACCESS_FORBIDDEN",
            Self::IncompatibleRoomVersion => "M_INCOMPATIBLE_ROOM_VERSION",
            Self::InvalidParam => "M_INVALID_PARAM",
            Self::InvalidRoomState => "M_INVALID_ROOM_STATE",
            Self::InvalidSignature => "M_INVALID_SIGNATURE",
            Self::InvalidUsername => "M_INVALID_USERNAME",
            Self::InviteBlocked => "M_INVITE_BLOCKED",
            Self::KeyTooLarge => "M_KEY_TOO_LARGE",
            Self::LimitExceeded => "M_LIMIT_EXCEEDED",
            Self::MissingParam => "M_MISSING_PARAM",
            Self::MissingToken => "M_MISSING_TOKEN",
            Self::NotFound => "M_NOT_FOUND",
            Self::NotJson => "M_NOT_JSON",
            Self::NotYetUploaded => "M_NOT_YET_UPLOADED",
            Self::ProfileTooLarge => "M_PROFILE_TOO_LARGE",
            Self::ResourceLimitExceeded => "M_RESOURCE_LIMIT_EXCEEDED",
            Self::RoomInUse => "M_ROOM_IN_USE",
            Self::ServerNotTrusted => "M_SERVER_NOT_TRUSTED",
            Self::SessionExpired => "M_SESSION_EXPIRED",
            Self::SessionNotValidated => "M_SESSION_NOT_VALIDATED",
            Self::ThreepidAuthFailed => "M_THREEPID_AUTH_FAILED",
            Self::ThreepidDenied => "M_THREEPID_DENIED",
            Self::ThreepidInUse => "M_THREEPID_IN_USE",
            Self::ThreepidMediumNotSupported => "M_THREEPID_MEDIUM_NOT_SUPPORTED",
            Self::ThreepidNotFound => "M_THREEPID_NOT_FOUND",
            Self::TooLarge => "M_TOO_LARGE",
            Self::UnableToAuthoriseJoin => "M_UNABLE_TO_AUTHORISE_JOIN",
            Self::UnableToGrantJoin => "M_UNABLE_TO_GRANT_JOIN",
            Self::Unauthorized => "M_UNAUTHORIZED",
            Self::Unknown => "M_UNKNOWN",
            Self::UnknownDevice => "M_UNKNOWN_DEVICE",
            Self::UnknownPos => "M_UNKNOWN_POS",
            Self::UnknownToken => "M_UNKNOWN_TOKEN",
            Self::Unrecognized => "M_UNRECOGNIZED",
            Self::UnsupportedRoomVersion => "M_UNSUPPORTED_ROOM_VERSION",
            Self::UrlNotSet => "M_URL_NOT_SET",
            Self::UserDeactivated => "M_USER_DEACTIVATED",
            Self::UserInUse => "M_USER_IN_USE",
            Self::UserLimitExceeded => "M_USER_LIMIT_EXCEEDED",
            Self::UserLocked => "M_USER_LOCKED",
            Self::UserSuspended => "M_USER_SUSPENDED",
            Self::WeakPassword => "M_WEAK_PASSWORD",
            Self::WrongRoomKeysVersion => "M_WRONG_ROOM_KEYS_VERSION",
        }
    }

    /// The status this code has at most endpoints; an endpoint that differs uses [`ApiError::with_status`].
    pub const fn default_status(self) -> StatusCode {
        match self {
            Self::AppserviceLoginUnsupported
            | Self::BadAlias
            | Self::BadJson
            | Self::BadState
            | Self::BadStatus
            | Self::CaptchaInvalid
            | Self::CaptchaNeeded
            | Self::DuplicateAnnotation
            | Self::Exclusive
            | Self::IncompatibleRoomVersion
            | Self::InvalidParam
            | Self::InvalidRoomState
            | Self::InvalidSignature
            | Self::InvalidUsername
            | Self::KeyTooLarge
            | Self::MissingParam
            | Self::NotJson
            | Self::ProfileTooLarge
            | Self::RoomInUse
            | Self::ServerNotTrusted
            | Self::SessionExpired
            | Self::SessionNotValidated
            | Self::ThreepidInUse
            | Self::ThreepidMediumNotSupported
            | Self::ThreepidNotFound
            | Self::UnableToAuthoriseJoin
            | Self::UnableToGrantJoin
            | Self::UnknownPos
            | Self::UnsupportedRoomVersion
            | Self::UrlNotSet
            | Self::UserInUse
            | Self::WeakPassword => StatusCode::BAD_REQUEST,
            Self::MissingToken
            | Self::ThreepidAuthFailed
            | Self::Unauthorized
            | Self::UnknownDevice
            | Self::UnknownToken
            | Self::UserLocked => StatusCode::UNAUTHORIZED,
            Self::CannotLeaveServerNoticeRoom
            | Self::Forbidden
            | Self::GuestAccessForbidden
            | Self::InviteBlocked
            | Self::ResourceLimitExceeded
            | Self::ThreepidDenied
            | Self::UserDeactivated
            | Self::UserLimitExceeded
            | Self::UserSuspended
            | Self::WrongRoomKeysVersion => StatusCode::FORBIDDEN,
            Self::NotFound | Self::Unrecognized => StatusCode::NOT_FOUND,
            Self::CannotOverwriteMedia => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::LimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ConnectionFailed => StatusCode::BAD_GATEWAY,
            Self::ConnectionTimeout | Self::NotYetUploaded => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// What a handler returns when it refuses or fails: a status, a code, a sentence, and further fields.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    status: StatusCode,
    code: Option<ErrCode>,
    message: Cow<'static, str>,
    extra: Option<Box<Map<String, Value>>>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// An error with the status that `code` usually has.
    pub fn new(code: ErrCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: code.default_status(),
            code: Some(code),
            message: message.into(),
            extra: None,
            retry_after: None,
        }
    }

    /// The 401 of user-interactive authentication: `body` holds `flows`, `params`, `session` and
    /// `completed` (client-server API, "User-Interactive Authentication API"). A failed stage adds
    /// [`ApiError::with_code`].
    pub fn interactive(body: Map<String, Value>) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: None,
            message: Cow::Borrowed(""),
            extra: Some(Box::new(body)),
            retry_after: None,
        }
    }

    /// The refusal of another server, in its own words, whatever code it uses.
    pub fn relayed(status: StatusCode, errcode: &str, error: &str) -> Self {
        let mut body = Map::new();
        let errcode = if errcode.is_empty() {
            ErrCode::Unknown.as_str()
        } else {
            errcode
        };
        body.insert("errcode".to_owned(), errcode.into());
        body.insert("error".to_owned(), error.into());
        Self {
            status,
            code: None,
            message: Cow::Borrowed(""),
            extra: Some(Box::new(body)),
            retry_after: None,
        }
    }

    /// Replaces the status.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets `errcode` and `error`, keeping the status.
    pub fn with_code(mut self, code: ErrCode, message: impl Into<Cow<'static, str>>) -> Self {
        self.code = Some(code);
        self.message = message.into();
        self
    }

    /// Adds a field beside `errcode` and `error`, such as `admin_contact` or `current_version`.
    pub fn with_field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra
            .get_or_insert_default()
            .insert(name.to_owned(), value.into());
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The error code; none for interactive authentication without a failed stage, and for refusals of others.
    pub fn code(&self) -> Option<ErrCode> {
        self.code
    }

    /// The sentence in `error`.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// 400 `M_BAD_JSON`: valid JSON of the wrong shape.
    pub fn bad_json(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrCode::BadJson, message)
    }

    /// 400 `M_NOT_JSON`: the body is not JSON.
    pub fn not_json(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrCode::NotJson, message)
    }

    /// 403 `M_FORBIDDEN`.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrCode::Forbidden, message)
    }

    /// 404 `M_NOT_FOUND`.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrCode::NotFound, message)
    }

    /// 400 `M_INVALID_PARAM`: a parameter has the wrong value.
    pub fn invalid_param(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrCode::InvalidParam, message)
    }

    /// 400 `M_MISSING_PARAM`: a required parameter is missing.
    pub fn missing_param(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrCode::MissingParam, message)
    }

    /// 401 `M_MISSING_TOKEN`.
    pub fn missing_token() -> Self {
        Self::new(ErrCode::MissingToken, "Missing access token")
    }

    /// 401 `M_UNKNOWN_TOKEN`; `soft_logout` tells the client to log in again and keep its data
    /// (client-server API, "Soft logout").
    pub fn unknown_token(soft_logout: bool) -> Self {
        Self::new(ErrCode::UnknownToken, "Unrecognised access token")
            .with_field("soft_logout", soft_logout)
    }

    /// 401 `M_USER_LOCKED`, with the `soft_logout` that "Account locking" asks for.
    pub fn user_locked() -> Self {
        Self::new(ErrCode::UserLocked, "This account has been locked")
            .with_field("soft_logout", true)
    }

    /// 403 `M_USER_SUSPENDED`.
    pub fn user_suspended() -> Self {
        Self::new(ErrCode::UserSuspended, "This account has been suspended")
    }

    /// 403 `M_USER_DEACTIVATED`.
    pub fn user_deactivated() -> Self {
        Self::new(
            ErrCode::UserDeactivated,
            "This account has been deactivated",
        )
    }

    /// 429 `M_LIMIT_EXCEEDED`, with `Retry-After` in whole seconds and `retry_after_ms`.
    pub fn limit_exceeded(retry_after: Duration) -> Self {
        let mut error = Self::new(ErrCode::LimitExceeded, "Too many requests");
        error.retry_after = Some(retry_after);
        error
    }

    /// 413 `M_TOO_LARGE`.
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrCode::TooLarge, message)
    }

    /// 404 `M_UNRECOGNIZED`: no such endpoint.
    pub fn unrecognized() -> Self {
        Self::new(ErrCode::Unrecognized, "Unrecognised request")
    }

    /// 405 `M_UNRECOGNIZED`: the endpoint exists, the method does not.
    pub fn wrong_method() -> Self {
        Self::new(ErrCode::Unrecognized, "Wrong method for this endpoint")
            .with_status(StatusCode::METHOD_NOT_ALLOWED)
    }

    /// 400 `M_BAD_STATE`.
    pub fn bad_state(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrCode::BadState, message)
    }

    /// 400 `M_EXCLUSIVE`: the name belongs to an application service.
    pub fn exclusive(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrCode::Exclusive, message)
    }

    /// 403 `M_GUEST_ACCESS_FORBIDDEN`.
    pub fn guest_access_forbidden() -> Self {
        Self::new(ErrCode::GuestAccessForbidden, "Guests may not do this")
    }

    /// 400 `M_INCOMPATIBLE_ROOM_VERSION`, with the room's version.
    pub fn incompatible_room_version(room_version: &str) -> Self {
        Self::new(
            ErrCode::IncompatibleRoomVersion,
            format!("The room has version {room_version}, which the caller does not support"),
        )
        .with_field("room_version", room_version)
    }

    /// 400 `M_UNSUPPORTED_ROOM_VERSION`.
    pub fn unsupported_room_version(room_version: &str) -> Self {
        Self::new(
            ErrCode::UnsupportedRoomVersion,
            format!("Room version {room_version} is not supported"),
        )
    }

    /// 403 `M_WRONG_ROOM_KEYS_VERSION`, with the backup version that is current.
    pub fn wrong_room_keys_version(current_version: &str) -> Self {
        Self::new(
            ErrCode::WrongRoomKeysVersion,
            "This is not the current version of the backup",
        )
        .with_field("current_version", current_version)
    }

    /// 403 `M_RESOURCE_LIMIT_EXCEEDED`, with the required `admin_contact` (a URI).
    pub fn resource_limit_exceeded(
        message: impl Into<Cow<'static, str>>,
        admin_contact: &str,
    ) -> Self {
        Self::new(ErrCode::ResourceLimitExceeded, message)
            .with_field("admin_contact", admin_contact)
    }

    /// 403 `M_USER_LIMIT_EXCEEDED`, with the required `info_uri`.
    pub fn user_limit_exceeded(
        message: impl Into<Cow<'static, str>>,
        info_uri: &str,
        can_upgrade: bool,
    ) -> Self {
        let error = Self::new(ErrCode::UserLimitExceeded, message).with_field("info_uri", info_uri);
        if can_upgrade {
            error.with_field("can_upgrade", true)
        } else {
            error
        }
    }

    /// 400 `M_UNKNOWN`: the request is wrong in a way that no other code names.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrCode::Unknown, message).with_status(StatusCode::BAD_REQUEST)
    }

    /// 408 `M_UNKNOWN`: the body did not arrive in time.
    pub fn request_timeout() -> Self {
        Self::new(
            ErrCode::Unknown,
            "The request's body did not arrive in time",
        )
        .with_status(StatusCode::REQUEST_TIMEOUT)
    }

    /// 500 `M_UNKNOWN`. The cause goes to the log, never to the client.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "request failed inside the server");
        Self::new(ErrCode::Unknown, "Internal server error")
    }

    /// 503 `M_UNKNOWN`: for now the server can't (a full disk, shutting down).
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrCode::Unknown, message).with_status(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// 502 `M_UNKNOWN`: another server gave no usable answer.
    pub fn bad_gateway(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrCode::Unknown, message).with_status(StatusCode::BAD_GATEWAY)
    }

    /// The JSON body of the response.
    pub fn body(&self) -> Bytes {
        let mut body = match &self.extra {
            Some(extra) => extra.as_ref().clone(),
            None => Map::new(),
        };
        if let Some(code) = self.code {
            body.insert("errcode".to_owned(), code.as_str().into());
            body.insert("error".to_owned(), self.message.as_ref().into());
        }
        if let Some(wait) = self.retry_after {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            body.insert("retry_after_ms".to_owned(), wait_ms.max(1).into());
        }
        Bytes::from(Value::Object(body).to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body().into());
        *response.status_mut() = self.status;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(wait) = self.retry_after {
            // Rounded up: a client that comes back a fraction early would be refused again.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(error: &ApiError) -> Value {
        serde_json::from_slice(&error.body()).expect("an error body is JSON")
    }

    #[test]
    fn a_refused_rate_says_when_to_come_back_in_header_and_body() {
        let error = ApiError::limit_exceeded(Duration::from_millis(1_200));
        assert_eq!(body_of(&error)["errcode"], "M_LIMIT_EXCEEDED");
        assert_eq!(body_of(&error)["retry_after_ms"], 1_200);
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }

    #[test]
    fn an_unknown_token_carries_soft_logout() {
        let error = ApiError::unknown_token(true);
        assert_eq!(error.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(body_of(&error)["soft_logout"], true);
        assert_eq!(body_of(&error)["errcode"], "M_UNKNOWN_TOKEN");
    }

    #[test]
    fn interactive_authentication_shows_flows_without_a_code_until_a_stage_fails() {
        let mut flows = Map::new();
        flows.insert("session".to_owned(), "s1".into());
        let first = ApiError::interactive(flows);
        assert_eq!(body_of(&first), serde_json::json!({"session": "s1"}));
        let failed = first.with_code(ErrCode::Forbidden, "Wrong password");
        assert_eq!(failed.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(body_of(&failed)["errcode"], "M_FORBIDDEN");
        assert_eq!(body_of(&failed)["session"], "s1");
    }

    #[test]
    fn a_wrong_method_and_an_unknown_path_share_a_code_and_differ_in_status() {
        assert_eq!(ApiError::unrecognized().status(), StatusCode::NOT_FOUND);
        assert_eq!(
            ApiError::wrong_method().status(),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(ApiError::wrong_method().code(), Some(ErrCode::Unrecognized));
    }
}
