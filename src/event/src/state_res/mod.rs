//! State resolution: one state of a room out of several, the same on every server.
//!
//! Work is in the conflict, not in the states: [`resolve_conflict`] takes what the states disagree about and a way to
//! look up what they agree on, and answers the entries that take the place of the disagreement. Ids are whatever the
//! caller uses to name events (numbers, in a store); event id texts are compared only to break ties. [`resolve`] does the
//! same from whole state maps.
//!
//! Everything is read through an [`EventSource`]; an event it does not have ends the resolution with
//! [`ResolutionError::Missing`], to be fetched before the next attempt. Loops are worklists, and each event is loaded
//! once. Walks over `auth_events` end where generations say that nothing more can be found; whole chains are walked by
//! [`auth_chain`] and [`auth_difference`] alone, which are for small rooms and tests. [`Resolution`] and
//! [`AuthDifference`] stop after as many events as they are told to, and go on when asked again.
//!
//! Source: "State resolution" in room versions 1, 2 and 12.

mod auth_chain;
mod auth_difference;
mod mainline;
mod power_order;
mod reading;
mod resolution;
mod subgraph;
mod v1;
mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

pub use auth_chain::{auth_chain, auth_difference};
pub use auth_difference::{AuthDifference, auth_difference_of_conflict};
pub use resolution::{Resolution, Step};
pub use subgraph::conflicted_subgraph;

use crate::auth::AuthEvent;
use crate::room_version::{RoomRules, StateResolution};

/// The type and the state key of an entry of a room's state.
pub type StateKey = (Box<str>, Box<str>);

/// A room's state: which event is current for each type and state key.
pub type StateMap<Id> = BTreeMap<StateKey, Id>;

/// The events that an event names in `auth_events`, shared.
pub type AuthEventIds<Id> = Arc<[Id]>;

/// Looks up the event for a type and state key on which the states agree; `None` for the others.
pub type Unconflicted<'a, S> =
    dyn Fn(&str, &str) -> Result<Option<<S as EventSource>::Id>, <S as EventSource>::Error> + 'a;

/// Where the events of one room are read.
pub trait EventSource {
    /// How the caller names events.
    type Id: Copy + Eq + Hash + Ord + fmt::Debug;
    /// What can go wrong when reading.
    type Error;

    /// The event; `None` if this server does not have it.
    fn event(&self, id: Self::Id) -> Result<Option<Arc<AuthEvent>>, Self::Error>;

    /// The events named by its `auth_events`; `None` if this server does not have the event.
    fn auth_events(&self, id: Self::Id) -> Result<Option<AuthEventIds<Self::Id>>, Self::Error>;

    /// A number that is greater than the generation of each event named by `auth_events`; 0 for the create event. `None`
    /// if this server does not have the event.
    ///
    /// It tells without a walk what can't be below an event. Which numbers they are makes no difference to any result.
    fn generation(&self, id: Self::Id) -> Result<Option<u32>, Self::Error>;

    /// The room's create event, which events of room version 12 do not name in `auth_events`.
    fn create(&self) -> Result<Option<Arc<AuthEvent>>, Self::Error>;
}

/// Why states could not be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolutionError<Id, E> {
    /// An event that the resolution depends on is not here. Fetch it and try again.
    #[error("event {0:?} is missing")]
    Missing(Id),
    /// Reading failed.
    #[error("an event could not be read")]
    Source(#[source] E),
}

/// The result type of everything that reads through `S`.
pub type Resolved<T, S> =
    Result<T, ResolutionError<<S as EventSource>::Id, <S as EventSource>::Error>>;

/// What several states of a room disagree about.
pub struct Conflict<'a, S: EventSource> {
    /// The conflicted state set: every event that is current in some state for a key on which the states disagree.
    pub conflicted: &'a [S::Id],
    /// The auth difference (see [`auth_difference`]). Not used by room version 1.
    pub auth_difference: &'a [S::Id],
    pub unconflicted: &'a Unconflicted<'a, S>,
}

/// Resolves a conflict. The resolved state is what the states agree on, and the entries answered here; a key in
/// conflict that is not among them has no event in the resolved state.
///
/// [`Resolution`] does the same in steps, and says what memory it takes.
pub fn resolve_conflict<S: EventSource>(
    rules: &RoomRules,
    conflict: &Conflict<'_, S>,
    source: &S,
) -> Resolved<StateMap<S::Id>, S> {
    let (conflicted, auth_difference) = (conflict.conflicted, conflict.auth_difference);
    let mut resolution = Resolution::new(rules, conflicted.to_vec(), auth_difference.to_vec());
    loop {
        if let Step::Done(resolved) = resolution.step(source, conflict.unconflicted, usize::MAX)? {
            return Ok(resolved);
        }
    }
}

/// Resolves whole state maps. `auth_difference` as in [`Conflict`]; `None` to have it computed by walking the auth
/// chains of everything in the states.
pub fn resolve<S: EventSource>(
    rules: &RoomRules,
    states: &[&StateMap<S::Id>],
    auth_difference: Option<&[S::Id]>,
    source: &S,
) -> Resolved<StateMap<S::Id>, S> {
    let (mut unconflicted, conflicted) = split(rules, states);
    if conflicted.is_empty() {
        return Ok(unconflicted);
    }
    let computed = match (auth_difference, rules.state_resolution) {
        (Some(_), _) | (None, StateResolution::V1) => Vec::new(),
        (None, _) => {
            let sets: Vec<Vec<S::Id>> = states
                .iter()
                .map(|state| state.values().copied().collect())
                .collect();
            auth_chain::auth_difference(&sets, source)?
        }
    };
    let lookup = |event_type: &str, state_key: &str| {
        Ok(unconflicted
            .get(&(event_type.into(), state_key.into()))
            .copied())
    };
    let conflict = Conflict {
        conflicted: &conflicted,
        auth_difference: auth_difference.unwrap_or(&computed),
        unconflicted: &lookup,
    };
    let resolved = resolve_conflict(rules, &conflict, source)?;
    unconflicted.extend(resolved);
    Ok(unconflicted)
}

/// The entries all states agree on, and the events of the others, sorted.
///
/// In room version 1 states disagree only where they have different events; later also where some have none.
pub fn split<Id: Copy + Ord>(
    rules: &RoomRules,
    states: &[&StateMap<Id>],
) -> (StateMap<Id>, Vec<Id>) {
    let absence_conflicts = rules.state_resolution != StateResolution::V1;
    let mut events: BTreeMap<&StateKey, (usize, BTreeSet<Id>)> = BTreeMap::new();
    for (key, id) in states.iter().copied().flatten() {
        let (count, ids) = events.entry(key).or_default();
        *count += 1;
        ids.insert(*id);
    }
    let mut unconflicted = StateMap::new();
    let mut conflicted = BTreeSet::new();
    for (key, (count, ids)) in events {
        match ids.first() {
            Some(only) if ids.len() == 1 && (count == states.len() || !absence_conflicts) => {
                unconflicted.insert(key.clone(), *only);
            }
            _ => conflicted.extend(ids),
        }
    }
    (unconflicted, conflicted.into_iter().collect())
}
