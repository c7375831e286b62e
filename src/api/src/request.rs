//! What a handler learns from a request besides its body: the query, the path's parameters, and what
//! the door noted about the connection it arrived on.
//!
//! Extractors only; each refuses with the specification's code and none reads the body.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The query string as `T`. A repeated key fills a `Vec`. A missing key is `M_MISSING_PARAM`, a bad
/// value `M_INVALID_PARAM`.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    if query.contains('%') && percent_decode_str(query).decode_utf8().is_err() {
        return Err(ApiError::invalid_param("The query string is not UTF-8"));
    }
    serde_html_form::from_str(query).map_err(|error| {
        let message = error.to_string();
        if message.starts_with("missing field") {
            ApiError::missing_param(message)
        } else {
            ApiError::invalid_param(message)
        }
    })
}

/// The path's parameters, percent-decoded: `T` is one value, a tuple in the path's order, or a struct
/// by name. An encoded `/`, `#`, `!` or `:` is part of its parameter. What is not UTF-8, or not a
/// value of the parameter's type, is 400 `M_INVALID_PARAM`.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(values)) => Ok(Self(values)),
            Err(rejection) if rejection.status().is_client_error() => {
                Err(ApiError::invalid_param(rejection.body_text()))
            }
            Err(rejection) => Err(ApiError::internal(rejection)),
        }
    }
}

/// What the door notes on each request it lets in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The client's address: the connection's, or the one a trusted proxy names. None on a unix
    /// socket whose peer named nobody.
    pub address: Option<IpAddr>,
    /// The largest JSON body to read.
    pub json_limit_bytes: usize,
    /// How long a JSON body may take to arrive in whole.
    pub json_timeout: Duration,
}

impl Arrival {
    /// The note on this request, or the defaults for one that came through no door (in a unit test).
    pub fn of(extensions: &http::Extensions) -> Self {
        extensions.get::<Self>().copied().unwrap_or_default()
    }
}

impl Default for Arrival {
    fn default() -> Self {
        Self {
            address: None,
            json_limit_bytes: 12 * 1024 * 1024,
            json_timeout: Duration::from_secs(60),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Arrival {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.extensions))
    }
}

/// A request's body stood still for longer than the listener allows.
#[derive(Debug, thiserror::Error)]
#[error("the request's body stalled")]
pub struct BodyStalled;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrCode;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Listing {
        dir: String,
        limit: Option<u32>,
        #[serde(default)]
        via: Vec<String>,
    }

    #[test]
    fn a_query_fills_numbers_lists_and_absent_values() {
        let listing: Listing = parse_query("dir=b&via=a.example&via=b%3A8448").expect("valid");
        assert_eq!(listing.dir, "b");
        assert_eq!(listing.limit, None);
        assert_eq!(listing.via, ["a.example", "b:8448"]);
        let listing: Listing = parse_query("dir=b&limit=7").expect("valid");
        assert_eq!(listing.limit, Some(7));
    }

    #[test]
    fn a_bad_query_says_whether_something_is_missing_or_wrong() {
        let code = |query| parse_query::<Listing>(query).expect_err("refused").code();
        assert_eq!(code("limit=7"), Some(ErrCode::MissingParam));
        assert_eq!(code("dir=b&limit=many"), Some(ErrCode::InvalidParam));
        assert_eq!(code("dir=%ff"), Some(ErrCode::InvalidParam));
    }
}
