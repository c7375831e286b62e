//! Uploads (client-server API, "Content repository"): in one step, or announced and sent later.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use http::header;
use http_body::Body as _;
use http_body_util::BodyExt;
use media::{Content, MediaError, MediaId, MediaKey, content_type, headers};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::error::ApiError;
use crate::json::{Json, JsonBytes, body_error};
use crate::limits::{Class, Key};
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/media/v3/upload", post(upload))
        .route(
            "/_matrix/media/v3/upload/{server_name}/{media_id}",
            put(upload_later),
        )
        .route("/_matrix/media/v1/create", post(create))
        .route("/_matrix/client/v1/media/config", get(configuration))
        .route("/_matrix/media/v3/config", get(configuration))
}

#[derive(Deserialize)]
struct UploadQuery {
    filename: Option<String>,
}

async fn upload(
    State(app): State<App>,
    session: Session,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    may_upload(&app, &session)?;
    let media_id = MediaId::from_random(app.node().random());
    let key = MediaKey::new(app.node().server_name(), &media_id);
    let content = receive(&app, key, query, request).await?;
    app.node()
        .add_media(&media_id, session.user, content)
        .await?;
    let uri = content_uri(&app, &media_id);
    Ok(Json(json!({"content_uri": uri})))
}

async fn upload_later(
    State(app): State<App>,
    session: Session,
    Params((server_name, media_id)): Params<(String, String)>,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> Result<JsonBytes, ApiError> {
    may_upload(&app, &session)?;
    let node = app.node();
    if server_name != node.server_name() {
        return Err(MediaError::UnknownMedia.into());
    }
    let key = MediaKey::new(&server_name, &MediaId::parse(&media_id)?);
    // Refused before the body is read; asked again when it is there.
    media::may_upload(&node.view(), key, session.user, node.now_ms())?;
    let content = receive(&app, key, query, request).await?;
    node.complete_media(key, session.user, content).await?;
    Ok(JsonBytes::EMPTY)
}

async fn create(State(app): State<App>, session: Session) -> Result<Json<Value>, ApiError> {
    may_upload(&app, &session)?;
    let (node, config) = (app.node(), app.config());
    let media_id = MediaId::from_random(node.random());
    let now_ms = node.now_ms();
    let lifetime_ms = u64::try_from(config.media.pending_upload_lifetime.as_millis());
    let expires_ms = now_ms.saturating_add(lifetime_ms.unwrap_or(u64::MAX));
    let created = node.media().catalog().create(
        node.store(),
        (node.server_name(), &media_id),
        session.user,
        now_ms,
        expires_ms,
        config.media.max_pending_uploads as usize,
    );
    let ticket = created.map_err(|error| match error {
        MediaError::TooManyPending { until_ms } => {
            ApiError::limit_exceeded(Duration::from_millis(until_ms.saturating_sub(now_ms)))
        }
        other => other.into(),
    })?;
    node.durable(ticket, node::Touched::nobody()).await?;
    Ok(Json(json!({
        "content_uri": content_uri(&app, &media_id),
        "unused_expires_at": expires_ms,
    })))
}

async fn configuration(
    State(app): State<App>,
    GuestSession(_session): GuestSession,
) -> Json<Value> {
    Json(json!({"m.upload.size": app.config().media.max_upload_size.bytes()}))
}

fn may_upload(app: &App, session: &Session) -> Result<(), ApiError> {
    session.must_not_be_suspended()?;
    app.limiter()
        .check(Class::Media, Key::Name(&session.user_id))
}

fn content_uri(app: &App, media_id: &MediaId) -> String {
    format!("mxc://{}/{media_id}", app.node().server_name())
}

/// Streams a request's body into a finished file.
async fn receive(
    app: &App,
    key: MediaKey,
    query: UploadQuery,
    request: Request,
) -> Result<Content, ApiError> {
    let node = app.node();
    let max_bytes = app.config().media.max_upload_size.bytes();
    let claimed_type = request.headers().get(header::CONTENT_TYPE);
    let claimed_type = claimed_type.and_then(|value| value.to_str().ok());
    let content_type = content_type::accept(claimed_type).to_owned();
    let file_name = query.filename.as_deref().map(headers::sanitise_file_name);
    let mut body: Body = request.into_body();
    if body.size_hint().lower() > max_bytes {
        let limit_bytes = max_bytes;
        return Err(MediaError::TooLarge { limit_bytes }.into());
    }
    let mut upload = node.begin_upload(key, max_bytes);
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame.map_err(body_error)?.into_data() {
            upload.write(&piece).await?;
        }
    }
    let (file, stored) = upload.finish().await?;
    Ok(Content {
        nonce: file.nonce,
        content_type,
        file_name: file_name.filter(|name| !name.is_empty()),
        length: stored.length,
        sha256: stored.sha256,
        stored_ms: node.now_ms(),
    })
}
