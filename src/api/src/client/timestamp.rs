//! The event nearest to a time.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::json as text;
use node::federation::{Nearest, may_be_in_gap};
use rooms::{EventNo, StoredEvent, event_log};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::{GuestSession, Session};
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
    let forwards = matches!(asked.dir, Dir::Forward);
    let found = nearest_here(&app, &session, &room_id, asked.ts, forwards)?;
    let place = found.event.as_ref().map(|(no, _)| *no);
    let here = found.event.map(|(_, event)| nearest_of(&event));
    if !may_be_in_gap(&found.reader.view, found.reader.room, place)? {
        return answer(here);
    }
    let room = found.reader.room;
    // No snapshot is held while others are asked.
    drop(found.reader);
    let than_ms = here.as_ref().map(|nearest| nearest.origin_server_ts);
    let node = app.node();
    let asking = node.nearer_elsewhere(room, (asked.ts, forwards), than_ms);
    let Some(elsewhere) = asking.await? else {
        return answer(here);
    };
    // If it could be fetched, it is found here now, and judged by what the user may see.
    let is_here = event_log::find_in(&node.view(), room, &elsewhere.event_id)?.is_some();
    if !is_here {
        return answer(Some(elsewhere));
    }
    let found = nearest_here(&app, &session, &room_id, asked.ts, forwards)?;
    answer(found.event.map(|(_, event)| nearest_of(&event)))
}

/// The nearest event that the user may see of what is here.
struct Found {
    reader: RoomReader,
    event: Option<(EventNo, StoredEvent)>,
}

fn nearest_here(
    app: &App,
    session: &Session,
    room_id: &str,
    ts_ms: u64,
    forwards: bool,
) -> Result<Found, ApiError> {
    let reader = RoomReader::open(app, session, room_id)?;
    let (view, room) = (&reader.view, reader.room);
    let mut found = None;
    event_log::near_timestamp(view, room, ts_ms, forwards, |no| {
        found = match event_log::get(view, room, no)? {
            Some(event) if reader.visibility.allows(view, no, &event)? => Some((no, event)),
            _ => None,
        };
        Ok(found.is_some())
    })?;
    Ok(Found {
        event: found,
        reader,
    })
}

fn nearest_of(event: &StoredEvent) -> Nearest {
    let sent_ms = text::member(&event.json, "origin_server_ts").and_then(text::integer);
    Nearest {
        event_id: event.event_id.to_string(),
        origin_server_ts: sent_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0),
    }
}

fn answer(nearest: Option<Nearest>) -> Result<Json<Value>, ApiError> {
    let nearest = nearest.ok_or_else(|| ApiError::not_found("There is no event near this time"))?;
    Ok(Json(json!({
        "event_id": nearest.event_id,
        "origin_server_ts": nearest.origin_server_ts,
    })))
}
