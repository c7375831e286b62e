//! Searching the messages of one's rooms.
//! <https://spec.matrix.org/v1.19/client-server-api/#server-side-search>

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use event::auth::Membership;
use event::json;
use names::RoomSn;
use node::Lane;
use rooms::history::{self, Span, Way};
use rooms::search::{self, Keys, Match, Term};
use rooms::{EventNo, StoredEvent, event_log, state};
use serde::Deserialize;
use store::{Position, Read, View};
use sync::PaginationToken;
use sync::room_state::Members;
use users::filters::RoomEventFilter;

use crate::app::App;
use crate::auth::Session;
use crate::client::room_reader::{RoomReader, senders};
use crate::error::ApiError;
use crate::json::{JsonBody, JsonBytes};
use crate::limits::{Class, Key};
use crate::request::Query;

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/client/v3/search", post(answer))
}

/// Results of a page where the client does not say.
const DEFAULT_LIMIT: u64 = 10;
/// The most results of a page.
const MOST_LIMIT: u64 = 100;
/// Events around a result where the client does not say.
const DEFAULT_CONTEXT: usize = 5;
/// The most events around a result, on each side.
const MOST_CONTEXT: usize = 50;
/// Events looked at in one search, over all rooms.
const MOST_LOOKED_AT: usize = 300_000;
/// Rooms that an upgraded room is followed back through.
const MOST_PREDECESSORS: usize = 20;

#[derive(Deserialize)]
struct Body {
    search_categories: Categories,
}

#[derive(Deserialize)]
struct Categories {
    room_events: Option<Criteria>,
}

#[derive(Deserialize)]
struct Criteria {
    search_term: String,
    keys: Option<Vec<String>>,
    #[serde(default)]
    filter: RoomEventFilter,
    #[serde(default)]
    order_by: Order,
    event_context: Option<ContextAsked>,
    #[serde(default)]
    include_state: bool,
    #[serde(default)]
    groupings: Groupings,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Rank,
    Recent,
}

#[derive(Deserialize)]
struct ContextAsked {
    before_limit: Option<usize>,
    after_limit: Option<usize>,
    #[serde(default)]
    include_profile: bool,
}

#[derive(Default, Deserialize)]
struct Groupings {
    #[serde(default)]
    group_by: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    key: GroupKey,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum GroupKey {
    RoomId,
    Sender,
}

#[derive(Deserialize)]
struct Paging {
    next_batch: Option<String>,
}

/// `next_batch`: how many results were shown, and up to where events count, so that what is sent
/// meanwhile shifts no page.
struct Token {
    shown: usize,
    upto: Position,
}

impl Token {
    fn parse(text: &str) -> Option<Self> {
        let (shown, upto) = text.strip_prefix('n')?.split_once('.')?;
        Some(Token {
            shown: shown.parse().ok()?,
            upto: Position(upto.parse().ok()?),
        })
    }

