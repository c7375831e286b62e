//! `meyrin room show`: what a room is made of.

use std::cmp::Reverse;
use std::fmt::Display;

use event::{RoomIdFormat, json as event_json};
use node::Node;
use rooms::about::About;
use rooms::inspect::{self, Share, StateHistory};
use rooms::{EventNo, Flags, StoredEvent, aliases, event_log, graph};
use serde::Serialize;

use super::text::{age, member, number, printable};
use super::{Found, RoomError, find};
use crate::operator::output::Output;

/// A room, as it is printed. Lists are cut, counts are not.
#[derive(Serialize)]
struct Shape {
    room_id: String,
    version: String,
    name: Option<String>,
    topic: Option<String>,
    room_type: Option<String>,
    create: Option<Brief>,
    creators: Vec<String>,
    canonical_alias: Option<String>,
    aliases: Vec<String>,
    members: Members,
    servers: Counted,
    events: Events,
    hidden: Vec<Brief>,
    extremities: List<Brief>,
    gaps: List<Gap>,
    state: Counted,
    state_history: History,
    /// The server's position when the last event was committed.
    position: Option<u64>,
    last: Option<Brief>,
}

/// The members, of this server and of others.
#[derive(Serialize)]
struct Members {
    joined: [u64; 2],
    invited: [u64; 2],
    knocking: [u64; 2],
    banned: [u64; 2],
    left: [u64; 2],
}

/// How many there are of each kind, the most frequent first.
#[derive(Serialize)]
struct Counted {
    kinds: usize,
    total: u64,
    largest: Vec<(String, u64)>,
}

#[derive(Serialize)]
struct Events {
    history: u64,
    state: u64,
    rejected: u64,
    soft_failed: u64,
    outliers: u64,
}

#[derive(Serialize)]
struct History {
    main_changes: u64,
    side_changes: u64,
    side_lines: u64,
    deepest: u8,
}

/// The first of some things.
#[derive(Serialize)]
struct List<T> {
    total: usize,
    first: Vec<T>,
}

/// An event in few words.
#[derive(Serialize)]
struct Brief {
    event_id: String,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<String>,
    sender: String,
    depth: u64,
    origin_server_ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden: Option<&'static str>,
}

/// An event that is not here.
#[derive(Serialize)]
struct Gap {
    missing: String,
    followed_by: Option<String>,
}

/// Prints what a room is made of; at most `limit` entries of each list.
pub fn show(
    node: &Node,
    name: &str,
    limit: usize,
    json: bool,
    out: Output<'_>,
) -> Result<(), RoomError> {
    let found = find(node, name)?;
    let shape = Shape::read(&found, limit)?;
    if json {
        let text = serde_json::to_string(&shape).unwrap_or_default();
        out.print(printable(&text).into_owned());
        return Ok(());
    }
    shape.print(node.now_ms(), &|text: String| {
        out.print(printable(&text).into_owned());
    });
    Ok(())
}

impl Shape {
    fn read(found: &Found, limit: usize) -> Result<Self, RoomError> {
        let (view, room, head) = (&found.view, found.room, &found.head);
        let about = About::with_head(view, room, head)?;
        let members = inspect::members(view, room)?;
        let events = inspect::events(view, room, limit)?;
        let create = event_log::get(view, room, head.create)?;
        let mut extremities = Vec::new();
        for (no, _) in head.extremities.iter().take(limit) {
            extremities.extend(event_log::get(view, room, *no)?);
        }
        let gaps = graph::backward_extremities(view, room)?;
        let mut first = Vec::new();
        for (missing, no) in gaps.iter().take(limit) {
            first.push(Gap {
                missing: missing.clone(),
                followed_by: id_of(found, *no)?,
            });
        }
        Ok(Shape {
            room_id: found.room_id.clone(),
            version: head.version.clone(),
            name: about.name,
            topic: about.topic,
            room_type: about.room_type,
            creators: create
                .iter()
                .flat_map(|event| creators(found, event))
                .collect(),
            create: create.as_ref().map(Brief::of),
            canonical_alias: about.canonical_alias,
            aliases: aliases::of_room(view, room)?,
            servers: Counted::of(members.servers, limit),
            members: Members {
                joined: both(members.joined),
                invited: both(members.invited),
                knocking: both(members.knocking),
                banned: both(members.banned),
                left: both(members.left),
            },
            hidden: events
                .hidden
                .iter()
                .map(|(_, event)| Brief::of(event))
                .collect(),
            position: events.last.as_ref().map(|event| event.position.0),
            last: events.last.as_ref().map(Brief::of),
            events: Events {
                history: events.history,
                state: events.state,
                rejected: events.rejected,
                soft_failed: events.soft_failed,
                outliers: events.outliers,
            },
            extremities: List {
                total: head.extremities.len(),
                first: extremities.iter().map(Brief::of).collect(),
            },
            gaps: List {
                total: gaps.len(),
                first,
            },
            state: Counted::of(inspect::entries_by_type(view, room)?, limit),
            state_history: History::of(&inspect::state_history(view, room)?),
        })
    }

