//! `meyrin room state`: a room's state now or at an event, and what differs between two states.

use std::collections::HashMap;

use event::json as event_json;
use node::Node;
use rooms::state::{self as history, Entry};
use rooms::{EventNo, Point, StoredEvent, event_log, inspect};
use serde_json::{Value, json};

use super::text::{member, number, printable};
use super::{Found, Page, RoomError, State, find};
use crate::operator::output::Output;

/// Events that are read at once.
const EVENTS_AT_ONCE: usize = 500;

/// What of a room's state is asked for.
pub struct Wanted {
    pub state: State,
    /// Only entries of this type.
    pub event_type: Option<String>,
    /// Only entries of this state key.
    pub key: Option<String>,
    /// The content as well.
    pub content: bool,
    pub page: Page,
    /// A JSON object for each entry.
    pub json: bool,
}

/// Prints a line for each entry, or one or two for each in which two states differ.
pub fn state(node: &Node, name: &str, wanted: &Wanted, out: Output<'_>) -> Result<(), RoomError> {
    let found = find(node, name)?;
    match &wanted.state {
        State::Difference(first, second) => difference(&found, [first, second], wanted, out),
        State::Now => {
            let entries = entries_now(&found, wanted)?;
            print_entries(&found, entries, wanted, out)
        }
        State::After(event) => {
            let (_, after) = found.states_of(event)?;
            print_entries(&found, entries_at(&found, after, wanted)?, wanted, out)
        }
        State::Before(event) => {
            let (before, _) = found.states_of(event)?;
            print_entries(&found, entries_at(&found, before, wanted)?, wanted, out)
        }
    }
}

impl Found {
    fn states_of(&self, event: &str) -> Result<(Point, Point), RoomError> {
        let id = self.event_id(event)?;
        match inspect::states_of(&self.view, self.room, &id) {
            Err(rooms::Error::UnknownEvent) => Err(self.no_event(&id)?),
            states => Ok(states?),
        }
    }
}

/// The entries of the current state of the type that is asked for.
fn entries_now(found: &Found, wanted: &Wanted) -> Result<Vec<Entry>, RoomError> {
    let (view, room) = (&found.view, found.room);
    Ok(match (&wanted.event_type, &wanted.key) {
        (Some(of), Some(key)) => one(of, key, history::current(view, room, of, key)?),
        (Some(of), None) => history::current_of_type(view, room, of)?,
        (None, _) => history::all_current(view, room)?,
    })
}

/// The same of another state.
fn entries_at(found: &Found, point: Point, wanted: &Wanted) -> Result<Vec<Entry>, RoomError> {
    let (view, room) = (&found.view, found.room);
    Ok(match (&wanted.event_type, &wanted.key) {
        (Some(of), Some(key)) => one(of, key, history::at(view, room, of, key, point)?),
        (Some(of), None) => history::of_type_at(view, room, of, point)?,
        (None, _) => history::all_at(view, room, point)?,
    })
}

fn one(event_type: &str, state_key: &str, event: Option<EventNo>) -> Vec<Entry> {
    let entry = |event| Entry {
        event_type: event_type.to_owned(),
        state_key: state_key.to_owned(),
        event,
    };
    event.map(entry).into_iter().collect()
}

impl Wanted {
    fn has(&self, event_type: &str, state_key: &str) -> bool {
        self.event_type.as_ref().is_none_or(|of| of == event_type)
            && self.key.as_ref().is_none_or(|key| key == state_key)
    }
}

fn print_entries(
    found: &Found,
    mut entries: Vec<Entry>,
    wanted: &Wanted,
    out: Output<'_>,
) -> Result<(), RoomError> {
    entries.retain(|entry| wanted.has(&entry.event_type, &entry.state_key));
    let (all, shown) = cut(&mut entries, wanted.page);
    for chunk in entries.chunks(EVENTS_AT_ONCE) {
        let events = Events::read(found, chunk.iter().map(|entry| entry.event))?;
        for entry in chunk {
            let line = match wanted.json {
                true => {
                    let mut line = events.object(Some(entry.event), wanted);
                    line["type"] = entry.event_type.as_str().into();
                    line["state_key"] = entry.state_key.as_str().into();
                    line.to_string()
                }
                false => {
                    let key = key(&entry.event_type, &entry.state_key);
                    format!("{key}  {}", events.line(Some(entry.event), wanted))
                }
            };
            if !out.print(printable(&line).into_owned()) {
                return Ok(());
            }
        }
    }
    say_more(all, shown, wanted, out);
    Ok(())
}

