//! What an operator may want to know of a room: its size, its graph, its states. Reading only.
//!
//! Everything here walks over rows and keeps counts, or what was asked for, so that a room of any size costs
//! time and no memory. A room with damaged rows is looked at as far as it goes. [`proof`] finds out whether a room is
//! as it must be.

pub mod proof;

use std::collections::{BTreeMap, VecDeque};

use event::auth::Membership;
use event::{EventId, Pdu, RoomRules, identifier};
use names::{RoomSn, UserSn};
use store::{Direction, Read};

use crate::resolve::{Room, Settled};
use crate::schema::{HEADS, LINES, MEMBERS, STATE, STATE_LOG};
use crate::{
    Cache, Error, EventNo, Flags, Point, Result, RoomHead, StoredEvent, event_log, graph, state,
};

/// Members whose names are read at once.
const NAMES_AT_ONCE: usize = 1_000;

/// All rooms, by number.
pub fn rooms(from: &impl Read) -> impl Iterator<Item = Result<(RoomSn, RoomHead)>> {
    HEADS
        .scan(from, &(), Direction::Forward)
        .map(|row| Ok(row?))
}

/// How many places a room's history has: about the number of its events. Some places have none, for resolution
/// takes places too.
pub fn places(from: &impl Read, room: RoomSn, head: &RoomHead) -> Result<u64> {
    let mut places = 0;
    for stretch in event_log::stretches(from, room, head.next) {
        let (first, next) = stretch?;
        places += next.0 - first.0;
    }
    Ok(places)
}

/// The events of a room, counted.
#[derive(Debug, Default)]
pub struct Events {
    /// Those in the room's history, hidden ones included.
    pub history: u64,
    /// State events among them.
    pub state: u64,
    /// Rejected ones among them.
    pub rejected: u64,
    /// Soft-failed ones among them.
    pub soft_failed: u64,
    /// Events without a place in the history.
    pub outliers: u64,
    /// The latest of the rejected and soft-failed ones, in the order in which they came.
    pub hidden: VecDeque<(EventNo, StoredEvent)>,
    /// The last one.
    pub last: Option<StoredEvent>,
}

/// Counts a room's events; at most `most` hidden ones are given.
pub fn events(from: &impl Read, room: RoomSn, most: usize) -> Result<Events> {
    let mut found = Events::default();
    for row in event_log::outliers(from, room) {
        let (no, _) = row?;
        found.outliers += u64::from(event_log::place_of(from, room, no)?.is_none());
    }
    for row in event_log::forwards(from, room, EventNo::MIN) {
        let (no, event) = row?;
        let flags = event.flags;
        found.history += 1;
        found.state += u64::from(flags.has(Flags::STATE));
        found.rejected += u64::from(flags.has(Flags::REJECTED));
        found.soft_failed += u64::from(flags.has(Flags::SOFT_FAILED));
        if !flags.is_visible() && most > 0 {
            if found.hidden.len() == most {
                found.hidden.pop_front();
            }
            found.hidden.push_back((no, event.clone()));
        }
        found.last = Some(event);
    }
    Ok(found)
}

/// What a room's state history holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StateHistory {
    /// Changes of entries of the current state.
    pub main_changes: u64,
    /// Changes of entries on side lines.
    pub side_changes: u64,
    /// Side lines.
    pub side_lines: u64,
    /// How many lines there are at most between a state and the main line.
    pub deepest: u8,
}

/// Counts what a room's state history holds.
pub fn state_history(from: &impl Read, room: RoomSn) -> Result<StateHistory> {
    let mut found = StateHistory::default();
    for row in STATE_LOG.scan(from, &(room,), Direction::Forward) {
        let ((_, line, _), changes) = row?;
        let count = changes.len() as u64;
        match line {
            0 => found.main_changes += count,
            _ => found.side_changes += count,
        }
    }
    for row in LINES.scan(from, &(room,), Direction::Forward) {
        found.side_lines += 1;
        found.deepest = found.deepest.max(row?.1.depth);
    }
    Ok(found)
}

/// How many entries of each type the current state has.
pub fn entries_by_type(from: &impl Read, room: RoomSn) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for row in STATE.scan(from, &(room,), Direction::Forward) {
        let ((_, event_type, _), _) = row?;
        *found.entry(event_type).or_default() += 1;
    }
    Ok(found)
}

/// Members of one kind, those of this server and the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Of this server.
    pub local: u64,
    /// Of other servers.
    pub remote: u64,
}

/// The members of a room, counted.
#[derive(Debug, Default)]
pub struct Members {
    /// Joined.
    pub joined: Share,
    /// Invited.
    pub invited: Share,
    /// Knocking.
    pub knocking: Share,
    /// Banned.
    pub banned: Share,
    /// Those who were members.
    pub left: Share,
    /// The servers of those who are joined, with how many there are of each.
    pub servers: BTreeMap<String, u64>,
}

