//! Events that refer to others: kept by the event they refer to, for bundled aggregations, threads and
//! the relations endpoints. <https://spec.matrix.org/v1.19/client-server-api/#forming-relationships-between-events>

use std::cmp::Reverse;
use std::collections::BTreeMap;

use event::{EventId, json};
use names::{RoomSn, UserSn};
use store::{Direction, Read, Txn};

use crate::append::string_member;
use crate::history::Way;
use crate::schema::{MARKS, RELATIONS, THREAD_ORDER, THREAD_SENDERS, THREADS};
use crate::{EventNo, Relation, Result, StoredEvent, ThreadSummary, event_log};

/// What an event's `m.relates_to` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelatesTo {
    /// `rel_type`.
    pub rel_type: String,
    /// `event_id`.
    pub event_id: String,
    /// `key` of an annotation.
    pub key: Option<String>,
}

/// Reads `m.relates_to` in an event's content; nothing if it is not a relation.
pub fn parse(content: &str) -> Option<RelatesTo> {
    let relates_to = json::member(content, "m.relates_to").filter(|it| json::is_object(it))?;
    Some(RelatesTo {
        rel_type: string_member(relates_to, "rel_type")?.into_owned(),
        event_id: string_member(relates_to, "event_id")?.into_owned(),
        key: string_member(relates_to, "key").map(|key| key.into_owned()),
    })
}

/// The root of the thread that an event with this relation belongs to.
pub(crate) fn thread_root(
    from: &impl Read,
    room: RoomSn,
    relation: Option<&RelatesTo>,
) -> Result<Option<EventId>> {
    let Some(relation) = relation else {
        return Ok(None);
    };
    if relation.rel_type == "m.thread" {
        return Ok(Some(relation.event_id.as_str().into()));
    }
    let Some(no) = event_log::find_in(from, room, &relation.event_id)? else {
        return Ok(None);
    };
    Ok(event_log::get(from, room, no)?.and_then(|parent| parent.thread_root))
}

pub(crate) fn add(
    txn: &mut Txn,
    room: RoomSn,
    relates_to: &RelatesTo,
    no: EventNo,
    event: &StoredEvent,
    event_type: &str,
) -> Result<()> {
    let parent = relates_to.event_id.clone();
    let relation = Relation {
        rel_type: relates_to.rel_type.clone(),
        event_type: event_type.to_owned(),
        sender: event.sender,
        key: relates_to.key.clone(),
    };
    RELATIONS.put(txn, &(room, parent.clone(), no), &relation);
    let mut marks = event_log::marks(txn, room, &parent)?;
    match relation.rel_type.as_str() {
        "m.replace" => marks.replaced = true,
        "m.thread" => marks.threaded = true,
        "m.reference" => marks.referenced = true,
        _ => {}
    }
    MARKS.put(txn, &(room, parent.clone()), &marks);
    if relates_to.rel_type == "m.thread" {
        let before = THREADS.get(txn, &(room, parent.clone()))?;
        if let Some(before) = before {
            THREAD_ORDER.delete(txn, &(room, Reverse(before.latest)));
        }
        let count = before.map_or(0, |before| before.count) + 1;
        THREADS.put(
            txn,
            &(room, parent.clone()),
            &ThreadSummary { latest: no, count },
        );
        THREAD_ORDER.put(txn, &(room, Reverse(no)), &parent);
        THREAD_SENDERS.put(txn, &(room, parent, event.sender), &());
    }
    Ok(())
}

/// A redacted event refers to nothing any more.
pub(crate) fn remove(txn: &mut Txn, room: RoomSn, no: EventNo, event: &StoredEvent) -> Result<()> {
    let content = json::member(&event.json, "content").unwrap_or("{}");
    let Some(relates_to) = parse(content) else {
        return Ok(());
    };
    let parent = relates_to.event_id;
    RELATIONS.delete(txn, &(room, parent.clone(), no));
    if relates_to.rel_type != "m.thread" {
        return Ok(());
    }
    let Some(before) = THREADS.get(txn, &(room, parent.clone()))? else {
        return Ok(());
    };
    THREAD_ORDER.delete(txn, &(room, Reverse(before.latest)));
    let left = of(txn, room, &parent)?;
    let mut thread = left
        .iter()
        .filter(|(_, relation)| relation.rel_type == "m.thread");
    if !thread
        .clone()
        .any(|(_, relation)| relation.sender == event.sender)
    {
        THREAD_SENDERS.delete(txn, &(room, parent.clone(), event.sender));
    }
    match thread.next_back() {
        Some((latest, _)) => {
            let count = before.count.saturating_sub(1);
            let summary = ThreadSummary {
                latest: *latest,
                count,
            };
            THREADS.put(txn, &(room, parent.clone()), &summary);
            THREAD_ORDER.put(txn, &(room, Reverse(*latest)), &parent);
        }
        None => THREADS.delete(txn, &(room, parent)),
    }
    Ok(())
}

