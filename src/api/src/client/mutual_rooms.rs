//! The rooms that a user shares with another.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mutual_rooms>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::auth::Membership;
use event::identifier;
use rooms::members;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;
use crate::json::Json;
use crate::request::Query;

/// The endpoints of this file: under its name, and under the one it was proposed with.
pub fn routes() -> Router<App> {
    let proposed = "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms";
    Router::new()
        .route("/_matrix/client/v1/mutual_rooms", get(mutual_rooms))
        .route(proposed, get(mutual_rooms))
}

#[derive(Deserialize)]
struct Asked {
    user_id: String,
    from: Option<String>,
}

async fn mutual_rooms(
    State(app): State<App>,
    session: Session,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    if !identifier::is_user_id(&asked.user_id) {
        return Err(ApiError::invalid_param("user_id is not a user id"));
    }
    if asked.user_id == *session.user_id {
        return Err(ApiError::invalid_param("One shares all rooms with oneself"));
    }
    if asked.from.is_some_and(|from| !from.is_empty()) {
        // All rooms are in the first answer.
        return Err(ApiError::invalid_param(
            "from is not a token of this server",
        ));
    }
    let view = app.node().view();
    let mut joined = Vec::new();
    if let Some(other) = app.node().names().known_user(&view, &asked.user_id)? {
        for (room, of) in app.node().rooms_of(session.user, &view)?.iter() {
            if of.value.membership() == Membership::Join
                && members::membership(&view, *room, other)? == Membership::Join
            {
                joined.push(names::room_id(&view, *room)?);
            }
        }
    }
    Ok(Json(json!({ "count": joined.len(), "joined": joined })))
}
