//! Room version 1, which the other implementation does not resolve: by the text, over whole states, and with the other
//! implementation's authorisation rules.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use event::state_res::StateMap;
use sha1::{Digest, Sha1};

use crate::room::graph::Graph;
use crate::theirs::Oracle;

pub fn resolve(graph: &Graph, oracle: &Oracle, states: &[&StateMap<usize>]) -> StateMap<usize> {
    let mut candidates: BTreeMap<_, BTreeSet<usize>> = BTreeMap::new();
    for state in states {
        for (key, number) in *state {
            candidates.entry(key.clone()).or_default().insert(*number);
        }
    }
    let mut resolved = StateMap::new();
    let mut conflicts = BTreeMap::new();
    for (key, events) in candidates {
        let mut events: Vec<usize> = events.into_iter().collect();
        if let [only] = events[..] {
            resolved.insert(key, only);
            continue;
        }
        events.sort_by_key(|number| {
            let pdu = graph.events[*number].pdu();
            (
                pdu.depth(),
                Reverse(Sha1::digest(pdu.event_id().as_bytes())),
            )
        });
        conflicts.insert(key, events);
    }
    let allowed =
        |number: usize, state: &StateMap<usize>| oracle.allows(graph, &graph.events[number], state);
    for event_type in ["m.room.power_levels", "m.room.join_rules", "m.room.member"] {
        let before = resolved.clone();
        for (key, events) in conflicts.iter().filter(|(key, _)| *key.0 == *event_type) {
            let mut state = before.clone();
            state.insert(key.clone(), events[0]);
            for number in &events[1..] {
                if !allowed(*number, &state) {
                    break;
                }
                state.insert(key.clone(), *number);
            }
            resolved.insert(key.clone(), state[key]);
        }
        conflicts.retain(|key, _| *key.0 != *event_type);
    }
    let before = resolved.clone();
    for (key, events) in conflicts {
        let deepest = events
            .iter()
            .rev()
            .find(|number| allowed(**number, &before));
        resolved.insert(key, *deepest.unwrap_or(&events[0]));
    }
    resolved
}
