//! A room's state: now, and after any event.
//!
//! Every entry has a history of its own, `(entry, line, place)` to the event that set it, so one entry
//! at any event is one seek, and a state change costs one row here and one in the log by time.
//!
//! Line 0 is the current state over time, as this server came to know it: what clients were told. An event
//! that follows all of the room's extremities stands on it. Where an event changes another state than the
//! current one, a side line begins at that state (see [`crate::lines`]); an entry of which a side line says
//! nothing is as it was where the line began.

use std::cmp::Reverse;

use names::RoomSn;
use store::{Direction, Read};

use crate::schema::{STATE, STATE_HISTORY, STATE_LOG};
use crate::{EventNo, Point, Result, StateDelta, lines};

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

/// An event, or none where resolution took an entry away.
fn set(no: EventNo) -> Option<EventNo> {
    Some(no).filter(|no| *no != EventNo::MIN)
}

/// The event that sets an entry of the state at `point`. One seek for each line down to the one that says it.
pub fn at(
    from: &impl Read,
    room: RoomSn,
    event_type: &str,
    state_key: &str,
    point: Point,
) -> Result<Option<EventNo>> {
    let mut point = point;
    loop {
        let (of, key) = (event_type.to_owned(), state_key.to_owned());
        let start = (
            room,
            of.clone(),
            key.clone(),
            point.line,
            Reverse(point.place),
        );
        let prefix = (room, of, key, point.line);
        if let Some(row) = STATE_HISTORY.scan_from(from, &prefix, &start).next() {
            return Ok(set(row?.1));
        }
        if point.line == 0 {
            return Ok(None);
        }
        point = lines::get(from, room, point.line)?.base;
    }
}

/// The whole state at `point`, by type and state key. One walk over the history of every entry: O(state
/// changes of the room); where nothing has changed since, over the current state.
pub fn all_at(from: &impl Read, room: RoomSn, point: Point) -> Result<Vec<Entry>> {
    if point.line == 0 && !lines::goes_on(from, room, point)? {
        return all_current(from, room);
    }
    let path = lines::path(from, room, point)?;
    history(
        STATE_HISTORY.scan(from, &(room,), Direction::Forward),
        &path,
    )
}

/// The entries of one type in the state at `point`.
pub fn of_type_at(
    from: &impl Read,
    room: RoomSn,
    event_type: &str,
    point: Point,
) -> Result<Vec<Entry>> {
    let path = lines::path(from, room, point)?;
    let rows = STATE_HISTORY.scan(from, &(room, event_type.to_owned()), Direction::Forward);
    history(rows, &path)
}

/// One entry of the current state over time, oldest first: from which place on which event set it.
pub fn history_of(
    from: &impl Read,
    room: RoomSn,
    event_type: &str,
    state_key: &str,
) -> Result<Vec<(EventNo, Option<EventNo>)>> {
    let entry = (room, event_type.to_owned(), state_key.to_owned());
    // Most entries were set once: two reads tell, where a scan costs several.
    if let Some(no) = STATE.get(from, &entry)?
        && let changes = change_of(from, room, Point::main(no))?
        && let Some(only) = changes.iter().find(|change| change.after == Some(no))
        && only.before.is_none()
        && changes.len() == 1
    {
        return Ok(vec![(no, Some(no))]);
    }
    let prefix = (room, entry.1, entry.2, 0);
    let mut found = Vec::new();
    for row in STATE_HISTORY.scan(from, &prefix, Direction::Backward) {
        let ((_, _, _, _, Reverse(place)), no) = row?;
        found.push((place, set(no)));
    }
    Ok(found)
}

/// What changed at `point` on its line: by the event there, and by resolution.
pub fn change_of(from: &impl Read, room: RoomSn, point: Point) -> Result<Vec<StateDelta>> {
    Ok(STATE_LOG
        .get(from, &(room, point.line, point.place))?
        .unwrap_or_default())
}

type HistoryRow = ((RoomSn, String, String, u32, Reverse<EventNo>), EventNo);

/// Of each entry the row on the first line of `path` that has one at or before its place there.
fn history(
    rows: impl Iterator<Item = store::Result<HistoryRow>>,
    path: &[Point],
) -> Result<Vec<Entry>> {
    let mut found: Vec<Entry> = Vec::new();
    // How far down the path the last entry was found.
    let mut found_at = 0;
    for row in rows {
        let ((_, event_type, state_key, line, Reverse(place)), event) = row?;
        let on_path = |point: &Point| point.line == line && place <= point.place;
        let Some(rank) = path.iter().position(on_path) else {
            continue;
        };
        let known = found
            .last()
            .is_some_and(|last| last.event_type == event_type && last.state_key == state_key);
        if known && rank >= found_at {
            continue;
        }
        if known {
            found.pop();
        }
        found_at = rank;
        found.push(Entry {
            event_type,
            state_key,
            event,
        });
    }
    found.retain(|entry| entry.event != EventNo::MIN);
    Ok(found)
}

/// What changed in the current state from `start` up to but not including `end`, in order, and where.
pub fn changes(
    from: &impl Read,
    room: RoomSn,
    start: EventNo,
    end: EventNo,
) -> Result<Vec<(EventNo, StateDelta)>> {
    lines::log(from, room, 0, start, end)
}
