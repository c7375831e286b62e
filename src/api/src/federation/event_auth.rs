//! The auth chain of an event.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use node::Lane;
use rooms::graph;
use rooms::served::write_numbers;

use crate::app::App;
use crate::error::ApiError;
use crate::federation::Signed;
use crate::federation::room_door::RoomDoor;
use crate::json::JsonBytes;
use crate::request::Params;

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/federation/v1/event_auth/{room_id}/{event_id}";
    Router::new().route(path, get(event_auth))
}

async fn event_auth(
    State(app): State<App>,
    Params((room_id, event_id)): Params<(String, String)>,
    signed: Signed,
) -> Result<JsonBytes, ApiError> {
    let door = RoomDoor::open(&app, &signed, &room_id)?;
    let read = move || -> Result<Vec<u8>, ApiError> {
        let chain = graph::auth_chain(&door.view, door.room, &event_id)?;
        let chain =
            chain.ok_or_else(|| ApiError::not_found(format!("Event {event_id} is not known")))?;
        let mut out = b"{\"auth_chain\":".to_vec();
        write_numbers(&mut out, &door.view, door.room(), &chain)?;
        out.push(b'}');
        Ok(out)
    };
    let out = app.node().run(Lane::Bulk, read).await??;
    Ok(JsonBytes(out.into()))
}