fn difference(
    found: &Found,
    [first, second]: [&String; 2],
    wanted: &Wanted,
    out: Output<'_>,
) -> Result<(), RoomError> {
    let ((_, first), (_, second)) = (found.states_of(first)?, found.states_of(second)?);
    let mut entries = inspect::difference(&found.view, found.room, first, second)?;
    entries.retain(|entry| wanted.has(&entry.event_type, &entry.state_key));
    let (all, shown) = cut(&mut entries, wanted.page);
    for chunk in entries.chunks(EVENTS_AT_ONCE) {
        let numbers = chunk.iter().flat_map(|entry| [entry.first, entry.second]);
        let events = Events::read(found, numbers.flatten())?;
        for entry in chunk {
            let mut lines = Vec::with_capacity(2);
            if wanted.json {
                let line = json!({
                    "type": entry.event_type,
                    "state_key": entry.state_key,
                    "first": events.object(entry.first, wanted),
                    "second": events.object(entry.second, wanted),
                });
                lines.push(line.to_string());
            } else {
                let key = key(&entry.event_type, &entry.state_key);
                for (sign, no) in [("-", entry.first), ("+", entry.second)] {
                    if no.is_some() {
                        lines.push(format!("{sign} {key}  {}", events.line(no, wanted)));
                    }
                }
            }
            for line in lines {
                if !out.print(printable(&line).into_owned()) {
                    return Ok(());
                }
            }
        }
    }
    say_more(all, shown, wanted, out);
    Ok(())
}

/// The page of a list that is asked for: how long the list was, and up to which entry it is shown.
fn cut<T>(entries: &mut Vec<T>, page: Page) -> (usize, usize) {
    let all = entries.len();
    entries.drain(..page.skip.min(all));
    entries.truncate(page.limit);
    (all, page.skip.min(all) + entries.len())
}

fn say_more(all: usize, shown: usize, wanted: &Wanted, out: Output<'_>) {
    if !wanted.json && shown < all {
        out.print(format!(
            "{} more of {all}; --skip {shown}, --limit, --type, --key",
            all - shown
        ));
    }
}

fn key(event_type: &str, state_key: &str) -> String {
    format!("{event_type} {state_key:?}")
}

/// The events that set some entries.
struct Events(HashMap<EventNo, StoredEvent>);

impl Events {
    fn read(found: &Found, numbers: impl Iterator<Item = EventNo>) -> Result<Self, RoomError> {
        let numbers: Vec<EventNo> = numbers.collect();
        let events = event_log::get_many(&found.view, found.room, &numbers)?;
        Ok(Events(events.into_iter().collect()))
    }

    fn event(&self, no: Option<EventNo>) -> Option<&StoredEvent> {
        self.0.get(&no?)
    }

    fn line(&self, no: Option<EventNo>, wanted: &Wanted) -> String {
        let Some(event) = self.event(no) else {
            return "its event is gone; see `meyrin room check`".to_owned();
        };
        let sender = member(event, "sender").unwrap_or_default();
        let content = match wanted.content {
            true => event_json::member(&event.json, "content").unwrap_or("{}"),
            false => "",
        };
        let line = format!("{}  {sender}  {content}", event.event_id);
        line.trim_end().to_owned()
    }

    fn object(&self, no: Option<EventNo>, wanted: &Wanted) -> Value {
        let Some(event) = self.event(no) else {
            return Value::Null;
        };
        let mut object = json!({
            "event_id": event.event_id.as_str(),
            "sender": member(event, "sender"),
            "origin_server_ts": number(event, "origin_server_ts"),
        });
        if wanted.content {
            let content = event_json::member(&event.json, "content").unwrap_or("{}");
            object["content"] = serde_json::from_str(content).unwrap_or_default();
        }
        object
    }
}
