//! State resolution of room version 1.
//!
//! Where the text of <https://spec.matrix.org/v1.19/rooms/v1/#state-resolution> leaves room (what to do when no event
//! passes; which unconflicted events the checks see), this does what the reference implementation does, since the states
//! of rooms that old were made by it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use sha1::{Digest, Sha1};

use super::reading::Reading;
use super::v2::AuthState;
use super::{EventSource, Resolved, StateKey, StateMap};
use crate::auth::{self, AuthEvent};
use crate::room_version::RoomRules;

/// The events in conflict for one key, by ascending depth and descending SHA-1 of the event id.
type Candidates<Id> = Vec<(Arc<AuthEvent>, Id)>;

/// The types that affect authorisation, in the order in which they are resolved; the others follow together.
const FIRST_TYPES: [&str; 3] = ["m.room.power_levels", "m.room.join_rules", "m.room.member"];

pub(super) struct V1<Id> {
    rules: RoomRules,
    /// Events in conflict that have not been read.
    open: Vec<Id>,
    /// What is not resolved, in the order of resolution: by the place of the type in [`FIRST_TYPES`].
    conflicts: BTreeMap<(usize, StateKey), Candidates<Id>>,
    /// The place that is being resolved.
    place: usize,
    /// What was decided there. Keys of one place do not see each other.
    decided: StateMap<Id>,
    resolved: StateMap<Id>,
}

impl<Id: Copy + Ord> V1<Id> {
    pub(super) fn new(rules: RoomRules, conflicted: Vec<Id>) -> Self {
        V1 {
            rules,
            open: conflicted,
            conflicts: BTreeMap::new(),
            place: 0,
            decided: StateMap::new(),
            resolved: StateMap::new(),
        }
    }

    /// The resolved entries, `None` when the budget ends before.
    pub(super) fn advance<S: EventSource<Id = Id>>(
        &mut self,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<Option<StateMap<Id>>, S> {
        while reading.spend() {
            if let Some(id) = self.open.pop() {
                self.add(id, reading)?;
            } else if let Some(((place, key), candidates)) = self.conflicts.pop_first() {
                if place != self.place {
                    self.place = place;
                    self.resolved.append(&mut self.decided);
                }
                if let Some(id) = self.decide(candidates, reading)? {
                    self.decided.insert(key, id);
                }
            } else {
                self.resolved.append(&mut self.decided);
                return Ok(Some(mem::take(&mut self.resolved)));
            }
        }
        Ok(None)
    }

    fn add<S: EventSource<Id = Id>>(
        &mut self,
        id: Id,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<(), S> {
        let event = reading.get(id)?.event;
        let pdu = event.pdu();
        if let Some(state_key) = pdu.state_key() {
            let place = FIRST_TYPES
                .iter()
                .position(|event_type| *event_type == pdu.event_type())
                .unwrap_or(FIRST_TYPES.len());
            let key = (place, (pdu.event_type().into(), state_key.into()));
            self.conflicts.entry(key).or_default().push((event, id));
        }
        Ok(())
    }

    fn decide<S: EventSource<Id = Id>>(
        &self,
        mut candidates: Candidates<Id>,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<Option<Id>, S> {
        candidates.sort_by_cached_key(|(event, _)| {
            let hash: [u8; 20] = Sha1::digest(event.pdu().event_id().as_bytes()).into();
            (event.pdu().depth(), Reverse(hash))
        });
        match self.place < FIRST_TYPES.len() {
            true => self.last_of_chain(&candidates, reading),
            false => self.deepest_allowed(&candidates, reading),
        }
    }

    /// Events that affect authorisation: from the first on, as long as each is allowed by those before.
    fn last_of_chain<S: EventSource<Id = Id>>(
        &self,
        candidates: &Candidates<Id>,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<Option<Id>, S> {
        let mut last: Option<&(Arc<AuthEvent>, Id)> = None;
        for candidate in candidates {
            let current = last.map(|(event, _)| event);
            if current.is_some() && !self.is_allowed(&candidate.0, current, reading)? {
                break;
            }
            last = Some(candidate);
        }
        Ok(last.map(|(_, id)| *id))
    }

    /// All other events: the deepest that is allowed; if none is, the first.
    fn deepest_allowed<S: EventSource<Id = Id>>(
        &self,
        candidates: &Candidates<Id>,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<Option<Id>, S> {
        for (event, id) in candidates.iter().rev() {
            if self.is_allowed(event, None, reading)? {
                return Ok(Some(*id));
            }
        }
        Ok(candidates.first().map(|(_, id)| *id))
    }

    /// Whether the event is allowed in the state resolved so far, with `current` in it.
    fn is_allowed<S: EventSource<Id = Id>>(
        &self,
        event: &AuthEvent,
        current: Option<&Arc<AuthEvent>>,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<bool, S> {
        let mut state: Vec<Arc<AuthEvent>> = current.cloned().into_iter().collect();
        for (event_type, state_key) in auth::auth_types_of(&self.rules, event.pdu()) {
            let key = (event_type.into(), state_key.as_ref().into());
            let id = match self.resolved.get(&key) {
                Some(id) => Some(*id),
                None => reading.unconflicted(event_type, &state_key)?,
            };
            if let Some(id) = id {
                state.push(reading.get(id)?.event);
            }
        }
        Ok(auth::check(&self.rules, event.pdu(), &AuthState(state)).is_ok())
    }
}
