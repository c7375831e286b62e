//! Reading events by place, by id and in order.

use event::EventId;
use names::RoomSn;
use store::{Direction, Position, Read, Txn};

use crate::schema::{EVENT_IDS, EVENTS, HEADS, MARKS, PLACES, TIMESTAMPS};
use crate::types::Marks;
use crate::{EventNo, Result, RoomHead, StoredEvent};

/// The room's head.
pub fn head(from: &impl Read, room: RoomSn) -> Result<Option<RoomHead>> {
    Ok(HEADS.get(from, &room)?)
}

/// The event at a place.
pub fn get(from: &impl Read, room: RoomSn, no: EventNo) -> Result<Option<StoredEvent>> {
    Ok(EVENTS.get(from, &(room, no))?)
}

/// The events at many places, in their order; places without an event are left out.
pub fn get_many(
    from: &impl Read,
    room: RoomSn,
    nos: &[EventNo],
) -> Result<Vec<(EventNo, StoredEvent)>> {
    let keys: Vec<_> = nos.iter().map(|no| (room, *no)).collect();
    let events = EVENTS.multi_get(from, &keys)?;
    Ok(nos
        .iter()
        .zip(events)
        .filter_map(|(no, event)| Some((*no, event?)))
        .collect())
}

/// The place of an event id, in whichever room; nothing for outliers.
pub fn find(from: &impl Read, event_id: &str) -> Result<Option<(RoomSn, EventNo)>> {
    match EVENT_IDS.get(from, &event_id.to_owned())? {
        Some((room, no)) => Ok(place_of(from, room, no)?.map(|no| (room, no))),
        None => Ok(None),
    }
}

/// The place of an event id in `room`; nothing for outliers.
pub fn find_in(from: &impl Read, room: RoomSn, event_id: &str) -> Result<Option<EventNo>> {
    Ok(find(from, event_id)?
        .filter(|(of, _)| *of == room)
        .map(|(_, no)| no))
}

/// The number of an event id, by which states and auth chains know it: its place, or its number as an
/// outlier.
pub(crate) fn number(from: &impl Read, event_id: &str) -> Result<Option<(RoomSn, EventNo)>> {
    Ok(EVENT_IDS.get(from, &event_id.to_owned())?)
}

/// The place in the room's history of an event by its number, if it has one.
pub(crate) fn place_of(from: &impl Read, room: RoomSn, no: EventNo) -> Result<Option<EventNo>> {
    match no >= EventNo::HISTORY {
        true => Ok(Some(no)),
        false => Ok(PLACES.get(from, &(room, no))?),
    }
}

/// An outlier gets a place in the room's history.
pub(crate) fn set_place(txn: &mut Txn, room: RoomSn, outlier: EventNo, place: EventNo) {
    PLACES.put(txn, &(room, outlier), &place);
}

/// The places of many event ids in `room`, in their order.
pub fn find_many(
    from: &impl Read,
    room: RoomSn,
    event_ids: &[EventId],
) -> Result<Vec<Option<EventNo>>> {
    let keys: Vec<_> = event_ids.iter().map(|id| id.as_str().to_owned()).collect();
    let mut found = Vec::with_capacity(keys.len());
    for number in EVENT_IDS.multi_get(from, &keys)? {
        found.push(match number {
            Some((of, no)) if of == room => place_of(from, room, no)?,
            _ => None,
        });
    }
    Ok(found)
}

/// Events of the room's history before `end`, newest first.
pub fn backwards<'a>(
    from: &'a impl Read,
    room: RoomSn,
    end: EventNo,
) -> impl Iterator<Item = Result<(EventNo, StoredEvent)>> + 'a {
    let start = (room, EventNo::HISTORY);
    EVENTS
        .range(from, &start, &(room, end), Direction::Backward)
        .map(place)
}

/// Events of the room's history from `start` on, oldest first.
pub fn forwards<'a>(
    from: &'a impl Read,
    room: RoomSn,
    start: EventNo,
) -> impl Iterator<Item = Result<(EventNo, StoredEvent)>> + 'a {
    let start = start.max(EventNo::HISTORY);
    EVENTS.scan_from(from, &(room,), &(room, start)).map(place)
}

/// Outliers, oldest first.
pub fn outliers<'a>(
    from: &'a impl Read,
    room: RoomSn,
) -> impl Iterator<Item = Result<(EventNo, StoredEvent)>> + 'a {
    let (start, end) = ((room, EventNo::MIN), (room, EventNo::HISTORY));
    EVENTS
        .range(from, &start, &end, Direction::Forward)
        .map(place)
}

/// Where the first event is that is here, of the room's history from `start` on.
pub fn first(from: &impl Read, room: RoomSn, start: EventNo) -> Result<Option<EventNo>> {
    let first = forwards(from, room, start).next();
    Ok(first.transpose()?.map(|(no, _)| no))
}

