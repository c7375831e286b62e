//! History: events and what they follow.
//! <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use event::EventId;
use node::Lane;
use rooms::graph;
use rooms::served::{ServerVisibility, write_events};
use serde::Deserialize;

use crate::app::App;
use crate::error::ApiError;
use crate::federation::Signed;
use crate::federation::events::transaction_head;
use crate::federation::room_door::{MOST_ID_BYTES, RoomDoor};
use crate::json::JsonBytes;
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/federation/v1/backfill/{room_id}", get(backfill))
        .route(
            "/_matrix/federation/v1/get_missing_events/{room_id}",
            post(missing_events),
        )
}

/// The most events of one answer to `/backfill`.
const MOST_BACKFILLED: usize = 100;

/// The most events of one answer to `/get_missing_events`, and how many there are where nothing is said.
const MOST_MISSING: usize = 20;
const USUAL_MISSING: usize = 10;

/// The most events that a walk begins or ends at.
const MOST_ENDS: usize = 100;

/// Event ids as they came, those that can't be any left out.
fn ids(texts: &[String]) -> Vec<EventId> {
    let texts = texts.iter().filter(|text| text.len() <= MOST_ID_BYTES);
    texts
        .take(MOST_ENDS)
        .map(|text| EventId::from(text.as_str()))
        .collect()
}

#[derive(Deserialize)]
struct From {
    v: Vec<String>,
    limit: usize,
}

async fn backfill(
    State(app): State<App>,
    Params(room_id): Params<String>,
    Query(From { v, limit }): Query<From>,
    signed: Signed,
) -> Result<JsonBytes, ApiError> {
    let door = RoomDoor::open(&app, &signed, &room_id)?;
    let (latest, limit) = (ids(&v), limit.min(MOST_BACKFILLED));
    let mut out = transaction_head(app.node());
    let read = move || -> Result<Vec<u8>, ApiError> {
        let (view, room) = (&door.view, door.room);
        let events = graph::backfill(view, room, &latest, limit)?;
        let visibility = ServerVisibility::of(view, room, &door.origin)?;
        write_events(&mut out, view, door.room(), &events, &visibility)?;
        out.push(b'}');
        Ok(out)
    };
    let out = app.node().run(Lane::Bulk, read).await??;
    Ok(JsonBytes(out.into()))
}

#[derive(Deserialize)]
struct Between {
    earliest_events: Vec<String>,
    latest_events: Vec<String>,
    limit: Option<usize>,
    #[serde(default)]
    min_depth: u64,
}

async fn missing_events(
    State(app): State<App>,
    Params(room_id): Params<String>,
    signed: Signed,
) -> Result<JsonBytes, ApiError> {
    let between: Between = signed.json()?;
    let door = RoomDoor::open(&app, &signed, &room_id)?;
    let (latest, earliest) = (ids(&between.latest_events), ids(&between.earliest_events));
    let limit = between.limit.unwrap_or(USUAL_MISSING).min(MOST_MISSING);
    let read = move || -> Result<Vec<u8>, ApiError> {
        let (view, room) = (&door.view, door.room);
        let depth = between.min_depth;
        let events = graph::missing_events(view, room, &latest, &earliest, limit, depth)?;
        let visibility = ServerVisibility::of(view, room, &door.origin)?;
        let mut out = b"{\"events\":".to_vec();
        write_events(&mut out, view, door.room(), &events, &visibility)?;
        out.push(b'}');
        Ok(out)
    };
    let out = app.node().run(Lane::Bulk, read).await??;
    Ok(JsonBytes(out.into()))
}
