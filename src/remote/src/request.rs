//! What is asked of another server, and what came back.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// A request to another server.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query, percent-encoded: see [`path`].
    pub path: String,
    /// A JSON object.
    pub body: Option<Bytes>,
    /// How long it may take in all.
    pub timeout: Duration,
    /// The most bytes of an answer.
    pub max_answer: usize,
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_MAX_ANSWER: usize = 16 << 20;

impl Request {
    fn new(method: Method, path: String, body: Option<Bytes>) -> Self {
        Self {
            method,
            path,
            body,
            timeout: DEFAULT_TIMEOUT,
            max_answer: DEFAULT_MAX_ANSWER,
        }
    }

    /// A GET.
    pub fn get(path: String) -> Self {
        Self::new(Method::GET, path, None)
    }

    /// A PUT of a JSON object.
    pub fn put(path: String, body: impl Into<Bytes>) -> Self {
        Self::new(Method::PUT, path, Some(body.into()))
    }

    /// A POST of a JSON object.
    pub fn post(path: String, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, path, Some(body.into()))
    }

    /// With another time limit.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// With another limit for the answer.
    pub fn max_answer(self, max_answer: usize) -> Self {
        Self { max_answer, ..self }
    }
}

/// A successful answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}

/// Everything but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A path of segments, each percent-encoded, and a query: `path("/_matrix/federation/v1/event", &[id], &[])`.
pub fn path(prefix: &str, segments: &[&str], query: &[(&str, &str)]) -> String {
    let mut path = prefix.to_owned();
    for segment in segments {
        path.push('/');
        path.extend(utf8_percent_encode(segment, ENCODED));
    }
    for (index, (key, value)) in query.iter().enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.extend(utf8_percent_encode(key, ENCODED));
        path.push('=');
        path.extend(utf8_percent_encode(value, ENCODED));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_values_are_encoded_and_keep_their_borders() {
        let path = path("/v1/event", &["$a/b+c"], &[("ver", "1"), ("x", "a&b=c")]);
        assert_eq!(path, "/v1/event/%24a%2Fb%2Bc?ver=1&x=a%26b%3Dc");
    }
}
