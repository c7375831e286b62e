//! Auth chains by walking them whole: the plain way, for callers without an index and as the oracle of the tests.
//!
//! Costs the chains. What a server with large rooms asks for is in `auth_difference.rs`.

use std::collections::{HashMap, HashSet};

use super::{AuthEventIds, EventSource, ResolutionError, Resolved};

pub(super) fn auth_events<S: EventSource>(
    source: &S,
    id: S::Id,
) -> Resolved<AuthEventIds<S::Id>, S> {
    source
        .auth_events(id)
        .map_err(ResolutionError::Source)?
        .ok_or(ResolutionError::Missing(id))
}

pub(super) fn generation<S: EventSource>(source: &S, id: S::Id) -> Resolved<u32, S> {
    source
        .generation(id)
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
