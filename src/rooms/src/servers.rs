//! Which other servers are in a room: those with joined users.
//!
//! Kept by [`crate::RoomWriter`] where memberships change in the current state, so that who is to be told of an event
//! costs a look at the servers and not at the members. This server itself is not among them.
//!
//! Invariants:
//! - A server has a row as long as the room remembers that it was ever in it; the row of one that has left says since
//!   when, so that what was sent while it was there still reaches it.
//! - [`ROOMS_OF_SERVER`] has exactly the rows of servers that are in the room, [`ROOMS_LEFT`] those of servers that were.
//!
//! Whether this server is in the room is not said here: where it has left, the rows are as old as what it last heard.

use event::identifier;
use names::RoomSn;
use store::{Direction, Read, Txn};

use crate::schema::{ROOM_SERVERS, ROOMS_LEFT, ROOMS_OF_SERVER};
use crate::types::RoomServer;
use crate::{EventNo, Result};

/// The servers with joined users, in the order of their names.
pub fn joined(from: &impl Read, room: RoomSn) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for row in ROOM_SERVERS.scan(from, &(room,), Direction::Forward) {
        let ((_, server), entry) = row?;
        if entry.joined > 0 {
            found.push(server);
        }
    }
    Ok(found)
}

/// Whether the server has joined users.
pub fn is_joined(from: &impl Read, room: RoomSn, server: &str) -> Result<bool> {
    Ok(ROOMS_OF_SERVER.contains(from, &(server.to_owned(), room))?)
}

/// Where the server's present time in the room began; nothing if it is not in the room.
pub fn joined_since(from: &impl Read, room: RoomSn, server: &str) -> Result<Option<EventNo>> {
    let entry = ROOM_SERVERS.get(from, &(room, server.to_owned()))?;
    Ok(entry
        .filter(|entry| entry.joined > 0)
        .map(|entry| entry.since))
}

/// Whether any other server has, or ever had, joined users.
pub fn any_known(from: &impl Read, room: RoomSn) -> Result<bool> {
    let first = ROOM_SERVERS.scan(from, &(room,), Direction::Forward).next();
    Ok(first.transpose()?.is_some())
}

/// All that the room remembers, in the order of their names.
pub fn all(from: &impl Read, room: RoomSn) -> Result<Vec<(String, RoomServer)>> {
    let mut found = Vec::new();
    for row in ROOM_SERVERS.scan(from, &(room,), Direction::Forward) {
        let ((_, server), entry) = row?;
        found.push((server, entry));
    }
    Ok(found)
}

/// Whom an event at `place` concerns: the servers that were in the room right before it or right after it, in the order
/// of their names. One that came and went since may be missing.
pub fn concerned(from: &impl Read, room: RoomSn, place: EventNo) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for row in ROOM_SERVERS.scan(from, &(room,), Direction::Forward) {
        let ((_, server), entry) = row?;
        if entry.concerns(place) {
            found.push(server);
        }
    }
    Ok(found)
}

/// Whether an event at `place` concerns the server: see [`concerned`].
pub fn is_concerned(from: &impl Read, room: RoomSn, server: &str, place: EventNo) -> Result<bool> {
    let entry = ROOM_SERVERS.get(from, &(room, server.to_owned()))?;
    Ok(entry.is_some_and(|entry| entry.concerns(place)))
}

/// The rooms in which the server has joined users, in the order of their numbers.
pub fn rooms_with(from: &impl Read, server: &str) -> impl Iterator<Item = Result<RoomSn>> {
    rooms_with_after(from, server, RoomSn(0))
}

/// Those of the rooms with larger numbers than `after`.
pub fn rooms_with_after(
    from: &impl Read,
    server: &str,
    after: RoomSn,
) -> impl Iterator<Item = Result<RoomSn>> {
    let server = server.to_owned();
    let start = (server.clone(), RoomSn(after.0.saturating_add(1)));
    let rows = ROOMS_OF_SERVER.scan_from(from, &(server,), &start);
    rows.map(|row| Ok(row?.0.1))
}

/// The rooms with larger numbers than `after` that the server was in and is not any more, and where the last of its users
/// ceased to be joined.
pub fn rooms_left_after(
    from: &impl Read,
    server: &str,
    after: RoomSn,
) -> impl Iterator<Item = Result<(RoomSn, EventNo)>> {
    let server = server.to_owned();
    let start = (server.clone(), RoomSn(after.0.saturating_add(1)));
    let rows = ROOMS_LEFT.scan_from(from, &(server.clone(),), &start);
    rows.map(move |row| {
        let ((_, room), ()) = row?;
        let entry = ROOM_SERVERS.get(from, &(room, server.clone()))?;
        Ok((room, entry.unwrap_or_default().since))
    })
}

/// A user of another server begins or ceases to be joined at `place`.
pub(crate) fn count(
    txn: &mut Txn,
    room: RoomSn,
    user_id: &str,
    place: EventNo,
    joins: bool,
) -> Result<()> {
    match identifier::domain(user_id) {
        Some(server) => count_of(txn, room, server, place, joins),
        None => Ok(()),
    }
}

/// A server is said to be in the room, which was entered at `place` without its members ([`crate::partial`]): it counts as if
/// it had one joined user more.
pub(crate) fn believe(txn: &mut Txn, room: RoomSn, server: &str, place: EventNo) -> Result<()> {
    count_of(txn, room, server, place, true)
}

/// The members are known, or do not matter any more: from `now` on a server is in the room if its users are.
pub(crate) fn no_more_believed(
    txn: &mut Txn,
    room: RoomSn,
    server: &str,
    now: EventNo,
) -> Result<()> {
    count_of(txn, room, server, now, false)
}

fn count_of(txn: &mut Txn, room: RoomSn, server: &str, place: EventNo, joins: bool) -> Result<()> {
    let key = (room, server.to_owned());
    let mut entry = ROOM_SERVERS.get(txn, &key)?.unwrap_or_default();
    let were_joined = entry.joined;
    entry.joined = match joins {
        true => were_joined.saturating_add(1),
        false => were_joined.saturating_sub(1),
    };
    if (were_joined > 0) != (entry.joined > 0) {
        entry.since = place;
        let key = (server.to_owned(), room);
        let (now, before) = match joins {
            true => (&ROOMS_OF_SERVER, &ROOMS_LEFT),
            false => (&ROOMS_LEFT, &ROOMS_OF_SERVER),
        };
        now.put(txn, &key, &());
        before.delete(txn, &key);
    }
    ROOM_SERVERS.put(txn, &key, &entry);
    Ok(())
}
