//! Simplified sliding sync (MSC4186): as the proposal was merged, and under the name and with the fields
//! that it has in clients of today.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use node::SlidingRequest;
use serde::Deserialize;
use sync::sliding::{self, Pos};

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::client::sliding_request::{StableBody, UnstableBody};
use crate::error::{ApiError, ErrCode};
use crate::json::{JsonBody, JsonBytes};
use crate::request::Query;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    let unstable_path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    Router::new()
        .route("/_matrix/client/v4/sync", post(stable))
        .route(unstable_path, post(unstable))
}

/// What is asked beside rooms and extensions.
#[derive(Deserialize)]
pub struct Params {
    /// `pos`.
    pub pos: Option<String>,
    /// `timeout`, in milliseconds.
    pub timeout: Option<u64>,
    /// `set_presence`.
    pub set_presence: Option<String>,
}

async fn stable(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    JsonBody(body): JsonBody<StableBody>,
) -> Result<JsonBytes, ApiError> {
    let (params, request) = body.into_request()?;
    if let Some(presence) = &params.set_presence
        && node::presence_named(presence).is_none()
    {
        return Err(ApiError::invalid_param("There is no such presence"));
    }
    answer(&app, &session, params, request).await
}

async fn unstable(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Query(params): Query<Params>,
    JsonBody(body): JsonBody<UnstableBody>,
) -> Result<JsonBytes, ApiError> {
    let request = body.into_request(&session.user_id)?;
    answer(&app, &session, params, request).await
}

async fn answer(
    app: &App,
    session: &Session,
    params: Params,
    request: sliding::Request,
) -> Result<JsonBytes, ApiError> {
    let pos = match params.pos.as_deref().filter(|pos| !pos.is_empty()) {
        Some(text) => Some(Pos::parse(text).ok_or_else(|| {
            ApiError::new(ErrCode::UnknownPos, "pos is not a token of this server")
        })?),
        None => None,
    };
    let presence = params.set_presence.as_deref().unwrap_or("online");
    app.node().seen_syncing(session.user, presence)?;
    let timeout = Duration::from_millis(params.timeout.unwrap_or(0));
    let request = SlidingRequest {
        user: session.user,
        user_id: Arc::clone(&session.user_id),
        device: Arc::clone(&session.device),
        pos,
        body: Arc::new(request),
        timeout: timeout.min(app.config().http.max_sync_timeout),
    };
    let body = app.node().sliding_sync(request).await?;
    Ok(JsonBytes(body.into()))
}
