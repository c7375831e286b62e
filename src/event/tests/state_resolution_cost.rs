//! What a resolution reads: the conflict, however long the room's history is; and that it can stop after any event.

mod room;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use event::RoomVersion;
use event::auth::AuthEvent;
use event::state_res::{
    self, AuthDifference, Conflict, EventSource, Resolution, StateMap, Step, resolve_conflict,
};
use proptest::prelude::*;
use room::graph::{Graph, USERS, any_action};
use serde_json::{Value, json};

const ALICE: &str = USERS[0];
const BOB: &str = USERS[1];

/// A graph that counts what is read in it.
struct Counting<'a> {
    graph: &'a Graph,
    reads: Cell<usize>,
    events: RefCell<HashSet<usize>>,
}

impl<'a> Counting<'a> {
    fn new(graph: &'a Graph) -> Self {
        Counting {
            graph,
            reads: Cell::new(0),
            events: RefCell::new(HashSet::new()),
        }
    }

    fn count(&self) {
        self.reads.set(self.reads.get() + 1);
    }
}

impl EventSource for Counting<'_> {
    type Id = usize;
    type Error = Infallible;

    fn event(&self, id: usize) -> Result<Option<Arc<AuthEvent>>, Infallible> {
        self.count();
        assert!(
            self.events.borrow_mut().insert(id),
            "event {id} is read twice"
        );
        self.graph.event(id)
    }
    fn auth_events(&self, id: usize) -> Result<Option<Arc<[usize]>>, Infallible> {
        self.count();
        self.graph.auth_events(id)
    }
    fn generation(&self, id: usize) -> Result<Option<u32>, Infallible> {
        self.count();
        self.graph.generation(id)
    }
    fn create(&self) -> Result<Option<Arc<AuthEvent>>, Infallible> {
        self.count();
        self.graph.create()
    }
}

/// The conflict of some states, and the chain of what they agree on.
struct Disagreement {
    agreed: StateMap<usize>,
    agreed_chain: HashSet<usize>,
    conflicted: Vec<usize>,
    by_state: Vec<Vec<usize>>,
}

impl Disagreement {
    fn of(graph: &Graph, states: &[&StateMap<usize>]) -> Self {
        let (agreed, conflicted) = state_res::split(graph.rules, states);
        let in_conflict = |id: &usize| conflicted.contains(id);
        Disagreement {
            by_state: states
                .iter()
                .map(|state| state.values().copied().filter(in_conflict).collect())
                .collect(),
            agreed_chain: state_res::auth_chain(agreed.values().copied(), graph).unwrap(),
            agreed,
            conflicted,
        }
    }

    fn agreed(&self, event_type: &str, state_key: &str) -> Result<Option<usize>, Infallible> {
        Ok(self
            .agreed
            .get(&(event_type.into(), state_key.into()))
            .copied())
    }

    /// The auth difference and what the conflict becomes.
    fn resolve<S: EventSource<Id = usize, Error = Infallible>>(
        &self,
        graph: &Graph,
        source: &S,
    ) -> (Vec<usize>, StateMap<usize>) {
        let in_agreed_chain = |id| Ok(self.agreed_chain.contains(&id));
        let auth_difference =
            state_res::auth_difference_of_conflict(&self.by_state, in_agreed_chain, source)
                .unwrap();
        let conflict = Conflict {
            conflicted: &self.conflicted,
            auth_difference: &auth_difference,
            unconflicted: &|event_type, state_key| self.agreed(event_type, state_key),
        };
        let resolved = resolve_conflict(graph.rules, &conflict, source).unwrap();
        (auth_difference, resolved)
    }
}

/// A state event on one earlier event, in the order in which they are made.
fn then(graph: &mut Graph, prev: usize, sender: &str, event_type: &str, content: Value) -> usize {
    let state = graph.states[prev].clone();
    let time = graph.events.len() as i64;
    let pdu = graph.make(&[prev], &state, sender, event_type, "", content, time);
    graph.add(pdu, state)
}

fn levels(graph: &Graph, bob: usize) -> Value {
    let mut users = json!({BOB: bob});
    if !graph.rules.auth.creators_privileged {
        users[ALICE] = 100.into();
    }
    json!({"users": users})
}

