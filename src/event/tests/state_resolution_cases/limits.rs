//! What states agree on; rejected, missing and very many events.

use std::sync::Arc;

use event::auth::AuthEvent;
use event::state_res::{self, EventSource, ResolutionError, StateMap};
use event::{Pdu, RoomVersion};
use serde_json::json;

use crate::room::graph::Graph;
use crate::{ALICE, BOB, CHARLIE, START, Story, current, each_version_from};

/// A state of members, by the numbers of their events.
fn members(members: &[(&str, usize)]) -> StateMap<usize> {
    let entry = |(user, event): &(&str, usize)| (("m.room.member".into(), (*user).into()), *event);
    members.iter().map(entry).collect()
}

#[test]
fn states_agree_on_what_all_have_alike_and_in_version_1_on_what_none_has_otherwise() {
    let cases = [
        // Everybody has the same.
        (
            [vec![(ALICE, 0)], vec![(ALICE, 0)], vec![(ALICE, 0)]],
            vec![(ALICE, 0)],
            vec![],
            vec![],
        ),
        // One key, different events.
        (
            [vec![(ALICE, 0)], vec![(ALICE, 1)], vec![(ALICE, 2)]],
            vec![],
            vec![0, 1, 2],
            vec![],
        ),
        // Keys that one state has and the others have not.
        (
            [vec![(ALICE, 0)], vec![(BOB, 1)], vec![(CHARLIE, 2)]],
            vec![],
            vec![],
            vec![(ALICE, 0), (BOB, 1), (CHARLIE, 2)],
        ),
        (
            [
                vec![(ALICE, 0)],
                vec![(ALICE, 0), (BOB, 1)],
                vec![(ALICE, 0), (CHARLIE, 2)],
            ],
            vec![(ALICE, 0)],
            vec![],
            vec![(BOB, 1), (CHARLIE, 2)],
        ),
    ];
    for (states, agreed, conflicted, absent_somewhere) in cases {
        let states = states.map(|state| members(&state));
        let states: Vec<&StateMap<usize>> = states.iter().collect();
        let absent = members(&absent_somewhere);
        for version in RoomVersion::ALL {
            let (mut expected, mut in_conflict) = (members(&agreed), conflicted.clone());
            match version {
                RoomVersion::V1 => expected.extend(absent.clone()),
                _ => in_conflict.extend(absent.values()),
            }
            let split = state_res::split(version.rules(), &states);
            assert_eq!(split, (expected, in_conflict), "version {version}");
        }
    }
}

/// Synapse, CVE-2022-39374: events that had been rejected came back into the state by resolution.
#[test]
fn rejected_events_do_not_authorise_others() {
    for version in [RoomVersion::V2, RoomVersion::V11, RoomVersion::V12] {
        let mut graph = Graph::new(version);
        let joined = graph.member(&[START], CHARLIE, CHARLIE, "join");
        let topic = graph.then(&[START], BOB, "m.room.topic", "", json!({"topic": "bob's"}));
        let other = graph.then(
            &[START],
            ALICE,
            "m.room.topic",
            "",
            json!({"topic": "alice's"}),
        );
        // Bob's join turns out to have been rejected: nothing that rests on it passes.
        let pdu: Pdu = graph.events[START].pdu().clone();
        graph.events[START] = Arc::new(AuthEvent::rejected(graph.rules, pdu));
        let state = graph.merged(&[topic, joined]);
        assert_eq!(current(&state, "m.room.topic", ""), None);
        let state = graph.merged(&[topic, other]);
        assert_eq!(current(&state, "m.room.topic", ""), Some(other));
    }
}

/// A source that has forgotten one event.
struct Without(Graph, usize);

impl EventSource for Without {
    type Id = usize;
    type Error = std::convert::Infallible;

    fn event(&self, id: usize) -> Result<Option<Arc<AuthEvent>>, Self::Error> {
        Ok(self.0.event(id)?.filter(|_| id != self.1))
    }
    fn auth_events(&self, id: usize) -> Result<Option<Arc<[usize]>>, Self::Error> {
        Ok(self.0.auth_events(id)?.filter(|_| id != self.1))
    }
    fn generation(&self, id: usize) -> Result<Option<u32>, Self::Error> {
        Ok(self.0.generation(id)?.filter(|_| id != self.1))
    }
    fn create(&self) -> Result<Option<Arc<AuthEvent>>, Self::Error> {
        self.0.create()
    }
}

/// Synapse, issue 3330: an auth event that could not be had broke the room. It is named, to be fetched.
#[test]
fn a_missing_event_is_named() {
    each_version_from(RoomVersion::V1, |mut graph| {
        let joined = graph.member(&[START], CHARLIE, CHARLIE, "join");
        let a = graph.then(&[joined], BOB, "m.room.topic", "", json!({"topic": "a"}));
        let b = graph.then(&[joined], ALICE, "m.room.topic", "", json!({"topic": "b"}));
        let (rules, states) = (
            graph.rules,
            [graph.states[a].clone(), graph.states[b].clone()],
        );
        let without = Without(graph, b);
        let resolved = state_res::resolve(rules, &[&states[0], &states[1]], None, &without);
        assert_eq!(resolved, Err(ResolutionError::Missing(b)));
    });
}

#[test]
fn long_chains_of_power_levels_are_walked_without_recursion() {
    for version in [RoomVersion::V1, RoomVersion::V11, RoomVersion::V12] {
        let mut graph = Graph::new(version);
        let mut last = START;
        for n in 0..3000 {
            last = graph.levels(&[last], ALICE, json!({BOB: 50 + n % 2}));
        }
        let a = graph.then(&[last], BOB, "m.room.topic", "", json!({"topic": "a"}));
        let b = graph.then(&[START], BOB, "m.room.topic", "", json!({"topic": "b"}));
        let state = graph.merged(&[a, b]);
        assert_eq!(current(&state, "m.room.power_levels", ""), Some(last));
        assert_eq!(current(&state, "m.room.topic", ""), Some(a));
    }
}
