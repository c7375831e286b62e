//! The state that goes with a timeline: all of it, or what changed.

use std::collections::{BTreeMap, BTreeSet};

use names::RoomSn;
use rooms::{EventNo, StateDelta, state};
use store::Read;

use crate::Result;

/// Type and state key to event.
pub type Entries = BTreeMap<(String, String), EventNo>;

const MEMBER: &str = "m.room.member";

/// Which members a state has in it.
pub enum Members<'a> {
    /// All.
    All,
    /// These user ids only.
    Only(&'a BTreeSet<String>),
}

impl Members<'_> {
    /// Whether an entry is of no member, or of one of these.
    pub fn has(&self, change: &StateDelta) -> bool {
        match self {
            Members::All => true,
            Members::Only(ids) => change.event_type != MEMBER || ids.contains(&change.state_key),
        }
    }
}

/// The state right before the event at `place` on the room's main line; at its head, the current state.
///
/// Taken from the current state by undoing what the events from `place` on changed: the cost is that
/// of the current state without members, the members asked for, and the changes since.
pub fn before(
    from: &impl Read,
    room: RoomSn,
    place: EventNo,
    members: &Members<'_>,
) -> Result<Entries> {
    let changes = state::changes(from, room, place, EventNo::MAX)?;
    without(
        from,
        room,
        changes.iter().map(|(_, change)| change),
        members,
    )
}

/// The current state without its last changes.
pub fn without<'c>(
    from: &impl Read,
    room: RoomSn,
    changes: impl DoubleEndedIterator<Item = &'c StateDelta>,
    members: &Members<'_>,
) -> Result<Entries> {
    let mut entries = Entries::new();
    let current = match members {
        Members::All => state::all_current(from, room)?,
        Members::Only(_) => state::current_without_members(from, room)?,
    };
    for entry in current {
        entries.insert((entry.event_type, entry.state_key), entry.event);
    }
    if let Members::Only(user_ids) = members {
        let keys: Vec<_> = user_ids.iter().map(|id| (MEMBER, id.as_str())).collect();
        for (id, event) in user_ids.iter().zip(state::current_many(from, room, &keys)?) {
            if let Some(event) = event {
                entries.insert((MEMBER.to_owned(), id.clone()), event);
            }
        }
    }
    for change in changes.rev() {
        if !members.has(change) {
            continue;
        }
        let key = (change.event_type.clone(), change.state_key.clone());
        match change.before {
            Some(before) => entries.insert(key, before),
            None => entries.remove(&key),
        };
    }
    Ok(entries)
}

/// Makes changes to a state.
pub fn apply<'c>(entries: &mut Entries, changes: impl Iterator<Item = &'c StateDelta>) {
    for change in changes {
        let key = (change.event_type.clone(), change.state_key.clone());
        match change.after {
            Some(after) => entries.insert(key, after),
            None => entries.remove(&key),
        };
    }
}
