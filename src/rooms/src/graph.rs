//! The graph of a room's events by `prev_events`: its extremities, its gaps, and the walks over it that other
//! servers ask for.
//!
//! A forward extremity is an accepted event that no accepted event names as its predecessor. Soft-failed and
//! rejected events are none, and hide nobody: what they follow stays an extremity until an accepted event
//! follows it, or follows them.

use std::collections::{BTreeSet, BinaryHeap, HashSet, VecDeque};

use event::{EventId, Pdu, RoomRules};
use names::RoomSn;
use store::{Direction, Read, Txn};

use crate::schema::MISSING;
use crate::types::StateAfter;
use crate::{
    Error, EventNo, Flags, Point, Result, RoomWriter, StoredEvent, auth_index, event_log, state,
};

/// The most `prev_events` of an event that this server makes: of all extremities if there are no more.
/// The specification allows 20; others choose 10.
const MOST_PREV_EVENTS: usize = 20;

/// What the next event of this server follows: all extremities, or the newest of very many.
pub(crate) fn next_prev_events(writer: &RoomWriter<'_>) -> Vec<(EventNo, String)> {
    let mut extremities = writer.head().extremities.clone();
    if extremities.len() > MOST_PREV_EVENTS {
        extremities.sort_by_key(|(no, _)| std::cmp::Reverse(*no));
        extremities.truncate(MOST_PREV_EVENTS);
    }
    extremities
}

/// Whether these are all of the room's extremities.
pub(crate) fn are_all_extremities(writer: &RoomWriter<'_>, events: &[(EventNo, String)]) -> bool {
    let extremities = &writer.head().extremities;
    let places: BTreeSet<EventNo> = events.iter().map(|(no, _)| *no).collect();
    places.len() == extremities.len() && extremities.iter().all(|(no, _)| places.contains(no))
}

/// The states right after events.
pub(crate) fn states_of(
    from: &impl Read,
    room: RoomSn,
    events: &[(EventNo, String)],
) -> Result<Vec<Point>> {
    let mut points = Vec::with_capacity(events.len());
    for (no, _) in events {
        let event = event_log::get(from, room, *no)?;
        let point = event.and_then(|event| event.state_after(*no));
        points.push(point.ok_or(Error::Damaged {
            room: room.0,
            why: "the state after an event is gone",
        })?);
    }
    Ok(points)
}

/// An accepted event at `no` takes the place of what it follows among the extremities. It is none itself if it is
/// already `followed`.
pub(crate) fn extend(
    writer: &mut RoomWriter<'_>,
    no: EventNo,
    event_id: &EventId,
    prev_events: &[(EventNo, String)],
    followed: bool,
) -> Result<()> {
    cover(writer, no, prev_events)?;
    if !followed {
        let extremities = &mut writer.head_mut().extremities;
        extremities.push((no, event_id.to_string()));
    }
    Ok(())
}

/// What the accepted event at `no` follows, by way of `prev_events`, is no extremity any more. What lies behind
/// hidden events and is not here will be none when it comes.
pub(crate) fn cover(
    writer: &mut RoomWriter<'_>,
    no: EventNo,
    prev_events: &[(EventNo, String)],
) -> Result<()> {
    let room = writer.room();
    let mut covered: HashSet<EventNo> = HashSet::new();
    let mut open: Vec<EventNo> = prev_events.iter().map(|(no, _)| *no).collect();
    while let Some(prev) = open.pop() {
        if !covered.insert(prev) || is_extremity(writer, prev) {
            continue;
        }
        let Some(event) = event_log::get(writer.read(), room, prev)? else {
            continue;
        };
        if event.flags.is_visible() {
            continue;
        }
        let mut missing = Vec::new();
        for id in self::prev_events(room, writer.rules(), &event)? {
            match event_log::find_in(writer.read(), room, &id)? {
                Some(no) => open.push(no),
                None => missing.push(id),
            }
        }
        note_missing(writer.txn(), room, no, &missing);
    }
    let extremities = &mut writer.head_mut().extremities;
    extremities.retain(|(no, _)| !covered.contains(no));
    Ok(())
}

fn is_extremity(writer: &RoomWriter<'_>, no: EventNo) -> bool {
    writer.head().extremities.iter().any(|(of, _)| *of == no)
}

fn prev_events(room: RoomSn, rules: &RoomRules, event: &StoredEvent) -> Result<Vec<String>> {
    let pdu = Pdu::from_stored(rules, event.event_id.clone(), event.json.as_bytes());
    let pdu = pdu.map_err(|_| Error::Damaged {
        room: room.0,
        why: "stored event does not parse",
    })?;
    Ok(pdu.prev_events().map(str::to_owned).collect())
}

