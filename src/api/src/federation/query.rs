//! Queries for what this server knows: where an alias leads, and refusing those of unknown types.
//! <https://spec.matrix.org/v1.19/server-server-api/#querying-for-information>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use rooms::aliases;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::client::room_names::check_alias;
use crate::error::ApiError;
use crate::federation::Signed;
use crate::json::Json;
use crate::request::Query;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/federation/v1/query/directory", get(directory))
        .route("/_matrix/federation/v1/query/{query_type}", get(unknown))
}

#[derive(Deserialize)]
struct Alias {
    room_alias: String,
}

async fn directory(
    State(app): State<App>,
    Query(Alias { room_alias }): Query<Alias>,
    _signed: Signed,
) -> Result<Json<Value>, ApiError> {
    check_alias(&room_alias)?;
    let node = app.node();
    if !node.names().is_local_id(&room_alias) {
        return Err(ApiError::invalid_param(
            "The alias belongs to another server",
        ));
    }
    let view = node.view();
    let found = aliases::get(&view, &room_alias)?
        .ok_or_else(|| ApiError::not_found(format!("Room alias {room_alias} not found")))?;
    Ok(Json(json!({
        "room_id": names::room_id(&view, found.room)?,
        "servers": node.servers_of(&view, found.room)?,
    })))
}

async fn unknown(_signed: Signed) -> ApiError {
    ApiError::unrecognized()
}