    fn text(&self) -> String {
        format!("n{}.{}", self.shown, self.upto.0)
    }
}

async fn answer(
    State(app): State<App>,
    session: Session,
    Query(paging): Query<Paging>,
    JsonBody(body): JsonBody<Body>,
) -> Result<JsonBytes, ApiError> {
    app.limiter()
        .check(Class::Search, Key::Name(&session.user_id))?;
    let Some(criteria) = body.search_categories.room_events else {
        return Ok(JsonBytes(br#"{"search_categories":{}}"#.as_slice().into()));
    };
    let view = app.node().view();
    let token = match paging.next_batch.as_deref().filter(|it| !it.is_empty()) {
        Some(text) => Token::parse(text)
            .ok_or_else(|| ApiError::invalid_param("next_batch is not a token of this server"))?,
        None => Token {
            shown: 0,
            upto: view.position(),
        },
    };
    let search = Search {
        app: app.clone(),
        session,
        view,
        criteria,
        token,
    };
    app.node().run(Lane::Bulk, move || search.run()).await?
}

struct Search {
    app: App,
    session: Session,
    view: View,
    criteria: Criteria,
    token: Token,
}

impl Search {
    fn run(mut self) -> Result<JsonBytes, ApiError> {
        let term = Term::new(&self.criteria.search_term, self.keys());
        let mut found = self.find(&term)?;
        match self.criteria.order_by {
            Order::Recent => found.sort_by_key(|hit| std::cmp::Reverse(hit.position)),
            Order::Rank => found.sort_by(|a, b| {
                let by_rank = b.rank.total_cmp(&a.rank);
                by_rank.then_with(|| b.position.cmp(&a.position))
            }),
        }
        let limit = self.criteria.filter.event.limit.unwrap_or(DEFAULT_LIMIT);
        let limit = limit.clamp(1, MOST_LIMIT) as usize;
        let page: Vec<Match> = found
            .iter()
            .skip(self.token.shown)
            .take(limit)
            .copied()
            .collect();
        // A full page has a token even if it is the last one.
        let next = (page.len() == limit).then(|| Token {
            shown: self.token.shown + limit,
            upto: self.token.upto,
        });
        self.render(&term, found.len(), &page, next)
    }

    fn keys(&self) -> Keys {
        let Some(keys) = &self.criteria.keys else {
            return Keys::ALL;
        };
        let has = |key: &str| keys.iter().any(|it| it == key);
        Keys {
            body: has("content.body"),
            name: has("content.name"),
            topic: has("content.topic"),
        }
    }

    /// The rooms to search: those the user is joined to, the liveliest first.
    fn rooms(&mut self) -> Result<Vec<(RoomSn, String)>, ApiError> {
        let view = &self.view;
        let filter = &mut self.criteria.filter;
        if let Some(rooms) = &mut filter.rooms {
            for room_id in rooms.clone() {
                rooms.extend(predecessors(view, &room_id)?);
            }
        }
        let mut found = Vec::new();
        for (room, of) in self.app.node().rooms_of(self.session.user, view)?.iter() {
            if of.value.membership() != Membership::Join {
                continue;
            }
            let room_id = names::room_id(view, *room)?;
            let encrypted = state::current(view, *room, "m.room.encryption", "")?.is_some();
            if encrypted || !filter.shows_room(&room_id) {
                continue;
            }
            let newest = event_log::backwards(view, *room, EventNo::MAX).next();
            let position = newest.transpose()?.map(|(_, event)| event.position);
            found.push((std::cmp::Reverse(position), *room, room_id));
        }
        found.sort();
        Ok(found.into_iter().map(|(_, room, id)| (room, id)).collect())
    }

    fn find(&mut self, term: &Term) -> Result<Vec<Match>, ApiError> {
        let rooms = self.rooms()?;
        let mut found = Vec::new();
        let mut left = MOST_LOOKED_AT;
        for (room, room_id) in rooms {
            let Some(reader) = RoomReader::find(&self.app, &self.session, &room_id)? else {
                continue;
            };
            let lens = reader.lens(&self.criteria.filter)?;
            let end = event_log::after_position(&self.view, room, self.token.upto)?;
            let accept = |no: EventNo, event: &StoredEvent| lens.shows(no, event);
            let hits = search::in_room(&self.view, room, end, term, &mut left, accept)?;
            found.extend(hits);
            if left == 0 {
                break;
            }
        }
        Ok(found)
    }

    fn render(
        &self,
        term: &Term,
        count: usize,
        page: &[Match],
        next: Option<Token>,
    ) -> Result<JsonBytes, ApiError> {
        let mut readers: HashMap<RoomSn, RoomReader> = HashMap::new();
        let mut groups = Groups::default();
        let mut out = Vec::with_capacity(4096);
        out.extend_from_slice(b"{\"search_categories\":{\"room_events\":{\"count\":");
        out.extend_from_slice(count.to_string().as_bytes());
        out.extend_from_slice(b",\"results\":[");
        for (n, hit) in page.iter().enumerate() {
            let reader = match readers.entry(hit.room) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    let room_id = names::room_id(&self.view, hit.room)?;
                    let reader = RoomReader::find(&self.app, &self.session, &room_id)?
                        .ok_or(rooms::Error::UnknownRoom)?;
                    entry.insert(reader)
                }
            };
            let event =
                event_log::get(&self.view, hit.room, hit.no)?.ok_or(rooms::Error::UnknownEvent)?;
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(format!("{{\"rank\":{:.4},\"result\":", hit.rank).as_bytes());
            reader.renderer().event(&mut out, hit.no, &event)?;
            if let Some(asked) = &self.criteria.event_context {
                out.extend_from_slice(b",\"context\":");
                self.write_context(&mut out, reader, hit.no, &event, asked)?;
            }
            out.push(b'}');
            groups.add(&reader.room_id, &event);
        }
        out.extend_from_slice(b"],\"highlights\":");
        write_list(&mut out, term.words());
        for (name, key) in [("room_id", GroupKey::RoomId), ("sender", GroupKey::Sender)] {
            let mut asked = self.criteria.groupings.group_by.iter();
            if asked.any(|group| group.key == key) {
                groups.asked.push(name);
            }
        }
        groups.write(&mut out);
        if self.criteria.include_state {
            write_state(&mut out, readers.values())?;
        }
        if let Some(next) = next {
            out.extend_from_slice(b",\"next_batch\":");
            json::write_string(&mut out, &next.text());
        }
        out.extend_from_slice(b"}}}");
        Ok(JsonBytes(out.into()))
    }

    fn write_context(
        &self,
        out: &mut Vec<u8>,
        reader: &RoomReader,
        no: EventNo,
        event: &StoredEvent,
        asked: &ContextAsked,
    ) -> Result<(), ApiError> {
        // Around a result stands what the room has there, not only what was searched for.
        let filter = RoomEventFilter::default();
        let lens = reader.lens(&filter)?;
        let limit = |asked: Option<usize>| asked.unwrap_or(DEFAULT_CONTEXT).min(MOST_CONTEXT);
        let page = |way, start, end, limit| {
            let span = Span {
                room: reader.room,
                start,
                end,
                way,
                limit,
            };
            history::page(&reader.view, span, |no, event| lens.shows(no, event))
        };
        let before = page(Way::Backward, no, EventNo::MIN, limit(asked.before_limit))?.events;
        let after = page(
            Way::Forward,
            no.next(),
            EventNo::MAX,
            limit(asked.after_limit),
        )?
        .events;
        let first = before.last().map_or(no, |(first, _)| *first);
        let last = after.last().map_or(no, |(last, _)| *last);
        let (start, end) = (
            PaginationToken::Place(first),
            PaginationToken::Place(last.next()),
        );
        out.extend_from_slice(format!("{{\"start\":\"{start}\",\"end\":\"{end}\"").as_bytes());
        out.extend_from_slice(b",\"events_before\":");
        reader.renderer().list(out, &before)?;
        out.extend_from_slice(b",\"events_after\":");
        reader.renderer().list(out, &after)?;
        if asked.include_profile {
            let shown = before.iter().chain(&after).map(|(_, event)| event);
            let ids = senders(&reader.view, shown.chain([event]))?;
            write_profiles(out, reader, &ids)?;
        }
        out.push(b'}');
        Ok(())
    }
}

/// The rooms that a room was upgraded from, the latest first.
fn predecessors(view: &View, room_id: &str) -> Result<Vec<String>, ApiError> {
    let mut found: Vec<String> = Vec::new();
    let mut next = room_id.to_owned();
    while found.len() < MOST_PREDECESSORS {
        let Some(room) = names::room_sn(view, &next)? else {
            break;
        };
        let Some(no) = state::current(view, room, "m.room.create", "")? else {
            break;
        };
        let Some(create) = event_log::get(view, room, no)? else {
            break;
        };
        let predecessor = json::member(&create.json, "content")
            .and_then(|content| json::member(content, "predecessor"))
            .and_then(|predecessor| json::member(predecessor, "room_id"))
            .and_then(json::string);
        let Some(predecessor) = predecessor.filter(|id| !found.iter().any(|it| it == id)) else {
            break;
        };
        next = predecessor.into_owned();
        found.push(next.clone());
    }
    Ok(found)
}

/// `profile_info`: how the senders are named in the room.
fn write_profiles(
    out: &mut Vec<u8>,
    reader: &RoomReader,
    user_ids: &BTreeSet<String>,
) -> Result<(), ApiError> {
    out.extend_from_slice(b",\"profile_info\":{");
    let begin = out.len();
    for user_id in user_ids {
        let Some(no) = reader.state("m.room.member", user_id)? else {
            continue;
        };
        let Some(event) = event_log::get(&reader.view, reader.room, no)? else {
            continue;
        };
        let content = reader.renderer().content(&event)?;
        if out.len() > begin {
            out.push(b',');
        }
        json::write_string(out, user_id);
        let fields: Vec<String> = ["displayname", "avatar_url"]
            .into_iter()
            .filter_map(|key| {
                let value = json::member(&content, key)?;
                value.starts_with('"').then(|| format!("\"{key}\":{value}"))
            })
            .collect();
        out.extend_from_slice(format!(":{{{}}}", fields.join(",")).as_bytes());
    }
    out.push(b'}');
    Ok(())
}

/// `state`: the current state of the rooms with results.
fn write_state<'r>(
    out: &mut Vec<u8>,
    readers: impl Iterator<Item = &'r RoomReader>,
) -> Result<(), ApiError> {
    out.extend_from_slice(b",\"state\":{");
    for (n, reader) in readers.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json::write_string(out, &reader.room_id);
        out.push(b':');
        let entries = reader.state_before(reader.end, &Members::All)?;
        let places: Vec<EventNo> = entries.into_values().collect();
        reader.renderer().list_at(out, &places)?;
    }
    out.push(b'}');
    Ok(())
}

