//! The auth difference of states that agree about most of it, at the cost of the difference.
//!
//! All chains are walked at once, from the greatest generation down, so that an event is looked at when everything that
//! could name it has been. With each event goes the set of states that reach it. Two things end the walk before the
//! chains do: the agreed chain, which is closed downwards and in the chain of every state, and the moment when every open
//! event is reached by all states, below which nothing differs.

use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::mem;

use super::auth_chain::{auth_events, generation};
use super::{EventSource, ResolutionError, Resolved};

/// The auth difference (see [`super::auth_difference`]) from the conflict alone: `conflicted` has for each state its
/// events in conflict, and `in_agreed_chain` tells whether an event is in the auth chain of, or is, an event on which
/// the states agree. Sorted.
///
/// `in_agreed_chain` is asked at most once for each event. Looked at are the events of the difference, what they name,
/// and those that all states share outside the agreed chain, down to the least generation in the difference.
pub fn auth_difference_of_conflict<S: EventSource>(
    conflicted: &[Vec<S::Id>],
    mut in_agreed_chain: impl FnMut(S::Id) -> Result<bool, S::Error>,
    source: &S,
) -> Resolved<Vec<S::Id>, S> {
    let mut walk = AuthDifference::new(conflicted);
    loop {
        if let Some(difference) = walk.step(&mut in_agreed_chain, source, usize::MAX)? {
            return Ok(difference);
        }
    }
}

/// [`auth_difference_of_conflict`] in steps of bounded length.
pub struct AuthDifference<Id> {
    states: usize,
    /// Events in conflict that have not been taken up, each with the number of its state.
    starts: Vec<(usize, Id)>,
    met: HashMap<Id, Met>,
    open: BinaryHeap<(u32, Id)>,
    /// How many of the open events are not reached by every state.
    open_differing: usize,
    difference: Vec<Id>,
}

/// What is known about an event that was met.
enum Met {
    /// It waits, reached by these states so far.
    Open(States),
    /// It was looked at, or is in the agreed chain.
    Settled,
}

/// A set of states by their numbers, a bit for each.
#[derive(Clone)]
struct States {
    bits: Vec<u64>,
    missing: usize,
}

impl States {
    fn of(state: usize, states: usize) -> States {
        let mut bits = vec![0; states.div_ceil(64)];
        bits[state / 64] |= 1 << (state % 64);
        States {
            bits,
            missing: states - 1,
        }
    }

    fn add(&mut self, other: &States) {
        for (bits, more) in self.bits.iter_mut().zip(&other.bits) {
            self.missing -= (more & !*bits).count_ones() as usize;
            *bits |= more;
        }
    }

    fn is_all(&self) -> bool {
        self.missing == 0
    }
}

impl<Id: Copy + Eq + std::hash::Hash + Ord> AuthDifference<Id> {
    /// `conflicted` as for [`auth_difference_of_conflict`].
    pub fn new(conflicted: &[Vec<Id>]) -> Self {
        let numbered = conflicted.iter().enumerate();
        AuthDifference {
            states: conflicted.len(),
            starts: numbered
                .flat_map(|(state, events)| events.iter().map(move |&id| (state, id)))
                .collect(),
            met: HashMap::new(),
            open: BinaryHeap::new(),
            open_differing: 0,
            difference: Vec::new(),
        }
    }

    /// Looks at up to `budget` events, at least one; the difference when it is complete. After an error begin anew.
    pub fn step<S: EventSource<Id = Id>>(
        &mut self,
        in_agreed_chain: &mut impl FnMut(Id) -> Result<bool, S::Error>,
        source: &S,
        budget: usize,
    ) -> Resolved<Option<Vec<Id>>, S> {
        for _ in 0..budget.max(1) {
            if let Some((state, id)) = self.starts.pop() {
                self.reach(id, &States::of(state, self.states), in_agreed_chain, source)?;
                continue;
            }
            let Some((_, id)) = self.open.pop().filter(|_| self.open_differing > 0) else {
                let mut difference = mem::take(&mut self.difference);
                difference.sort_unstable();
                return Ok(Some(difference));
            };
            let Some(Met::Open(states)) = self.met.insert(id, Met::Settled) else {
                continue;
            };
            if !states.is_all() {
                self.open_differing -= 1;
                self.difference.push(id);
            }
            for &auth_id in auth_events(source, id)?.iter() {
                self.reach(auth_id, &states, in_agreed_chain, source)?;
            }
        }
        Ok(None)
    }

    fn reach<S: EventSource<Id = Id>>(
        &mut self,
        id: Id,
        by: &States,
        in_agreed_chain: &mut impl FnMut(Id) -> Result<bool, S::Error>,
        source: &S,
    ) -> Resolved<(), S> {
        match self.met.entry(id) {
            Entry::Occupied(mut met) => {
                if let Met::Open(states) = met.get_mut() {
                    let differed = !states.is_all();
                    states.add(by);
                    self.open_differing -= usize::from(differed && states.is_all());
                }
            }
            Entry::Vacant(place) => {
                if in_agreed_chain(id).map_err(ResolutionError::Source)? {
                    place.insert(Met::Settled);
                } else {
                    self.open.push((generation(source, id)?, id));
                    self.open_differing += usize::from(!by.is_all());
                    place.insert(Met::Open(by.clone()));
                }
            }
        }
        Ok(())
    }
}
