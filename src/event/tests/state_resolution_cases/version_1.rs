//! Room version 1, which has an algorithm of its own.

use event::RoomVersion;
use serde_json::json;

use crate::room::graph::Graph;
use crate::{ALICE, BOB, CHARLIE, START, Story, current};

#[test]
fn version_1_takes_the_deepest_allowed_event_and_breaks_ties_by_sha1() {
    let mut graph = Graph::new(RoomVersion::V1);
    let shallow = graph.then(
        &[START],
        ALICE,
        "m.room.topic",
        "",
        json!({"topic": "shallow"}),
    );
    let name = graph.then(&[START], ALICE, "m.room.name", "", json!({"name": "n"}));
    let deep = graph.then(&[name], BOB, "m.room.topic", "", json!({"topic": "deep"}));
    let state = graph.merged(&[shallow, deep]);
    assert_eq!(current(&state, "m.room.topic", ""), Some(deep));
    assert_eq!(
        current(&state, "m.room.name", ""),
        Some(name),
        "only one state has it: no conflict"
    );

    // The deeper one is not allowed in the resolved state.
    let demoted = graph.levels(&[shallow], ALICE, json!({}));
    let state = graph.merged(&[demoted, deep]);
    assert_eq!(current(&state, "m.room.power_levels", ""), Some(demoted));
    assert_eq!(current(&state, "m.room.topic", ""), Some(shallow));

    // The SHA-1 of "$7:a.org" starts with 1e, those of 5, 6 and 8 with e5, 74 and 37.
    let mut graph = Graph::new(RoomVersion::V1);
    let ends: Vec<usize> = (0..4)
        .map(|n| graph.then(&[START], ALICE, "m.room.topic", "", json!({"topic": n})))
        .collect();
    let state = graph.merged(&ends);
    assert_eq!(current(&state, "m.room.topic", ""), Some(7));
}

#[test]
fn version_1_walks_power_levels_up_as_long_as_each_allows_the_next() {
    let mut graph = Graph::new(RoomVersion::V1);
    let joined = graph.member(&[START], CHARLIE, CHARLIE, "join");
    let demoted = graph.levels(&[joined], ALICE, json!({}));
    let promoted = graph.levels(&[joined], BOB, json!({BOB: 50, CHARLIE: 40}));
    let deeper = graph.levels(&[promoted], BOB, json!({BOB: 50, CHARLIE: 41}));
    for ends in [
        vec![demoted, promoted],
        vec![demoted, deeper],
        vec![deeper, demoted],
    ] {
        assert_eq!(
            current(&graph.merged(&ends), "m.room.power_levels", ""),
            Some(demoted)
        );
    }
    let on_top = graph.levels(&[deeper], ALICE, json!({BOB: 50}));
    assert_eq!(
        current(&graph.merged(&[demoted, on_top]), "m.room.power_levels", ""),
        Some(on_top)
    );
}
