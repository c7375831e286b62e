//! State resolution on small graphs of any events, allowed or not: it ends, the order and number of the states makes
//! no difference, steps come to the same as one go, and what all agree on stays.
#![no_main]

use std::convert::Infallible;
use std::sync::Arc;

use event::state_res::{self, EventSource, Resolution, ResolutionError, StateMap, Step};
use event::{AuthEvent, RoomVersion};
use libfuzzer_sys::fuzz_target;
use meyrin_fuzz::graph::State;
use meyrin_fuzz::{Choices, Graph};

struct Source {
    events: Vec<Arc<AuthEvent>>,
    auth: Vec<Arc<[usize]>>,
    generations: Vec<u32>,
}

impl EventSource for Source {
    type Id = usize;
    type Error = Infallible;

    fn event(&self, id: usize) -> Result<Option<Arc<AuthEvent>>, Infallible> {
        Ok(self.events.get(id).cloned())
    }

    fn auth_events(&self, id: usize) -> Result<Option<Arc<[usize]>>, Infallible> {
        Ok(self.auth.get(id).cloned())
    }

    fn generation(&self, id: usize) -> Result<Option<u32>, Infallible> {
        Ok(self.generations.get(id).copied())
    }

    fn create(&self) -> Result<Option<Arc<AuthEvent>>, Infallible> {
        Ok(self.events.first().cloned())
    }
}

impl Source {
    /// The events of a graph; an auth event that is not in it has a number that nothing answers to.
    fn of(graph: &Graph, choices: &mut Choices<'_>) -> Self {
        let mut source = Source {
            events: Vec::new(),
            auth: Vec::new(),
            generations: Vec::new(),
        };
        for node in &graph.nodes {
            let pdu = node.pdu.clone();
            let here = source.events.len();
            let mut named = Vec::new();
            for id in pdu.auth_events() {
                match graph.number(id).filter(|number| *number < here) {
                    Some(number) => named.push(number),
                    None if choices.one_in(8) => named.push(usize::MAX),
                    None => {}
                }
            }
            let generation = named
                .iter()
                .filter_map(|number| source.generations.get(*number));
            let generation = generation.max().map_or(0, |below| below + 1);
            source.generations.push(generation);
            source.auth.push(named.into());
            source
                .events
                .push(Arc::new(match here > 0 && choices.one_in(32) {
                    true => AuthEvent::rejected(graph.rules, pdu),
                    false => AuthEvent::new(graph.rules, pdu),
                }));
        }
        source
    }
}

fn as_map(state: &State) -> StateMap<usize> {
    let entries = state.iter();
    entries
        .map(|((of, key), number)| ((of.as_str().into(), key.as_str().into()), *number))
        .collect()
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let mut graph = Graph::with_beginning(choices.pick(&RoomVersion::ALL));
    for _ in 0..12 {
        if choices.is_empty() {
            break;
        }
        graph.grow(&mut choices);
    }
    let source = Source::of(&graph, &mut choices);
    let newest = graph.nodes.len();
    let mut states: Vec<StateMap<usize>> = (0..2 + choices.below(3))
        .map(|back| as_map(&graph.nodes[newest - 1 - back.min(newest - 1)].after))
        .collect();
    // States that no graph leads to.
    while choices.one_in(2) {
        let mut state = as_map(&graph.nodes[choices.below(newest)].after);
        let strange = choices.below(newest);
        let pdu = &graph.nodes[strange].pdu;
        if let Some(key) = pdu.state_key() {
            state.insert((pdu.event_type().into(), key.into()), strange);
        }
        states.push(state);
    }
    let resolve = |states: &[StateMap<usize>]| {
        let states: Vec<&StateMap<usize>> = states.iter().collect();
        state_res::resolve(graph.rules, &states, None, &source)
    };
    let resolved = resolve(&states);
    states.reverse();
    let reversed = resolve(&states);
    states.rotate_left(1);
    states.push(states[0].clone());
    let repeated = resolve(&states);
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(ResolutionError::Missing(_)) => {
            assert!(reversed.is_err() && repeated.is_err());
            return;
        }
        Err(ResolutionError::Source(never)) => match never {},
    };
    assert_eq!(reversed.as_ref(), Ok(&resolved));
    assert_eq!(repeated.as_ref(), Ok(&resolved));
    let whole: Vec<&StateMap<usize>> = states.iter().collect();
    let (agreed, conflicted) = state_res::split(graph.rules, &whole);
    for (key, event) in &agreed {
        assert_eq!(resolved.get(key), Some(event));
    }
    for event in resolved.values() {
        assert!(
            whole
                .iter()
                .any(|state| state.values().any(|of| of == event))
                || !conflicted.is_empty()
        );
    }
    let sets: Vec<Vec<usize>> = whole
        .iter()
        .map(|state| state.values().copied().collect())
        .collect();
    if let Ok(difference) = state_res::auth_difference(&sets, &source) {
        let lookup = |of: &str, key: &str| Ok(agreed.get(&(of.into(), key.into())).copied());
        let mut steps = Resolution::new(graph.rules, conflicted, difference);
        let mut left = 100_000;
        let stepped = loop {
            left -= 1;
            assert!(left > 0, "it ends");
            match steps.step(&source, &lookup, 1).expect("nothing is missing") {
                Step::More => {}
                Step::Done(entries) => break entries,
            }
        };
        let mut stepwise = agreed.clone();
        stepwise.extend(stepped);
        assert_eq!(stepwise, resolved);
    }
});
