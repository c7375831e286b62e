//! The graph of `auth_events` among a room's accepted state events, kept both ways.
//!
//! State resolution asks which events are in the auth chains of some states and not of all. The chains reach
//! back to the beginning of the room, but what all states have in common leaves early: once an event is
//! known to be in the chain of something on which the states agree, so is everything below it. Backwards,
//! from an event to those that name it, the way to such a thing is short: what is old was named by someone
//! whose event still stands. So the cost is that of the difference and its edge, whatever the room's age.
//!
//! Law: for every accepted state event there is one [`AuthNode`] and one citation per auth event; the
//! generation is one more than the greatest of its auth events'.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};

use names::RoomSn;
use store::{Direction, Read, Txn};

use crate::schema::{AUTH, CITATIONS};
use crate::types::AuthNode;
use crate::{Error, EventNo, Result};

/// Adds an accepted state event.
pub(crate) fn add(txn: &mut Txn, room: RoomSn, no: EventNo, auth_events: &[EventNo]) -> Result<()> {
    let mut generation = 0;
    for auth_event in auth_events {
        // An auth event that is a message counts for nothing, and refuses the event before it comes here.
        if let Some(of) = AUTH.get(txn, &(room, *auth_event))? {
            generation = generation.max(of.generation + 1);
        }
    }
    for auth_event in auth_events {
        CITATIONS.put(txn, &(room, *auth_event, Reverse(no)), &());
    }
    let node = AuthNode {
        generation,
        auth_events: auth_events.to_vec(),
    };
    AUTH.put(txn, &(room, no), &node);
    Ok(())
}

/// An accepted state event.
pub(crate) fn node(from: &impl Read, room: RoomSn, no: EventNo) -> Result<Option<AuthNode>> {
    Ok(AUTH.get(from, &(room, no))?)
}

/// Events and all that can be reached from them over `auth_events`.
pub(crate) fn chain(
    from: &impl Read,
    room: RoomSn,
    events: impl IntoIterator<Item = EventNo>,
) -> Result<BTreeSet<EventNo>> {
    let mut chain = BTreeSet::new();
    let mut open: Vec<EventNo> = events.into_iter().collect();
    while let Some(no) = open.pop() {
        if !chain.insert(no) {
            continue;
        }
        let node = node(from, room, no)?.ok_or(Error::Damaged {
            room: room.0,
            why: "a state event is not in the graph of auth events",
        })?;
        open.extend(node.auth_events.iter().filter(|no| !chain.contains(no)));
    }
    Ok(chain)
}

/// Answers whether events are in the auth chain of what several states agree on, or are part of it.
pub(crate) struct AgreedChain<'a, R: Read, F> {
    from: &'a R,
    room: RoomSn,
    /// Whether an event is one on which the states agree.
    is_agreed: F,
    known: HashMap<EventNo, bool>,
}

impl<'a, R: Read, F: FnMut(EventNo) -> Result<bool>> AgreedChain<'a, R, F> {
    pub(crate) fn new(from: &'a R, room: RoomSn, is_agreed: F) -> Self {
        Self {
            from,
            room,
            is_agreed,
            known: HashMap::new(),
        }
    }

    /// Looks for a way over citations from the event to one on which the states agree.
    pub(crate) fn contains(&mut self, no: EventNo) -> Result<bool> {
        if let Some(known) = self.known.get(&no) {
            return Ok(*known);
        }
        let mut seen = BTreeSet::from([no]);
        let mut open = VecDeque::new();
        if self.decides(no)? == Some(true) {
            return Ok(self.remember(no));
        }
        open.push_back(no);
        while let Some(at) = open.pop_front() {
            for row in CITATIONS.scan(self.from, &(self.room, at), Direction::Forward) {
                let ((_, _, Reverse(citing)), ()) = row?;
                if !seen.insert(citing) {
                    continue;
                }
                match self.decides(citing)? {
                    Some(true) => return Ok(self.remember(no)),
                    // What is known to be outside leads nowhere.
                    Some(false) => {}
                    None => open.push_back(citing),
                }
            }
        }
        // Nothing that was seen leads to anything agreed.
        self.known.extend(seen.into_iter().map(|no| (no, false)));
        Ok(false)
    }

    fn remember(&mut self, no: EventNo) -> bool {
        self.known.insert(no, true);
        true
    }

    /// What is known of an event without looking further.
    fn decides(&mut self, no: EventNo) -> Result<Option<bool>> {
        if let Some(known) = self.known.get(&no) {
            return Ok(Some(*known));
        }
        Ok((self.is_agreed)(no)?.then_some(true))
    }
}