    fn print(&self, now_ms: u64, print: &dyn Fn(String)) {
        let line = |name: &str, value: &dyn Display| print(format!("{name:<14} {value}"));
        let detail = |value: &dyn Display| print(format!("    {value}"));
        line("room", &self.room_id);
        line("version", &self.version);
        let texts = [
            ("name", &self.name),
            ("topic", &self.topic),
            ("type", &self.room_type),
            ("main alias", &self.canonical_alias),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                line(name, text);
            }
        }
        line("aliases here", &or_none(&self.aliases.join(" ")));
        if let Some(create) = &self.create {
            let age = age(now_ms, create.origin_server_ts);
            line("created by", &format!("{}, {age}", self.creators.join(" ")));
            detail(&create.event_id);
        }
        self.print_members(&line, &detail);
        self.print_events(now_ms, &line, &detail);
        line(
            "state",
            &format!("{} entries of {} types", self.state.total, self.state.kinds),
        );
        self.state.print(&detail);
        let history = &self.state_history;
        line(
            "state history",
            &format!(
                "{} changes of the current state; {} on {} side lines, at most {} deep",
                history.main_changes, history.side_changes, history.side_lines, history.deepest
            ),
        );
        if let (Some(position), Some(last)) = (self.position, &self.last) {
            line("position", &position);
            line("last event", &age(now_ms, last.origin_server_ts));
            detail(&last.text(now_ms));
        }
    }

    fn print_members(&self, line: Line<'_>, detail: &dyn Fn(&dyn Display)) {
        let members = &self.members;
        line("members", &"here + elsewhere");
        let kinds = [
            ("joined", members.joined),
            ("invited", members.invited),
            ("knocking", members.knocking),
            ("banned", members.banned),
            ("left", members.left),
        ];
        for (kind, [local, remote]) in kinds {
            if local + remote > 0 {
                detail(&format!(
                    "{:>8} {kind} ({local} + {remote})",
                    local + remote
                ));
            }
        }
        line("servers", &self.servers.kinds);
        self.servers.print(detail);
    }

    fn print_events(&self, now_ms: u64, line: Line<'_>, detail: &dyn Fn(&dyn Display)) {
        let events = &self.events;
        line(
            "events",
            &format!(
                "{}, {} of them state events; and {} outliers",
                events.history, events.state, events.outliers
            ),
        );
        line(
            "hidden",
            &format!(
                "{} rejected, {} soft-failed",
                events.rejected, events.soft_failed
            ),
        );
        for event in &self.hidden {
            detail(&event.text(now_ms));
        }
        line("extremities", &self.extremities.total);
        for event in &self.extremities.first {
            detail(&event.text(now_ms));
        }
        more(self.extremities.total, self.extremities.first.len(), detail);
        line("gaps", &self.gaps.total);
        for gap in &self.gaps.first {
            let followed_by = gap.followed_by.as_deref().unwrap_or("?");
            detail(&format!("{} is missing before {followed_by}", gap.missing));
        }
        more(self.gaps.total, self.gaps.first.len(), detail);
    }
}

/// Prints a name and a value.
type Line<'a> = &'a dyn Fn(&str, &dyn Display);

impl Counted {
    fn of(counts: impl IntoIterator<Item = (String, u64)>, limit: usize) -> Self {
        let mut largest: Vec<(String, u64)> = counts.into_iter().collect();
        let (kinds, total) = (largest.len(), largest.iter().map(|(_, count)| count).sum());
        largest.sort_by(|(a, x), (b, y)| (Reverse(x), a).cmp(&(Reverse(y), b)));
        largest.truncate(limit);
        Counted {
            kinds,
            total,
            largest,
        }
    }

    fn print(&self, detail: &dyn Fn(&dyn Display)) {
        for (kind, count) in &self.largest {
            detail(&format!("{count:>8} {kind}"));
        }
        more(self.kinds, self.largest.len(), detail);
    }
}

impl History {
    fn of(history: &StateHistory) -> Self {
        History {
            main_changes: history.main_changes,
            side_changes: history.side_changes,
            side_lines: history.side_lines,
            deepest: history.deepest,
        }
    }
}

impl Brief {
    fn of(event: &StoredEvent) -> Self {
        let text = |key| member(event, key).unwrap_or_default().into_owned();
        Brief {
            event_id: event.event_id.to_string(),
            event_type: text("type"),
            state_key: member(event, "state_key").map(|key| key.into_owned()),
            sender: text("sender"),
            depth: number(event, "depth"),
            origin_server_ts: number(event, "origin_server_ts"),
            hidden: match event.flags {
                flags if flags.has(Flags::REJECTED) => Some("rejected"),
                flags if flags.has(Flags::SOFT_FAILED) => Some("soft-failed"),
                _ => None,
            },
        }
    }

    fn text(&self, now_ms: u64) -> String {
        let hidden = self.hidden.map(|what| format!("  {what}"));
        let key = self.state_key.as_ref().map(|key| format!(" {key:?}"));
        format!(
            "{}  {}{}  {}  depth {}  {}{}",
            self.event_id,
            self.event_type,
            key.unwrap_or_default(),
            self.sender,
            self.depth,
            age(now_ms, self.origin_server_ts),
            hidden.unwrap_or_default()
        )
    }
}

/// The sender of the create event, and those whom it names where room versions let it.
fn creators(found: &Found, create: &StoredEvent) -> Vec<String> {
    let mut creators: Vec<String> = member(create, "sender")
        .map(|id| id.into_owned())
        .into_iter()
        .collect();
    let privileged = found
        .head
        .rules()
        .is_some_and(|rules| rules.room_id == RoomIdFormat::CreateHash);
    let named = event_json::member(&create.json, "content")
        .and_then(|content| event_json::member(content, "additional_creators"))
        .filter(|list| privileged && event_json::is_array(list));
    for id in named.into_iter().flat_map(event_json::elements) {
        creators.extend(event_json::string(id).map(|id| id.into_owned()));
    }
    creators
}

fn id_of(found: &Found, no: EventNo) -> Result<Option<String>, RoomError> {
    let event = event_log::get(&found.view, found.room, no)?;
    Ok(event.map(|event| event.event_id.to_string()))
}

fn both(share: Share) -> [u64; 2] {
    [share.local, share.remote]
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn more(total: usize, shown: usize, detail: &dyn Fn(&dyn Display)) {
    if total > shown {
        detail(&format!("{} more; --limit", total - shown));
    }
}
