//! State resolution against an independent implementation, on random graphs.
//!
//! `PROPTEST_CASES=10000 cargo test --release -p event --test state_resolution` for more of them.

mod room;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use event::auth::{self, AuthEvent};
use event::state_res::{self, StateMap};
use event::{RoomRules, RoomVersion};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use room::graph::{Action, Graph, State, any_action};
use ruma_common::room_version_rules::RoomVersionRules;
use ruma_common::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
};
use ruma_events::{StateEventType, TimelineEventType};
use ruma_state_res::utils::event_id_set::EventIdSet;
use serde_json::value::RawValue;

/// An event as the other implementation wants it.
struct Theirs {
    event_id: OwnedEventId,
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    event_type: TimelineEventType,
    state_key: String,
    content: Box<RawValue>,
    time: MilliSecondsSinceUnixEpoch,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    rejected: bool,
}

impl Theirs {
    fn read(event: &AuthEvent) -> Theirs {
        let pdu = event.pdu();
        let id = |id: &str| OwnedEventId::try_from(id).unwrap();
        Theirs {
            event_id: id(pdu.event_id()),
            room_id: pdu.has_room_id().then(|| pdu.room_id().try_into().unwrap()),
            sender: pdu.sender().try_into().unwrap(),
            event_type: pdu.event_type().into(),
            state_key: pdu.state_key().unwrap().to_owned(),
            content: RawValue::from_string(pdu.content().to_owned()).unwrap(),
            time: serde_json::from_value(pdu.origin_server_ts().into()).unwrap(),
            prev_events: pdu.prev_events().map(id).collect(),
            auth_events: pdu.auth_events().map(id).collect(),
            rejected: event.is_rejected(),
        }
    }
}

impl ruma_state_res::Event for Theirs {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }
    fn room_id(&self) -> Option<&RoomId> {
        self.room_id.as_deref()
    }
    fn sender(&self) -> &UserId {
        &self.sender
    }
    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.time
    }
    fn event_type(&self) -> &TimelineEventType {
        &self.event_type
    }
    fn content(&self) -> &RawValue {
        &self.content
    }
    fn state_key(&self) -> Option<&str> {
        Some(&self.state_key)
    }
    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }
    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }
    fn redacts(&self) -> Option<&OwnedEventId> {
        None
    }
    fn rejected(&self) -> bool {
        self.rejected
    }
}

fn their_rules(rules: &RoomRules) -> RoomVersionRules {
    match rules.version {
        RoomVersion::V1 => RoomVersionRules::V1,
        RoomVersion::V2 => RoomVersionRules::V2,
        RoomVersion::V3 => RoomVersionRules::V3,
        RoomVersion::V4 => RoomVersionRules::V4,
        RoomVersion::V5 => RoomVersionRules::V5,
        RoomVersion::V6 => RoomVersionRules::V6,
        RoomVersion::V7 => RoomVersionRules::V7,
        RoomVersion::V8 => RoomVersionRules::V8,
        RoomVersion::V9 => RoomVersionRules::V9,
        RoomVersion::V10 => RoomVersionRules::V10,
        RoomVersion::V11 => RoomVersionRules::V11,
        RoomVersion::V12 => RoomVersionRules::V12,
    }
}

/// The events of a graph for the other implementation, kept up as the graph grows.
#[derive(Default)]
struct Oracle {
    events: Vec<Arc<Theirs>>,
    by_id: HashMap<OwnedEventId, Arc<Theirs>>,
}

impl Oracle {
    fn follow(&mut self, graph: &Graph) {
        for event in &graph.events[self.events.len()..] {
            let theirs = Arc::new(Theirs::read(event));
            self.by_id.insert(theirs.event_id.clone(), theirs.clone());
            self.events.push(theirs);
        }
    }

    /// Everything reachable, by recursion over texts: slow and plain.
    fn chain(&self, id: &EventId, chain: &mut HashSet<OwnedEventId>) {
        if chain.insert(id.to_owned()) {
            for auth_id in &self.by_id[id].auth_events {
                self.chain(auth_id, chain);
            }
        }
    }

    fn resolve(&self, graph: &Graph, states: &[&StateMap<usize>]) -> StateMap<usize> {
        let rules = their_rules(graph.rules);
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
                let mut chain = HashSet::new();
                map.values().for_each(|id| self.chain(id, &mut chain));
                chain.into_iter().collect::<EventIdSet<_>>()
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
                let mut below = HashSet::new();
                set.iter().for_each(|id| self.chain(id, &mut below));
                let reaches_back = |id: &OwnedEventId| {
                    let mut chain = HashSet::new();
                    self.chain(id, &mut chain);
                    chain.iter().any(|id| set.contains(id))
                };
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
    fn allows(&self, graph: &Graph, event: &AuthEvent, state: &StateMap<usize>) -> bool {
        let rules = their_rules(graph.rules).authorization;
        ruma_state_res::check_state_dependent_auth_rules(
            &rules,
            Theirs::read(event),
            |event_type, key| {
                let number = state.get(&(event_type.to_string().into(), key.into()))?;
                Some(self.events[*number].clone())
            },
        )
        .is_ok()
    }
}

fn agrees(version: RoomVersion, actions: &[Action]) {
    let mut graph = Graph::new(version);
    let mut oracle = Oracle::default();
    for action in actions {
        oracle.follow(&graph);
        let prev = graph.prev(action);
        let states: Vec<&StateMap<usize>> =
            prev.iter().map(|number| &graph.states[*number]).collect();
        let state = graph.resolve(&states);
        assert_eq!(
            state,
            oracle.resolve(&graph, &states),
            "resolution in version {version} by {action:?}"
        );
        if graph.current(&state, "m.room.join_rules", "").is_none() {
            // A fork may cost a room its join rules. From there on they differ: the other implementation refuses all
            // joins, here the room is joined by invitation, as in the reference implementation.
            return;
        }
        let sender = room::graph::USERS[usize::from(action.sender)];
        let (event_type, state_key, content) = graph.content(action, &state);
        let pdu = graph.make(
            &prev,
            &state,
            sender,
            event_type,
            &state_key,
            content,
            action.time.into(),
        );
        let allowed = auth::check(graph.rules, &pdu, &State(&graph, &state));
        let event = AuthEvent::new(graph.rules, pdu.clone());
        assert_eq!(
            allowed.is_ok(),
            oracle.allows(&graph, &event, &state),
            "{allowed:?} in version {version} for {}",
            pdu.json()
        );
        if allowed.is_ok() {
            graph.add(pdu, state);
        }
    }
    let ends: Vec<&StateMap<usize>> = graph.states.iter().rev().take(4).collect();
    oracle.follow(&graph);
    assert_eq!(graph.resolve(&ends), oracle.resolve(&graph, &ends));
}

proptest! {
    // A failing case is printed; no files are kept beside the tests.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_forks_resolve_as_in_the_other_implementation(
        version in 2..=12usize,
        actions in prop::collection::vec(any_action(), 1..60),
    ) {
        agrees(RoomVersion::ALL[version - 1], &actions);
    }

