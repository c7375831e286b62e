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

/// What is known of an event without looking at who names it.
pub(crate) enum Standing {
    /// The states agree on it.
    Agreed,
    /// They do not, and no event can name it: its type is none that authorisation asks for.
    Unnamed,
    /// They do not.
    Other,
}

/// Answers whether events are in the auth chain of what several states agree on, or are part of it.
pub(crate) struct AgreedChain<'a, R: Read, F> {
    from: &'a R,
    room: RoomSn,
    standing: F,
    known: HashMap<EventNo, bool>,
}

impl<'a, R: Read, F: FnMut(EventNo) -> Result<Standing>> AgreedChain<'a, R, F> {
    pub(crate) fn new(from: &'a R, room: RoomSn, standing: F) -> Self {
        Self {
            from,
            room,
            standing,
            known: HashMap::new(),
        }
    }

    /// Looks for a way over citations from the event to one on which the states agree.
    pub(crate) fn contains(&mut self, no: EventNo) -> Result<bool> {
        let mut seen = vec![no];
        let mut open = VecDeque::from([no]);
        if let Some(known) = self.look_at(no)? {
            return Ok(known);
        }
        while let Some(at) = open.pop_front() {
            for row in CITATIONS.scan(self.from, &(self.room, at), Direction::Forward) {
                let ((_, _, Reverse(citing)), ()) = row?;
                match self.look_at(citing)? {
                    Some(true) => {
                        // Nothing is known of what was only met on the way.
                        for no in seen {
                            self.known.remove(&no);
                        }
                        self.known.insert(no, true);
                        return Ok(true);
                    }
                    Some(false) => {}
                    None => {
                        self.known.insert(citing, false);
                        seen.push(citing);
                        open.push_back(citing);
                    }
                }
            }
        }
        // Nothing that was met leads to anything agreed.
        self.known.insert(no, false);
        Ok(false)
    }

    /// Whether the event is in the chain, if that is known without looking at who names it.
    fn look_at(&mut self, no: EventNo) -> Result<Option<bool>> {
        if let Some(known) = self.known.get(&no) {
            return Ok(Some(*known));
        }
        let known = match (self.standing)(no)? {
            Standing::Agreed => true,
            Standing::Unnamed => false,
            Standing::Other => return Ok(None),
        };
        self.known.insert(no, known);
        Ok(Some(known))
    }
}
