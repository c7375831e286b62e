//! Media of other servers: fetched when somebody wants it, and kept.
//!
//! One fetch serves all who wait, and goes on if they leave. Content goes to the disk as it comes, so that memory does
//! not grow with it. What could not be fetched is not tried again at once, however many ask.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#content-repository>.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::identifier;
use media::multipart::{Piece, Reader};
use media::{Content, Lookup, MediaError, MediaId, MediaKey, content_type, headers};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use remote::{Download, RemoteError, Request};
use tokio::sync::{Semaphore, watch};

use crate::{Lock, MediaUpload, Node, NodeError, Touched};

/// Fetches under way at once.
const MOST_FETCHES: usize = 64;

/// Of these from one server.
const MOST_FETCHES_OF_A_SERVER: u8 = 8;

/// How long one fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(300);

/// How long the other server may wait for an upload that was announced there, in milliseconds.
const UPLOAD_TIMEOUT_MS: &str = "20000";

/// How long a fetch that failed is not tried again.
const FAILURE_LASTS: Duration = Duration::from_secs(30);

/// Failures that are remembered.
const MOST_FAILURES: usize = 10_000;

/// What is around content in an answer, at most.
const MAX_AROUND_BYTES: usize = 128 << 10;

/// Why media of another server can't be had.
#[derive(Clone, Debug)]
enum Failure {
    Unknown,
    NotYetUploaded,
    /// More than so many bytes.
    TooLarge(usize),
    Remote(RemoteError),
    /// This server failed, which the log tells.
    Ours,
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Media(MediaError::TooLarge { limit_bytes }) => {
                Self::TooLarge(usize::try_from(limit_bytes).unwrap_or(usize::MAX))
            }
            NodeError::Remote(error) => error.into(),
            error => {
                tracing::error!(%error, "media of another server was not kept");
                Self::Ours
            }
        }
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Refused { status: 404, .. } => Self::Unknown,
            RemoteError::Refused { ref errcode, .. } if errcode == "M_NOT_YET_UPLOADED" => {
                Self::NotYetUploaded
            }
            RemoteError::TooLarge { limit } => Self::TooLarge(limit),
            error => Self::Remote(error),
        }
    }
}

impl From<Failure> for NodeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unknown => MediaError::UnknownMedia.into(),
            Failure::NotYetUploaded => MediaError::NotYetUploaded.into(),
            Failure::TooLarge(limit) => RemoteError::TooLarge { limit }.into(),
            Failure::Remote(error) => error.into(),
            Failure::Ours => NodeError::Stopped,
        }
    }
}

type Fetched = Result<Content, Failure>;

/// The fetches under way, and those that failed.
pub(crate) struct MediaFetches {
    under_way: Mutex<HashMap<MediaKey, watch::Receiver<Option<Fetched>>>>,
    failed: Cache<MediaKey, (Failure, Instant)>,
    turns: Semaphore,
}

impl Default for MediaFetches {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
            failed: Cache::new(MOST_FAILURES),
            turns: Semaphore::new(MOST_FETCHES),
        }
    }
}

impl MediaFetches {
    fn recent_failure(&self, key: MediaKey) -> Option<Failure> {
        let (failure, at) = self.failed.get(&key)?;
        (at.elapsed() < FAILURE_LASTS).then_some(failure)
    }
}

impl Node {
    /// The content behind a URI of another server; waits at most `timeout` for its fetch.
    ///
    /// # Errors
    /// [`MediaError::UnknownMedia`], [`MediaError::NotYetUploaded`] also if it has not come in time, and
    /// [`NodeError::Remote`].
    pub async fn media_of_other(
        self: &Arc<Self>,
        server: &str,
        media_id: &MediaId,
        timeout: Duration,
    ) -> Result<Content, NodeError> {
        let key = MediaKey::new(server, media_id);
        match media::lookup(&self.view(), key, self.now_ms())? {
            Lookup::Unknown => {}
            known => return Ok(known.content()?),
        }
        if !identifier::is_server_name(server) {
            return Err(MediaError::UnknownMedia.into());
        }
        if let Some(failure) = self.media_fetches.recent_failure(key) {
            return Err(failure.into());
        }
        let mut fetched = self.begin_fetch(key, server, media_id);
        let fetched = tokio::time::timeout(timeout, fetched.wait_for(Option::is_some)).await;
        match fetched {
            Ok(Ok(fetched)) => match &*fetched {
                Some(fetched) => Ok(fetched.clone()?),
                None => Err(NodeError::Stopped),
            },
            Ok(Err(_)) => Err(NodeError::Panicked),
            Err(_) => Err(MediaError::NotYetUploaded.into()),
        }
    }

