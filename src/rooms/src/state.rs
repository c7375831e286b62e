//! A room's state: now, and after any event.
//!
//! Every entry has a history of its own, `(entry, line, place)` to the event that set it, so one entry
//! at any event is one seek, and a state change costs one row here and one in the log by time. Where
//! the room's history forks, a side line begins; the state after an event on line `b` is the newest row
//! at or before it on `b`, or else on the line that `b` began on. Lines other than the first appear
//! with events that come in over federation.

use std::cmp::Reverse;

use names::RoomSn;
use store::{Direction, Read};

use crate::schema::{STATE, STATE_HISTORY, STATE_LOG};
use crate::{EventNo, Result, StateDelta};

/// The event that sets an entry of the current state.
pub fn current(
    from: &impl Read,
    room: RoomSn,
    event_type: &str,
    state_key: &str,
) -> Result<Option<EventNo>> {
    Ok(STATE.get(from, &(room, event_type.to_owned(), state_key.to_owned()))?)
}

/// The events that set many entries of the current state, in their order.
pub fn current_many(
    from: &impl Read,
    room: RoomSn,
    keys: &[(&str, &str)],
) -> Result<Vec<Option<EventNo>>> {
    let keys: Vec<_> = keys
        .iter()
        .map(|(t, k)| (room, (*t).to_owned(), (*k).to_owned()))
        .collect();
    Ok(STATE.multi_get(from, &keys)?)
}

/// One entry of a room's state.
pub struct Entry {
    /// The type.
    pub event_type: String,
    /// The state key.
    pub state_key: String,
    /// The event.
    pub event: EventNo,
}

/// The whole current state, by type and state key.
pub fn all_current(from: &impl Read, room: RoomSn) -> Result<Vec<Entry>> {
    entries(STATE.scan(from, &(room,), Direction::Forward))
}

/// The entries of one type in the current state, by state key.
pub fn current_of_type(from: &impl Read, room: RoomSn, event_type: &str) -> Result<Vec<Entry>> {
    entries(STATE.scan(from, &(room, event_type.to_owned()), Direction::Forward))
}

/// The current state without the members, which may be many: two scans around them.
pub fn current_without_members(from: &impl Read, room: RoomSn) -> Result<Vec<Entry>> {
    let member = "m.room.member".to_owned();
    let first = (room, String::new(), String::new());
    let from_members = (room, member.clone(), String::new());
    let after_members = (room, member + "\0", String::new());
    let mut found = entries(STATE.range(from, &first, &from_members, Direction::Forward))?;
    found.extend(entries(STATE.scan_from(from, &(room,), &after_members))?);
    Ok(found)
}

type StateRow = ((RoomSn, String, String), EventNo);

fn entries(rows: impl Iterator<Item = store::Result<StateRow>>) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    for row in rows {
        let ((_, event_type, state_key), event) = row?;
        found.push(Entry {
            event_type,
            state_key,
            event,
        });
    }
    Ok(found)
}

/// The event that set an entry in the state right after the event at `no` on line `branch`.
pub fn at(
    from: &impl Read,
    room: RoomSn,
    event_type: &str,
    state_key: &str,
    branch: u32,
    no: EventNo,
) -> Result<Option<EventNo>> {
    let prefix = (room, event_type.to_owned(), state_key.to_owned(), branch);
    let start = (
        room,
        prefix.1.clone(),
        prefix.2.clone(),
        branch,
        Reverse(no),
    );
    match STATE_HISTORY.scan_from(from, &prefix, &start).next() {
        Some(row) => Ok(Some(row?.1)),
        None => Ok(None),
    }
}

/// The whole state right after the event at `no`, by type and state key. Walks over the history of
/// every entry: O(state changes of the room).
pub fn all_at(from: &impl Read, room: RoomSn, branch: u32, no: EventNo) -> Result<Vec<Entry>> {
    history(
        STATE_HISTORY.scan(from, &(room,), Direction::Forward),
        branch,
        no,
    )
}

/// The entries of one type right after the event at `no`.
pub fn of_type_at(
    from: &impl Read,
    room: RoomSn,
    event_type: &str,
    branch: u32,
    no: EventNo,
) -> Result<Vec<Entry>> {
    let rows = STATE_HISTORY.scan(from, &(room, event_type.to_owned()), Direction::Forward);
    history(rows, branch, no)
}

/// Every event that set an entry on line `branch`, oldest first.
pub fn history_of(
    from: &impl Read,
    room: RoomSn,
    event_type: &str,
    state_key: &str,
    branch: u32,
) -> Result<Vec<EventNo>> {
    let entry = (room, event_type.to_owned(), state_key.to_owned());
    // Most entries were set once: two reads tell, where a scan costs several.
    if let Some(no) = STATE.get(from, &entry)?
        && let [only] = change_of(from, room, branch, no)?.as_slice()
        && only.before.is_none()
    {
        return Ok(vec![no]);
    }
    let prefix = (room, entry.1, entry.2, branch);
    let mut found = Vec::new();
    for row in STATE_HISTORY.scan(from, &prefix, Direction::Backward) {
        found.push(row?.1);
    }
    Ok(found)
}

/// What the event at `no` changed.
pub fn change_of(
    from: &impl Read,
    room: RoomSn,
    branch: u32,
    no: EventNo,
) -> Result<Vec<StateDelta>> {
    Ok(STATE_LOG
        .get(from, &(room, branch, no))?
        .unwrap_or_default())
}

type HistoryRow = ((RoomSn, String, String, u32, Reverse<EventNo>), EventNo);

fn history(
    rows: impl Iterator<Item = store::Result<HistoryRow>>,
    branch: u32,
    no: EventNo,
) -> Result<Vec<Entry>> {
    let mut found: Vec<Entry> = Vec::new();
    for row in rows {
        let ((_, event_type, state_key, on, Reverse(set)), event) = row?;
        let known = found
            .last()
            .is_some_and(|last| last.event_type == event_type && last.state_key == state_key);
        if on == branch && set <= no && !known {
            found.push(Entry {
                event_type,
                state_key,
                event,
            });
        }
    }
    Ok(found)
}

/// What the events from `start` up to but not including `end` changed, in order.
pub fn changes(
    from: &impl Read,
    room: RoomSn,
    branch: u32,
    start: EventNo,
    end: EventNo,
) -> Result<Vec<StateDelta>> {
    let rows = STATE_LOG.range(
        from,
        &(room, branch, start),
        &(room, branch, end),
        Direction::Forward,
    );
    let mut found = Vec::new();
    for row in rows {
        found.extend(row?.1);
    }
    Ok(found)
}
