//! Single events, and the state at an event.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-events>,
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::EventId;
use node::{Lane, Node};
use rooms::graph::{self, StateIds};
use rooms::served::{ServerVisibility, write_events, write_numbers};
use rooms::{EventNo, Flags, event_log};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::client::messages::Dir;
use crate::error::ApiError;
use crate::federation::Signed;
use crate::federation::room_door::RoomDoor;
use crate::json::{Json, JsonBytes};
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/federation/v1/event/{event_id}", get(event))
        .route("/_matrix/federation/v1/state/{room_id}", get(state))
        .route("/_matrix/federation/v1/state_ids/{room_id}", get(state_ids))
        .route(
            "/_matrix/federation/v1/timestamp_to_event/{room_id}",
            get(timestamp_to_event),
        )
}

fn no_event(event_id: &str) -> ApiError {
    ApiError::not_found(format!("Event {event_id} is not known"))
}

/// A transaction up to its list of events.
pub(super) fn transaction_head(node: &Node) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"{\"origin\":");
    event::json::write_string(&mut out, node.server_name());
    let now_ms = node.now_ms();
    out.extend_from_slice(format!(",\"origin_server_ts\":{now_ms},\"pdus\":").as_bytes());
    out
}

async fn event(
    State(app): State<App>,
    Params(event_id): Params<String>,
    signed: Signed,
) -> Result<JsonBytes, ApiError> {
    let view = app.node().view();
    let found = graph::known_event(&view, &event_id)?;
    let (room, no, event) = found.ok_or_else(|| no_event(&event_id))?;
    let door = RoomDoor::open_known(&app, &signed, view, room)?;
    let visibility = ServerVisibility::of(&door.view, room, &door.origin)?;
    let mut out = transaction_head(app.node());
    write_events(
        &mut out,
        &door.view,
        door.room(),
        &[(no, event)],
        &visibility,
    )?;
    out.push(b'}');
    Ok(JsonBytes(out.into()))
}

#[derive(Deserialize)]
struct At {
    event_id: String,
}

async fn state(
    State(app): State<App>,
    Params(room_id): Params<String>,
    Query(At { event_id }): Query<At>,
    signed: Signed,
) -> Result<JsonBytes, ApiError> {
    let door = RoomDoor::open(&app, &signed, &room_id)?;
    door.must_know_members()?;
    let read = move || -> Result<Vec<u8>, ApiError> {
        let (view, room) = (&door.view, door.room);
        let found = graph::state_before_event(view, room, &event_id)?;
        let found = found.ok_or_else(|| no_event(&event_id))?;
        let mut out = Vec::with_capacity(1024 * (found.state.len() + found.auth_chain.len()));
        out.extend_from_slice(b"{\"pdus\":");
        write_numbers(&mut out, view, door.room(), &found.state)?;
        out.extend_from_slice(b",\"auth_chain\":");
        write_numbers(&mut out, view, door.room(), &found.auth_chain)?;
        out.push(b'}');
        Ok(out)
    };
    let out = app.node().run(Lane::Bulk, read).await??;
    Ok(JsonBytes(out.into()))
}

async fn state_ids(
    State(app): State<App>,
    Params(room_id): Params<String>,
    Query(At { event_id }): Query<At>,
    signed: Signed,
) -> Result<JsonBytes, ApiError> {
    let door = RoomDoor::open(&app, &signed, &room_id)?;
    door.must_know_members()?;
    let read = move || -> Result<Vec<u8>, ApiError> {
        let found = graph::state_ids(&door.view, door.room, &event_id)?;
        let StateIds { state, auth_chain } = found.ok_or_else(|| no_event(&event_id))?;
        let mut out = Vec::with_capacity(64 * (state.len() + auth_chain.len()));
        out.extend_from_slice(b"{\"pdu_ids\":");
        write_ids(&mut out, &state);
        out.extend_from_slice(b",\"auth_chain_ids\":");
        write_ids(&mut out, &auth_chain);
        out.push(b'}');
        Ok(out)
    };
    let out = app.node().run(Lane::Bulk, read).await??;
    Ok(JsonBytes(out.into()))
}

fn write_ids(out: &mut Vec<u8>, ids: &[EventId]) {
    out.push(b'[');
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        event::json::write_string(out, id.as_str());
    }
    out.push(b']');
}

#[derive(Deserialize)]
struct Time {
    ts: u64,
    dir: Dir,
}

async fn timestamp_to_event(
    State(app): State<App>,
    Params(room_id): Params<String>,
    Query(Time { ts, dir }): Query<Time>,
    signed: Signed,
) -> Result<Json<Value>, ApiError> {
    let door = RoomDoor::open(&app, &signed, &room_id)?;
    let (view, room) = (&door.view, door.room);
    let visibility = ServerVisibility::of(view, room, &door.origin)?;
    let mut found = None;
    let accept = |no: EventNo| {
        found = match event_log::get(view, room, no)? {
            Some(event)
                if !event.flags.has(Flags::REJECTED) && visibility.allows(view, no, &event)? =>
            {
                Some(event)
            }
            _ => None,
        };
        Ok(found.is_some())
    };
    event_log::near_timestamp(view, room, ts, matches!(dir, Dir::Forward), accept)?;
    let event = found.ok_or_else(|| ApiError::not_found("There is no event near this time"))?;
    let sent_ms = event::json::member(&event.json, "origin_server_ts");
    Ok(Json(json!({
        "event_id": event.event_id.as_str(),
        "origin_server_ts": sent_ms.and_then(event::json::integer).unwrap_or_default(),
    })))
}
