//! Upgrading rooms: <https://spec.matrix.org/v1.19/client-server-api/#room-upgrades>.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use event::identifier;
use node::NodeError;
use node::room::UpgradeRoom;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::Session;
use crate::client::create_room::offered;
use crate::client::room_names::find_room;
use crate::client::room_reader::members_known;
use crate::error::ApiError;
use crate::json::{Json, JsonBody};
use crate::limits::{Class, Key};
use crate::request::Params;

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/client/v3/rooms/{room_id}/upgrade", post(upgrade))
}

#[derive(Deserialize)]
struct Body {
    new_version: String,
    #[serde(default)]
    additional_creators: Vec<String>,
}

async fn upgrade(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
    JsonBody(body): JsonBody<Body>,
) -> Result<Json<Value>, ApiError> {
    session.must_not_be_suspended()?;
    let version = offered(&body.new_version)?;
    let creators = &body.additional_creators;
    if let Some(bad) = creators.iter().find(|id| !identifier::is_user_id(id)) {
        return Err(ApiError::invalid_param(format!("{bad:?} is not a user id")));
    }
    app.limiter()
        .check(Class::CreateRoom, Key::Name(&session.user_id))?;
    let unknown = || ApiError::not_found("There is no such room");
    let room = find_room(&app, &room_id)?.ok_or_else(unknown)?;
    // Who is banned is kept out of the new room as well.
    members_known(&app, room).await?;
    let request = UpgradeRoom {
        room,
        user: session.user,
        user_id: Arc::clone(&session.user_id),
        version,
        additional_creators: body.additional_creators,
    };
    match app.node().upgrade_room(request).await {
        Ok(new_room) => Ok(Json(json!({ "replacement_room": new_room }))),
        Err(NodeError::Rooms(rooms::Error::UnknownRoom)) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}
