//! State resolution of room version 1.
//!
//! Where the text of <https://spec.matrix.org/v1.19/rooms/v1/#state-resolution> leaves room (what to do when no event
//! passes; which unconflicted events the checks see), this does what the reference implementation does, since the states
//! of rooms that old were made by it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use sha1::{Digest, Sha1};

use super::loaded::Loaded;
use super::v2::AuthState;
use super::{Conflict, EventSource, Resolved, StateKey, StateMap};
use crate::auth::{self, AuthEvent};
use crate::room_version::RoomRules;

/// The events in conflict for one key, by ascending depth and descending SHA-1 of the event id.
type Candidates<Id> = Vec<(Arc<AuthEvent>, Id)>;

pub(super) fn resolve<S: EventSource>(
    rules: &RoomRules,
    conflict: &Conflict<'_, S::Id>,
    source: &S,
) -> Resolved<StateMap<S::Id>, S> {
    let mut loaded = Loaded::new(source);
    let mut conflicts: BTreeMap<StateKey, Candidates<S::Id>> = BTreeMap::new();
    for &id in conflict.conflicted {
        let event = loaded.get(id)?.event;
        let pdu = event.pdu();
        let Some(state_key) = pdu.state_key() else {
            continue;
        };
        let key = (pdu.event_type().into(), state_key.into());
        conflicts.entry(key).or_default().push((event, id));
    }
    for candidates in conflicts.values_mut() {
        candidates.sort_by_cached_key(|(event, _)| {
            let hash: [u8; 20] = Sha1::digest(event.pdu().event_id().as_bytes()).into();
            (event.pdu().depth(), Reverse(hash))
        });
    }
    let mut resolution = Resolution {
        rules,
        conflict,
        loaded,
        resolved: StateMap::new(),
    };
    for event_type in ["m.room.power_levels", "m.room.join_rules", "m.room.member"] {
        let mut decided = Vec::new();
        for (key, candidates) in conflicts.iter().filter(|(key, _)| *key.0 == *event_type) {
            decided.push((key.clone(), resolution.last_of_chain(candidates)?));
        }
        resolution.take_over(decided);
    }
    let mut decided = Vec::new();
    for (key, candidates) in &conflicts {
        if !resolution.resolved.contains_key(key) {
            decided.push((key.clone(), resolution.deepest_allowed(candidates)?));
        }
    }
    resolution.take_over(decided);
    Ok(resolution.resolved)
}

struct Resolution<'a, S: EventSource> {
    rules: &'a RoomRules,
    conflict: &'a Conflict<'a, S::Id>,
    loaded: Loaded<'a, S>,
    resolved: StateMap<S::Id>,
}

impl<S: EventSource> Resolution<'_, S> {
    fn take_over(&mut self, decided: Vec<(StateKey, Option<S::Id>)>) {
        self.resolved
            .extend(decided.into_iter().filter_map(|(key, id)| Some((key, id?))));
    }

    /// Events that affect authorisation: from the first on, as long as each is allowed by those before.
    fn last_of_chain(&mut self, candidates: &Candidates<S::Id>) -> Resolved<Option<S::Id>, S> {
        let mut last: Option<&(Arc<AuthEvent>, S::Id)> = None;
        for candidate in candidates {
            if last.is_some() && !self.is_allowed(&candidate.0, last.map(|(event, _)| event))? {
                break;
            }
            last = Some(candidate);
        }
        Ok(last.map(|(_, id)| *id))
    }

    /// All other events: the deepest that is allowed; if none is, the first.
    fn deepest_allowed(&mut self, candidates: &Candidates<S::Id>) -> Resolved<Option<S::Id>, S> {
        for (event, id) in candidates.iter().rev() {
            if self.is_allowed(event, None)? {
                return Ok(Some(*id));
            }
        }
        Ok(candidates.first().map(|(_, id)| *id))
    }

    /// Whether the event is allowed in the state resolved so far, with `current` in it.
    fn is_allowed(
        &mut self,
        event: &AuthEvent,
        current: Option<&Arc<AuthEvent>>,
    ) -> Resolved<bool, S> {
        let mut state: Vec<Arc<AuthEvent>> = current.cloned().into_iter().collect();
        for (event_type, state_key) in auth::auth_types_of(self.rules, event.pdu()) {
            let decided = self
                .resolved
                .get(&(event_type.into(), state_key.as_ref().into()))
                .copied();
            if let Some(id) =
                decided.or_else(|| (self.conflict.unconflicted)(event_type, &state_key))
            {
                state.push(self.loaded.get(id)?.event);
            }
        }
        Ok(auth::check(self.rules, event.pdu(), &AuthState(state)).is_ok())
    }
}
