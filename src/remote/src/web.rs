//! Plain requests to web servers: where a server's name points (`well_known`), files that another server keeps elsewhere,
//! and what identity servers are asked.
//!
//! Invariants: HTTPS only, redirects included; every address is checked as for other requests; redirects, bytes and time
//! are bounded.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::client::{JSON, USER_AGENT, collect, of_client};
use crate::connect::Connector;
use crate::{Answer, RemoteError};

/// The most redirects that are followed.
const MOST_REDIRECTS: usize = 5;

/// A client for web servers.
pub struct Web {
    client: Client<Connector, Full<Bytes>>,
}

impl Web {
    /// A client over `connector`. Connections are not kept: servers are asked seldom.
    pub fn new(connector: Connector) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_max_idle_per_host(0)
            .http2_max_header_list_size(64 << 10)
            .build(connector);
        Self { client }
    }

    /// Gets what is at `url`, within `timeout` and of at most `max_answer` bytes.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn get(
        &self,
        url: &str,
        timeout: Duration,
        max_answer: usize,
    ) -> Result<Answer, RemoteError> {
        let get = async {
            let (parts, body) = self.open(url).await?.into_parts();
            let body = collect(body, max_answer).await?;
            if !parts.status.is_success() {
                return Err(RemoteError::refused(parts.status.as_u16(), body));
            }
            let headers = parts.headers;
            Ok(Answer { headers, body })
        };
        tokio::time::timeout(timeout, get)
            .await
            .unwrap_or(Err(RemoteError::TimedOut))
    }

    /// Asks for what is at `url`, or posts a JSON `body` there, with a token of whoever asks. Redirects are not followed: the
    /// token is for this server alone.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn ask(
        &self,
        url: &str,
        token: Option<&str>,
        body: Option<Bytes>,
        timeout: Duration,
        max_answer: usize,
    ) -> Result<Bytes, RemoteError> {
        let uri: Uri = url.parse().map_err(|_| no_url(url))?;
        if uri.scheme_str() != Some("https") || uri.authority().is_none() {
            return Err(no_url(url));
        }
        let mut request = http::Request::builder()
            .method(if body.is_some() {
                Method::POST
            } else {
                Method::GET
            })
            .uri(uri)
            .header(header::USER_AGENT, USER_AGENT);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, JSON);
        }
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| {
                RemoteError::BadAnswer(format!("the request can't be made: {error}"))
            })?;
        let ask = async {
            let response = self.client.request(request).await.map_err(of_client)?;
            let (parts, body) = response.into_parts();
            let body = collect(body, max_answer).await?;
            match parts.status.is_success() {
                true => Ok(body),
                false => Err(RemoteError::refused(parts.status.as_u16(), body)),
            }
        };
        tokio::time::timeout(timeout, ask)
            .await
            .unwrap_or(Err(RemoteError::TimedOut))
    }

    /// The answer of whoever has what is at `url`, redirects followed; its body is still to come.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn open(&self, url: &str) -> Result<http::Response<Incoming>, RemoteError> {
        let mut uri: Uri = url.parse().map_err(|_| no_url(url))?;
        for _ in 0..=MOST_REDIRECTS {
            if uri.scheme_str() != Some("https") || uri.authority().is_none() {
                return Err(no_url(&uri.to_string()));
            }
            let request = http::Request::builder()
                .method(Method::GET)
                .uri(uri.clone())
                .header(header::USER_AGENT, USER_AGENT)
                .body(Full::default())
                .map_err(|error| RemoteError::Unreachable(error.to_string()))?;
            let response = self.client.request(request).await.map_err(of_client)?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let to = response.headers().get(header::LOCATION);
            let to = to.and_then(|to| to.to_str().ok()).unwrap_or_default();
            uri = target(&uri, to).ok_or_else(|| no_url(to))?;
        }
        Err(RemoteError::BadAnswer("too many redirects".to_owned()))
    }
}

fn no_url(url: &str) -> RemoteError {
    RemoteError::BadAnswer(format!(
        "{:.200} is no https URL",
        url.escape_debug().to_string()
    ))
}

/// Where a redirect leads: to a URL, to another server, or to a path of the same one.
fn target(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    if location.is_empty() {
        return None;
    }
    let authority = from.authority()?;
    let whole = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("https://{rest}")
    } else if location.starts_with('/') {
        format!("https://{authority}{location}")
    } else {
        let folder = from
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        format!("https://{authority}{folder}/{location}")
    };
    whole.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_their_form_says() {
        let from: Uri = "https://a.example/b/c?d".parse().expect("a URL");
        let to = |location| target(&from, location).map(|uri| uri.to_string());
        assert_eq!(
            to("https://e.example/f#g").as_deref(),
            Some("https://e.example/f")
        );
        assert_eq!(to("//e.example/f").as_deref(), Some("https://e.example/f"));
        assert_eq!(to("/f?g").as_deref(), Some("https://a.example/f?g"));
        assert_eq!(to("f").as_deref(), Some("https://a.example/b/f"));
        assert_eq!(
            to("http://e.example/").as_deref(),
            Some("http://e.example/")
        );
        assert_eq!(to(""), None);
        assert_eq!(to("https://a b/"), None);
    }
}
