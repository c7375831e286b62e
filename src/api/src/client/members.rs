//! Who is in a room.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmembers>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::auth::Membership;
use event::json;
use rooms::{EventNo, Point, event_log, members, state};
use serde::Deserialize;

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::client::room_reader::RoomReader;
use crate::client::room_state::lane_of;
use crate::error::ApiError;
use crate::json::JsonBytes;
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/rooms/{room_id}/members", get(all))
        .route(
            "/_matrix/client/v3/rooms/{room_id}/joined_members",
            get(joined),
        )
}

/// Member events read at once.
const PIECE: usize = 256;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Named {
    Join,
    Invite,
    Knock,
    Leave,
    Ban,
}

impl Named {
    fn is(self, membership: Membership) -> bool {
        let named = match self {
            Named::Join => Membership::Join,
            Named::Invite => Membership::Invite,
            Named::Knock => Membership::Knock,
            Named::Leave => Membership::Leave,
            Named::Ban => Membership::Ban,
        };
        membership == named
    }
}

#[derive(Deserialize)]
struct Asked {
    at: Option<String>,
    membership: Option<Named>,
    not_membership: Option<Named>,
}

impl Asked {
    fn shows(&self, membership: Membership) -> bool {
        // "If both are given, members are returned who match either."
        match (self.membership, self.not_membership) {
            (None, None) => true,
            (Some(named), None) => named.is(membership),
            (None, Some(not)) => !not.is(membership),
            (Some(named), Some(not)) => named.is(membership) || !not.is(membership),
        }
    }
}

async fn all(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(room_id): Params<String>,
    Query(asked): Query<Asked>,
) -> Result<JsonBytes, ApiError> {
    let reader = RoomReader::open_whole(&app, &session, &room_id).await?;
    let lane = lane_of(&reader);
    let read = move || {
        let places = places(&reader, &asked)?;
        let mut out = Vec::with_capacity(64 + 400 * places.len());
        out.extend_from_slice(b"{\"chunk\":");
        reader.renderer().list_at(&mut out, &places)?;
        out.push(b'}');
        Ok(JsonBytes(out.into()))
    };
    app.node().run(lane, read).await?
}

/// Where the member events are that are asked for.
fn places(reader: &RoomReader, asked: &Asked) -> Result<Vec<EventNo>, ApiError> {
    let (view, room) = (&reader.view, reader.room);
    let mut end = reader.end;
    if let Some(at) = asked.at.as_deref().filter(|at| !at.is_empty()) {
        // A room begins with who made it: before that there is nobody to tell of.
        let beginning = reader.head.create.next().next();
        let at = reader.place_of(at)?.max(beginning);
        if at < end {
            let last = EventNo(at.0.saturating_sub(1));
            if !reader.visibility.allows_place(last) {
                return Err(ApiError::forbidden("You may not see the room at this time"));
            }
            end = at;
        }
    }
    if end >= reader.head.next {
        let all = members::all(view, room)?.into_iter();
        let shown = all.filter(|(_, member)| asked.shows(member.membership()));
        return Ok(shown.map(|(_, member)| member.event).collect());
    }
    let last = EventNo(end.0.saturating_sub(1));
    let entries = state::of_type_at(view, room, "m.room.member", Point::main(last))?;
    let all: Vec<EventNo> = entries.into_iter().map(|entry| entry.event).collect();
    if asked.membership.is_none() && asked.not_membership.is_none() {
        return Ok(all);
    }
    let mut shown = Vec::new();
    for piece in all.chunks(PIECE) {
        for (no, event) in event_log::get_many(view, room, piece)? {
            let content = json::member(&event.json, "content").unwrap_or("{}");
            if asked.shows(Membership::of_content(content).unwrap_or(Membership::Other)) {
                shown.push(no);
            }
        }
    }
    Ok(shown)
}

async fn joined(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
) -> Result<JsonBytes, ApiError> {
    let reader = RoomReader::open_whole(&app, &session, &room_id).await?;
    reader.must_be_joined()?;
    let lane = lane_of(&reader);
    app.node().run(lane, move || render_joined(&reader)).await?
}

fn render_joined(reader: &RoomReader) -> Result<JsonBytes, ApiError> {
    let (view, room) = (&reader.view, reader.room);
    let mut places = Vec::with_capacity(reader.head.joined as usize);
    for (_, member) in members::all(view, room)? {
        if member.membership() == Membership::Join {
            places.push(member.event);
        }
    }
    let renderer = reader.renderer();
    let mut out = Vec::with_capacity(64 + 128 * places.len());
    out.extend_from_slice(b"{\"joined\":{");
    let begin = out.len();
    for piece in places.chunks(PIECE) {
        for (_, event) in event_log::get_many(view, room, piece)? {
            // A redacted member has no name any more.
            let content = renderer.content(&event)?;
            let text = |key| {
                let value = json::member(&content, key).unwrap_or("null");
                if value.starts_with('"') {
                    value
                } else {
                    "null"
                }
            };
            let user_id = json::member(&event.json, "state_key").unwrap_or("\"\"");
            if out.len() > begin {
                out.push(b',');
            }
            out.extend_from_slice(user_id.as_bytes());
            out.extend_from_slice(b":{\"avatar_url\":");
            out.extend_from_slice(text("avatar_url").as_bytes());
            out.extend_from_slice(b",\"display_name\":");
            out.extend_from_slice(text("displayname").as_bytes());
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"}}");
    Ok(JsonBytes(out.into()))
}
