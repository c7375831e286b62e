//! Reading a room's state, as a whole or by entry. Setting it is in [`super::state`].
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstate>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use node::Lane;
use rooms::{EventNo, event_log};
use serde::Deserialize;
use sync::room_state::Members;

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::client::room_reader::RoomReader;
use crate::error::ApiError;
use crate::json::JsonBytes;
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/rooms/{room_id}/state", get(all))
        .route(
            "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
            get(without_key),
        )
        .route(
            "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
            get(without_key),
        )
        .route(
            "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/{state_key}",
            get(with_key),
        )
}

/// State of rooms with more members than this is read on the lane for long work.
const MOST_INTERACTIVE: u64 = 2_000;

async fn all(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(room_id): Params<String>,
) -> Result<JsonBytes, ApiError> {
    let reader = RoomReader::open_whole(&app, &session, &room_id).await?;
    let lane = lane_of(&reader);
    let read = move || {
        let entries = reader.state_before(reader.end, &Members::All)?;
        let places: Vec<EventNo> = entries.into_values().collect();
        let mut out = Vec::with_capacity(400 * places.len());
        reader.renderer().list_at(&mut out, &places)?;
        Ok(JsonBytes(out.into()))
    };
    app.node().run(lane, read).await?
}

/// The lane for work that is proportional to the room's state.
pub fn lane_of(reader: &RoomReader) -> Lane {
    if reader.head.joined > MOST_INTERACTIVE {
        Lane::Bulk
    } else {
        Lane::Interactive
    }
}

/// `format`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Content,
    Event,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    format: Format,
}

async fn without_key(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((room_id, event_type)): Params<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<JsonBytes, ApiError> {
    entry(&app, &session, &room_id, (&event_type, ""), asked.format).await
}

async fn with_key(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((room_id, event_type, state_key)): Params<(String, String, String)>,
    Query(asked): Query<Asked>,
) -> Result<JsonBytes, ApiError> {
    let key = (event_type.as_str(), state_key.as_str());
    entry(&app, &session, &room_id, key, asked.format).await
}

async fn entry(
    app: &App,
    session: &Session,
    room_id: &str,
    (event_type, state_key): (&str, &str),
    format: Format,
) -> Result<JsonBytes, ApiError> {
    let reader = match (event_type, state_key) {
        ("m.room.member", of) if of != &*session.user_id => {
            RoomReader::open_whole(app, session, room_id).await?
        }
        _ => RoomReader::open(app, session, room_id)?,
    };
    let unknown = || ApiError::not_found("The room has no such state");
    let no = reader.state(event_type, state_key)?.ok_or_else(unknown)?;
    let event = event_log::get(&reader.view, reader.room, no)?.ok_or_else(unknown)?;
    let renderer = reader.renderer();
    match format {
        Format::Content => Ok(JsonBytes(renderer.content(&event)?.into_bytes().into())),
        Format::Event => {
            let mut out = Vec::with_capacity(1024);
            renderer.event(&mut out, no, &event)?;
            Ok(JsonBytes(out.into()))
        }
    }
}