/// The events that refer to an event, oldest first.
pub fn of(from: &impl Read, room: RoomSn, event_id: &str) -> Result<Vec<(EventNo, Relation)>> {
    let mut found = Vec::new();
    for row in RELATIONS.scan(from, &(room, event_id.to_owned()), Direction::Forward) {
        let ((_, _, no), relation) = row?;
        found.push((no, relation));
    }
    Ok(found)
}

/// The events that refer to an event, from `start` on: forwards those at or after it, oldest first;
/// backwards those before it, newest first.
pub fn from_place<'a>(
    from: &'a impl Read,
    room: RoomSn,
    event_id: &str,
    start: EventNo,
    way: Way,
) -> impl Iterator<Item = Result<(EventNo, Relation)>> + 'a {
    let prefix = (room, event_id.to_owned());
    let start = (room, event_id.to_owned(), start);
    let rows = match way {
        Way::Forward => RELATIONS.scan_from(from, &prefix, &start),
        Way::Backward => RELATIONS.scan_before(from, &prefix, &start),
    };
    rows.map(|row| {
        let ((_, _, no), relation) = row?;
        Ok((no, relation))
    })
}

/// Relations of relations are followed this deep.
pub const MOST_DEPTH: u32 = 3;
/// Events gathered by following relations of relations.
const MOST_FOLLOWED: usize = 10_000;

/// The events that refer to an event or to one that refers to it, [`MOST_DEPTH`] deep, by place.
pub fn recursively(
    from: &impl Read,
    room: RoomSn,
    event_id: &str,
) -> Result<BTreeMap<EventNo, Relation>> {
    let mut found = BTreeMap::new();
    let mut parents = vec![event_id.to_owned()];
    for _ in 0..MOST_DEPTH {
        let mut next = Vec::new();
        for parent in &parents {
            for (no, relation) in of(from, room, parent)? {
                if found.len() == MOST_FOLLOWED {
                    return Ok(found);
                }
                if found.insert(no, relation).is_none() {
                    next.push(no);
                }
            }
        }
        let events = event_log::get_many(from, room, &next)?;
        parents = events
            .into_iter()
            .map(|(_, event)| event.event_id.to_string())
            .collect();
    }
    Ok(found)
}

/// Whether a sender has already sent an annotation with this key on an event.
pub fn has_annotation(
    from: &impl Read,
    room: RoomSn,
    event_id: &str,
    event_type: &str,
    sender: UserSn,
    key: &str,
) -> Result<bool> {
    Ok(of(from, room, event_id)?.iter().any(|(_, relation)| {
        relation.rel_type == "m.annotation"
            && relation.event_type == event_type
            && relation.sender == sender
            && relation.key.as_deref() == Some(key)
    }))
}

/// A thread's summary, by the id of its root.
pub fn thread(from: &impl Read, room: RoomSn, root: &str) -> Result<Option<ThreadSummary>> {
    Ok(THREADS.get(from, &(room, root.to_owned()))?)
}

/// Whether a user has written in a thread.
pub fn has_participated(from: &impl Read, room: RoomSn, root: &str, user: UserSn) -> Result<bool> {
    Ok(THREAD_SENDERS.contains(from, &(room, root.to_owned(), user))?)
}

/// The threads of a room whose newest event is before `end`, newest first: that event and the root's id.
pub fn threads_before(
    from: &impl Read,
    room: RoomSn,
    end: EventNo,
) -> impl Iterator<Item = Result<(EventNo, String)>> + '_ {
    let start = (room, Reverse(EventNo(end.0.saturating_sub(1))));
    THREAD_ORDER.scan_from(from, &(room,), &start).map(|row| {
        let ((_, Reverse(latest)), root) = row?;
        Ok((latest, root))
    })
}
