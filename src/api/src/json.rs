//! JSON in and out: bodies as extractors, bodies as responses.
//!
//! Owns how a request body becomes a value and which code a bad one gets:
//! not JSON (or not UTF-8) is `M_NOT_JSON`; JSON of another shape, a non-object included, is
//! `M_BAD_JSON`; an object without a required key is `M_MISSING_PARAM`; one too large is 413
//! `M_TOO_LARGE`. `Content-Type` is ignored (client-server API, "API Standards": clients should send
//! it, "but this is not required"). Nothing is read beyond the limit, nor for longer than the
//! request's body deadline.

use std::error::Error as _;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::request::{Arrival, BodyStalled};

/// A required JSON object in the body, as `T`. With `T = Box<RawValue>` (or fields of that type) the
/// bytes are kept as they came. Goes last among a handler's arguments.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

/// As [`JsonBody`], but an empty body counts as `{}`: for endpoints that old clients call without one.
#[derive(Debug)]
pub struct JsonBodyOrEmpty<T>(pub T);

/// The unparsed body, within the JSON limit and deadline: for handlers that parse from it by
/// reference with [`parse_object`], or that check a signature over it first.
#[derive(Debug)]
pub struct BodyBytes(pub Bytes);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let body = read_body(request).await?;
        parse_object(&body).map(Self)
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBodyOrEmpty<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let body = read_body(request).await?;
        parse_object_or_empty(&body).map(Self)
    }
}

impl<S: Sync> FromRequest<S> for BodyBytes {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        read_body(request).await.map(Self)
    }
}

/// Parses a body that must be one JSON object; `T` may borrow from it.
pub fn parse_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body)
        .map_err(|_| ApiError::not_json("The request's body is not UTF-8"))?;
    // serde would take an array for a struct, field by field; the specification means objects.
    let is_object = text
        .trim_start_matches([' ', '\t', '\r', '\n'])
        .starts_with('{');
    if !is_object {
        return Err(match is_json(text) {
            Ok(()) => ApiError::bad_json("The request's body must be a JSON object"),
            Err(error) => not_json(&error),
        });
    }
    serde_json::from_str(text).map_err(|error| refuse(text, &error))
}

/// As [`parse_object`]; nothing, or only white space, is read as `{}`.
pub fn parse_object_or_empty<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        parse_object(b"{}")
    } else {
        parse_object(body)
    }
}

fn is_json(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(text).map(|_| ())
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::not_json(format!("The request's body is not JSON: {error}"))
}

fn refuse(text: &str, error: &serde_json::Error) -> ApiError {
    // Whether it is JSON at all is asked first: serde's own word for a wrong shape is at times that of
    // wrong syntax, and a shape may be found wrong before the syntax is.
    if let Err(syntax) = is_json(text) {
        return not_json(&syntax);
    }
    let message = error.to_string();
    if message.starts_with("missing field") {
        ApiError::missing_param(message)
    } else {
        ApiError::bad_json(message)
    }
}

/// Reads the whole body within the limit and the deadline that the listener set for JSON.
pub async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    let arrival = Arrival::of(request.extensions());
    let limit = arrival.json_limit_bytes;
    let announced = http_body::Body::size_hint(request.body()).lower();
    if announced > limit as u64 {
        return Err(too_large(limit));
    }
    let reading = collect(request.into_body(), limit);
    match tokio::time::timeout(arrival.json_timeout, reading).await {
        Ok(result) => result,
        Err(_elapsed) => Err(ApiError::request_timeout()),
    }
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(body_error)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.len() + rest.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        // Nearly every body comes in one piece and is then handed on without a copy.
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

fn too_large(limit: usize) -> ApiError {
    ApiError::too_large(format!("The request's body is larger than {limit} bytes"))
}

/// What a failed read of a request body means for the client, for handlers that stream one themselves.
pub fn body_error(error: axum::Error) -> ApiError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<BodyStalled>() {
            return ApiError::request_timeout();
        }
        cause = inner.source();
    }
    ApiError::bad_request("The request's body ended early")
}

/// A JSON response whose bytes were rendered already.
#[derive(Clone, Debug)]
pub struct JsonBytes(pub Bytes);

impl JsonBytes {
    /// `{}`, the answer of every endpoint that has nothing to say.
    pub const EMPTY: Self = Self(Bytes::from_static(b"{}"));
}

impl IntoResponse for JsonBytes {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.0));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        response
    }
}

/// A JSON response rendered from a value.
#[derive(Clone, Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => JsonBytes(Bytes::from(bytes)).into_response(),
            Err(error) => ApiError::internal(error).into_response(),
        }
    }
}

/// A JSON response with another status than 200.
pub fn json_with_status<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let mut response = Json(value).into_response();
    if response.status() == StatusCode::OK {
        *response.status_mut() = status;
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrCode;
    use serde_json::value::RawValue;

    #[derive(Debug, Deserialize)]
    struct Named {
        name: String,
        #[serde(default)]
        content: Option<Box<RawValue>>,
    }

    fn code_of(body: &[u8]) -> Option<ErrCode> {
        parse_object::<Named>(body)
            .expect_err("the body is refused")
            .code()
    }

    #[test]
    fn an_object_of_the_right_shape_is_taken_and_raw_parts_keep_their_bytes() {
        let named: Named = parse_object(br#" {"name":"a","content":{"b" : 1.0}}"#).expect("valid");
        assert_eq!(named.name, "a");
        assert_eq!(named.content.expect("content").get(), r#"{"b" : 1.0}"#);
    }

    #[test]
    fn what_is_not_json_is_told_from_json_of_another_shape() {
        assert_eq!(code_of(b""), Some(ErrCode::NotJson));
        assert_eq!(code_of(b"{"), Some(ErrCode::NotJson));
        assert_eq!(code_of(b"{\"name\":\"\xff\"}"), Some(ErrCode::NotJson));
        assert_eq!(code_of(br#"{"name":"a"} x"#), Some(ErrCode::NotJson));
        assert_eq!(code_of(br#"["a","b"]"#), Some(ErrCode::BadJson));
        assert_eq!(code_of(br#""a""#), Some(ErrCode::BadJson));
        assert_eq!(code_of(b"nul"), Some(ErrCode::NotJson));
        assert_eq!(code_of(br#"{"name":1}"#), Some(ErrCode::BadJson));
    }

    #[test]
    fn a_wrong_shape_before_broken_syntax_is_still_not_json() {
        assert_eq!(code_of(br#"{"name":1, oops"#), Some(ErrCode::NotJson));
    }

    #[test]
    fn a_missing_key_is_a_missing_parameter() {
        assert_eq!(code_of(br#"{"other":1}"#), Some(ErrCode::MissingParam));
    }

    #[test]
    fn an_empty_body_is_an_empty_object_only_where_asked() {
        #[derive(Deserialize)]
        struct Anything {}
        assert!(parse_object_or_empty::<Anything>(b" \n").is_ok());
        assert!(parse_object::<Anything>(b"").is_err());
        assert!(parse_object_or_empty::<Anything>(b"x").is_err());
    }
}
