//! Typing notifications. <https://spec.matrix.org/v1.19/client-server-api/#typing-notifications>

use axum::Router;
use axum::extract::State;
use axum::routing::put;
use serde::Deserialize;

use crate::app::App;
use crate::auth::GuestSession;
use crate::client::room_reader::RoomReader;
use crate::error::ApiError;
use crate::json::{JsonBody, JsonBytes};
use crate::request::Params;

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/client/v3/rooms/{room_id}/typing/{user_id}";
    Router::new().route(path, put(typing))
}

/// How long typing lasts where the client does not say.
const DEFAULT_TIMEOUT_MS: u64 = 30_000;
/// The longest that typing lasts.
const MOST_TIMEOUT_MS: u64 = 120_000;

#[derive(Deserialize)]
struct Notification {
    typing: bool,
    timeout: Option<u64>,
}

async fn typing(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((room_id, user_id)): Params<(String, String)>,
    JsonBody(body): JsonBody<Notification>,
) -> Result<JsonBytes, ApiError> {
    session.must_be(&user_id)?;
    let reader = RoomReader::open(&app, &session, &room_id)?;
    reader.must_be_joined()?;
    let node = app.node();
    let timeout_ms = body
        .timeout
        .unwrap_or(DEFAULT_TIMEOUT_MS)
        .min(MOST_TIMEOUT_MS);
    let until_ms = body.typing.then(|| node.now_ms() + timeout_ms);
    node.set_typing(reader.room, session.user, until_ms)?;
    Ok(JsonBytes::EMPTY)
}