/// Notes events that the event at `no` follows, itself or by way of hidden ones, and that are not here.
pub(crate) fn note_missing(txn: &mut Txn, room: RoomSn, no: EventNo, missing: &[String]) {
    for id in missing {
        MISSING.put(txn, &(room, id.clone(), no), &());
    }
}

/// An event that was missing is here now. Gives the first accepted event that follows it, if there is one.
pub(crate) fn fill(txn: &mut Txn, room: RoomSn, event_id: &str) -> Result<Option<EventNo>> {
    let mut followers = Vec::new();
    for row in MISSING.scan(txn, &(room, event_id.to_owned()), Direction::Forward) {
        let ((_, _, no), ()) = row?;
        followers.push(no);
    }
    let mut followed = None;
    for no in followers {
        MISSING.delete(txn, &(room, event_id.to_owned(), no));
        if followed.is_none()
            && event_log::get(txn, room, no)?.is_some_and(|event| event.flags.is_visible())
        {
            followed = Some(no);
        }
    }
    Ok(followed)
}

/// The backward extremities: ids of events that are not here, and the events that follow them.
pub fn backward_extremities(from: &impl Read, room: RoomSn) -> Result<Vec<(String, EventNo)>> {
    let mut found = Vec::new();
    for row in MISSING.scan(from, &(room,), Direction::Forward) {
        let ((_, id, no), ()) = row?;
        found.push((id, no));
    }
    Ok(found)
}

/// The state right before an event of the room's history.
pub fn state_before(no: EventNo, event: &StoredEvent) -> Option<Point> {
    let changes = event.flags.has(Flags::STATE) && !event.flags.has(Flags::REJECTED);
    match event.state {
        // What the event itself changed is the only thing at its place.
        StateAfter::Line(line) if changes => Some(Point {
            line,
            place: no.previous(),
        }),
        _ => event.state_after(no),
    }
}

/// Events that lie between `latest` and `earliest`, neither included, oldest first: at most `limit`, not
/// less deep than `min_depth`.
/// <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid>
pub fn missing_events(
    from: &impl Read,
    room: RoomSn,
    latest: &[EventId],
    earliest: &[EventId],
    limit: usize,
    min_depth: u64,
) -> Result<Vec<(EventNo, StoredEvent)>> {
    let rules = rules_of(from, room)?;
    let mut seen: HashSet<String> = earliest
        .iter()
        .chain(latest)
        .map(EventId::to_string)
        .collect();
    let mut open: VecDeque<String> = VecDeque::new();
    for id in latest {
        if let Some((_, event)) = history_event(from, room, id)? {
            open.extend(prev_events(room, rules, &event)?);
        }
    }
    let mut found = Vec::new();
    while let Some(id) = open.pop_front() {
        if found.len() == limit {
            break;
        }
        if !seen.insert(id.clone()) {
            continue;
        }
        let Some((no, event)) = history_event(from, room, &id)? else {
            continue;
        };
        if depth_of(&event) < min_depth {
            continue;
        }
        open.extend(prev_events(room, rules, &event)?);
        found.push((no, event));
    }
    found.reverse();
    Ok(found)
}

/// Events and what they follow, the deepest first, at most `limit`.
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid>
pub fn backfill(
    from: &impl Read,
    room: RoomSn,
    from_events: &[EventId],
    limit: usize,
) -> Result<Vec<(EventNo, StoredEvent)>> {
    let rules = rules_of(from, room)?;
    let mut seen = HashSet::new();
    let mut open: BinaryHeap<(u64, EventNo)> = BinaryHeap::new();
    for id in from_events {
        if let Some((no, event)) = history_event(from, room, id)?
            && seen.insert(no)
        {
            open.push((depth_of(&event), no));
        }
    }
    let mut found = Vec::new();
    while let Some((_, no)) = open.pop() {
        if found.len() == limit {
            break;
        }
        let Some(event) = event_log::get(from, room, no)? else {
            continue;
        };
        for prev in prev_events(room, rules, &event)? {
            if let Some((no, event)) = history_event(from, room, &prev)?
                && seen.insert(no)
            {
                open.push((depth_of(&event), no));
            }
        }
        found.push((no, event));
    }
    Ok(found)
}

/// The events of a state, and of their auth chain: by number, or by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateOf<T> {
    /// The events of the state.
    pub state: Vec<T>,
    /// Their auth chains.
    pub auth_chain: Vec<T>,
}

/// The same by id.
pub type StateIds = StateOf<EventId>;