    #[test]
    fn the_order_of_the_states_does_not_matter(
        version in 1..=12usize,
        actions in prop::collection::vec(any_action(), 1..40),
    ) {
        let mut graph = Graph::new(RoomVersion::ALL[version - 1]);
        for action in &actions {
            graph.act(action);
        }
        let mut ends: Vec<&StateMap<usize>> = graph.states.iter().rev().take(5).collect();
        let resolved = graph.resolve(&ends);
        ends.reverse();
        ends.push(ends[0]);
        prop_assert_eq!(graph.resolve(&ends), resolved);
    }

    #[test]
    fn one_state_resolves_to_itself(actions in prop::collection::vec(any_action(), 1..20)) {
        for version in RoomVersion::ALL {
            let mut graph = Graph::new(version);
            for action in &actions {
                graph.act(action);
            }
            let last = graph.states.last().unwrap();
            prop_assert_eq!(&graph.resolve(&[last]), last);
            prop_assert_eq!(&graph.resolve(&[last, last]), last);
        }
    }

    #[test]
    fn the_auth_difference_follows_from_the_conflict_and_the_agreed_chain(
        version in 2..=12usize,
        actions in prop::collection::vec(any_action(), 1..40),
    ) {
        let mut graph = Graph::new(RoomVersion::ALL[version - 1]);
        for action in &actions {
            graph.act(action);
        }
        let states: Vec<&StateMap<usize>> = graph.states.iter().rev().take(3).collect();
        let (agreed, conflicted) = state_res::split(graph.rules, &states);
        let whole: Vec<Vec<usize>> = states.iter().map(|state| state.values().copied().collect()).collect();
        let of_conflict: Vec<Vec<usize>> = whole
            .iter()
            .map(|state| state.iter().copied().filter(|id| conflicted.contains(id)).collect())
            .collect();
        let agreed_chain = state_res::auth_chain(agreed.values().copied(), &graph).unwrap();
        let difference = state_res::auth_difference_of_conflict(
            &of_conflict, |id| Ok(agreed_chain.contains(&id)), &graph,
        );
        prop_assert_eq!(difference.unwrap(), state_res::auth_difference(&whole, &graph).unwrap());
    }

    #[test]
    fn the_subgraph_is_what_lies_between_conflicted_events(
        actions in prop::collection::vec(any_action(), 1..40),
        chosen in prop::collection::btree_set(0..40usize, 0..6),
    ) {
        let mut graph = Graph::new(RoomVersion::V12);
        for action in &actions {
            graph.act(action);
        }
        let set: Vec<usize> = chosen.into_iter().filter(|number| *number < graph.events.len()).collect();
        let chain = |id: usize| state_res::auth_chain([id], &graph).unwrap();
        let mut expected: Vec<usize> = (0..graph.events.len())
            .filter(|id| set.iter().any(|from| chain(*from).contains(id)))
            .filter(|id| set.iter().any(|to| chain(*id).contains(to)))
            .collect();
        expected.sort_unstable();
        prop_assert_eq!(state_res::conflicted_subgraph(&set, &graph).unwrap(), expected);
    }
}

/// Guards the tests above against graphs that have nothing to resolve.
#[test]
fn random_graphs_fork_and_conflict() {
    let mut runner = TestRunner::deterministic();
    let (mut merges, mut conflicts, mut losses) = (0, 0, 0);
    for version in RoomVersion::ALL {
        for _ in 0..10 {
            let strategy = prop::collection::vec(any_action(), 40);
            let actions = strategy.new_tree(&mut runner).unwrap().current();
            let mut graph = Graph::new(version);
            for action in &actions {
                let prev = graph.prev(action);
                let states: Vec<&StateMap<usize>> =
                    prev.iter().map(|number| &graph.states[*number]).collect();
                let (_, conflicted) = state_res::split(graph.rules, &states);
                let resolved = graph.resolve(&states);
                merges += usize::from(prev.len() > 1);
                conflicts += usize::from(!conflicted.is_empty());
                losses += usize::from(states.iter().all(|state| **state != resolved));
                graph.act(action);
            }
        }
    }
    assert!(
        merges > 2000 && conflicts > 1000 && losses > 200,
        "{merges} {conflicts} {losses}"
    );
}
