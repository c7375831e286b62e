//! Rooms that were entered while most of their members were not known here yet: a faster join.
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>, `omit_members`.
//!
//! Such a room has the state of the entry without the members that were left out, and a mark ([`PARTIAL`]) that says so, durably.
//! What the state says is true. What it does not say of a user is *unknown*: they may be joined, banned, or never have been there.
//!
//! Law: while the mark stands, nothing is decided that could come out otherwise if the members were known. So
//! - an event of another server is taken only if it stands on the current state and all members are known that its
//!   authorisation asks for ([`RoomWriter::waits_for_members`]). All others are *held* ([`crate::held`]), and let in once the
//!   members are here;
//! - an event of this server is made only if all members are known that its authorisation asks for;
//! - no states are resolved, no history is filled in.
//!
//! Two things follow. In the room there is no state but the current one over time: the state history has no side lines, and
//! the states after all extremities are the current state. And line 0 says nothing of any member who was unknown.
//! So [`RoomWriter::complete`] may add the members at the place of the entry, below everything that came since, and the
//! room is then what it would be had it been entered whole, and had the same events come in the same order.
//!
//! The servers in the room are told by who let this server in. Until their members are known, each is counted as if it had one
//! joined user more ([`crate::servers`]), so that it gets what is sent here.
//!
//! When the last user of this server leaves, the room is *abandoned* in the same change: the mark goes, since the members need not
//! be known to anybody now, and another takes its place ([`abandoned`]), since what is here still lacks them. Such a room takes
//! nothing in, not even the join of who comes back, before it is completed: what came until then would be resolved against a
//! state that never was.
//!
//! Deliberately not here: fetching the members, and waiting for them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use event::auth::{self, AuthKey};
use event::{EventId, Pdu, identifier};
use names::RoomSn;
use serde::{Deserialize, Serialize};
use store::{At, Direction, Position, Read, Record, Txn};

use crate::ingest::Need;
use crate::schema::{ABANDONED, COMPLETED, PARTIAL, STATE, STATE_HISTORY, STATE_LOG};
use crate::{
    Effects, Error, EventNo, Result, RoomWriter, StateDelta, graph, lines, servers, state,
};

/// Servers that a room is believed to have before its members are known.
const MOST_SERVERS: usize = 20_000;

/// A room whose members are not all known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// The event that this server entered by: the members are those before it.
    pub entry: String,
    /// The server that let this one in.
    pub by: String,
    /// Other servers that were said to be in the room.
    pub servers: Vec<String>,
    /// When it was entered, in milliseconds since 1970.
    pub entered_ms: u64,
}

impl Record for Partial {}

/// What `send_join` says of a room whose members it leaves out.
#[derive(Clone, Debug)]
pub struct Omitted {
    /// The server that let this one in.
    pub by: String,
    /// `servers_in_room`.
    pub servers: Vec<String>,
}

/// What is known of a room whose members are not.
pub fn get(from: &impl Read, room: RoomSn) -> Result<Option<Partial>> {
    Ok(PARTIAL.get(from, &room)?)
}

/// Whether members of the room are not known yet.
pub fn is_partial(from: &impl Read, room: RoomSn) -> Result<bool> {
    Ok(PARTIAL.contains(from, &room)?)
}

/// Whether members of the room are not known, whether they are asked for or this server left before they were known.
pub fn lacks_members(from: &impl Read, room: RoomSn) -> Result<bool> {
    Ok(is_partial(from, room)? || ABANDONED.contains(from, &room)?)
}

/// Whether there is any room whose members are not all known.
pub fn any(from: &impl Read) -> Result<bool> {
    let first = PARTIAL.scan(from, &(), Direction::Forward).next();
    Ok(first.transpose()?.is_some())
}

/// All of them, by number.
pub fn all(from: &impl Read) -> Result<Vec<(RoomSn, Partial)>> {
    let mut found = Vec::new();
    for row in PARTIAL.scan(from, &(), Direction::Forward) {
        found.push(row?);
    }
    Ok(found)
}

