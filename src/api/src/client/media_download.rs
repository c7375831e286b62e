//! Downloads and thumbnails (client-server API, "Content repository"), with authentication and, where
//! the configuration allows it, on the deprecated paths without.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use media::headers::{self, ContentHeaders};
use media::range::{self, ByteRange, Conditions, Selection};
use media::thumbnail::{Method, ThumbnailSpec};
use media::{Content, FileId, MediaError, MediaId, MediaKey};
use node::ThumbnailAnswer;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::app::App;
use crate::auth::GuestSession;
use crate::error::{ApiError, ErrCode};
use crate::limits::{Class, Key};
use crate::request::{Arrival, Params, Query};

/// How much of a file is read at once.
pub(crate) const READ_BYTES: usize = 256 << 10;

/// The default of `timeout_ms`.
const DEFAULT_TIMEOUT_MS: u64 = 20_000;

/// The longest that a download waits for an announced upload, whatever `timeout_ms` says.
const MAX_TIMEOUT_MS: u64 = 60_000;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    let mut router = Router::new();
    for base in ["/_matrix/client/v1/media", "/_matrix/media/v3"] {
        let media = "{server_name}/{media_id}";
        router = router
            .route(&format!("{base}/download/{media}"), get(download))
            .route(
                &format!("{base}/download/{media}/{{file_name}}"),
                get(download_as),
            )
            .route(&format!("{base}/thumbnail/{media}"), get(thumbnail));
    }
    router
}

/// Who may download: whoever has a token, and on the deprecated paths anybody.
struct Reader {
    cache_control: &'static str,
}

impl FromRequestParts<App> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if !parts.uri.path().starts_with("/_matrix/media/") {
            let GuestSession(session) = GuestSession::from_request_parts(parts, app).await?;
            app.limiter()
                .check(Class::Media, Key::Name(&session.user_id))?;
            let cache_control = headers::CACHE_AUTHENTICATED;
            return Ok(Self { cache_control });
        }
        if !app.config().media.legacy_downloads {
            // As for media from after a freeze (since version 1.11).
            return Err(MediaError::UnknownMedia.into());
        }
        let address = Arrival::of(&parts.extensions).address;
        app.limiter().check(Class::Media, Key::Address(address))?;
        let cache_control = headers::CACHE_PUBLIC;
        Ok(Self { cache_control })
    }
}

#[derive(Deserialize)]
struct DownloadQuery {
    timeout_ms: Option<u64>,
    /// False if media of other servers is not to be fetched: so old servers ask, lest requests go round in circles.
    allow_remote: Option<bool>,
}

/// What a request for a thumbnail says.
#[derive(Deserialize)]
pub(crate) struct ThumbnailQuery {
    width: String,
    height: String,
    method: Option<String>,
    animated: Option<bool>,
    /// How long to wait for an upload or another server.
    pub(crate) timeout_ms: Option<u64>,
    allow_remote: Option<bool>,
}

async fn download(
    State(app): State<App>,
    reader: Reader,
    Params((server_name, media_id)): Params<(String, String)>,
    Query(query): Query<DownloadQuery>,
    asked: HeaderMap,
) -> Result<Response, ApiError> {
    let (key, content) = find(
        &app,
        (&server_name, &media_id),
        query.timeout_ms,
        query.allow_remote,
    )
    .await?;
    let named = headers::for_download(Some(&content.content_type), content.file_name.as_deref());
    send_original(&app, &reader, &asked, key, &content, named).await
}

async fn download_as(
    State(app): State<App>,
    reader: Reader,
    Params((server_name, media_id, file_name)): Params<(String, String, String)>,
    Query(query): Query<DownloadQuery>,
    asked: HeaderMap,
) -> Result<Response, ApiError> {
    let (key, content) = find(
        &app,
        (&server_name, &media_id),
        query.timeout_ms,
        query.allow_remote,
    )
    .await?;
    let named = headers::for_download(Some(&content.content_type), Some(&file_name));
    send_original(&app, &reader, &asked, key, &content, named).await
}

async fn thumbnail(
    State(app): State<App>,
    reader: Reader,
    Params((server_name, media_id)): Params<(String, String)>,
    Query(query): Query<ThumbnailQuery>,
    asked: HeaderMap,
) -> Result<Response, ApiError> {
    let spec = wanted(&query)?;
    let (key, content) = find(
        &app,
        (&server_name, &media_id),
        query.timeout_ms,
        query.allow_remote,
    )
    .await?;
    match app.node().thumbnail(key, &content, spec).await? {
        ThumbnailAnswer::Original { content_type } => {
            let named = headers::for_thumbnail(&content_type);
            send_original(&app, &reader, &asked, key, &content, named).await
        }
        ThumbnailAnswer::File {
            file,
            length,
            content_type,
        } => {
            let sending = Sending {
                named: headers::for_thumbnail(&content_type),
                etag: thumbnail_etag(file.nonce),
                cache_control: reader.cache_control,
                length,
            };
            send_file(&app, &asked, sending, file).await
        }
        ThumbnailAnswer::Fresh {
            bytes,
            content_type,
            nonce,
        } => {
            let sending = Sending {
                named: headers::for_thumbnail(&content_type),
                etag: thumbnail_etag(nonce),
                cache_control: reader.cache_control,
                length: bytes.len() as u64,
            };
            // Nobody has a part of it yet, so that conditions cannot hold.
            sending.respond(Selection::Whole, Body::from(bytes))
        }
    }
}

/// A rendering is never changed, and its nonce is its own.
fn thumbnail_etag(nonce: u64) -> String {
    format!("\"t{nonce:016x}\"")
}

