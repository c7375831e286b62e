//! States that fell back to older ones without anybody wanting it.

use event::RoomVersion;
use event::state_res::StateMap;
use serde_json::json;

use crate::room::graph::Graph;
use crate::{ALICE, BOB, CHARLIE, EVE, START, Story, ZARA, current};

/// Synapse, issue 1953: a user who had left, joined and left again was joined again by servers that were behind. From
/// version 2 on what came after comes after.
#[test]
fn who_left_stays_out_whichever_older_states_are_merged() {
    for version in RoomVersion::ALL {
        let mut graph = Graph::new(version);
        let mut tips = Vec::new();
        let mut last = graph.member(&[START], EVE, EVE, "join");
        for membership in ["leave", "join", "leave"] {
            last = graph.member(&[last], EVE, EVE, membership);
            // A server that has seen this much, and says something.
            tips.push(graph.then(&[last], BOB, "m.room.topic", "", json!({"topic": last})));
        }
        let left: Vec<usize> = tips.iter().map(|tip| tip - 1).collect();
        let eve = |graph: &Graph, states: &[usize]| {
            let states: Vec<&StateMap<usize>> =
                states.iter().map(|tip| &graph.states[*tip]).collect();
            current(&graph.resolve(&states), "m.room.member", EVE)
        };
        if version == RoomVersion::V1 {
            // The first departure is the first in order, and does not allow the second one.
            assert_eq!(eve(&graph, &[tips[0], tips[2]]), Some(left[0]));
            continue;
        }
        for states in [vec![tips[0], tips[2]], vec![tips[1], tips[2]], tips.clone()] {
            assert_eq!(eve(&graph, &states), Some(left[2]), "version {version}");
        }
        assert_eq!(eve(&graph, &tips[..2]), Some(left[1]));
    }
}

/// Synapse, issues 8629 and 16629; MSC4297, problem A: servers disagree about the join rules though one of them is long outdated, and the sender of both
/// has left. Up to version 11 both fail the checks, since the unconflicted state knows that she left, and the room loses
/// its join rules.
#[test]
fn join_rules_survive_that_their_sender_left() {
    for version in [RoomVersion::V11, RoomVersion::V12] {
        let mut graph = Graph::new(version);
        let public = 3;
        let charlie = graph.member(&[START], CHARLIE, CHARLIE, "join");
        let invite = graph.then(
            &[charlie],
            ALICE,
            "m.room.join_rules",
            "",
            json!({"join_rule": "invite"}),
        );
        let left = graph.member(&[invite], ALICE, ALICE, "leave");
        let bob_renamed = graph.member(&[left], BOB, BOB, "join");
        let charlie_renamed = graph.member(&[left], CHARLIE, CHARLIE, "join");
        let bobs_server = graph.states[bob_renamed].clone();
        let mut charlies_server = graph.states[charlie_renamed].clone();
        charlies_server.insert(("m.room.join_rules".into(), "".into()), public);
        let state = graph.resolve(&[&bobs_server, &charlies_server]);
        let expected = (version == RoomVersion::V12).then_some(invite);
        assert_eq!(current(&state, "m.room.join_rules", ""), expected);
        assert_eq!(current(&state, "m.room.member", ALICE), Some(left));
        assert_eq!(current(&state, "m.room.member", BOB), Some(bob_renamed));
        assert_eq!(
            current(&state, "m.room.member", CHARLIE),
            Some(charlie_renamed)
        );
    }
}

/// MSC4297, problem B: one server is still at the first power levels, the other at the third. The second ones, by which
/// the third were allowed, are in neither state. Up to version 11 they are not looked at, and the levels fall back.
#[test]
fn power_levels_survive_that_a_state_is_outdated() {
    for version in [RoomVersion::V11, RoomVersion::V12] {
        let mut graph = Graph::new(version);
        let first = graph.levels(&[START], ALICE, json!({}));
        let charlie = graph.member(&[first], CHARLIE, CHARLIE, "join");
        let second = graph.levels(&[charlie], ALICE, json!({BOB: 50}));
        let third = graph.levels(&[second], BOB, json!({BOB: 50, CHARLIE: 50}));
        let zara = graph.member(&[third], ZARA, ZARA, "join");
        let eve = graph.member(&[third], EVE, EVE, "join");
        let eve_renamed = graph.member(&[eve], EVE, EVE, "join");
        let mut eves_server = graph.states[eve_renamed].clone();
        eves_server.insert(("m.room.power_levels".into(), "".into()), first);
        let state = graph.resolve(&[&eves_server, &graph.states[zara].clone()]);
        let expected = if version == RoomVersion::V12 {
            third
        } else {
            first
        };
        assert_eq!(
            current(&state, "m.room.power_levels", ""),
            Some(expected),
            "version {version}"
        );
        assert_eq!(current(&state, "m.room.member", ZARA), Some(zara));
        assert_eq!(current(&state, "m.room.member", EVE), Some(eve_renamed));
    }
}
