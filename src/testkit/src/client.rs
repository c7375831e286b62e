//! HTTP requests with JSON bodies, and answers that a test can examine.
//!
//! A path begins after `/_matrix/client`, as most do, unless it begins with `/_` or `/.`.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::http::{HeaderMap, Request};

/// Longer than the longest long-poll of a test.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// What RFC 3986 calls unreserved stays as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A part of a path or a query, percent-encoded.
pub fn encode(part: &str) -> String {
    utf8_percent_encode(part, RESERVED).to_string()
}

/// A client of one server, with or without an access token. Clones share connections.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
    token: Option<String>,
}

impl Client {
    /// A client without a token, for the server at `base` (`http://127.0.0.1:8008`).
    pub fn new(base: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections_per_host(16)
            .timeout_global(Some(REQUEST_LIMIT))
            .build()
            .new_agent();
        Self {
            agent,
            base: base.to_owned(),
            token: None,
        }
    }

    /// The same client with this access token.
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// The same client with no access token.
    pub fn without_token(&self) -> Self {
        Self {
            token: None,
            ..self.clone()
        }
    }

    /// The same client with connections of its own.
    pub fn with_own_connections(&self) -> Self {
        Self {
            agent: Self::new(&self.base).agent,
            ..self.clone()
        }
    }

    /// The access token, if the client has one.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.exchange("GET", path, &[], Vec::new())
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: Value) -> Response {
        self.json("PUT", path, &body)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Response {
        self.json("POST", path, &body)
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Response {
        self.exchange("DELETE", path, &[], Vec::new())
    }

    /// A request with a JSON body.
    #[track_caller]
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Response {
        let headers = [("Content-Type", "application/json")];
        self.exchange(method, path, &headers, body.to_string().into_bytes())
    }

    /// Any request; panics where the server does not answer.
    #[track_caller]
    pub fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Response {
        match self.try_exchange(method, path, headers, body) {
            Ok(response) => response,
            Err(error) => panic!("{method} {path}: no answer: {error}"),
        }
    }

    /// Any request; an error where the server does not answer, such as when it is killed meanwhile.
    ///
    /// # Errors
    /// Those of the transport. An HTTP status is never an error.
    pub fn try_exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Response, ureq::Error> {
        let prefix = if path.starts_with("/_") || path.starts_with("/.") {
            ""
        } else {
            "/_matrix/client"
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{prefix}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let has_body = !body.is_empty() || matches!(method, "POST" | "PUT");
        let answer = if has_body {
            self.agent.run(request.body(body)?)?
        } else {
            self.agent.run(request.body(())?)?
        };
        let (parts, mut body) = answer.into_parts();
        Ok(Response {
            request: format!("{method} {path}"),
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.with_config().limit(u64::MAX).read_to_vec()?,
        })
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Response {
    request: String,
    pub status: u16,
    headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value, if the header is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn value(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{self}: not JSON: {error}"),
        }
    }

    /// The body as JSON, after checking that the status is 200.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self}");
        self.value()
    }

    /// The body as JSON, after checking that it is this error.
    #[track_caller]
    pub fn error(&self, status: u16, errcode: &str) -> Value {
        let value = self.value();
        assert_eq!(
            (self.status, value["errcode"].as_str()),
            (status, Some(errcode)),
            "{self}"
        );
        assert!(value["error"].is_string(), "an error is explained: {self}");
        value
    }
}

impl std::fmt::Display for Response {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            request,
            status,
            body,
            ..
        } = self;
        write!(
            formatter,
            "{request} -> {status} {}",
            String::from_utf8_lossy(body)
        )
    }
}
