//! State resolution, told as stories: who did what at the same time, and what the room is afterwards.

mod room;

use std::sync::Arc;

use event::auth::AuthEvent;
use event::state_res::{self, EventSource, ResolutionError, StateMap};
use event::{Pdu, RoomVersion};
use room::graph::{Graph, USERS};
use serde_json::{Value, json};

const ALICE: &str = USERS[0];
const BOB: &str = USERS[1];
const CHARLIE: &str = USERS[2];
const EVE: &str = USERS[3];
const ZARA: &str = USERS[4];

/// The last event of `Graph::new`: Alice and Bob are joined, Bob has level 50, the room is public.
const START: usize = 4;

trait Story {
    fn then(
        &mut self,
        prev: &[usize],
        sender: &str,
        event_type: &str,
        state_key: &str,
        content: Value,
    ) -> usize;
    fn member(&mut self, prev: &[usize], sender: &str, target: &str, membership: &str) -> usize;
    fn levels(&mut self, prev: &[usize], sender: &str, users: Value) -> usize;
    fn merged(&self, ends: &[usize]) -> StateMap<usize>;
}

impl Story for Graph {
    /// A state event that is allowed, on top of others; time goes on by one millisecond with each.
    fn then(
        &mut self,
        prev: &[usize],
        sender: &str,
        event_type: &str,
        state_key: &str,
        content: Value,
    ) -> usize {
        let state = self.merged(prev);
        let time = self.events.len() as i64;
        let pdu = self.make(prev, &state, sender, event_type, state_key, content, time);
        let lookup = room::graph::State(self, &state);
        assert_eq!(
            event::auth::check(self.rules, &pdu, &lookup),
            Ok(()),
            "{}",
            pdu.json()
        );
        self.add(pdu, state)
    }

    fn member(&mut self, prev: &[usize], sender: &str, target: &str, membership: &str) -> usize {
        self.then(
            prev,
            sender,
            "m.room.member",
            target,
            json!({"membership": membership, "n": self.events.len()}),
        )
    }

    /// Power levels of the users, beside Alice's.
    fn levels(&mut self, prev: &[usize], sender: &str, mut users: Value) -> usize {
        if !self.rules.auth.creators_privileged {
            users[ALICE] = 100.into();
        }
        self.then(
            prev,
            sender,
            "m.room.power_levels",
            "",
            json!({"users": users}),
        )
    }

    fn merged(&self, ends: &[usize]) -> StateMap<usize> {
        let states: Vec<_> = ends.iter().map(|end| &self.states[*end]).collect();
        self.resolve(&states)
    }
}

fn current(state: &StateMap<usize>, event_type: &str, state_key: &str) -> Option<usize> {
    state.get(&(event_type.into(), state_key.into())).copied()
}

fn each_version_from(first: RoomVersion, story: impl Fn(Graph)) {
    for version in RoomVersion::ALL
        .into_iter()
        .filter(|version| *version >= first)
    {
        story(Graph::new(version));
    }
}

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

/// MSC4297, problem A: servers disagree about the join rules though one of them is long outdated, and the sender of both
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