    /// Joins the fetch that is under way, or begins one.
    fn begin_fetch(
        self: &Arc<Self>,
        key: MediaKey,
        server: &str,
        media_id: &MediaId,
    ) -> watch::Receiver<Option<Fetched>> {
        let mut under_way = self.media_fetches.under_way.lock();
        if let Some(fetch) = under_way.get(&key)
            && fetch.has_changed().is_ok()
        {
            return fetch.clone();
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(key, receiver.clone());
        let (node, server, media_id) = (Arc::clone(self), server.to_owned(), media_id.clone());
        tokio::spawn(async move {
            let fetched = node.fetch_media(key, &server, &media_id).await;
            if let Err(failure) = &fetched {
                let failure = (failure.clone(), Instant::now());
                node.media_fetches.failed.insert(key, failure);
            }
            // Only then is it not under way any more: who comes now finds it kept, or failed.
            node.media_fetches.under_way.lock().remove(&key);
            sender.send_replace(Some(fetched));
        });
        receiver
    }

    async fn fetch_media(&self, key: MediaKey, server: &str, media_id: &MediaId) -> Fetched {
        // A slow server keeps its own media waiting, not that of others.
        let lane = key.as_bytes()[0] % MOST_FETCHES_OF_A_SERVER;
        let _turn_at_server = self
            .lock(Lock::Named(format!("media of {server}, {lane}")))
            .await;
        let _turn = self.media_fetches.turns.acquire().await;
        // Another fetch may have ended since it was looked for.
        let lookup = media::lookup(&self.store.head(), key, self.now_ms());
        match lookup.map_err(NodeError::from)? {
            Lookup::Stored(content) => return Ok(content),
            Lookup::Unknown => {}
            Lookup::Pending { .. } | Lookup::Quarantined => return Err(Failure::Unknown),
        }
        let max_bytes = self.config().media.max_upload_size.bytes();
        let content = match self.download(key, server, media_id, max_bytes).await {
            Err(Failure::Remote(RemoteError::Refused {
                status, errcode, ..
            })) if is_unrecognized(status, &errcode) => {
                self.download_unsigned(key, server, media_id, max_bytes)
                    .await?
            }
            content => content?,
        };
        Ok(self.keep_media(key, server, media_id, content).await?)
    }

    /// By the endpoint for servers.
    async fn download(
        &self,
        key: MediaKey,
        server: &str,
        media_id: &MediaId,
        max_bytes: u64,
    ) -> Fetched {
        let path = remote::path(
            "/_matrix/federation/v1/media/download",
            &[media_id.as_str()],
            &[("timeout_ms", UPLOAD_TIMEOUT_MS)],
        );
        let download = self.remote.download(server, request(path, max_bytes)).await;
        let mut download = match download {
            // The difference between no such media and no such endpoint matters.
            Err(error @ RemoteError::Refused { .. }) if is_unrecognized_error(&error) => {
                return Err(Failure::Remote(error));
            }
            download => download?,
        };
        let bad = |error: media::multipart::Malformed| RemoteError::BadAnswer(error.to_string());
        let claimed = download.header("content-type").unwrap_or_default();
        let mut reader = Reader::new(claimed).map_err(bad)?;
        let mut upload = self.begin_upload(key, max_bytes);
        let mut part = None;
        let mut elsewhere = None;
        while let Some(bytes) = download.next().await? {
            for piece in reader.push(&bytes).map_err(bad)? {
                match piece {
                    Piece::Head(head) => {
                        elsewhere.clone_from(&head.location);
                        part = Some(head);
                    }
                    Piece::Content(_) if elsewhere.is_some() => {}
                    Piece::Content(content) => upload.write(&content).await?,
                }
            }
        }
        reader.finish().map_err(bad)?;
        if let Some(url) = elsewhere {
            let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
            let content = self.remote.download_from(&url, FETCH_TIMEOUT, max_bytes);
            return self.download_plain(upload, content.await?).await;
        }
        let part = part.unwrap_or_default();
        let disposition = part.content_disposition.as_deref();
        self.finish_fetch(upload, part.content_type.as_deref(), disposition)
            .await
    }

    /// By the endpoint for clients, from servers that have no other (before version 1.11).
    async fn download_unsigned(
        &self,
        key: MediaKey,
        server: &str,
        media_id: &MediaId,
        max_bytes: u64,
    ) -> Fetched {
        let path = remote::path(
            "/_matrix/media/v3/download",
            &[server, media_id.as_str()],
            &[("allow_remote", "false"), ("timeout_ms", UPLOAD_TIMEOUT_MS)],
        );
        let content = self.remote.download(server, request(path, max_bytes));
        let upload = self.begin_upload(key, max_bytes);
        self.download_plain(upload, content.await?).await
    }

    /// Content that is the whole body of an answer.
    async fn download_plain(&self, mut upload: MediaUpload, mut download: Download) -> Fetched {
        while let Some(bytes) = download.next().await? {
            upload.write(&bytes).await?;
        }
        let claimed = download.header("content-type");
        let disposition = download.header("content-disposition");
        self.finish_fetch(upload, claimed, disposition).await
    }

    async fn finish_fetch(
        &self,
        upload: MediaUpload,
        claimed_type: Option<&str>,
        disposition: Option<&str>,
    ) -> Fetched {
        let (file, stored) = upload.finish().await?;
        Ok(Content {
            nonce: file.nonce,
            content_type: content_type::accept(claimed_type).to_owned(),
            file_name: disposition.and_then(headers::file_name),
            length: stored.length,
            sha256: stored.sha256,
            stored_ms: self.now_ms(),
        })
    }

    async fn keep_media(
        &self,
        key: MediaKey,
        server: &str,
        media_id: &MediaId,
        content: Content,
    ) -> Result<Content, NodeError> {
        let (file, catalog) = (content.file(key), self.media.catalog());
        match catalog.add(&self.store, (server, media_id), None, content.clone()) {
            Ok(ticket) => {
                self.durable(ticket, Touched::nobody()).await?;
                Ok(content)
            }
            Err(error) => {
                self.media.delete_file(file).await;
                Err(error.into())
            }
        }
    }
}

fn request(path: String, max_bytes: u64) -> Request {
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    Request::get(path)
        .timeout(FETCH_TIMEOUT)
        .max_answer(max_bytes.saturating_add(MAX_AROUND_BYTES))
}

/// What a server says that does not know the endpoint: `M_UNRECOGNIZED`, and old ones no code at all.
fn is_unrecognized(status: u16, errcode: &str) -> bool {
    errcode == "M_UNRECOGNIZED" || (matches!(status, 400 | 404 | 405) && errcode.is_empty())
}

fn is_unrecognized_error(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Refused { status, errcode, .. } if is_unrecognized(*status, errcode))
}
