//! The threads of a room. <https://spec.matrix.org/v1.19/client-server-api/#querying-threads-in-a-room>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use rooms::{EventNo, event_log, relations};
use serde::Deserialize;
use sync::PaginationToken;
use users::filters::RoomEventFilter;

use crate::app::App;
use crate::auth::GuestSession;
use crate::client::room_reader::RoomReader;
use crate::error::ApiError;
use crate::json::JsonBytes;
use crate::request::{Params, Query};

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/client/v1/rooms/{room_id}/threads", get(threads))
}

/// Threads of a page where the client does not say.
const DEFAULT_LIMIT: usize = 20;
/// The most threads of a page.
const MOST_LIMIT: usize = 100;
/// Threads looked at for one page.
const MOST_LOOKED_AT: usize = 2_000;

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Include {
    #[default]
    All,
    Participated,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    include: Include,
    limit: Option<usize>,
    from: Option<String>,
}

async fn threads(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(room_id): Params<String>,
    Query(asked): Query<Asked>,
) -> Result<JsonBytes, ApiError> {
    if asked.limit == Some(0) {
        return Err(ApiError::invalid_param("limit is above 0"));
    }
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT).min(MOST_LIMIT);
    let reader = RoomReader::open(&app, &session, &room_id)?;
    let from = asked.from.as_deref().filter(|from| !from.is_empty());
    let end = match from {
        Some(token) => reader.place_of(token)?,
        None => reader.end,
    };
    let (view, room, user) = (&reader.view, reader.room, session.user);
    let filter = RoomEventFilter::default();
    let lens = reader.lens(&filter)?;
    let mut roots = Vec::new();
    let mut reached = end;
    let mut next = None;
    for (looked_at, row) in relations::threads_before(view, room, end).enumerate() {
        let (latest, root) = row?;
        if looked_at == MOST_LOOKED_AT {
            next = Some(reached);
            break;
        }
        if let Some(no) = event_log::find_in(view, room, &root)?
            && let Some(event) = event_log::get(view, room, no)?
            && lens.shows(no, &event)?
            && (asked.include == Include::All
                || event.sender == user
                || relations::has_participated(view, room, &root, user)?)
        {
            if roots.len() == limit {
                next = Some(reached);
                break;
            }
            roots.push((no, event));
        }
        reached = latest;
    }
    let mut out = Vec::with_capacity(256 + 1024 * roots.len());
    out.extend_from_slice(b"{\"chunk\":");
    reader.renderer().list(&mut out, &roots)?;
    if let Some(next) = next.filter(|next| *next > EventNo::MIN) {
        let next = PaginationToken::Place(next);
        out.extend_from_slice(format!(",\"next_batch\":\"{next}\"").as_bytes());
    }
    out.push(b'}');
    Ok(JsonBytes(out.into()))
}