/// Of a room that was entered without its members: where they became known.
pub fn completed(from: &impl Read, room: RoomSn) -> Result<Option<Position>> {
    Ok(COMPLETED.get(from, &room)?.map(|at| at.position))
}

/// The mark goes, and with it the servers that were only said to be in the room. Gives the mark.
fn unmark(txn: &mut Txn, room: RoomSn, now: EventNo) -> Result<Option<Partial>> {
    let Some(partial) = PARTIAL.get(txn, &room)? else {
        return Ok(None);
    };
    PARTIAL.delete(txn, &room);
    for server in &partial.servers {
        servers::no_more_believed(txn, room, server, now)?;
    }
    Ok(Some(partial))
}

/// Nobody of this server is in the room any more, since `now`: its members are asked for no longer, and nothing is held any more.
pub(crate) fn abandon(txn: &mut Txn, room: RoomSn, now: EventNo) -> Result<()> {
    if let Some(partial) = unmark(txn, room, now)? {
        ABANDONED.put(txn, &room, &partial);
    }
    Ok(())
}

/// What is known of a room that this server left before its members were known.
pub fn abandoned(from: &impl Read, room: RoomSn) -> Result<Option<Partial>> {
    Ok(ABANDONED.get(from, &room)?)
}

/// What came of completing a room.
#[derive(Debug)]
pub enum Completed {
    /// All members are known.
    Done {
        /// How many became known.
        members: usize,
        /// Whom it concerns.
        effects: Effects,
    },
    /// The room was complete already.
    NotPartial,
    /// Nothing was changed. Get these and come again.
    Need(Need),
}

