//! The lines of a room's state history: where side lines begin, and what states on different lines have
//! in common.
//!
//! A side line is begun for a state that is not the current one, and holds only what differs from the
//! state it begins at. So states share everything that was decided before they parted, and what may differ
//! between them is what was logged on their lines since.
//!
//! Law: an entry on which two states differ has a row in the logs of their lines after the point where
//! their ways to the main line meet ([`compare`] lists at least these entries).

use std::collections::BTreeMap;

use event::state_res::StateKey;
use names::RoomSn;
use store::{Direction, Read};

use crate::schema::{LINES, STATE_LOG};
use crate::types::Line;
use crate::{Error, EventNo, Point, Result, StateDelta};

/// A line this deep is not built upon: the next one begins on the main line and repeats what differs, so
/// that a lookup takes a bounded number of seeks.
pub(crate) const MOST_DEEP: u8 = 8;

/// A side line.
pub(crate) fn get(from: &impl Read, room: RoomSn, line: u32) -> Result<Line> {
    LINES.get(from, &(room, line))?.ok_or(Error::Damaged {
        room: room.0,
        why: "a line of its state history is gone",
    })
}

/// How many lines there are between a line and the main line, itself counted.
pub(crate) fn depth(from: &impl Read, room: RoomSn, line: u32) -> Result<u8> {
    match line {
        0 => Ok(0),
        line => Ok(get(from, room, line)?.depth),
    }
}

/// The way from a state to the main line: on each line the place up to which it counts.
pub(crate) fn path(from: &impl Read, room: RoomSn, point: Point) -> Result<Vec<Point>> {
    let mut path = vec![point];
    let mut line = point.line;
    while line != 0 {
        let base = get(from, room, line)?.base;
        path.push(base);
        line = base.line;
    }
    Ok(path)
}

/// The same state by the place where it came to be, so that equal points mean equal states.
pub(crate) fn normal(from: &impl Read, room: RoomSn, point: Point) -> Result<Point> {
    let mut point = point;
    loop {
        let end = (room, point.line, point.place.next());
        let last = STATE_LOG
            .scan_before(from, &(room, point.line), &end)
            .next();
        if let Some(row) = last {
            let ((_, line, place), _) = row?;
            return Ok(Point { line, place });
        }
        if point.line == 0 {
            return Ok(Point::main(EventNo::MIN));
        }
        point = get(from, room, point.line)?.base;
    }
}

/// The state that the room's history begins with here.
pub(crate) fn first(from: &impl Read, room: RoomSn) -> Result<Point> {
    let first = STATE_LOG.scan(from, &(room, 0), Direction::Forward).next();
    Ok(match first.transpose()? {
        Some(((_, _, place), _)) => Point::main(place),
        None => Point::NOTHING,
    })
}

/// Whether a line has changes after a point on it.
pub(crate) fn goes_on(from: &impl Read, room: RoomSn, point: Point) -> Result<bool> {
    let start = (room, point.line, point.place.next());
    Ok(STATE_LOG
        .scan_from(from, &(room, point.line), &start)
        .next()
        .transpose()?
        .is_some())
}

/// What changed on a line from `start` up to but not including `end`, in order, and where.
pub(crate) fn log(
    from: &impl Read,
    room: RoomSn,
    line: u32,
    start: EventNo,
    end: EventNo,
) -> Result<Vec<(EventNo, StateDelta)>> {
    let (start, end) = ((room, line, start), (room, line, end));
    let mut found = Vec::new();
    for row in STATE_LOG.range(from, &start, &end, Direction::Forward) {
        let ((_, _, place), changes) = row?;
        found.extend(changes.into_iter().map(|change| (place, change)));
    }
    Ok(found)
}

/// The entries on which the states may differ, with what each state has; all others are the same in each.
///
/// Read from the logs alone: an entry that a state's way says nothing of is as it was where the ways meet, which
/// is what the first change on another way began from.
pub(crate) fn compare(
    from: &impl Read,
    room: RoomSn,
    points: &[Point],
) -> Result<BTreeMap<StateKey, Vec<Option<EventNo>>>> {
    let mut ways = Vec::with_capacity(points.len());
    // Per line: how many of the ways go over it, and the places up to which they count.
    let mut spans: BTreeMap<u32, Span> = BTreeMap::new();
    for point in points {
        let way = path(from, room, *point)?;
        for Point { line, place } in &way {
            let span = spans.entry(*line).or_insert(Span {
                ways: 0,
                least: *place,
                greatest: *place,
                log: Vec::new(),
            });
            span.ways += 1;
            span.least = span.least.min(*place);
            span.greatest = span.greatest.max(*place);
        }
        ways.push(way);
    }
    for (line, span) in &mut spans {
        // Up to the least place the ways have it in common, if all of them go over the line.
        let start = match span.ways == points.len() {
            true => span.least.next(),
            false => EventNo::MIN,
        };
        span.log = log(from, room, *line, start, span.greatest.next())?;
    }
    let mut found: BTreeMap<StateKey, Vec<Option<EventNo>>> = BTreeMap::new();
    // What the first way that changes an entry began from is what the ways have in common.
    for (index, way) in ways.iter().enumerate() {
        for change in changes_on(way, &spans) {
            let key = (
                change.event_type.as_str().into(),
                change.state_key.as_str().into(),
            );
            let values = found
                .entry(key)
                .or_insert_with(|| vec![change.before; points.len()]);
            values[index] = change.after;
        }
    }
    Ok(found)
}

/// What is between the meeting of the ways and their ends on one line.
struct Span {
    ways: usize,
    least: EventNo,
    greatest: EventNo,
    log: Vec<(EventNo, StateDelta)>,
}

/// The changes on one way, in order.
fn changes_on<'a>(
    way: &'a [Point],
    spans: &'a BTreeMap<u32, Span>,
) -> impl Iterator<Item = &'a StateDelta> {
    way.iter().rev().flat_map(|point| {
        let log = spans.get(&point.line).map_or(&[][..], |span| &span.log);
        let upto = log.partition_point(|(place, _)| *place <= point.place);
        log[..upto].iter().map(|(_, change)| change)
    })
}
