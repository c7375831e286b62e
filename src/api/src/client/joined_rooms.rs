//! The rooms that a user is joined to.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3joined_rooms>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::auth::Membership;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::GuestSession;
use crate::error::ApiError;
use crate::json::Json;

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/client/v3/joined_rooms", get(joined_rooms))
}

async fn joined_rooms(
    State(app): State<App>,
    GuestSession(session): GuestSession,
) -> Result<Json<Value>, ApiError> {
    let view = app.node().view();
    let mut ids = Vec::new();
    for (room, of) in app.node().rooms_of(session.user, &view)?.iter() {
        if of.value.membership() == Membership::Join {
            ids.push(names::room_id(&view, *room)?);
        }
    }
    Ok(Json(json!({ "joined_rooms": ids })))
}