/// Counts a room's members.
pub fn members(from: &impl Read, room: RoomSn) -> Result<Members> {
    let mut found = Members::default();
    let mut joined: Vec<UserSn> = Vec::new();
    for row in MEMBERS.scan(from, &(room,), Direction::Forward) {
        let ((_, user), member) = row?;
        let share = match member.membership() {
            Membership::Join => &mut found.joined,
            Membership::Invite => &mut found.invited,
            Membership::Knock => &mut found.knocking,
            Membership::Ban => &mut found.banned,
            Membership::Leave | Membership::Other => &mut found.left,
        };
        share.local += u64::from(user.is_local());
        share.remote += u64::from(!user.is_local());
        if member.membership() == Membership::Join {
            joined.push(user);
            if joined.len() == NAMES_AT_ONCE {
                count_servers(from, &mut joined, &mut found.servers)?;
            }
        }
    }
    count_servers(from, &mut joined, &mut found.servers)?;
    Ok(found)
}

fn count_servers(
    from: &impl Read,
    users: &mut Vec<UserSn>,
    servers: &mut BTreeMap<String, u64>,
) -> Result<()> {
    for user_id in names::user_ids(from, users)? {
        let server = identifier::domain(&user_id).unwrap_or_default();
        match servers.get_mut(server) {
            Some(count) => *count += 1,
            None => drop(servers.insert(server.to_owned(), 1)),
        }
    }
    users.clear();
    Ok(())
}

/// Which events of a room's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last ones, at most so many.
    Last(usize),
    /// An event, and at most so many that came before it, and after it.
    Around(EventNo, usize),
}

/// An event in the graph.
#[derive(Debug)]
pub struct Node {
    /// Its place.
    pub no: EventNo,
    /// The event.
    pub event: StoredEvent,
    /// The event, parsed.
    pub pdu: Pdu,
    /// What it follows, and where that is, if it is in the room's history here.
    pub follows: Vec<(EventId, Option<EventNo>)>,
}

/// Some events of a room's history with what they follow, in the order in which they came.
pub fn nodes(
    from: &impl Read,
    room: RoomSn,
    rules: &RoomRules,
    window: Window,
) -> Result<Vec<Node>> {
    let (end, before, after) = match window {
        Window::Last(most) => (EventNo::MAX, most, 0),
        Window::Around(no, most) => (no, most, most.saturating_add(1)),
    };
    let mut events = VecDeque::new();
    for row in event_log::backwards(from, room, end).take(before) {
        events.push_front(row?);
    }
    for row in event_log::forwards(from, room, end).take(after) {
        events.push_back(row?);
    }
    let mut nodes = Vec::with_capacity(events.len());
    for (no, event) in events {
        let pdu = parsed(room, rules, &event)?;
        let ids: Vec<EventId> = pdu.prev_events().map(EventId::from).collect();
        let places = event_log::find_many(from, room, &ids)?;
        nodes.push(Node {
            no,
            event,
            pdu,
            follows: ids.into_iter().zip(places).collect(),
        });
    }
    Ok(nodes)
}

fn parsed(room: RoomSn, rules: &RoomRules, event: &StoredEvent) -> Result<Pdu> {
    let pdu = Pdu::from_stored(rules, event.event_id.clone(), event.json.as_bytes());
    pdu.map_err(|_| Error::Damaged {
        room: room.0,
        why: "a stored event does not parse",
    })
}

/// The states right before and right after an event.
///
/// # Errors
/// [`Error::UnknownEvent`] if the event is not part of the room's history here.
pub fn states_of(from: &impl Read, room: RoomSn, event_id: &str) -> Result<(Point, Point)> {
    let no = event_log::find_in(from, room, event_id)?.ok_or(Error::UnknownEvent)?;
    let event = event_log::get(from, room, no)?.ok_or(Error::UnknownEvent)?;
    match (graph::state_before(no, &event), event.state_after(no)) {
        (Some(before), Some(after)) => Ok((before, after)),
        _ => Err(Error::UnknownEvent),
    }
}

/// Whether an event is here without a place in the room's history.
pub fn is_outlier(from: &impl Read, room: RoomSn, event_id: &str) -> Result<bool> {
    Ok(match event_log::number(from, event_id)? {
        Some((of, no)) if of == room => event_log::place_of(from, room, no)?.is_none(),
        _ => false,
    })
}

/// An entry on which two states differ.
#[derive(Debug, PartialEq, Eq)]
pub struct Differing {
    /// The type.
    pub event_type: String,
    /// The state key.
    pub state_key: String,
    /// The event in the first state.
    pub first: Option<EventNo>,
    /// The event in the second.
    pub second: Option<EventNo>,
}

/// Where two states of a room differ, by type and state key. Costs what was changed since they parted.
pub fn difference(
    from: &impl Read,
    room: RoomSn,
    first: Point,
    second: Point,
) -> Result<Vec<Differing>> {
    let head = event_log::head(from, room)?.ok_or(Error::UnknownRoom)?;
    let rules = head
        .rules()
        .ok_or_else(|| Error::UnsupportedVersion(head.version.clone()))?;
    let cache = Cache::default();
    let states = Room {
        from,
        cache: &cache,
        rules,
        room,
        create: head.create,
        settled: Settled::of(from, room)?,
        pause: &|| {},
    };
    let mut found = Vec::new();
    for ((event_type, state_key), second) in states.between(first, second)? {
        let first = state::at(from, room, &event_type, &state_key, first)?;
        found.push(Differing {
            event_type: event_type.into(),
            state_key: state_key.into(),
            first,
            second,
        });
    }
    Ok(found)
}
