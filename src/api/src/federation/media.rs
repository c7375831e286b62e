//! Media of this server, for other servers: as two parts, of which the second is the content.
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use std::io::Cursor;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderValue, header};
use media::headers::{self, ContentHeaders};
use media::{Content, FileId, MediaId, MediaKey, multipart};
use node::ThumbnailAnswer;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::ReaderStream;

use crate::app::App;
use crate::client::media_download::{READ_BYTES, ThumbnailQuery, patience, wanted};
use crate::error::ApiError;
use crate::federation::Signed;
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/federation/v1/media/download/{media_id}",
            get(download),
        )
        .route(
            "/_matrix/federation/v1/media/thumbnail/{media_id}",
            get(thumbnail),
        )
}

#[derive(Deserialize)]
struct DownloadQuery {
    timeout_ms: Option<u64>,
}

async fn download(
    State(app): State<App>,
    Params(media_id): Params<String>,
    Query(query): Query<DownloadQuery>,
    _: Signed,
) -> Result<Response, ApiError> {
    let (key, content) = find(&app, &media_id, patience(query.timeout_ms)).await?;
    let named = headers::for_download(Some(&content.content_type), content.file_name.as_deref());
    send_file(&app, content.file(key), content.length, &named).await
}

async fn thumbnail(
    State(app): State<App>,
    Params(media_id): Params<String>,
    Query(query): Query<ThumbnailQuery>,
    _: Signed,
) -> Result<Response, ApiError> {
    let spec = wanted(&query)?;
    let (key, content) = find(&app, &media_id, patience(query.timeout_ms)).await?;
    match app.node().thumbnail(key, &content, spec).await? {
        ThumbnailAnswer::Original { content_type } => {
            let named = headers::for_thumbnail(&content_type);
            send_file(&app, content.file(key), content.length, &named).await
        }
        ThumbnailAnswer::File {
            file,
            length,
            content_type,
        } => send_file(&app, file, length, &headers::for_thumbnail(&content_type)).await,
        ThumbnailAnswer::Fresh {
            bytes,
            content_type,
            ..
        } => {
            let named = headers::for_thumbnail(&content_type);
            let length = bytes.len() as u64;
            respond(&app, &named, length, Cursor::new(bytes))
        }
    }
}

/// Content of this server; waits for an announced upload.
async fn find(
    app: &App,
    media_id: &str,
    timeout: Duration,
) -> Result<(MediaKey, Content), ApiError> {
    let key = MediaKey::new(app.node().server_name(), &MediaId::parse(media_id)?);
    Ok((key, app.node().media_content(key, timeout).await?))
}

async fn send_file(
    app: &App,
    file: FileId,
    length: u64,
    named: &ContentHeaders,
) -> Result<Response, ApiError> {
    let open = app.node().media().read(file, length).await?;
    let content = tokio::fs::File::from_std(open.file).take(length);
    respond(app, named, length, content)
}

/// The content between what comes before and after it.
fn respond(
    app: &App,
    named: &ContentHeaders,
    length: u64,
    content: impl AsyncRead + Send + 'static,
) -> Result<Response, ApiError> {
    let boundary = format!("{:032x}", u128::from_be_bytes(app.node().random()));
    let head = multipart::head(&boundary, named);
    let tail = multipart::tail(&boundary);
    let whole_length = length + (head.len() + tail.len()) as u64;
    let whole = Cursor::new(head).chain(content).chain(Cursor::new(tail));
    let stream = ReaderStream::with_capacity(whole, READ_BYTES);
    let mut response = Response::new(Body::from_stream(stream));
    let content_type = format!("multipart/mixed; boundary={boundary}");
    let content_type = HeaderValue::try_from(content_type).map_err(ApiError::internal)?;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, content_type);
    fields.insert(header::CONTENT_LENGTH, whole_length.into());
    Ok(response)
}
