//! Local aliases of rooms.

use event::{NumberRule, canonical, identifier, json};
use names::{RoomSn, UserSn};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::{Direction, Read, Record, Txn};

use crate::schema::{ALIASES, ROOM_ALIASES};
use crate::{Error, NewEvent, Result, RoomWriter, Sender, event_log, state};

/// Where an alias points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// The room.
    pub room: RoomSn,
    /// Who made the alias.
    pub creator: UserSn,
}

impl Record for Alias {}

/// Looks up a local alias.
pub fn get(from: &impl Read, alias: &str) -> Result<Option<Alias>> {
    Ok(ALIASES.get(from, &alias.to_owned())?)
}

/// Points a new alias at a room. The caller holds the alias's lock.
///
/// # Errors
/// [`Error::AliasTaken`].
pub fn add(txn: &mut Txn, alias: &str, to: Alias) -> Result<()> {
    if get(txn, alias)?.is_some() {
        return Err(Error::AliasTaken(alias.to_owned()));
    }
    ALIASES.put(txn, &alias.to_owned(), &to);
    ROOM_ALIASES.put(txn, &(to.room, alias.to_owned()), &());
    Ok(())
}

/// Removes an alias.
pub fn remove(txn: &mut Txn, alias: &str) -> Result<()> {
    if let Some(entry) = get(txn, alias)? {
        ALIASES.delete(txn, &alias.to_owned());
        ROOM_ALIASES.delete(txn, &(entry.room, alias.to_owned()));
    }
    Ok(())
}

/// Makes an alias that exists lead to another room. The caller holds the lock of the room it leads to.
pub fn lead_to(txn: &mut Txn, alias: &str, room: RoomSn) -> Result<()> {
    if let Some(entry) = get(txn, alias)? {
        remove(txn, alias)?;
        add(txn, alias, Alias { room, ..entry })?;
    }
    Ok(())
}

/// Takes an alias that was removed out of `m.room.canonical_alias`, if the user may do that: "Servers which
/// choose to update the canonical alias event are recommended to [...] delete the alias and return a
/// successful response even if the user does not have permission".
///
/// # Errors
/// If the store fails.
pub fn retract(writer: &mut RoomWriter<'_>, by: Sender<'_>, alias: &str) -> Result<()> {
    const CANONICAL: &str = "m.room.canonical_alias";
    let Some(event) = writer.state_event(CANONICAL, "")? else {
        return Ok(());
    };
    let Ok(mut content) = serde_json::from_str::<Map<String, Value>>(event.pdu().content()) else {
        return Ok(());
    };
    let mut changed = false;
    if content.get("alias").is_some_and(|named| named == alias) {
        content.remove("alias");
        changed = true;
    }
    if let Some(others) = content.get_mut("alt_aliases").and_then(Value::as_array_mut) {
        let before = others.len();
        others.retain(|other| other != alias);
        changed |= others.len() != before;
        if others.is_empty() {
            content.remove("alt_aliases");
        }
    }
    if !changed {
        return Ok(());
    }
    let content = Value::Object(content).to_string();
    match writer.append(&NewEvent::state(by, CANONICAL, "", &content)) {
        Ok(_) | Err(Error::NotAllowed(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The local aliases of a room, sorted.
pub fn of_room(from: &impl Read, room: RoomSn) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for row in ROOM_ALIASES.scan(from, &(room,), Direction::Forward) {
        found.push(row?.0.1);
    }
    Ok(found)
}

/// The aliases that a content of `m.room.canonical_alias` names and the room's present one does not.
///
/// # Errors
/// If the store fails.
pub fn newly_named(from: &impl Read, room: RoomSn, content: &str) -> Result<Vec<String>> {
    let event = match state::current(from, room, "m.room.canonical_alias", "")? {
        Some(no) => event_log::get(from, room, no)?,
        None => None,
    };
    let before = event.as_ref();
    let before = before.and_then(|event| json::member(&event.json, "content"));
    let known = before.map_or_else(Vec::new, named);
    // As a client sent it, it may have white space; what is not canonical at all is refused with the event.
    let content = canonical::from_text(content, NumberRule::Any).unwrap_or_default();
    let mut new = named(&content);
    new.retain(|alias| !known.contains(alias));
    Ok(new)
}

/// Aliases newly named in `m.room.canonical_alias` must point at the room: <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>.
/// Those of other servers can't be asked for here: the caller has done that.
pub(crate) fn check_canonical(writer: &mut RoomWriter<'_>, content: &str) -> Result<()> {
    let room = writer.room();
    for alias in newly_named(writer.txn(), room, content)? {
        if !alias.starts_with('#') || !alias.contains(':') {
            return Err(Error::BadAlias(alias, AliasProblem::Malformed));
        }
        let is_local = identifier::domain(&alias) == Some(writer.server_name());
        if is_local && get(writer.txn(), &alias)?.is_none_or(|entry| entry.room != room) {
            return Err(Error::BadAlias(alias, AliasProblem::PointsElsewhere));
        }
    }
    Ok(())
}

/// What is wrong with an alias in `m.room.canonical_alias`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasProblem {
    /// It is no alias.
    Malformed,
    /// It does not exist, or points at another room.
    PointsElsewhere,
}

fn named(content: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(alias) = json::member(content, "alias").and_then(json::string) {
        found.push(alias.into_owned());
    }
    if let Some(list) = json::member(content, "alt_aliases").filter(|list| json::is_array(list)) {
        found.extend(
            json::elements(list)
                .filter_map(json::string)
                .map(|alias| alias.into_owned()),
        );
    }
    found.retain(|alias| !alias.is_empty());
    found
}
