//! What old clients ask of one room before they follow it: its newest messages and its state.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidinitialsync>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::auth::Membership;
use event::json;
use rooms::history::{self, Span, Way};
use rooms::{EventNo, directory};
use serde::Deserialize;
use sync::PaginationToken;
use sync::room_state::Members;
use users::account_data;
use users::filters::RoomEventFilter;

use crate::app::App;
use crate::auth::GuestSession;
use crate::client::room_reader::RoomReader;
use crate::client::room_state::lane_of;
use crate::error::ApiError;
use crate::json::JsonBytes;
use crate::request::{Params, Query};

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/client/v3/rooms/{room_id}/initialSync";
    Router::new().route(path, get(initial_sync))
}

/// Messages where the client does not say.
const DEFAULT_LIMIT: usize = 10;
/// The most messages.
const MOST_LIMIT: usize = 100;

#[derive(Deserialize)]
struct Asked {
    limit: Option<usize>,
}

async fn initial_sync(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(room_id): Params<String>,
    Query(asked): Query<Asked>,
) -> Result<JsonBytes, ApiError> {
    let reader = RoomReader::open_whole(&app, &session, &room_id).await?;
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT).min(MOST_LIMIT);
    let lane = lane_of(&reader);
    app.node().run(lane, move || render(&reader, limit)).await?
}

fn render(reader: &RoomReader, limit: usize) -> Result<JsonBytes, ApiError> {
    let (view, room, user) = (&reader.view, reader.room, reader.session.user);
    let filter = RoomEventFilter::default();
    let lens = reader.lens(&filter)?;
    let span = Span {
        room,
        start: reader.end,
        end: EventNo::MIN,
        way: Way::Backward,
        limit,
    };
    let mut page = history::page(view, span, |no, event| lens.shows(no, event))?;
    page.events.reverse();
    let first = page.events.first().map_or(reader.end, |(no, _)| *no);
    let (start, end) = (
        PaginationToken::Place(first),
        PaginationToken::Place(reader.end),
    );
    let entries = reader.state_before(reader.end, &Members::All)?;
    let state: Vec<EventNo> = entries.into_values().collect();
    let renderer = reader.renderer();

    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"{\"room_id\":");
    json::write_string(&mut out, &reader.room_id);
    let membership = match reader.visibility.membership_at(EventNo::MAX) {
        Membership::Join => "join",
        Membership::Invite => "invite",
        Membership::Knock => "knock",
        Membership::Ban => "ban",
        Membership::Leave | Membership::Other => "leave",
    };
    let published = directory::is_published(view, room)?;
    let visibility = if published { "public" } else { "private" };
    out.extend_from_slice(
        format!(
            ",\"membership\":\"{membership}\",\"visibility\":\"{visibility}\",\
             \"messages\":{{\"start\":\"{start}\",\"end\":\"{end}\",\"chunk\":"
        )
        .as_bytes(),
    );
    renderer.list(&mut out, &page.events)?;
    out.extend_from_slice(b"},\"state\":");
    renderer.list_at(&mut out, &state)?;
    out.extend_from_slice(b",\"account_data\":[");
    for (n, item) in account_data::all_room(view, user, room)?.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"type\":");
        json::write_string(&mut out, &item.kind);
        out.extend_from_slice(b",\"content\":");
        out.extend_from_slice(&item.content);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Ok(JsonBytes(out.into()))
}
