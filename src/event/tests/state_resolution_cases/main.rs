//! State resolution, told as stories: who did what at the same time, and what the room is afterwards.

mod concurrent;
mod limits;
mod resets;
#[path = "../room/mod.rs"]
mod room;
mod version_1;

use event::RoomVersion;
use event::state_res::StateMap;
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
