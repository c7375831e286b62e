//! State resolution of room versions 2 to 11, and with two changes of version 12.
//!
//! Steps carry the numbers of <https://spec.matrix.org/v1.19/rooms/v12/#algorithm>.

use std::collections::HashSet;
use std::sync::Arc;

use super::loaded::{Entry, Loaded};
use super::{
    Conflict, EventSource, ResolutionError, Resolved, StateMap, Unconflicted, auth_chain, mainline,
    power_order,
};
use crate::auth::{self, AuthEvent, Membership, StateLookup};
use crate::room_version::{RoomIdFormat, RoomRules, StateResolution};

pub(super) fn resolve<S: EventSource>(
    rules: &RoomRules,
    conflict: &Conflict<'_, S::Id>,
    source: &S,
) -> Resolved<StateMap<S::Id>, S> {
    let mut full_conflicted_set: HashSet<S::Id> = conflict
        .conflicted
        .iter()
        .chain(conflict.auth_difference)
        .copied()
        .collect();
    let subgraph_counts = rules.state_resolution == StateResolution::V2_1;
    if subgraph_counts {
        let indexed = source.conflicted_subgraph(conflict.conflicted);
        full_conflicted_set.extend(match indexed.map_err(ResolutionError::Source)? {
            Some(subgraph) => subgraph,
            None => auth_chain::conflicted_subgraph(conflict.conflicted, source)?,
        });
    }
    let create = match rules.room_id {
        RoomIdFormat::Domain => None,
        RoomIdFormat::CreateHash => source.create().map_err(ResolutionError::Source)?,
    };
    let mut loaded = Loaded::new(source);

    // 1. Power events and those of their auth chains that are in the set, by power.
    let mut power_events = Vec::new();
    for &id in &full_conflicted_set {
        if is_power_event(&loaded.get(id)?.event) {
            power_events.push(id);
        }
    }
    let power_events = power_order::sort(
        rules,
        create.as_ref(),
        power_events,
        &full_conflicted_set,
        &mut loaded,
    )?;

    // 2. Auth checks from the unconflicted state, or from nothing.
    let mut partial = PartialState {
        rules,
        create,
        resolved: StateMap::new(),
        unconflicted: (!subgraph_counts).then_some(conflict.unconflicted),
    };
    partial.apply(&power_events, &mut loaded)?;

    // 3. The others, by the mainline of the power levels found.
    let chosen: HashSet<S::Id> = power_events.into_iter().collect();
    let remaining = full_conflicted_set
        .into_iter()
        .filter(|id| !chosen.contains(id));
    let power_levels = partial.get("m.room.power_levels", "");
    let remaining = mainline::sort(remaining, power_levels, &mut loaded)?;

    // 4. Auth checks again.
    partial.apply(&remaining, &mut loaded)?;

    // 5. The unconflicted state wins: leave out what it has.
    let mut resolved = partial.resolved;
    resolved.retain(|(event_type, state_key), _| {
        (conflict.unconflicted)(event_type, state_key).is_none()
    });
    Ok(resolved)
}

/// Whether the event may take power from someone. The create event is one too, as in the other servers: nothing can
/// be allowed before it.
fn is_power_event(event: &AuthEvent) -> bool {
    let pdu = event.pdu();
    match pdu.event_type() {
        "m.room.power_levels" | "m.room.join_rules" | "m.room.create" => {
            pdu.state_key() == Some("")
        }
        "m.room.member" => {
            matches!(
                event.membership(),
                Some(Membership::Leave | Membership::Ban)
            ) && pdu.state_key() != Some(pdu.sender())
        }
        _ => false,
    }
}

/// The partially resolved state: entries decided so far on top of the unconflicted ones, where those count.
struct PartialState<'a, Id> {
    rules: &'a RoomRules,
    create: Option<Arc<AuthEvent>>,
    resolved: StateMap<Id>,
    unconflicted: Option<&'a Unconflicted<'a, Id>>,
}

impl<Id: Copy + Ord> PartialState<'_, Id> {
    fn get(&self, event_type: &str, state_key: &str) -> Option<Id> {
        let decided = self
            .resolved
            .get(&(event_type.into(), state_key.into()))
            .copied();
        decided.or_else(|| self.unconflicted?(event_type, state_key))
    }

    /// The iterative auth checks: takes over each event that is allowed by then.
    fn apply<S: EventSource<Id = Id>>(
        &mut self,
        events: &[Id],
        loaded: &mut Loaded<'_, S>,
    ) -> Resolved<(), S> {
        for &id in events {
            let entry = loaded.get(id)?;
            let pdu = entry.event.pdu();
            let Some(state_key) = pdu.state_key() else {
                continue;
            };
            let state = self.auth_state(&entry, loaded)?;
            if auth::check(self.rules, pdu, &state).is_ok() {
                self.resolved
                    .insert((pdu.event_type().into(), state_key.into()), id);
            }
        }
        Ok(())
    }

    /// The state to check an event against: for the keys of auth events selection the partially resolved state, and
    /// the event's own auth events for what is not there. Rejected events are never used.
    fn auth_state<S: EventSource<Id = Id>>(
        &self,
        entry: &Entry<Id>,
        loaded: &mut Loaded<'_, S>,
    ) -> Resolved<AuthState, S> {
        let mut events = Vec::with_capacity(8);
        events.extend(self.create.clone());
        for (event_type, state_key) in auth::auth_types_of(self.rules, entry.event.pdu()) {
            if let Some(id) = self.get(event_type, &state_key) {
                events.push(loaded.get(id)?.event);
            }
        }
        for &id in entry.auth_events.iter() {
            events.push(loaded.get(id)?.event);
        }
        events.retain(|event| !event.is_rejected());
        Ok(AuthState(events))
    }
}

/// A few state events; the first for a key counts.
pub(super) struct AuthState(pub Vec<Arc<AuthEvent>>);

impl StateLookup for AuthState {
    fn get(&self, event_type: &str, state_key: &str) -> Option<&AuthEvent> {
        self.0
            .iter()
            .find(|event| event.pdu().is_state(event_type, state_key))
            .map(|event| &**event)
    }
}
