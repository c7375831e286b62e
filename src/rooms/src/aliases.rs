//! Local aliases of rooms, and the public directory.

use event::json;
use names::{RoomSn, UserSn};
use serde::{Deserialize, Serialize};
use store::{Direction, Read, Record, Txn};

use crate::append::RoomWriter;
use crate::schema::{ALIASES, DIRECTORY, ROOM_ALIASES};
use crate::{Error, Result};

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

/// The local aliases of a room, sorted.
pub fn of_room(from: &impl Read, room: RoomSn) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for row in ROOM_ALIASES.scan(from, &(room,), Direction::Forward) {
        found.push(row?.0.1);
    }
    Ok(found)
}

/// Puts a room into the public directory or takes it out.
pub fn set_published(txn: &mut Txn, room: RoomSn, published: bool) {
    if published {
        DIRECTORY.put(txn, &room, &());
    } else {
        DIRECTORY.delete(txn, &room);
    }
}

/// Whether a room is in the public directory.
pub fn is_published(from: &impl Read, room: RoomSn) -> Result<bool> {
    Ok(DIRECTORY.contains(from, &room)?)
}

/// All rooms in the public directory.
pub fn published(from: &impl Read) -> Result<Vec<RoomSn>> {
    let mut found = Vec::new();
    for row in DIRECTORY.scan(from, &(), Direction::Forward) {
        found.push(row?.0);
    }
    Ok(found)
}

/// Aliases newly named in `m.room.canonical_alias` must be local ones that point at the room: <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>.
/// Aliases of other servers are the caller's to check.
pub(crate) fn check_canonical(writer: &mut RoomWriter<'_>, content: &str) -> Result<()> {
    let before = writer.state_event("m.room.canonical_alias", "")?;
    let known = before
        .as_ref()
        .map_or_else(Vec::new, |event| named(event.pdu().content()));
    let server = writer.server_name().to_owned();
    let room = writer.room();
    for alias in named(content) {
        if known.contains(&alias) {
            continue;
        }
        if !alias.starts_with('#') || !alias.contains(':') {
            return Err(Error::BadAlias(alias, AliasProblem::Malformed));
        }
        let is_local = alias.split_once(':').is_some_and(|(_, of)| of == server);
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