/// The first and the last power levels of a room where they changed 5,000 times.
fn long_history(version: RoomVersion) -> (Graph, usize, usize) {
    let mut graph = Graph::new(version);
    let first = graph.events.len() - 1;
    let mut last = first;
    for n in 0..5_000 {
        let content = levels(&graph, 50 + n % 2);
        last = then(&mut graph, last, ALICE, "m.room.power_levels", content);
    }
    (graph, first, last)
}

#[test]
fn a_fork_of_two_topics_reads_a_handful_of_events_however_often_the_power_levels_changed() {
    for version in [
        RoomVersion::V1,
        RoomVersion::V2,
        RoomVersion::V11,
        RoomVersion::V12,
    ] {
        let (mut graph, first, last) = long_history(version);
        let topic = |graph: &mut Graph, prev, sender| {
            let content = json!({"topic": graph.events.len()});
            then(graph, prev, sender, "m.room.topic", content)
        };
        let (a, b) = (topic(&mut graph, last, ALICE), topic(&mut graph, last, BOB));
        let ancient = topic(&mut graph, first, BOB);
        // By the mainline the ancient one is the older one. Version 12 starts from nothing, so that levels on which the
        // states agree make no mainline, and the clock decides.
        let newer = match version {
            RoomVersion::V12 => ancient,
            _ => a,
        };
        for (ends, expected) in [([a, b], b), ([a, ancient], newer)] {
            // A state that is 5,000 changes behind in nothing but its topic.
            let mut second = graph.states[last].clone();
            second.insert(("m.room.topic".into(), "".into()), ends[1]);
            let disagreement = Disagreement::of(&graph, &[&graph.states[ends[0]], &second]);
            let counting = Counting::new(&graph);
            let (_, resolved) = disagreement.resolve(&graph, &counting);
            let topic = resolved[&("m.room.topic".into(), "".into())];
            // Version 1 goes by depth, and both of the first fork have the same.
            if version != RoomVersion::V1 || expected == a {
                assert_eq!(topic, expected, "version {version}");
            }
            let (reads, events) = (counting.reads.get(), counting.events.borrow().len());
            assert!(
                reads < 60 && events < 20,
                "{reads} reads, {events} events, version {version}"
            );
        }
    }
}

#[test]
fn two_changes_of_the_power_levels_are_resolved_without_those_before() {
    for version in [RoomVersion::V2, RoomVersion::V11, RoomVersion::V12] {
        let (mut graph, _, last) = long_history(version);
        let ends = [10, 20].map(|bob| {
            let content = levels(&graph, bob);
            let changed = then(&mut graph, last, ALICE, "m.room.power_levels", content);
            then(
                &mut graph,
                changed,
                ALICE,
                "m.room.topic",
                json!({"topic": bob}),
            )
        });
        let states = ends.map(|end| &graph.states[end]);
        let disagreement = Disagreement::of(&graph, &states);
        // Neither state has the levels both rest on, so nothing in the agreed chain stops the walk.
        assert!(!disagreement.agreed_chain.contains(&(last - 1)));
        let counting = Counting::new(&graph);
        let (difference, resolved) = disagreement.resolve(&graph, &counting);
        assert_eq!(difference, [ends[0] - 1, ends[0], ends[1] - 1, ends[1]]);
        assert_eq!(resolved.len(), 2);
        let reads = counting.reads.get();
        assert!(reads < 120, "{reads} reads in version {version}");
    }
}

