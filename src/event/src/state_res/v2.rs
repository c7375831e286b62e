//! State resolution of room versions 2 to 11, and with two changes of version 12.
//!
//! Steps carry the numbers of <https://spec.matrix.org/v1.19/rooms/v12/#algorithm>.

use std::collections::HashSet;
use std::hash::Hash;
use std::mem;
use std::sync::Arc;

use super::mainline::MainlineOrder;
use super::power_order::PowerOrder;
use super::reading::{Entry, Reading};
use super::subgraph::Subgraph;
use super::{EventSource, Resolved, StateKey, StateMap};
use crate::auth::{self, AuthEvent, Membership, StateLookup};
use crate::room_version::{RoomIdFormat, RoomRules, StateResolution};

pub(super) struct V2<Id> {
    full_conflicted_set: HashSet<Id>,
    partial: PartialState<Id>,
    phase: Phase<Id>,
}

/// How far the algorithm has come.
enum Phase<Id> {
    Subgraph(Subgraph<Id>),
    /// Looking for power events: what is to be looked at, and what was found.
    PowerEvents(Vec<Id>, Vec<Id>),
    PowerOrder(PowerOrder<Id>),
    /// Sorted events to check, and how many of them have been.
    PowerChecks(Vec<Id>, usize),
    MainlineOrder(MainlineOrder<Id>),
    MainlineChecks(Vec<Id>, usize),
    /// The keys that were resolved, to be compared with the unconflicted state.
    Unconflicted(Vec<StateKey>),
}

impl<Id: Copy + Eq + Hash + Ord> V2<Id> {
    pub(super) fn new(rules: RoomRules, conflicted: Vec<Id>, auth_difference: Vec<Id>) -> Self {
        let full_conflicted_set: HashSet<Id> =
            conflicted.iter().chain(&auth_difference).copied().collect();
        let is_v2_1 = rules.state_resolution == StateResolution::V2_1;
        V2 {
            phase: match is_v2_1 {
                true => Phase::Subgraph(Subgraph::new(conflicted)),
                false => {
                    Phase::PowerEvents(full_conflicted_set.iter().copied().collect(), Vec::new())
                }
            },
            full_conflicted_set,
            partial: PartialState {
                rules,
                create: None,
                resolved: StateMap::new(),
                starts_unconflicted: !is_v2_1,
            },
        }
    }

