//! A single event. <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomideventeventid>

use axum::Router;
use axum::extract::State;
use axum::routing::get;

use crate::app::App;
use crate::auth::GuestSession;
use crate::client::room_reader::RoomReader;
use crate::error::ApiError;
use crate::json::JsonBytes;
use crate::request::Params;

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/client/v3/rooms/{room_id}/event/{event_id}";
    Router::new().route(path, get(event))
}

async fn event(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((room_id, event_id)): Params<(String, String)>,
) -> Result<JsonBytes, ApiError> {
    // A room that the user may not read is answered like an event that does not exist.
    let reader = RoomReader::find(&app, &session, &room_id)?
        .ok_or_else(|| ApiError::from(rooms::Error::UnknownEvent))?;
    let (no, event) = reader.event(&event_id)?;
    let mut out = Vec::with_capacity(1024);
    reader.renderer().event(&mut out, no, &event)?;
    Ok(JsonBytes(out.into()))
}
