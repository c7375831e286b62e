//! The same questions to an independent implementation.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use event::auth::AuthEvent;
use event::state_res::StateMap;
use oracle::Theirs;
use ruma_common::OwnedEventId;
use ruma_events::StateEventType;
use ruma_state_res::utils::event_id_set::EventIdSet;

use crate::room::graph::Graph;

/// The events of a graph for the other implementation, kept up as the graph grows.
#[derive(Default)]
pub struct Oracle {
    events: Vec<Arc<Theirs>>,
    by_id: HashMap<OwnedEventId, Arc<Theirs>>,
    /// For each event all that can be reached from it, itself included.
    chains: HashMap<OwnedEventId, HashSet<OwnedEventId>>,
}

impl Oracle {
    pub fn follow(&mut self, graph: &Graph) {
        for event in &graph.events[self.events.len()..] {
            let theirs = Arc::new(read(event));
            let mut chain = self.chain(&theirs.auth_events);
            chain.insert(theirs.event_id.clone());
            self.chains.insert(theirs.event_id.clone(), chain);
            self.by_id.insert(theirs.event_id.clone(), theirs.clone());
            self.events.push(theirs);
        }
    }

    /// Everything that can be reached from some events, themselves included.
    fn chain<'a>(&self, ids: impl IntoIterator<Item = &'a OwnedEventId>) -> HashSet<OwnedEventId> {
        let chains = ids.into_iter().flat_map(|id| &self.chains[id]);
        chains.cloned().collect()
    }

    pub fn resolve(&self, graph: &Graph, states: &[&StateMap<usize>]) -> StateMap<usize> {
        let rules = oracle::rules(graph.rules.version);
        let maps: Vec<ruma_state_res::StateMap<OwnedEventId>> = states
            .iter()
            .map(|state| {
                let entry = |((event_type, state_key), number): (&(Box<str>, Box<str>), &usize)| {
                    let key = (StateEventType::from(&**event_type), state_key.to_string());
                    (key, self.events[*number].event_id.clone())
                };
                state.iter().map(entry).collect()
            })
            .collect();
        let chains = maps
            .iter()
            .map(|map| {
                self.chain(map.values())
                    .into_iter()
                    .collect::<EventIdSet<_>>()
            })
            .collect();
        let resolved = ruma_state_res::resolve(
            &rules.authorization,
            rules.state_res.v2_rules().unwrap(),
            maps.iter(),
            chains,
            |id| self.by_id.get(id).cloned(),
            |conflicted| {
                let set: HashSet<&OwnedEventId> = conflicted.values().flatten().collect();
                let below = self.chain(set.iter().copied());
                let reaches_back =
                    |id: &OwnedEventId| self.chains[id].iter().any(|id| set.contains(id));
                Some(below.into_iter().filter(reaches_back).collect())
            },
        )
        .unwrap();
        resolved
            .into_iter()
            .map(|((event_type, key), id)| {
                (
                    (event_type.to_string().into(), key.into()),
                    graph.by_id[id.as_str()],
                )
            })
            .collect()
    }

    /// What the other implementation says about an event in a state.
    pub fn allows(&self, graph: &Graph, event: &AuthEvent, state: &StateMap<usize>) -> bool {
        let rules = oracle::rules(graph.rules.version).authorization;
        ruma_state_res::check_state_dependent_auth_rules(&rules, read(event), |event_type, key| {
            let number = state.get(&(event_type.to_string().into(), key.into()))?;
            Some(self.events[*number].clone())
        })
        .is_ok()
    }
}

fn read(event: &AuthEvent) -> Theirs {
    Theirs::read(event.pdu(), event.is_rejected()).unwrap()
}