/// The state right before an event. Nothing if the event is not part of the room's history here.
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid>
pub fn state_before_event(
    from: &impl Read,
    room: RoomSn,
    event_id: &str,
) -> Result<Option<StateOf<EventNo>>> {
    let Some((no, event)) = history_event(from, room, event_id)? else {
        return Ok(None);
    };
    let Some(point) = state_before(no, &event) else {
        return Ok(None);
    };
    let entries = state::all_at(from, room, point)?;
    let state: Vec<EventNo> = entries.into_iter().map(|entry| entry.event).collect();
    let mut named = BTreeSet::new();
    for no in &state {
        if let Some(node) = auth_index::node(from, room, *no)? {
            named.extend(node.auth_events);
        }
    }
    let auth_chain = auth_index::chain(from, room, named)?;
    Ok(Some(StateOf {
        state,
        auth_chain: auth_chain.into_iter().collect(),
    }))
}

/// The state right before an event, by ids. Nothing if the event is not part of the room's history here.
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid>
pub fn state_ids(from: &impl Read, room: RoomSn, event_id: &str) -> Result<Option<StateIds>> {
    let Some(found) = state_before_event(from, room, event_id)? else {
        return Ok(None);
    };
    Ok(Some(StateOf {
        state: ids_of(from, room, &found.state)?,
        auth_chain: ids_of(from, room, &found.auth_chain)?,
    }))
}

/// Events read at once where only their ids are wanted.
const EVENTS_AT_ONCE: usize = 1000;

fn ids_of(from: &impl Read, room: RoomSn, numbers: &[EventNo]) -> Result<Vec<EventId>> {
    let mut ids = Vec::with_capacity(numbers.len());
    for numbers in numbers.chunks(EVENTS_AT_ONCE) {
        let events = event_log::get_many(from, room, numbers)?;
        ids.extend(events.into_iter().map(|(_, event)| event.event_id));
    }
    Ok(ids)
}

/// The auth chain of an event, itself left out. Nothing if the event is not here.
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid>
pub fn auth_chain(from: &impl Read, room: RoomSn, event_id: &str) -> Result<Option<Vec<EventNo>>> {
    let Some((of, _, event)) = known_event(from, event_id)?.filter(|(of, ..)| *of == room) else {
        return Ok(None);
    };
    let rules = rules_of(from, of)?;
    let pdu = Pdu::from_stored(rules, event.event_id.clone(), event.json.as_bytes());
    let pdu = pdu.map_err(|_| Error::Damaged {
        room: room.0,
        why: "stored event does not parse",
    })?;
    let mut named = Vec::new();
    for id in pdu.auth_events() {
        let number = event_log::number(from, id)?;
        named.extend(number.filter(|(of, _)| *of == room).map(|(_, no)| no));
    }
    let chain = auth_index::chain(from, room, named)?;
    Ok(Some(chain.into_iter().collect()))
}

/// An event that other servers may be given by its id, in whichever room: by its place, or as an outlier. Rejected ones
/// are as if they were not here.
pub fn known_event(
    from: &impl Read,
    event_id: &str,
) -> Result<Option<(RoomSn, EventNo, StoredEvent)>> {
    let Some((room, number)) = event_log::number(from, event_id)? else {
        return Ok(None);
    };
    let no = event_log::place_of(from, room, number)?.unwrap_or(number);
    let event = event_log::get(from, room, no)?;
    Ok(event
        .filter(|event| !event.flags.has(Flags::REJECTED))
        .map(|event| (room, no, event)))
}

/// An event of the room's history that other servers may be given: rejected ones are as if they were not here.
fn history_event(
    from: &impl Read,
    room: RoomSn,
    event_id: &str,
) -> Result<Option<(EventNo, StoredEvent)>> {
    let Some(no) = event_log::find_in(from, room, event_id)? else {
        return Ok(None);
    };
    let event = event_log::get(from, room, no)?;
    Ok(event
        .filter(|event| !event.flags.has(Flags::REJECTED))
        .map(|event| (no, event)))
}

fn rules_of(from: &impl Read, room: RoomSn) -> Result<&'static RoomRules> {
    let head = event_log::head(from, room)?.ok_or(Error::UnknownRoom)?;
    head.rules()
        .ok_or_else(|| Error::UnsupportedVersion(head.version.clone()))
}

fn depth_of(event: &StoredEvent) -> u64 {
    event::json::member(&event.json, "depth")
        .and_then(event::json::integer)
        .and_then(|depth| u64::try_from(depth).ok())
        .unwrap_or(0)
}
