//! Who is online. <https://spec.matrix.org/v1.19/client-server-api/#presence>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use node::presence_named;
use serde::Deserialize;

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;
use crate::json::{JsonBody, JsonBytes};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/client/v3/presence/{user_id}/status";
    Router::new().route(path, get(read).put(set))
}

#[derive(Deserialize)]
struct Status {
    presence: String,
    status_msg: Option<String>,
}

async fn set(
    State(app): State<App>,
    session: Session,
    Params(user_id): Params<String>,
    JsonBody(status): JsonBody<Status>,
) -> Result<JsonBytes, ApiError> {
    session.must_be(&user_id)?;
    let presence = presence_named(&status.presence)
        .ok_or_else(|| ApiError::invalid_param("There is no such presence"))?;
    if app.config().presence.enabled {
        let text = status.status_msg.filter(|text| !text.is_empty());
        app.node().set_presence(session.user, presence, text)?;
    }
    Ok(JsonBytes::EMPTY)
}

async fn read(
    State(app): State<App>,
    session: Session,
    Params(user_id): Params<String>,
) -> Result<JsonBytes, ApiError> {
    let node = app.node();
    let view = node.view();
    let hidden = || ApiError::forbidden("You share no room with this user");
    let user = node
        .names()
        .known_user(&view, &user_id)?
        .ok_or_else(hidden)?;
    if user != session.user && !rooms::members::share_room(&view, session.user, user)? {
        return Err(hidden());
    }
    let mut state = node.memory().presence.get(user).unwrap_or_default();
    if state.presence.is_empty() {
        state.presence = "offline";
    }
    let mut out = Vec::with_capacity(128);
    sync::presence_content(&mut out, &state, node.now_ms());
    Ok(JsonBytes(out.into()))
}
