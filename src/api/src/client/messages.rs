//! Reading a room's history page by page.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages>

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::json;
use node::Lane;
use rooms::history::{self, Span, Way};
use rooms::{EventNo, backfill};
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
    let mut page = Arc::new(Wanted {
        span,
        filter,
        start,
        crossed: BTreeSet::new(),
    });
    let mut reader = Arc::new(reader);
    for _ in 0..MOST_BACKFILLS {
        let rendered = rendered(&app, &reader, &page).await?;
        let Some(gap) = rendered.gap else {
            return Ok(rendered.body);
        };
        if !app.node().backfill(span.room, gap).await? {
            if gap == EventNo::FIRST {
                return Ok(rendered.body);
            }
            // Nobody has it now: what is beyond is shown.
            let page = Arc::make_mut(&mut page);
            page.crossed.insert(gap);
        }
        reader = Arc::new(RoomReader::open(&app, &session, &room_id)?);
    }
    Ok(rendered(&app, &reader, &page).await?.body)
}

async fn rendered(
    app: &App,
    reader: &Arc<RoomReader>,
    page: &Arc<Wanted>,
) -> Result<Rendered, ApiError> {
    if page.span.limit <= MOST_INLINE {
        return render(reader, page);
    }
    let (reader, page) = (Arc::clone(reader), Arc::clone(page));
    app.node()
        .run(Lane::Interactive, move || render(&reader, &page))
        .await?
}

/// A page that a client asks for.
#[derive(Clone)]
struct Wanted {
    span: Span,
    filter: Arc<RoomEventFilter>,
    /// Where it begins, as a token.
    start: String,
    /// Gaps that nobody can fill in now.
    crossed: BTreeSet<EventNo>,
}

/// A page as the client gets it.
struct Rendered {
    body: JsonBytes,
    /// It is shorter than it might be, for there is a gap before the stretch that begins here: others may have history
    /// from there.
    gap: Option<EventNo>,
}

fn render(reader: &RoomReader, wanted: &Wanted) -> Result<Rendered, ApiError> {
    let (filter, crossed) = (&*wanted.filter, &wanted.crossed);
    let lens = reader.lens(filter)?;
    let ahead = history::gap_ahead(&reader.view, wanted.span, crossed)?;
    let span = ahead.map_or(wanted.span, |gap| wanted.span.up_to(gap));
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
    json::write_string(&mut out, &wanted.start);
    let gap = match ahead {
        _ if page.next.is_some() => None,
        Some(gap) => Some(gap),
        None if span.way == Way::Backward && span.end == EventNo::MIN => {
            beginning(reader, span.room)?
        }
        None => None,
    };
    // What is in the gap may come yet: who reads on asks for it again.
    let end_at_gap = match (gap, page.events.last()) {
        (None, _) => None,
        (Some(_), Some((no, _))) => Some(match span.way {
            Way::Forward => no.next(),
            Way::Backward => *no,
        }),
        (Some(gap), None) => Some(span.start).filter(|_| gap != EventNo::FIRST),
    };
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
        gap: gap.filter(|_| page.events.len() < span.limit),
    })
}

/// The gap before the room's first stretch, if there is one.
fn beginning(reader: &RoomReader, room: names::RoomSn) -> Result<Option<EventNo>, ApiError> {
    let gaps = backfill::gaps(&reader.view, room)?;
    Ok(Some(EventNo::FIRST).filter(|first| gaps.contains_key(first)))
}
