//! What stands around an event.
//! <https://spec.matrix.org/v1.19/client-server-api/#event-context>

use std::collections::BTreeSet;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use node::Lane;
use rooms::EventNo;
use rooms::history::{self, Span, Way};
use serde::Deserialize;
use sync::PaginationToken;
use sync::room_state::Members;
use users::filters::RoomEventFilter;

use crate::app::App;
use crate::auth::GuestSession;
use crate::client::room_reader::{RoomReader, event_filter, senders};
use crate::error::ApiError;
use crate::json::JsonBytes;
use crate::request::{Params, Query};

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/client/v3/rooms/{room_id}/context/{event_id}";
    Router::new().route(path, get(context))
}

/// Events around the event where the client does not say.
const DEFAULT_LIMIT: usize = 10;
/// The most events around the event.
const MOST_LIMIT: usize = 100;

#[derive(Deserialize)]
struct Asked {
    limit: Option<usize>,
    filter: Option<String>,
}

async fn context(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((room_id, event_id)): Params<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<JsonBytes, ApiError> {
    let filter = event_filter(asked.filter.as_deref())?;
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT).min(MOST_LIMIT);
    let reader = RoomReader::open(&app, &session, &room_id)?;
    // With the state of the room, which may be large.
    let read = move || render(&reader, &event_id, limit, &filter);
    app.node().run(Lane::Interactive, read).await?
}

fn render(
    reader: &RoomReader,
    event_id: &str,
    limit: usize,
    filter: &RoomEventFilter,
) -> Result<JsonBytes, ApiError> {
    let (no, event) = reader.event(event_id)?;
    let lens = reader.lens(filter)?;
    let page = |way, start, end, limit| {
        let span = Span {
            room: reader.room,
            start,
            end,
            way,
            limit,
        };
        // What is missing in between is fetched for who reads on.
        let gap = history::gap_ahead(&reader.view, span, &BTreeSet::new())?;
        let span = gap.map_or(span, |gap| span.up_to(gap));
        history::page(&reader.view, span, |no, event| lens.shows(no, event))
    };
    let before = page(Way::Backward, no, EventNo::MIN, limit / 2)?.events;
    let after = page(Way::Forward, no.next(), reader.head.next, limit - limit / 2)?.events;
    let first = before.last().map_or(no, |(first, _)| *first);
    let last = after.last().map_or(no, |(last, _)| *last);

    let renderer = reader.renderer();
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"{\"event\":");
    renderer.event(&mut out, no, &event)?;
    out.extend_from_slice(b",\"events_before\":");
    renderer.list(&mut out, &before)?;
    out.extend_from_slice(b",\"events_after\":");
    renderer.list(&mut out, &after)?;
    let (start, end) = (
        PaginationToken::Place(first),
        PaginationToken::Place(last.next()),
    );
    out.extend_from_slice(
        format!(",\"start\":\"{start}\",\"end\":\"{end}\",\"state\":").as_bytes(),
    );
    let entries = if filter.lazy_load_members {
        let shown = before.iter().chain(&after).map(|(_, event)| event);
        let ids = senders(&reader.view, shown.chain([&event]))?;
        reader.state_before(last.next(), &Members::Only(&ids))?
    } else {
        reader.state_before(last.next(), &Members::All)?
    };
    let places: Vec<EventNo> = entries.into_values().collect();
    renderer.list_at(&mut out, &places)?;
    out.push(b'}');
    Ok(JsonBytes(out.into()))
}
