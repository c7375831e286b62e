//! What happens at the same time: who wins, and what stays.

use event::RoomVersion;
use serde_json::json;

use crate::room::graph::Graph;
use crate::{ALICE, BOB, CHARLIE, EVE, START, Story, ZARA, current, each_version_from};

#[test]
fn joins_at_the_same_time_are_all_kept() {
    each_version_from(RoomVersion::V1, |mut graph| {
        let charlie = graph.member(&[START], CHARLIE, CHARLIE, "join");
        let eve = graph.member(&[START], EVE, EVE, "join");
        let state = graph.merged(&[charlie, eve]);
        assert_eq!(current(&state, "m.room.member", CHARLIE), Some(charlie));
        assert_eq!(current(&state, "m.room.member", EVE), Some(eve));
        assert_eq!(state.len(), 7);
    });
}

#[test]
fn a_ban_undoes_what_the_banned_user_did_at_the_same_time() {
    each_version_from(RoomVersion::V2, |mut graph| {
        let first = graph.then(
            &[START],
            ALICE,
            "m.room.topic",
            "",
            json!({"topic": "first"}),
        );
        let topic = graph.then(&[first], BOB, "m.room.topic", "", json!({"topic": "bob's"}));
        let ban = graph.member(&[first], ALICE, BOB, "ban");
        let state = graph.merged(&[topic, ban]);
        assert_eq!(current(&state, "m.room.topic", ""), Some(first));
        assert_eq!(current(&state, "m.room.member", BOB), Some(ban));
    });
}

#[test]
fn of_two_power_struggles_the_more_powerful_sender_wins() {
    each_version_from(RoomVersion::V2, |mut graph| {
        let joined = graph.member(&[START], CHARLIE, CHARLIE, "join");
        let demoted = graph.levels(&[joined], ALICE, json!({}));
        let promoted = graph.levels(&[joined], BOB, json!({BOB: 50, CHARLIE: 50}));
        let state = graph.merged(&[demoted, promoted]);
        assert_eq!(current(&state, "m.room.power_levels", ""), Some(demoted));
    });
}

#[test]
fn a_demoted_moderators_ban_does_not_hold() {
    each_version_from(RoomVersion::V2, |mut graph| {
        let joined = graph.member(&[START], CHARLIE, CHARLIE, "join");
        let demoted = graph.levels(&[joined], ALICE, json!({}));
        let ban = graph.member(&[joined], BOB, CHARLIE, "ban");
        let state = graph.merged(&[demoted, ban]);
        assert_eq!(current(&state, "m.room.member", CHARLIE), Some(joined));
        assert_eq!(current(&state, "m.room.power_levels", ""), Some(demoted));
    });
}

#[test]
fn nobody_slips_in_while_the_room_is_being_closed() {
    each_version_from(RoomVersion::V2, |mut graph| {
        let closed = graph.then(
            &[START],
            ALICE,
            "m.room.join_rules",
            "",
            json!({"join_rule": "invite"}),
        );
        let joined = graph.member(&[START], EVE, EVE, "join");
        let state = graph.merged(&[closed, joined]);
        assert_eq!(current(&state, "m.room.join_rules", ""), Some(closed));
        assert_eq!(current(&state, "m.room.member", EVE), None);
    });
}

#[test]
fn of_two_equal_changes_the_later_one_stays() {
    each_version_from(RoomVersion::V2, |mut graph| {
        let earlier = graph.then(
            &[START],
            ALICE,
            "m.room.topic",
            "",
            json!({"topic": "earlier"}),
        );
        let later = graph.then(
            &[START],
            ALICE,
            "m.room.topic",
            "",
            json!({"topic": "later"}),
        );
        for ends in [[earlier, later], [later, earlier]] {
            assert_eq!(
                current(&graph.merged(&ends), "m.room.topic", ""),
                Some(later)
            );
        }
    });
}

#[test]
fn changes_on_newer_power_levels_come_after_those_on_older_ones() {
    each_version_from(RoomVersion::V2, |mut graph| {
        let levels = graph.levels(&[START], ALICE, json!({BOB: 51}));
        let on_new = graph.then(
            &[levels],
            BOB,
            "m.room.topic",
            "",
            json!({"topic": "new levels"}),
        );
        // Later by the clock, earlier by the mainline.
        let on_old = graph.then(
            &[START],
            BOB,
            "m.room.topic",
            "",
            json!({"topic": "old levels"}),
        );
        assert_eq!(
            current(&graph.merged(&[on_new, on_old]), "m.room.topic", ""),
            Some(on_new)
        );
    });
}

#[test]
fn a_banned_moderators_change_of_the_levels_does_not_hold() {
    each_version_from(RoomVersion::V2, |mut graph| {
        let first = graph.levels(&[START], ALICE, json!({BOB: 50}));
        let ban = graph.member(&[first], ALICE, BOB, "ban");
        let promoted = graph.levels(&[first], BOB, json!({BOB: 50, CHARLIE: 50}));
        let state = graph.merged(&[ban, promoted]);
        assert_eq!(current(&state, "m.room.power_levels", ""), Some(first));
        assert_eq!(current(&state, "m.room.member", BOB), Some(ban));
    });
}

#[test]
fn a_demotion_undoes_what_the_demoted_user_did_at_the_same_time() {
    each_version_from(RoomVersion::V2, |mut graph| {
        let topic = |graph: &mut Graph, prev, sender| {
            graph.then(
                &[prev],
                sender,
                "m.room.topic",
                "",
                json!({"topic": sender}),
            )
        };
        let alices = topic(&mut graph, START, ALICE);
        let demoted = graph.levels(&[alices], ALICE, json!({BOB: 0}));
        let bobs = topic(&mut graph, START, BOB);
        let state = graph.merged(&[demoted, bobs]);
        assert_eq!(current(&state, "m.room.power_levels", ""), Some(demoted));
        assert_eq!(current(&state, "m.room.topic", ""), Some(alices));
    });
}