impl RoomWriter<'_> {
    /// Marks a room that was entered in this change as one whose members are not all known.
    pub(crate) fn mark_partial(&mut self, entry: &EventId, omitted: &Omitted) -> Result<()> {
        let (room, own) = (self.room(), self.server_name().to_owned());
        let mut known: Vec<String> = omitted.servers.clone();
        known.push(omitted.by.clone());
        known.sort_unstable();
        known.dedup();
        known.retain(|server| *server != own && identifier::is_server_name(server));
        known.truncate(MOST_SERVERS);
        let base = lines::first(self.read(), room)?.place;
        for server in &known {
            servers::believe(self.txn(), room, server, base)?;
        }
        let partial = Partial {
            entry: entry.to_string(),
            by: omitted.by.clone(),
            servers: known,
            entered_ms: self.now_ms(),
        };
        PARTIAL.put(self.txn(), &room, &partial);
        Ok(())
    }

    /// Whether an event that follows `prev_events`, or its authorisation, asks for what is not known while members are missing.
    pub(crate) fn waits_for_members(
        &self,
        pdu: &Pdu,
        prev_events: &[(EventNo, String)],
        some_are_missing: bool,
    ) -> Result<bool> {
        if some_are_missing || self.is_in_past() || prev_events.is_empty() {
            return Ok(true);
        }
        if !graph::are_all_extremities(self, prev_events) {
            // A change of a state that others have not followed would have to be resolved.
            if pdu.state_key().is_some() {
                return Ok(true);
            }
            let now = lines::normal(self.read(), self.room(), self.now())?;
            for point in graph::states_of(self.read(), self.room(), prev_events)? {
                if lines::normal(self.read(), self.room(), point)? != now {
                    return Ok(true);
                }
            }
        }
        self.lacks_member(&auth::auth_types_of(self.rules(), pdu))
    }

    /// Whether any of the entries is one of a member whom the current state does not have.
    pub(crate) fn lacks_member(&self, keys: &[AuthKey<'_>]) -> Result<bool> {
        for (of, key) in keys {
            if *of == "m.room.member" && !self.knows_member(key)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the current state has an entry of a member.
    fn knows_member(&self, user_id: &str) -> Result<bool> {
        let found = state::current(self.read(), self.room(), "m.room.member", user_id)?;
        Ok(found.is_some())
    }

    /// Refuses what depends on a user's membership where that is not known yet.
    ///
    /// # Errors
    /// [`Error::MembersMissing`].
    pub(crate) fn must_know_member(&self, user_id: &str) -> Result<()> {
        match self.lacks_members() && !self.knows_member(user_id)? {
            true => Err(Error::MembersMissing),
            false => Ok(()),
        }
    }

    /// Adds the members that were left out when the room was entered: `whole` is the whole state before the entry, as the
    /// server has it that let this one in, or another. Its events must be here, as outliers at least.
    ///
    /// Of an entry that the room says something of already, nothing is changed.
    ///
    /// # Errors
    /// [`Error::BadEvent`] if the state has two events for one entry.
    pub fn complete(mut self, whole: &[EventId]) -> Result<Completed> {
        if !self.lacks_members() {
            return Ok(Completed::NotPartial);
        }
        let numbers = match self.numbers(whole)? {
            Ok(numbers) => numbers,
            Err(missing) => return Ok(Completed::Need(Need::State(missing))),
        };
        let room = self.room();
        let base = lines::first(self.read(), room)?.place;
        let members = self.unknown_members(numbers)?;
        let unknown = self.users_of(&members)?;
        if !unknown.is_empty() {
            return Ok(Completed::Need(Need::Users(unknown)));
        }
        let mut log = STATE_LOG
            .get(self.read(), &(room, 0, base))?
            .unwrap_or_default();
        log.extend(members.iter().cloned());
        STATE_LOG.put(self.txn(), &(room, 0, base), &log);
        drop(log);
        for change in &members {
            let Some(after) = change.after else { continue };
            let (of, key) = (change.event_type.clone(), change.state_key.clone());
            let row = (room, of.clone(), key.clone(), 0, Reverse(base));
            STATE_HISTORY.put(self.txn(), &row, &after);
            STATE.put(self.txn(), &(room, of, key), &after);
        }
        for change in &members {
            if let Some(target) = names::user_sn(self.read(), &change.state_key)?
                && identifier::is_user_id(&change.state_key)
            {
                self.set_member(target, base, change)?;
            }
        }
        let last = self.head().next.previous();
        unmark(self.txn(), room, last)?;
        ABANDONED.delete(self.txn(), &room);
        COMPLETED.put(self.txn(), &room, &At::now(()));
        Ok(Completed::Done {
            members: members.len(),
            effects: self.finish(),
        })
    }

    /// The members of a state of whom the room says nothing.
    fn unknown_members(&self, state: Vec<EventNo>) -> Result<Vec<StateDelta>> {
        let mut found: BTreeMap<String, EventNo> = BTreeMap::new();
        let (room, rules, cache) = (self.room(), self.rules(), self.cache());
        for no in state {
            let event = cache.auth_event_in_passing(self.read(), rules, room, no)?;
            let pdu = event.pdu();
            let Some(state_key) = pdu.state_key() else {
                continue;
            };
            if pdu.event_type() != "m.room.member"
                || event.is_rejected()
                || self.says_of_member(state_key)?
            {
                continue;
            }
            if found.insert(state_key.to_owned(), no).is_some() {
                return Err(Error::BadEvent(
                    "the state has two events for one entry".to_owned(),
                ));
            }
        }
        let members = found.into_iter().map(|(state_key, no)| StateDelta {
            event_type: "m.room.member".to_owned(),
            state_key,
            before: None,
            after: Some(no),
        });
        Ok(members.collect())
    }

    /// Whether the room's history says anything of a member.
    fn says_of_member(&self, user_id: &str) -> Result<bool> {
        let prefix = (self.room(), "m.room.member".to_owned(), user_id.to_owned());
        let row = STATE_HISTORY
            .scan(self.read(), &prefix, Direction::Forward)
            .next();
        Ok(row.transpose()?.is_some())
    }

    /// The users among the members who have no number.
    fn users_of(&self, members: &[StateDelta]) -> Result<Vec<String>> {
        let mut unknown = Vec::new();
        for change in members {
            let id = &change.state_key;
            if identifier::is_user_id(id) && names::user_sn(self.read(), id)?.is_none() {
                unknown.push(id.clone());
            }
        }
        Ok(unknown)
    }
}