    /// The resolved entries, `None` when the budget ends before.
    pub(super) fn advance<S: EventSource<Id = Id>>(
        &mut self,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<Option<StateMap<Id>>, S> {
        loop {
            let next = match &mut self.phase {
                Phase::Subgraph(walk) => {
                    let subgraph = walk.advance(reading)?;
                    subgraph.map(|subgraph| {
                        self.full_conflicted_set.extend(subgraph);
                        let open = self.full_conflicted_set.iter().copied().collect();
                        Phase::PowerEvents(open, Vec::new())
                    })
                }
                // 1. Power events and those of their auth chains that are in the set, by power.
                Phase::PowerEvents(open, found) => {
                    let found = find_power_events(open, found, reading)?;
                    if found.is_some() && self.partial.rules.room_id == RoomIdFormat::CreateHash {
                        self.partial.create = reading.create()?;
                    }
                    found.map(|found| Phase::PowerOrder(self.partial.power_order(found)))
                }
                Phase::PowerOrder(order) => order
                    .advance(&self.full_conflicted_set, reading)?
                    .map(|sorted| Phase::PowerChecks(sorted, 0)),
                // 2. Auth checks from the unconflicted state, or from nothing.
                Phase::PowerChecks(events, checked) => {
                    match self.partial.apply(events, checked, reading)? {
                        // 3. The others, by the mainline of the power levels found.
                        true => {
                            for id in events {
                                self.full_conflicted_set.remove(id);
                            }
                            let others = mem::take(&mut self.full_conflicted_set);
                            let levels = self.partial.get("m.room.power_levels", "", reading)?;
                            let order = MainlineOrder::new(others.into_iter().collect(), levels);
                            Some(Phase::MainlineOrder(order))
                        }
                        false => None,
                    }
                }
                Phase::MainlineOrder(order) => order
                    .advance(reading)?
                    .map(|sorted| Phase::MainlineChecks(sorted, 0)),
                // 4. Auth checks again.
                Phase::MainlineChecks(events, checked) => {
                    let done = self.partial.apply(events, checked, reading)?;
                    done.then(|| Phase::Unconflicted(self.partial.keys()))
                }
                // 5. The unconflicted state wins: leave out what it has.
                Phase::Unconflicted(keys) => {
                    return match self.partial.give_way(keys, reading)? {
                        true => Ok(Some(mem::take(&mut self.partial.resolved))),
                        false => Ok(None),
                    };
                }
            };
            match next {
                Some(phase) => self.phase = phase,
                None => return Ok(None),
            }
        }
    }
}

fn find_power_events<S: EventSource>(
    open: &mut Vec<S::Id>,
    found: &mut Vec<S::Id>,
    reading: &mut Reading<'_, S>,
) -> Resolved<Option<Vec<S::Id>>, S> {
    while reading.spend() {
        let Some(id) = open.pop() else {
            return Ok(Some(mem::take(found)));
        };
        if is_power_event(&reading.get(id)?.event) {
            found.push(id);
        }
    }
    Ok(None)
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
struct PartialState<Id> {
    rules: RoomRules,
    /// The create event, where events do not name it.
    create: Option<Arc<AuthEvent>>,
    resolved: StateMap<Id>,
    starts_unconflicted: bool,
}

impl<Id: Copy + Eq + Hash + Ord> PartialState<Id> {
    fn power_order(&self, power_events: Vec<Id>) -> PowerOrder<Id> {
        PowerOrder::new(self.rules, self.create.clone(), power_events)
    }

    fn get<S: EventSource<Id = Id>>(
        &self,
        event_type: &str,
        state_key: &str,
        reading: &Reading<'_, S>,
    ) -> Resolved<Option<Id>, S> {
        match self.resolved.get(&(event_type.into(), state_key.into())) {
            Some(id) => Ok(Some(*id)),
            None if self.starts_unconflicted => reading.unconflicted(event_type, state_key),
            None => Ok(None),
        }
    }

    /// The iterative auth checks: takes over each event that is allowed by then. Whether all have been `checked`.
    fn apply<S: EventSource<Id = Id>>(
        &mut self,
        events: &[Id],
        checked: &mut usize,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<bool, S> {
        while reading.spend() {
            let Some(&id) = events.get(*checked) else {
                return Ok(true);
            };
            *checked += 1;
            let entry = reading.get(id)?;
            let pdu = entry.event.pdu();
            let Some(state_key) = pdu.state_key() else {
                continue;
            };
            let state = self.auth_state(&entry, reading)?;
            if auth::check(&self.rules, pdu, &state).is_ok() {
                self.resolved
                    .insert((pdu.event_type().into(), state_key.into()), id);
            }
        }
        Ok(false)
    }

    /// The state to check an event against: for the keys of auth events selection the partially resolved state, and
    /// the event's own auth events for what is not there. Rejected events are never used.
    fn auth_state<S: EventSource<Id = Id>>(
        &self,
        entry: &Entry<Id>,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<AuthState, S> {
        let mut events = Vec::with_capacity(8);
        events.extend(self.create.clone());
        for (event_type, state_key) in auth::auth_types_of(&self.rules, entry.event.pdu()) {
            if let Some(id) = self.get(event_type, &state_key, reading)? {
                events.push(reading.get(id)?.event);
            }
        }
        for &id in entry.auth_events.iter() {
            events.push(reading.get(id)?.event);
        }
        events.retain(|event| !event.is_rejected());
        Ok(AuthState(events))
    }

    fn keys(&self) -> Vec<StateKey> {
        self.resolved.keys().cloned().collect()
    }

    /// Takes out the `keys` that the unconflicted state has. Whether all have been asked for.
    fn give_way<S: EventSource<Id = Id>>(
        &mut self,
        keys: &mut Vec<StateKey>,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<bool, S> {
        while reading.spend() {
            let Some(key) = keys.pop() else {
                return Ok(true);
            };
            if reading.unconflicted(&key.0, &key.1)?.is_some() {
                self.resolved.remove(&key);
            }
        }
        Ok(false)
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
