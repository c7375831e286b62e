//! Auth chains by walking: the plain way, for rooms and callers without an index.
//!
//! Costs the chains. A server with large rooms answers [`auth_difference`] and
//! [`super::EventSource::conflicted_subgraph`] from an index and uses these as the oracle.

use std::collections::{HashMap, HashSet};

use super::{AuthEventIds, EventSource, ResolutionError, Resolved};

fn auth_events<S: EventSource>(source: &S, id: S::Id) -> Resolved<AuthEventIds<S::Id>, S> {
    source
        .auth_events(id)
        .map_err(ResolutionError::Source)?
        .ok_or(ResolutionError::Missing(id))
}

/// The events themselves and all that can be reached from them over `auth_events`.
pub fn auth_chain<S: EventSource>(
    events: impl IntoIterator<Item = S::Id>,
    source: &S,
) -> Resolved<HashSet<S::Id>, S> {
    let mut chain = HashSet::new();
    let mut open: Vec<S::Id> = events.into_iter().collect();
    while let Some(id) = open.pop() {
        if chain.insert(id) {
            open.extend(
                auth_events(source, id)?
                    .iter()
                    .filter(|id| !chain.contains(id)),
            );
        }
    }
    Ok(chain)
}

/// The auth difference of several states, each given by its events: whatever is in the full auth chain of some state
/// and not of every one, sorted.
///
/// As in the other servers a state's events count as part of its chain. That makes a difference only for events on
/// which the states agree: they never differ.
pub fn auth_difference<S: EventSource>(
    states: &[Vec<S::Id>],
    source: &S,
) -> Resolved<Vec<S::Id>, S> {
    let mut counts: HashMap<S::Id, usize> = HashMap::new();
    for state in states {
        for id in auth_chain(state.iter().copied(), source)? {
            *counts.entry(id).or_default() += 1;
        }
    }
    let mut difference: Vec<S::Id> = counts
        .into_iter()
        .filter(|(_, count)| *count < states.len())
        .map(|(id, _)| id)
        .collect();
    difference.sort_unstable();
    Ok(difference)
}

/// The same auth difference from the conflict alone: `conflicted` has for each state its events in conflict, and
/// `in_agreed_chain` tells whether an event is in the auth chain of, or is, an event on which the states agree. What is,
/// is in the chain of every state, so only the chains of the conflict are walked.
pub fn auth_difference_of_conflict<S: EventSource>(
    conflicted: &[Vec<S::Id>],
    in_agreed_chain: impl Fn(S::Id) -> Result<bool, S::Error>,
    source: &S,
) -> Resolved<Vec<S::Id>, S> {
    let candidates = auth_difference(conflicted, source)?;
    let mut difference = Vec::with_capacity(candidates.len());
    for id in candidates {
        if !in_agreed_chain(id).map_err(ResolutionError::Source)? {
            difference.push(id);
        }
    }
    Ok(difference)
}

/// The conflicted state subgraph: the events on all paths over `auth_events` from one event of the set to another, ends
/// included, sorted.
pub fn conflicted_subgraph<S: EventSource>(
    conflicted: &[S::Id],
    source: &S,
) -> Resolved<Vec<S::Id>, S> {
    // Everything visited is reachable from the set. What remains is which of it reaches the set again: walk the
    // edges backwards from the set, within what was visited.
    let mut named_by: HashMap<S::Id, Vec<S::Id>> = HashMap::new();
    let mut visited = HashSet::new();
    let mut open: Vec<S::Id> = conflicted.to_vec();
    while let Some(id) = open.pop() {
        if visited.insert(id) {
            for &auth_id in auth_events(source, id)?.iter() {
                named_by.entry(auth_id).or_default().push(id);
                open.push(auth_id);
            }
        }
    }
    let mut subgraph = HashSet::new();
    let mut open: Vec<S::Id> = conflicted.to_vec();
    while let Some(id) = open.pop() {
        if subgraph.insert(id) {
            open.extend(named_by.get(&id).into_iter().flatten());
        }
    }
    let mut subgraph: Vec<S::Id> = subgraph.into_iter().collect();
    subgraph.sort_unstable();
    Ok(subgraph)
}