/// What it takes to resolve a fork of 50 state events on each side, in a room with so many other members.
fn reads_of_a_large_fork(version: RoomVersion, members: usize) -> usize {
    let mut graph = Graph::new(version);
    let mut last = graph.events.len() - 1;
    let join = |graph: &mut Graph, prev: usize, user: &str, name: &str| {
        let state = graph.states[prev].clone();
        let content = json!({"membership": "join", "displayname": name});
        let time = graph.events.len() as i64;
        let pdu = graph.make(&[prev], &state, user, "m.room.member", user, content, time);
        graph.add(pdu, state)
    };
    for n in 0..members {
        last = join(&mut graph, last, &format!("@member{n}:a.org"), "new");
    }
    let ends = [ALICE, BOB].map(|sender| {
        let mut end = last;
        for n in 0..25 {
            end = join(&mut graph, end, &format!("@member{n}:a.org"), sender);
            let content = json!({"by": sender});
            end = then(
                &mut graph,
                end,
                sender,
                &format!("org.example.{n}"),
                content,
            );
        }
        end
    });
    let states = ends.map(|end| &graph.states[end]);
    let disagreement = Disagreement::of(&graph, &states);
    assert_eq!(disagreement.conflicted.len(), 100);
    let counting = Counting::new(&graph);
    let (_, resolved) = disagreement.resolve(&graph, &counting);
    assert_eq!(resolved.len(), 50);
    counting.reads.get()
}

#[test]
fn the_cost_of_a_fork_is_that_of_the_fork_and_not_of_the_room() {
    for version in [
        RoomVersion::V1,
        RoomVersion::V2,
        RoomVersion::V11,
        RoomVersion::V12,
    ] {
        let [small, large] = [25, 300].map(|members| reads_of_a_large_fork(version, members));
        assert_eq!(small, large, "version {version}");
        assert!(large < 100 * 10, "{large} reads in version {version}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_auth_difference_of_any_sets_is_that_of_the_plain_walk_and_asks_once_for_each_event(
        version in 1..=12usize,
        actions in prop::collection::vec(any_action(), 1..40),
        sets in prop::collection::vec(prop::collection::vec(0..40usize, 0..6), 1..70),
        agreed in prop::collection::vec(0..40usize, 0..4),
        budget in 1..50usize,
    ) {
        let mut graph = Graph::new(RoomVersion::ALL[version - 1]);
        for action in &actions {
            graph.act(action);
        }
        let within = |set: &Vec<usize>| -> Vec<usize> {
            set.iter().copied().filter(|id| *id < graph.events.len()).collect()
        };
        let (sets, agreed): (Vec<Vec<usize>>, _) = (sets.iter().map(within).collect(), within(&agreed));
        let agreed_chain = state_res::auth_chain(agreed.iter().copied(), &graph).unwrap();
        let whole: Vec<Vec<usize>> = sets.iter().map(|set| [&set[..], &agreed].concat()).collect();
        let mut asked = HashSet::new();
        let mut walk = AuthDifference::new(&sets);
        let difference = loop {
            let mut in_agreed_chain = |id| {
                assert!(asked.insert(id), "asked twice for {id}");
                Ok(agreed_chain.contains(&id))
            };
            if let Some(difference) = walk.step(&mut in_agreed_chain, &graph, budget).unwrap() {
                break difference;
            }
        };
        prop_assert_eq!(difference, state_res::auth_difference(&whole, &graph).unwrap());
    }

    #[test]
    fn a_resolution_in_steps_comes_to_the_same_as_in_one_go(
        version in 1..=12usize,
        actions in prop::collection::vec(any_action(), 1..40),
        budget in 1..20usize,
    ) {
        let mut graph = Graph::new(RoomVersion::ALL[version - 1]);
        for action in &actions {
            graph.act(action);
        }
        let states: Vec<&StateMap<usize>> = graph.states.iter().rev().take(4).collect();
        let disagreement = Disagreement::of(&graph, &states);
        let (auth_difference, expected) = disagreement.resolve(&graph, &graph);
        let unconflicted = |event_type: &str, state_key: &str| disagreement.agreed(event_type, state_key);
        let mut resolution = Resolution::new(graph.rules, disagreement.conflicted.clone(), auth_difference);
        let resolved = loop {
            let counting = Counting::new(&graph);
            match resolution.step(&counting, &unconflicted, budget).unwrap() {
                Step::Done(resolved) => break resolved,
                Step::More => {
                    // Each event looked at may bring those it names, theirs, and the entries of its selection.
                    prop_assert!(counting.events.borrow().len() <= 20 * budget);
                }
            }
        };
        prop_assert_eq!(resolved, expected);
    }
}