/// The number of the next outlier.
pub(crate) fn next_outlier(from: &impl Read, room: RoomSn) -> Result<EventNo> {
    let (start, end) = ((room, EventNo::MIN), (room, EventNo::HISTORY));
    let last = EVENTS.range(from, &start, &end, Direction::Backward).next();
    Ok(last
        .transpose()?
        .map_or(EventNo(1), |((_, no), _)| no.next()))
}

fn place(row: store::Result<((RoomSn, EventNo), StoredEvent)>) -> Result<(EventNo, StoredEvent)> {
    let ((_, no), event) = row?;
    Ok((no, event))
}

/// The first place after everything that was committed at or before `position`: where a reader who
/// knows everything up to `position` goes on.
///
/// Places and positions grow together, but for history that was filled in: it counts as if it had come with what follows
/// it. So this is a binary search over the places.
pub fn after_position(from: &impl Read, room: RoomSn, position: Position) -> Result<EventNo> {
    let Some(head) = head(from, room)? else {
        return Ok(EventNo::FIRST);
    };
    let (mut low, mut high) = (EventNo::FIRST.0, head.next.0);
    // Most who ask are nearly up to date: look at the newest first.
    let mut step = 1;
    while low < high {
        let middle = if step <= 64 {
            high.saturating_sub(step).max(low)
        } else {
            low + (high - low) / 2
        };
        step *= 2;
        match next_that_came(from, room, EventNo(middle))? {
            Some((no, event)) if event.position <= position => low = no.0 + 1,
            _ => high = middle,
        }
    }
    Ok(EventNo(low))
}

/// The first event from `start` on that was not filled in later.
fn next_that_came(
    from: &impl Read,
    room: RoomSn,
    start: EventNo,
) -> Result<Option<(EventNo, StoredEvent)>> {
    let mut start = start;
    loop {
        if start.is_past() {
            start = start.stretch_start();
        }
        // Some places have no event: the next one tells.
        let found = match get(from, room, start)? {
            Some(event) => Some((start, event)),
            None => forwards(from, room, start).next().transpose()?,
        };
        match found {
            Some((no, _)) if no.is_past() => start = no,
            found => return Ok(found),
        }
    }
}

/// The place that at most `count` places which events came to lie from on, up to `end`; the stretches of the room's history
/// that end before it are left out as a whole. One seek for each stretch.
pub fn back(from: &impl Read, room: RoomSn, end: EventNo, count: u64) -> Result<EventNo> {
    let (mut start, mut left) = (end, count);
    for stretch in stretches(from, room, end) {
        let (first, next) = stretch?;
        let places = next.0 - first.0;
        if places >= left {
            return Ok(EventNo(next.0 - left));
        }
        (start, left) = (first, left - places);
    }
    Ok(start)
}

/// The stretches of the room's history before `end`, newest first: the first place of each, and the one after its last.
pub fn stretches<'a>(
    from: &'a impl Read,
    room: RoomSn,
    end: EventNo,
) -> impl Iterator<Item = Result<(EventNo, EventNo)>> + 'a {
    let mut upto = Some(end);
    let mut below = None;
    std::iter::from_fn(move || {
        if let Some(floor) = below.take() {
            match backwards(from, room, floor).next().transpose() {
                Ok(last) => upto = last.map(|(no, _)| no.next()),
                Err(error) => return Some(Err(error)),
            }
        }
        let end = upto.take()?;
        let start = end.previous().stretch_start();
        below = Some(start.stretch_floor()).filter(|_| start > EventNo::FIRST);
        Some(Ok((start, end.max(start))))
    })
}

/// What later events did to an event.
pub fn marks(from: &impl Read, room: RoomSn, event_id: &str) -> Result<Marks> {
    Ok(MARKS
        .get(from, &(room, event_id.to_owned()))?
        .unwrap_or_default())
}

/// What later events did to many events, in their order.
pub fn marks_of<'e>(
    from: &impl Read,
    room: RoomSn,
    event_ids: impl Iterator<Item = &'e EventId>,
) -> Result<Vec<Marks>> {
    let keys: Vec<_> = event_ids.map(|id| (room, id.as_str().to_owned())).collect();
    let marks = MARKS.multi_get(from, &keys)?;
    Ok(marks.into_iter().map(Option::unwrap_or_default).collect())
}

/// The event nearest to a time: the first at or after `ts_ms` going forwards, the last at or before
/// it going backwards.
pub fn near_timestamp(
    from: &impl Read,
    room: RoomSn,
    ts_ms: u64,
    forwards: bool,
    mut accept: impl FnMut(EventNo) -> Result<bool>,
) -> Result<Option<EventNo>> {
    let mut rows = if forwards {
        TIMESTAMPS.scan_from(from, &(room,), &(room, ts_ms, EventNo::MIN))
    } else {
        TIMESTAMPS.scan_before(
            from,
            &(room,),
            &(room, ts_ms.saturating_add(1), EventNo::MIN),
        )
    };
    // Bounded: an event that may be seen is near, or the room is not one for this user.
    for row in rows.by_ref().take(1000) {
        let ((_, _, no), ()) = row?;
        if accept(no)? {
            return Ok(Some(no));
        }
    }
    Ok(None)
}