#[test]
fn of_two_join_rules_by_one_sender_the_later_by_the_clock_stays_whatever_their_ids() {
    each_version_from(RoomVersion::V8, |mut graph| {
        let rules = ["restricted", "public", "invite", "knock"];
        let ends: Vec<usize> = rules
            .iter()
            .map(|rule| {
                graph.then(
                    &[START],
                    ALICE,
                    "m.room.join_rules",
                    "",
                    json!({"join_rule": rule}),
                )
            })
            .collect();
        for last in 1..ends.len() {
            let state = graph.merged(&ends[..=last]);
            assert_eq!(current(&state, "m.room.join_rules", ""), Some(ends[last]));
        }
    });
}

#[test]
fn levels_that_only_one_side_has_moved_on_from_are_not_taken_back() {
    each_version_from(RoomVersion::V2, |mut graph| {
        let charlie = graph.member(&[START], CHARLIE, CHARLIE, "join");
        let first = graph.levels(&[charlie], ALICE, json!({BOB: 50}));
        let second = graph.levels(&[first], BOB, json!({BOB: 50, CHARLIE: 50}));
        let third = graph.levels(&[second], CHARLIE, json!({BOB: 50, CHARLIE: 0}));
        for ends in [[third, first], [second, third], [first, third]] {
            let state = graph.merged(&ends);
            assert_eq!(current(&state, "m.room.power_levels", ""), Some(third));
        }
    });
}

#[test]
fn a_topic_set_on_a_lost_branch_is_lost_with_its_levels_and_stays_so() {
    each_version_from(RoomVersion::V2, |mut graph| {
        let topic = |graph: &mut Graph, prev: &[usize], sender| {
            let text = graph.events.len();
            graph.then(prev, sender, "m.room.topic", "", json!({"topic": text}))
        };
        let first = topic(&mut graph, &[START], ALICE);
        let levels = graph.levels(&[first], ALICE, json!({BOB: 50}));
        let kept = topic(&mut graph, &[levels], ALICE);
        let demoted = graph.levels(&[kept], ALICE, json!({BOB: 0}));
        let bobs_levels = graph.levels(&[levels], BOB, json!({BOB: 50, EVE: 10}));
        let lost = topic(&mut graph, &[bobs_levels], BOB);
        let state = graph.merged(&[demoted, lost]);
        assert_eq!(current(&state, "m.room.topic", ""), Some(kept));
        assert_eq!(current(&state, "m.room.power_levels", ""), Some(demoted));
        // On top of the merge, and merged with it again.
        let zara = graph.member(&[demoted, lost], ZARA, ZARA, "join");
        let next = topic(&mut graph, &[zara], ALICE);
        for ends in [
            vec![next, zara],
            vec![next, lost],
            vec![lost, zara, next, demoted],
        ] {
            let state = graph.merged(&ends);
            assert_eq!(current(&state, "m.room.topic", ""), Some(next));
            assert_eq!(current(&state, "m.room.power_levels", ""), Some(demoted));
            assert_eq!(current(&state, "m.room.member", ZARA), Some(zara));
        }
    });
}

/// The topic of a user who is banned later falls back where one side has not seen it yet: known, and what the
/// specification says.
#[test]
fn a_later_ban_undoes_a_topic_that_one_side_does_not_have() {
    each_version_from(RoomVersion::V2, |mut graph| {
        let first = graph.then(
            &[START],
            ALICE,
            "m.room.topic",
            "",
            json!({"topic": "first"}),
        );
        let levels = graph.levels(&[first], ALICE, json!({BOB: 51}));
        let bobs = graph.then(
            &[levels],
            BOB,
            "m.room.topic",
            "",
            json!({"topic": "bob's"}),
        );
        let ban = graph.member(&[bobs], ALICE, BOB, "ban");
        let state = graph.merged(&[ban, first]);
        assert_eq!(current(&state, "m.room.topic", ""), Some(first));
        assert_eq!(current(&state, "m.room.power_levels", ""), Some(levels));
        assert_eq!(current(&state, "m.room.member", BOB), Some(ban));
    });
}

#[test]
fn an_event_that_rests_on_no_power_levels_is_older_than_all_that_do() {
    each_version_from(RoomVersion::V2, |mut graph| {
        let levels = graph.levels(&[START], ALICE, json!({BOB: 51}));
        let topic = |graph: &mut Graph, state: &[usize], time: i64| {
            let mut before = graph.merged(state);
            if time > 0 {
                before.remove(&("m.room.power_levels".into(), "".into()));
            }
            let content = json!({"topic": time});
            let pdu = graph.make(&[levels], &before, ALICE, "m.room.topic", "", content, time);
            let after = graph.merged(&[levels]);
            graph.add(pdu, after)
        };
        // Later by the clock, and without levels among its auth events.
        let without = topic(&mut graph, &[levels], 1_000_000);
        let on_old = topic(&mut graph, &[START], 0);
        let on_new = topic(&mut graph, &[levels], -1);
        let mut ends: Vec<_> = [without, on_old, on_new]
            .map(|end| graph.states[end].clone())
            .into();
        // The levels are in conflict, so that version 12 has a mainline too.
        ends[1].insert(("m.room.power_levels".into(), "".into()), 2);
        let all: Vec<_> = ends.iter().collect();
        let topic = |states: &[_]| current(&graph.resolve(states), "m.room.topic", "");
        assert_eq!(topic(&all), Some(on_new));
        assert_eq!(topic(&all[..2]), Some(on_old));
    });
}
