//! Events that are held for a room until its members are known ([`crate::partial`]): kept beside the room, in the order in
//! which they came, to be let in by the door that all events use.
//!
//! Bounded for each room in number and in bytes. What finds no place is dropped: when the members are known and something
//! comes that follows it, it is fetched as whatever is missing. Nothing here reads all that is held: it is taken out in
//! pieces ([`first`], [`let_go`]).
//!
//! Invariant: only while the room is marked does anything get in here; what is left when the mark is gone only gets less.

use event::Pdu;
use names::RoomSn;
use serde::{Deserialize, Serialize};
use store::{Direction, Read, Record, Txn};

use crate::schema::{HELD, HELD_IDS, HELD_TOTALS};
use crate::{Result, partial};

/// Events that are held for one room.
pub const MOST_EVENTS: u64 = 2_000;

/// The bytes of their JSON.
pub const MOST_BYTES: u64 = 16 << 20;

/// An event that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its id.
    pub event_id: String,
    /// The server that it came from.
    pub peer: String,
    /// The event, as it was found to be valid.
    pub json: String,
}

impl Record for Held {}

/// How much is held for a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldTotal {
    /// How many events.
    pub events: u64,
    /// The bytes of their JSON.
    pub bytes: u64,
}

impl Record for HeldTotal {}

impl HeldTotal {
    /// With one event more.
    pub(crate) fn with(self, json: &str) -> Self {
        Self {
            events: self.events.saturating_add(1),
            bytes: self.bytes.saturating_add(json.len() as u64),
        }
    }

    fn without(self, json: &str) -> Self {
        Self {
            events: self.events.saturating_sub(1),
            bytes: self.bytes.saturating_sub(json.len() as u64),
        }
    }
}

/// Rooms for which events are held, whether or not their members are known by now.
pub fn rooms(from: &impl Read) -> Result<Vec<RoomSn>> {
    let mut found = Vec::new();
    for row in HELD_TOTALS.scan(from, &(), Direction::Forward) {
        found.push(row?.0);
    }
    Ok(found)
}

/// How much is held for a room.
pub fn total(from: &impl Read, room: RoomSn) -> Result<HeldTotal> {
    Ok(HELD_TOTALS.get(from, &room)?.unwrap_or_default())
}

/// The first events that are held for a room, by number, in the order in which they came: at most so many, and no more than
/// so many bytes of JSON unless the first alone has more.
pub fn first(
    view: &impl Read,
    room: RoomSn,
    most: usize,
    most_bytes: usize,
) -> Result<Vec<(u64, Held)>> {
    from(view, room, 0, most, most_bytes)
}

/// The same from a number on.
pub fn from(
    view: &impl Read,
    room: RoomSn,
    start: u64,
    most: usize,
    most_bytes: usize,
) -> Result<Vec<(u64, Held)>> {
    let mut found = Vec::new();
    let mut bytes: usize = 0;
    for row in HELD.scan_from(view, &(room,), &(room, start)).take(most) {
        let ((_, number), held) = row?;
        bytes = bytes.saturating_add(held.json.len());
        if bytes > most_bytes && !found.is_empty() {
            break;
        }
        found.push((number, held));
    }
    Ok(found)
}

/// Whether an event is held.
pub fn contains(from: &impl Read, room: RoomSn, event_id: &str) -> Result<bool> {
    Ok(HELD_IDS.contains(from, &(room, event_id.to_owned()))?)
}

/// Holds an event of a room whose members are not all known; does nothing if it is held already. False if there is no
/// such room, or no place.
pub fn hold(txn: &mut Txn, room: RoomSn, peer: &str, pdu: &Pdu) -> Result<bool> {
    if !partial::is_partial(txn, room)? {
        return Ok(false);
    }
    let event_id = pdu.event_id().to_string();
    if contains(txn, room, &event_id)? {
        return Ok(true);
    }
    let total = total(txn, room)?.with(pdu.json());
    if total.events > MOST_EVENTS || total.bytes > MOST_BYTES {
        return Ok(false);
    }
    let last = HELD.scan(txn, &(room,), Direction::Backward).next();
    let number = match last.transpose()? {
        Some(((_, last), _)) => last.saturating_add(1),
        None => 0,
    };
    HELD_TOTALS.put(txn, &room, &total);
    HELD_IDS.put(txn, &(room, event_id.clone()), &number);
    let held = Held {
        event_id,
        peer: peer.to_owned(),
        json: pdu.json().to_owned(),
    };
    HELD.put(txn, &(room, number), &held);
    Ok(true)
}

/// Lets events go that were held.
pub fn let_go(txn: &mut Txn, room: RoomSn, held: &[(u64, Held)]) -> Result<()> {
    let mut left = total(txn, room)?;
    for (number, held) in held {
        if HELD.contains(txn, &(room, *number))? {
            HELD.delete(txn, &(room, *number));
            HELD_IDS.delete(txn, &(room, held.event_id.clone()));
            left = left.without(&held.json);
        }
    }
    match left.events {
        0 => HELD_TOTALS.delete(txn, &room),
        _ => HELD_TOTALS.put(txn, &room, &left),
    }
    Ok(())
}
