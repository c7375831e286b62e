//! What is still to be sent to other servers, on the disk.
//!
//! Events are not copied for each server that gets them: [`note_event`] puts one row into a log, in the change that
//! makes the event, and every server is a place in that log. Servers that answer have no row of their own: one row
//! for all says up to where everything was delivered to them ([`Progress::settled`]). A server that something could
//! not be sent to gets a row with its own place ([`Destination`]). A place may lag behind: what is sent twice is
//! known to who gets it; it never runs ahead.
//!
//! The log is forgotten behind the last place that is still needed ([`Progress::forgotten`]). A server that was away for
//! longer is caught up by room: [`sent_since`] says whether anything was sent into a room meanwhile, and its newest
//! events lead the server to the others.
//!
//! Messages to devices can't be found again by whom they are for, so each is kept for its server until that has it, or is
//! given up.

use names::RoomSn;
use serde::{Deserialize, Serialize};
use store::{At, Blob, Direction, Position, Read, Record, Txn};

use crate::Result;
use crate::schema::{DESTINATIONS, OUTGOING, PROGRESS, SENT, TO_SERVER};

/// Beside the servers in the room, who gets an event and who does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Servers that get it whether or not they are in the room.
    pub also: Vec<String>,
    /// The event goes to none but these.
    pub only: bool,
    /// The server that has it already, or nothing.
    pub except: String,
    /// Of a join: the local user who came into the room with it. Servers that did not share a room with the user before
    /// are told of the user's devices.
    pub joined: Option<u32>,
}

impl Record for Outgoing {}

/// An event that goes to other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingEvent {
    /// Where it was put into the log.
    pub position: Position,
    /// Its room.
    pub room: RoomSn,
    /// Its place in the room.
    pub place: u64,
    /// To whom it goes.
    pub to: Outgoing,
}

/// A server that something could not be sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Everything up to here was delivered to it.
    pub cursor: Position,
    /// Since when it fails, in milliseconds since 1970.
    pub failing_since_ms: u64,
    /// When it is tried again.
    pub retry_at_ms: u64,
    /// Failures in a row.
    pub failures: u32,
    /// The last failure.
    pub error: String,
}

impl Record for Destination {}

/// How far the servers are that have no row of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Everything up to here was delivered to them.
    pub settled: Position,
    /// Nobody needs the log up to here: it may be forgotten.
    pub forgotten: Position,
}

impl Record for Progress {}

/// Puts an event of a room that other servers are in into the log, in the change that makes it.
pub fn note_event(txn: &mut Txn, room: RoomSn, place: u64, to: &Outgoing) {
    OUTGOING.put(txn, &(Position::PENDING, room, place), to);
    if !to.only {
        SENT.put(txn, &room, &At::now(()));
    }
}

/// The log after `since` up to `upto`, in its order.
pub fn events_between(
    from: &impl Read,
    since: Position,
    upto: Position,
) -> impl Iterator<Item = Result<OutgoingEvent>> {
    let key = |position: Position| (Position(position.0.saturating_add(1)), RoomSn(0), 0);
    let rows = OUTGOING.range(from, &key(since), &key(upto), Direction::Forward);
    rows.map(|row| {
        let ((position, room, place), to) = row?;
        Ok(OutgoingEvent {
            position,
            room,
            place,
            to,
        })
    })
}

/// Whether an event was sent into the room after `since`.
pub fn sent_since(from: &impl Read, room: RoomSn, since: Position) -> Result<bool> {
    Ok(SENT
        .get(from, &room)?
        .is_some_and(|last| last.position > since))
}

/// Puts messages to devices of a server's users into its queue. Each is the content of an `m.direct_to_device` EDU.
/// `first` tells apart those of one change.
pub fn note_to_device(txn: &mut Txn, server: &str, first: u32, contents: Vec<Vec<u8>>) {
    for (number, content) in (first..).zip(contents) {
        let key = (server.to_owned(), Position::PENDING, number);
        TO_SERVER.put(txn, &key, &Blob(content));
    }
}

