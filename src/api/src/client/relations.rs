//! The events that refer to an event.
//! <https://spec.matrix.org/v1.19/client-server-api/#relationships-api>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::json;
use node::Lane;
use rooms::history::Way;
use rooms::relations::{self, MOST_DEPTH};
use rooms::{EventNo, Relation, StoredEvent, event_log};
use serde::Deserialize;
use sync::PaginationToken;
use users::filters::RoomEventFilter;

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::client::messages::Dir;
use crate::client::room_reader::RoomReader;
use crate::error::ApiError;
use crate::json::JsonBytes;
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/client/v1/rooms/{room_id}/relations/{event_id}";
    Router::new()
        .route(path, get(all))
        .route(&format!("{path}/{{rel_type}}"), get(of_relation))
        .route(&format!("{path}/{{rel_type}}/{{event_type}}"), get(of_type))
}

/// Events of a page where the client does not say.
const DEFAULT_LIMIT: usize = 50;
/// The most events of a page.
const MOST_LIMIT: usize = 500;
/// Relations looked at for one page.
const MOST_LOOKED_AT: usize = 10_000;

#[derive(Deserialize)]
struct Asked {
    #[serde(default = "backward")]
    dir: Dir,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    #[serde(default, alias = "org.matrix.msc3981.recurse")]
    recurse: bool,
}

fn backward() -> Dir {
    Dir::Backward
}

/// Which relations of which event.
struct Wanted {
    room_id: String,
    event_id: String,
    rel_type: Option<String>,
    event_type: Option<String>,
}

async fn all(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((room_id, event_id)): Params<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<JsonBytes, ApiError> {
    let wanted = Wanted {
        room_id,
        event_id,
        rel_type: None,
        event_type: None,
    };
    answer(&app, &session, wanted, asked).await
}

async fn of_relation(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((room_id, event_id, rel_type)): Params<(String, String, String)>,
    Query(asked): Query<Asked>,
) -> Result<JsonBytes, ApiError> {
    let wanted = Wanted {
        room_id,
        event_id,
        rel_type: Some(rel_type),
        event_type: None,
    };
    answer(&app, &session, wanted, asked).await
}

async fn of_type(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((room_id, event_id, rel_type, event_type)): Params<(String, String, String, String)>,
    Query(asked): Query<Asked>,
) -> Result<JsonBytes, ApiError> {
    let wanted = Wanted {
        room_id,
        event_id,
        rel_type: Some(rel_type),
        event_type: Some(event_type),
    };
    answer(&app, &session, wanted, asked).await
}

impl Wanted {
    fn matches(&self, relation: &Relation) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|it| it == is);
        is(&self.rel_type, &relation.rel_type) && is(&self.event_type, &relation.event_type)
    }
}

async fn answer(
    app: &App,
    session: &Session,
    wanted: Wanted,
    asked: Asked,
) -> Result<JsonBytes, ApiError> {
    let reader = RoomReader::open(app, session, &wanted.room_id)?;
    if asked.recurse {
        let read = move || render(&reader, &wanted, &asked);
        return app.node().run(Lane::Interactive, read).await?;
    }
    render(&reader, &wanted, &asked)
}

fn render(reader: &RoomReader, wanted: &Wanted, asked: &Asked) -> Result<JsonBytes, ApiError> {
    reader.event(&wanted.event_id)?;
    let (events, next) = page(reader, wanted, asked)?;
    let mut out = Vec::with_capacity(256 + 512 * events.len());
    out.extend_from_slice(b"{\"chunk\":");
    reader.renderer().list(&mut out, &events)?;
    if let Some(next) = next {
        let next = PaginationToken::Place(next);
        out.extend_from_slice(format!(",\"next_batch\":\"{next}\"").as_bytes());
    }
    if let Some(from) = asked.from.as_deref().filter(|from| !from.is_empty()) {
        out.extend_from_slice(b",\"prev_batch\":");
        json::write_string(&mut out, from);
    }
    if asked.recurse {
        out.extend_from_slice(format!(",\"recursion_depth\":{MOST_DEPTH}").as_bytes());
    }
    out.push(b'}');
    Ok(JsonBytes(out.into()))
}

type Page = (Vec<(EventNo, StoredEvent)>, Option<EventNo>);

/// The events of a page, and where the next one begins.
fn page(reader: &RoomReader, wanted: &Wanted, asked: &Asked) -> Result<Page, ApiError> {
    let (view, room) = (&reader.view, reader.room);
    let place = |token: &Option<String>| {
        let token = token.as_deref().filter(|token| !token.is_empty());
        token.map(|token| reader.place_of(token)).transpose()
    };
    let (from, to) = (place(&asked.from)?, place(&asked.to)?);
    let way = Way::from(asked.dir);
    let start = from.unwrap_or(match way {
        Way::Forward => EventNo::MIN,
        Way::Backward => EventNo::MAX,
    });
    let id = wanted.event_id.as_str();
    if !asked.recurse {
        let rows = relations::from_place(view, room, id, start, way);
        return collect(reader, wanted, asked, to, rows);
    }
    let all = relations::recursively(view, room, id)?;
    match way {
        Way::Forward => {
            let rows = all
                .range(start..)
                .map(|(no, relation)| Ok((*no, relation.clone())));
            collect(reader, wanted, asked, to, rows)
        }
        Way::Backward => {
            let rows = all.range(..start).rev();
            let rows = rows.map(|(no, relation)| Ok((*no, relation.clone())));
            collect(reader, wanted, asked, to, rows)
        }
    }
}

fn collect(
    reader: &RoomReader,
    wanted: &Wanted,
    asked: &Asked,
    to: Option<EventNo>,
    rows: impl Iterator<Item = rooms::Result<(EventNo, Relation)>>,
) -> Result<Page, ApiError> {
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MOST_LIMIT);
    let way = Way::from(asked.dir);
    let filter = RoomEventFilter::default();
    let lens = reader.lens(&filter)?;
    let mut events: Vec<(EventNo, StoredEvent)> = Vec::new();
    let mut reached = None;
    for (looked_at, row) in rows.enumerate() {
        let (no, relation) = row?;
        let beyond = match way {
            Way::Forward => to.is_some_and(|to| no >= to),
            Way::Backward => to.is_some_and(|to| no < to),
        };
        if beyond {
            break;
        }
        if looked_at == MOST_LOOKED_AT {
            return Ok((events, reached));
        }
        if wanted.matches(&relation)
            && let Some(event) = event_log::get(&reader.view, reader.room, no)?
            && lens.shows(no, &event)?
        {
            if events.len() == limit {
                return Ok((events, reached));
            }
            events.push((no, event));
        }
        reached = Some(match way {
            Way::Forward => no.next(),
            Way::Backward => no,
        });
    }
    Ok((events, None))
}