/// The results of a page by room and by sender.
#[derive(Default)]
struct Groups {
    asked: Vec<&'static str>,
    rooms: BTreeMap<String, (usize, Vec<String>)>,
    senders: BTreeMap<String, (usize, Vec<String>)>,
}

impl Groups {
    fn add(&mut self, room_id: &str, event: &StoredEvent) {
        let sender = json::member(&event.json, "sender").and_then(json::string);
        let sender = sender.unwrap_or_default().into_owned();
        for (groups, of) in [
            (&mut self.rooms, room_id.to_owned()),
            (&mut self.senders, sender),
        ] {
            // Groups are ordered by their best result.
            let order = groups.len() + 1;
            let group = groups.entry(of).or_insert((order, Vec::new()));
            group.1.push(event.event_id.to_string());
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.asked.is_empty() {
            return;
        }
        out.extend_from_slice(b",\"groups\":{");
        for (n, name) in self.asked.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            json::write_string(out, name);
            out.extend_from_slice(b":{");
            let groups = if *name == "room_id" {
                &self.rooms
            } else {
                &self.senders
            };
            for (n, (of, (order, results))) in groups.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                json::write_string(out, of);
                out.extend_from_slice(format!(":{{\"order\":{order},\"results\":").as_bytes());
                write_list(out, results);
                out.push(b'}');
            }
            out.push(b'}');
        }
        out.push(b'}');
    }
}

fn write_list(out: &mut Vec<u8>, texts: &[String]) {
    out.push(b'[');
    for (n, text) in texts.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json::write_string(out, text);
    }
    out.push(b']');
}
