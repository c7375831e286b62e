//! Random graphs, resolved here and by an independent implementation.
//!
//! The bar of 100,000 graphs:
//! `PROPTEST_CASES=100000 cargo test --release -p event --test state_resolution agreement -- --nocapture`

use std::cell::RefCell;

use event::RoomVersion;
use event::auth::{self, AuthEvent, JoinRule, Membership};
use event::state_res::{self, StateMap};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::room::graph::{Action, Graph, State, USERS, any_action};
use crate::theirs::Oracle;
use crate::version_1;

/// What the graphs of a run had in them.
#[derive(Debug, Default)]
struct Mix {
    graphs: [usize; 12],
    events: usize,
    /// Merges of several events, and those where the states differed.
    merges: usize,
    conflicts: usize,
    /// Conflicts about power levels, join rules, and somebody's ban.
    power_levels: usize,
    join_rules: usize,
    bans: usize,
    /// Conflicts with a join that a member had authorised, and with an invite by a third party.
    restricted_joins: usize,
    third_party_invites: usize,
    /// Resolutions that came to none of the states.
    new_states: usize,
    /// Events that the rules refused.
    refused: usize,
}

impl Mix {
    fn conflict(&mut self, graph: &Graph, states: &[&StateMap<usize>], resolved: &StateMap<usize>) {
        let (_, conflicted) = state_res::split(graph.rules, states);
        if conflicted.is_empty() {
            return;
        }
        self.conflicts += 1;
        self.new_states += usize::from(states.iter().all(|state| *state != resolved));
        let any = |test: &dyn Fn(&AuthEvent) -> bool| {
            usize::from(conflicted.iter().any(|number| test(&graph.events[*number])))
        };
        let has = |event: &AuthEvent, key| event.pdu().content().contains(key);
        self.power_levels += any(&|event| event.pdu().event_type() == "m.room.power_levels");
        self.join_rules += any(&|event| event.join_rule().is_some());
        self.bans += any(&|event| event.membership() == Some(Membership::Ban));
        self.restricted_joins += any(&|event| {
            event.membership() == Some(Membership::Join) && has(event, "join_authorised_via") && {
                let rule = event
                    .pdu()
                    .auth_events()
                    .find_map(|id| graph.events[*graph.by_id.get(id)?].join_rule());
                matches!(rule, Some(JoinRule::Restricted | JoinRule::KnockRestricted))
            }
        });
        self.third_party_invites += any(&|event| {
            event.membership() == Some(Membership::Invite) && has(event, "third_party_invite")
        });
    }

    /// Guards a run against graphs that have nothing to resolve. A small run may miss what is rare.
    fn check(&self) {
        let graphs: usize = self.graphs.iter().sum();
        let often = [self.merges, self.conflicts, self.power_levels, self.refused];
        assert!(often.iter().all(|count| *count > graphs), "{self:?}");
        let less_often = [self.join_rules, self.bans, self.new_states];
        assert!(
            less_often.iter().all(|count| *count > graphs / 10),
            "{self:?}"
        );
        if graphs >= 1000 {
            let rare = [self.restricted_joins, self.third_party_invites];
            assert!(rare.iter().all(|count| *count > graphs / 100), "{self:?}");
            assert!(
                self.graphs.iter().all(|count| *count > graphs / 24),
                "{self:?}"
            );
        }
    }
}

/// One graph, and what the other implementation says to it.
struct Comparison<'a> {
    graph: Graph,
    oracle: Oracle,
    mix: &'a mut Mix,
}

impl Comparison<'_> {
    /// The resolution of the states, as both see it.
    fn resolve(&mut self, states: &[&StateMap<usize>]) -> StateMap<usize> {
        self.oracle.follow(&self.graph);
        let resolved = self.graph.resolve(states);
        let expected = match self.graph.rules.version {
            RoomVersion::V1 => version_1::resolve(&self.graph, &self.oracle, states),
            _ => self.oracle.resolve(&self.graph, states),
        };
        assert_eq!(
            resolved, expected,
            "resolution in version {}",
            self.graph.rules.version
        );
        self.mix.conflict(&self.graph, states, &resolved);
        resolved
    }

    /// Takes the action on the resolved state of its previous events, if it is allowed. Whether the graph can go on.
    fn act(&mut self, action: &Action) -> bool {
        let prev = self.graph.prev(action);
        let states: Vec<StateMap<usize>> = prev
            .iter()
            .map(|number| self.graph.states[*number].clone())
            .collect();
        let state = self.resolve(&states.iter().collect::<Vec<_>>());
        self.mix.merges += usize::from(prev.len() > 1);
        let graph = &self.graph;
        if graph.current(&state, "m.room.join_rules", "").is_none() {
            // A fork may cost a room its join rules. From there on they differ: the other implementation refuses all
            // joins, here the room is joined by invitation, as in the reference implementation.
            return false;
        }
        let sender = USERS[usize::from(action.sender)];
        let (event_type, state_key, content) = graph.content(action, &state);
        let time = action.time.into();
        let pdu = graph.make(&prev, &state, sender, event_type, &state_key, content, time);
        let allowed = auth::check(graph.rules, &pdu, &State(graph, &state));
        let event = AuthEvent::new(graph.rules, pdu.clone());
        assert_eq!(
            allowed.is_ok(),
            self.oracle.allows(graph, &event, &state),
            "{allowed:?} in version {} for {}",
            graph.rules.version,
            pdu.json()
        );
        match allowed {
            Ok(()) => drop(self.graph.add(pdu, state)),
            Err(_) => self.mix.refused += 1,
        }
        true
    }

    /// States that no server should have, but may: each entry is from somewhere in the graph.
    fn resolve_mixture(&mut self, actions: &[Action]) {
        let mut states =
            [0, 1, 2].map(|n| self.graph.states[self.graph.states.len() - 1 - n].clone());
        for (n, action) in actions.iter().enumerate() {
            let number = usize::from(action.time) % self.graph.events.len();
            let pdu = self.graph.events[number].pdu();
            let key = (
                pdu.event_type().into(),
                pdu.state_key().unwrap_or_default().into(),
            );
            if pdu.event_type() != "m.room.create" {
                states[n % 3].insert(key, number);
            }
        }
        if states
            .iter()
            .all(|state| self.graph.current(state, "m.room.join_rules", "").is_some())
        {
            self.resolve(&states.iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn random_graphs_resolve_as_in_the_other_implementation() {
    // A failing case is printed; no files are kept beside the tests.
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mix = RefCell::new(Mix::default());
    let cases = (1..=12usize, prop::collection::vec(any_action(), 1..100));
    let run = TestRunner::new(config).run(&cases, |(version, actions)| {
        let mut mix = mix.borrow_mut();
        mix.graphs[version - 1] += 1;
        let mut comparison = Comparison {
            graph: Graph::new(RoomVersion::ALL[version - 1]),
            oracle: Oracle::default(),
            mix: &mut mix,
        };
        let goes_on = actions.iter().all(|action| comparison.act(action));
        if goes_on {
            actions
                .chunks(12)
                .for_each(|actions| comparison.resolve_mixture(actions));
        }
        let events = comparison.graph.events.len();
        mix.events += events;
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    let mix = mix.into_inner();
    println!("{mix:#?}");
    mix.check();
}
