//! Reading a room's history page by page.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages>

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::json;
use node::Lane;
use node::federation::has_gaps;
use rooms::EventNo;
use rooms::history::{self, Span, Way};
use serde::Deserialize;
use sync::PaginationToken;
use users::filters::RoomEventFilter;

use crate::app::App;
use crate::auth::GuestSession;
use crate::client::room_reader::{RoomReader, event_filter};
use crate::error::ApiError;
use crate::json::JsonBytes;
use crate::request::{Params, Query};

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/client/v3/rooms/{room_id}/messages", get(messages))
}

/// Events of a page where the client does not say.
const DEFAULT_LIMIT: u64 = 10;
/// The most events of a page.
const MOST_LIMIT: u64 = 1000;
/// Times that history is fetched from other servers for one page.
const MOST_BACKFILLS: usize = 3;
/// Pages up to this length are read between two other requests.
const MOST_INLINE: usize = 100;

/// `dir`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub enum Dir {
    /// Towards what is newer.
    #[default]
    #[serde(rename = "f")]
    Forward,
    /// Towards what is older.
    #[serde(rename = "b")]
    Backward,
}

impl From<Dir> for Way {
    fn from(dir: Dir) -> Way {
        match dir {
            Dir::Forward => Way::Forward,
            Dir::Backward => Way::Backward,
        }
    }
}

#[derive(Deserialize)]
struct Asked {
    /// Required, but clients of old leave it out and mean forwards.
    #[serde(default)]
    dir: Dir,
    from: Option<String>,
    to: Option<String>,
    limit: Option<u64>,
    filter: Option<String>,
}

async fn messages(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(room_id): Params<String>,
    Query(asked): Query<Asked>,
) -> Result<JsonBytes, ApiError> {
    let filter = event_filter(asked.filter.as_deref())?;
    let reader = RoomReader::open(&app, &session, &room_id)?;
    let way = Way::from(asked.dir);
    let token = |text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.map(|text| reader.place_of(text)).transpose()
    };
    let (from, to) = (token(&asked.from)?, token(&asked.to)?);
    let span = Span {
        room: reader.room,
        // Who has left sees nothing beyond, and need not look for it.
        start: match (way, from) {
            (Way::Forward, from) => from.unwrap_or(EventNo::MIN),
            (Way::Backward, from) => from.unwrap_or(reader.end).min(reader.end),
        },
        end: match (way, to) {
            (Way::Forward, to) => to.unwrap_or(reader.end).min(reader.end),
            (Way::Backward, to) => to.unwrap_or(EventNo::MIN),
        },
        way,
        limit: asked.limit.unwrap_or(DEFAULT_LIMIT).min(MOST_LIMIT) as usize,
    };
    let start = asked.from.filter(|text| !text.is_empty());
    let start = start.unwrap_or_else(|| PaginationToken::Place(span.start).to_string());
    let asked = Arc::new((filter, start));
    let mut reader = Arc::new(reader);
    for _ in 0..MOST_BACKFILLS {
        let page = rendered(&app, &reader, span, &asked).await?;
        if !page.ends_at_gap || !app.node().backfill(span.room).await? {
            return Ok(page.body);
        }
        reader = Arc::new(RoomReader::open(&app, &session, &room_id)?);
    }
    Ok(rendered(&app, &reader, span, &asked).await?.body)
}

async fn rendered(
    app: &App,
    reader: &Arc<RoomReader>,
    span: Span,
    asked: &Arc<(Arc<RoomEventFilter>, String)>,
) -> Result<Rendered, ApiError> {
    if span.limit <= MOST_INLINE {
        return render(reader, span, &asked.0, &asked.1);
    }
    let (reader, asked) = (Arc::clone(reader), Arc::clone(asked));
    let page = move || render(&reader, span, &asked.0, &asked.1);
    app.node().run(Lane::Interactive, page).await?
}

/// A page as the client gets it.
struct Rendered {
    body: JsonBytes,
    /// It is shorter than it might be, and other servers have history from before it.
    ends_at_gap: bool,
}

fn render(
    reader: &RoomReader,
    span: Span,
    filter: &RoomEventFilter,
    start: &str,
) -> Result<Rendered, ApiError> {
    let lens = reader.lens(filter)?;
    // A page that the filter cut short has an end as well: without the filter there is more.
    let mut left_out = false;
    let page = history::page(&reader.view, span, |no, event| {
        let shows = lens.shows(no, event)?;
        left_out = !shows && (left_out || lens.sees(no, event)?);
        Ok(shows)
    })?;
    let end_of_chunk = page
        .events
        .last()
        .filter(|_| left_out)
        .map(|(no, _)| match span.way {
            Way::Forward => no.next(),
            Way::Backward => *no,
        });
    let renderer = reader.renderer();
    let mut out = Vec::with_capacity(256 + 512 * page.events.len());
    out.extend_from_slice(b"{\"chunk\":");
    renderer.list(&mut out, &page.events)?;
    out.extend_from_slice(b",\"start\":");
    json::write_string(&mut out, start);
    let is_at_start = span.way == Way::Backward && page.next.is_none() && span.end == EventNo::MIN;
    let ends_at_gap = is_at_start && has_gaps(&reader.view, span.room)?;
    // What is before the gap may come yet: who reads on asks for it again.
    let end_at_gap = page.events.last().filter(|_| ends_at_gap);
    let end_at_gap = end_at_gap.map(|(no, _)| *no);
    if let Some(next) = page.next.or(end_of_chunk).or(end_at_gap) {
        let end = PaginationToken::Place(next);
        out.extend_from_slice(format!(",\"end\":\"{end}\"").as_bytes());
    }
    if filter.lazy_load_members
        && let Some((at, _)) = page.events.last()
    {
        let members = reader.members_of(&page.events, *at)?;
        out.extend_from_slice(b",\"state\":");
        renderer.list_at(&mut out, &members)?;
    }
    out.push(b'}');
    Ok(Rendered {
        body: JsonBytes(out.into()),
        ends_at_gap: ends_at_gap && page.events.len() < span.limit,
    })
}
