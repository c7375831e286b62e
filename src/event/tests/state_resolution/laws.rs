//! What holds of every resolution.

use event::RoomVersion;
use event::state_res::{self, StateMap};
use proptest::prelude::*;

use crate::room::graph::{Graph, any_action};

proptest! {
    // A failing case is printed; no files are kept beside the tests.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

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