/// The size asked for. What is no size is 400 `M_UNKNOWN`: "the request does not make sense to the
/// server".
pub(crate) fn wanted(query: &ThumbnailQuery) -> Result<ThumbnailSpec, ApiError> {
    let side = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| ApiError::bad_request("width and height must be positive numbers"))
    };
    let method = match query.method.as_deref() {
        None | Some("scale") => Method::Scale,
        Some("crop") => Method::Crop,
        Some(_) => return Err(ApiError::bad_request("method must be crop or scale")),
    };
    let (width, height) = (side(&query.width)?, side(&query.height)?);
    let animated = query.animated.unwrap_or(false);
    Ok(ThumbnailSpec::for_request(width, height, method, animated)?)
}

/// How long to wait for an upload or another server.
pub(crate) fn patience(timeout_ms: Option<u64>) -> Duration {
    Duration::from_millis(timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS).min(MAX_TIMEOUT_MS))
}

/// The content behind a URI; waits for an announced upload, or for the server that has it.
async fn find(
    app: &App,
    (server_name, media_id): (&str, &str),
    timeout_ms: Option<u64>,
    allow_remote: Option<bool>,
) -> Result<(MediaKey, Content), ApiError> {
    let (node, media_id) = (app.node(), MediaId::parse(media_id)?);
    let key = MediaKey::new(server_name, &media_id);
    let timeout = patience(timeout_ms);
    let content = if server_name == node.server_name() {
        node.media_content(key, timeout).await?
    } else if allow_remote == Some(false) {
        return Err(MediaError::UnknownMedia.into());
    } else {
        node.media_of_other(server_name, &media_id, timeout).await?
    };
    Ok((key, content))
}

async fn send_original(
    app: &App,
    reader: &Reader,
    asked: &HeaderMap,
    key: MediaKey,
    content: &Content,
    named: ContentHeaders,
) -> Result<Response, ApiError> {
    let sending = Sending {
        named,
        etag: headers::etag(&content.sha256),
        cache_control: reader.cache_control,
        length: content.length,
    };
    send_file(app, asked, sending, content.file(key)).await
}

async fn send_file(
    app: &App,
    asked: &HeaderMap,
    sending: Sending,
    file: FileId,
) -> Result<Response, ApiError> {
    let text = |name: HeaderName| asked.get(name).and_then(|value| value.to_str().ok());
    let conditions = Conditions {
        if_none_match: text(header::IF_NONE_MATCH),
        range: text(header::RANGE),
        if_range: text(header::IF_RANGE),
    };
    let selection = range::select(conditions, &sending.etag, sending.length);
    let part = match selection {
        Selection::Whole => sending
            .length
            .checked_sub(1)
            .map(|last| ByteRange { first: 0, last }),
        Selection::Part(part) => Some(part),
        Selection::NotModified | Selection::Unsatisfiable => None,
    };
    let body = match part {
        Some(part) => stream(app, file, sending.length, part).await?,
        None => Body::empty(),
    };
    sending.respond(selection, body)
}

/// The bytes of a part. A small part is read at once, a large one as the client takes it.
async fn stream(app: &App, file: FileId, length: u64, part: ByteRange) -> Result<Body, ApiError> {
    let open = app.node().media().read(file, length).await?;
    let section = open.section(part)?;
    let file = tokio::fs::File::from_std(section.into_inner());
    let mut section = file.take(part.length());
    if part.length() <= READ_BYTES as u64 {
        let mut bytes = Vec::with_capacity(part.length() as usize);
        let read = section.read_to_end(&mut bytes).await;
        read.map_err(MediaError::from)?;
        return Ok(Body::from(Bytes::from(bytes)));
    }
    let stream = ReaderStream::with_capacity(section, READ_BYTES);
    Ok(Body::from_stream(stream))
}

/// What a response says of what it sends.
struct Sending {
    named: ContentHeaders,
    etag: String,
    cache_control: &'static str,
    length: u64,
}

impl Sending {
    fn respond(self, selection: Selection, body: Body) -> Result<Response, ApiError> {
        let mut response = match selection {
            Selection::Unsatisfiable => {
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                let error = ApiError::new(ErrCode::InvalidParam, "The range begins behind the end");
                error.with_status(status).into_response()
            }
            _ => Response::new(body),
        };
        let status = match selection {
            Selection::Whole => StatusCode::OK,
            Selection::Part(_) => StatusCode::PARTIAL_CONTENT,
            Selection::NotModified => StatusCode::NOT_MODIFIED,
            Selection::Unsatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        };
        *response.status_mut() = status;
        let fields = response.headers_mut();
        for (name, value) in headers::SAFETY {
            fields.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        match selection {
            Selection::Whole => {
                fields.insert(header::CONTENT_LENGTH, self.length.into());
            }
            Selection::Part(part) => {
                fields.insert(header::CONTENT_LENGTH, part.length().into());
                fields.insert(
                    header::CONTENT_RANGE,
                    value(part.content_range(self.length))?,
                );
            }
            Selection::Unsatisfiable => {
                let whole = range::unsatisfied_content_range(self.length);
                fields.insert(header::CONTENT_RANGE, value(whole)?);
                return Ok(response);
            }
            Selection::NotModified => {}
        }
        let cache_control = HeaderValue::from_static(self.cache_control);
        fields.insert(header::CACHE_CONTROL, cache_control);
        fields.insert(header::ETAG, value(self.etag)?);
        if selection != Selection::NotModified {
            fields.insert(header::CONTENT_TYPE, value(self.named.content_type)?);
            fields.insert(
                header::CONTENT_DISPOSITION,
                value(self.named.content_disposition)?,
            );
        }
        Ok(response)
    }
}

/// Everything that comes here is printable ASCII by its own rules.
fn value(text: String) -> Result<HeaderValue, ApiError> {
    HeaderValue::try_from(text).map_err(ApiError::internal)
}
