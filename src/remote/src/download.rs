//! Answers that are too large to be held in memory: read piece by piece.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use crate::client::{MAX_ERROR_BYTES, collect};
use crate::{Remote, RemoteError, Request};

/// The longest pause between two pieces.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A successful answer whose body is still to come.
#[derive(Debug)]
pub struct Download {
    headers: HeaderMap,
    body: Incoming,
    /// Bytes that may still come.
    left: usize,
    limit: usize,
    deadline: Instant,
}

impl Download {
    /// A header of the answer; none if it is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// [`RemoteError::TooLarge`] once the body exceeds the request's limit, [`RemoteError::TimedOut`] if the time for the
    /// whole is over or nothing comes, [`RemoteError::Unreachable`] if the body breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RemoteError> {
        loop {
            let until = self.deadline.min(Instant::now() + LONGEST_PAUSE);
            let frame = tokio::time::timeout_at(until, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| RemoteError::TimedOut)? else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| {
                RemoteError::Unreachable(format!("the answer broke off: {error}"))
            })?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            self.left = self
                .left
                .checked_sub(piece.len())
                .ok_or(RemoteError::TooLarge { limit: self.limit })?;
            return Ok(Some(piece));
        }
    }
}

impl Remote {
    /// Sends a signed request to a server and reads the head of its answer. The time and size that the request allows
    /// are those of the whole answer.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn download(
        &self,
        server_name: &str,
        request: Request,
    ) -> Result<Download, RemoteError> {
        let (timeout, limit) = (request.timeout, request.max_answer);
        let deadline = Instant::now() + timeout;
        let observed = self.observer().begin(server_name, &request);
        let begun = match self.allow(server_name, &request.path) {
            Ok(()) => begin(self.send(server_name, request), deadline, limit).await,
            Err(error) => Err(error),
        };
        observed.end(match &begun {
            Ok(download) => Ok(download.body.size_hint().exact()),
            Err(error) => Err(error),
        });
        begun
    }

    /// As [`Remote::download`], of what another server says lies at `url`: unsigned, by the same rules for addresses.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn download_from(
        &self,
        url: &str,
        timeout: Duration,
        limit: usize,
    ) -> Result<Download, RemoteError> {
        let deadline = Instant::now() + timeout;
        begin(self.web()?.open(url), deadline, limit).await
    }
}

/// Waits for the head of an answer.
async fn begin(
    response: impl Future<Output = Result<Response<Incoming>, RemoteError>>,
    deadline: Instant,
    limit: usize,
) -> Result<Download, RemoteError> {
    let begin = async {
        let (parts, body) = response.await?.into_parts();
        if !parts.status.is_success() {
            let body = collect(body, MAX_ERROR_BYTES).await.unwrap_or_default();
            return Err(RemoteError::refused(parts.status.as_u16(), body));
        }
        if body.size_hint().lower() > limit as u64 {
            return Err(RemoteError::TooLarge { limit });
        }
        Ok(Download {
            headers: parts.headers,
            body,
            left: limit,
            limit,
            deadline,
        })
    };
    tokio::time::timeout_at(deadline, begin)
        .await
        .unwrap_or(Err(RemoteError::TimedOut))
}