/// A message to devices that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToDevice {
    /// Where it was committed, and its number there.
    pub key: (Position, u32),
    /// The content of the EDU.
    pub content: Vec<u8>,
}

/// The oldest messages that wait for a server: at most `limit`, and no more once they have `most_bytes`.
pub fn to_device(
    from: &impl Read,
    server: &str,
    limit: usize,
    most_bytes: usize,
) -> Result<Vec<ToDevice>> {
    let mut found = Vec::new();
    let mut bytes = 0;
    for row in TO_SERVER.scan(from, &(server.to_owned(),), Direction::Forward) {
        if found.len() == limit || bytes >= most_bytes {
            break;
        }
        let ((_, position, number), Blob(content)) = row?;
        bytes += content.len();
        found.push(ToDevice {
            key: (position, number),
            content,
        });
    }
    Ok(found)
}

/// How many messages wait for a server, counted up to `most`.
pub fn count_to_device(from: &impl Read, server: &str, most: usize) -> Result<usize> {
    let mut count = 0;
    for row in TO_SERVER
        .scan(from, &(server.to_owned(),), Direction::Forward)
        .take(most)
    {
        row?;
        count += 1;
    }
    Ok(count)
}

/// Forgets messages that were delivered.
pub fn delete_to_device(txn: &mut Txn, server: &str, keys: &[(Position, u32)]) {
    for (position, number) in keys {
        TO_SERVER.delete(txn, &(server.to_owned(), *position, *number));
    }
}

/// Forgets up to `limit` messages that wait for a server. True if there may be more.
pub fn forget_to_device(txn: &mut Txn, server: &str, limit: usize) -> Result<bool> {
    let rows = TO_SERVER.scan(txn, &(server.to_owned(),), Direction::Forward);
    let keys: Vec<_> = rows
        .take(limit)
        .map(|row| Ok(row?.0))
        .collect::<Result<_>>()?;
    for key in &keys {
        TO_SERVER.delete(txn, key);
    }
    Ok(keys.len() == limit)
}

/// The servers for which messages wait.
pub fn servers_with_to_device(from: &impl Read) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let mut start = (String::new(), Position::ZERO, 0);
    while let Some(row) = TO_SERVER.scan_from(from, &(), &start).next() {
        let ((server, _, _), _) = row?;
        start = (server.clone(), Position::PENDING, u32::MAX);
        found.push(server);
    }
    Ok(found)
}

/// The row of a server that something could not be sent to.
pub fn destination(from: &impl Read, server: &str) -> Result<Option<Destination>> {
    DESTINATIONS.get(from, &server.to_owned())
}

/// Writes the row of a server.
pub fn put_destination(txn: &mut Txn, server: &str, destination: &Destination) {
    DESTINATIONS.put(txn, &server.to_owned(), destination);
}

/// Forgets the row of a server that is up to date again.
pub fn forget_destination(txn: &mut Txn, server: &str) {
    DESTINATIONS.delete(txn, &server.to_owned());
}

/// The servers that something could not be sent to.
pub fn destinations(from: &impl Read) -> impl Iterator<Item = Result<(String, Destination)>> {
    DESTINATIONS.scan(from, &(), Direction::Forward)
}

/// How far the others are.
pub fn progress(from: &impl Read) -> Result<Progress> {
    Ok(PROGRESS.get(from, &())?.unwrap_or_default())
}

/// Writes how far the others are.
pub fn put_progress(txn: &mut Txn, progress: &Progress) {
    PROGRESS.put(txn, &(), progress);
}

/// Forgets up to `limit` rows of the log after `since` up to `upto`. True if there may be more.
pub fn forget_events(txn: &mut Txn, since: Position, upto: Position, limit: usize) -> Result<bool> {
    let key = |position: Position| (Position(position.0.saturating_add(1)), RoomSn(0), 0);
    let rows = OUTGOING.range(txn, &key(since), &key(upto), Direction::Forward);
    let keys: Vec<_> = rows
        .take(limit)
        .map(|row| Ok(row?.0))
        .collect::<Result<_>>()?;
    for key in &keys {
        OUTGOING.delete(txn, key);
    }
    Ok(keys.len() == limit)
}
