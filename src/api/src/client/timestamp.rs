//! The event nearest to a time.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::json as text;
use rooms::event_log;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::GuestSession;
use crate::client::messages::Dir;
use crate::client::room_reader::RoomReader;
use crate::error::ApiError;
use crate::json::Json;
use crate::request::{Params, Query};

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/client/v1/rooms/{room_id}/timestamp_to_event";
    Router::new().route(path, get(timestamp_to_event))
}

#[derive(Deserialize)]
struct Asked {
    ts: u64,
    dir: Dir,
}

async fn timestamp_to_event(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(room_id): Params<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    let reader = RoomReader::open(&app, &session, &room_id)?;
    let (view, room) = (&reader.view, reader.room);
    let forwards = matches!(asked.dir, Dir::Forward);
    let mut found = None;
    event_log::near_timestamp(view, room, asked.ts, forwards, |no| {
        found = match event_log::get(view, room, no)? {
            Some(event) if reader.visibility.allows(view, no, &event)? => Some(event),
            _ => None,
        };
        Ok(found.is_some())
    })?;
    let event = found.ok_or_else(|| ApiError::not_found("There is no event near this time"))?;
    let sent_ms = text::member(&event.json, "origin_server_ts").and_then(text::integer);
    Ok(Json(json!({
        "event_id": event.event_id.as_str(),
        "origin_server_ts": sent_ms.unwrap_or_default(),
    })))
}
