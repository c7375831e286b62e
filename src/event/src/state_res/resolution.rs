//! A resolution as a value that is advanced step by step.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use super::reading::{Loaded, Reading};
use super::v1::V1;
use super::v2::V2;
use super::{EventSource, Resolved, StateMap, Unconflicted};
use crate::room_version::{RoomRules, StateResolution};

/// A resolution under way. It owns what it works with, so that other work of the room's pool can come between two steps.
///
/// Memory: the events of the full conflicted set (what is in conflict, the auth difference, in room version 12 the
/// subgraph), what these name in `auth_events`, and the part of the mainline that had to be followed, each event once. It
/// does not grow with the states.
pub struct Resolution<Id> {
    algorithm: Algorithm<Id>,
    loaded: Loaded<Id>,
}

enum Algorithm<Id> {
    V1(V1<Id>),
    V2(Box<V2<Id>>),
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<Id> {
    /// The budget ended first.
    More,
    /// The entries that take the place of the conflict, as from [`super::resolve_conflict`].
    Done(StateMap<Id>),
}

impl<Id: Copy + Eq + Hash + Ord + fmt::Debug> Resolution<Id> {
    /// `conflicted` and `auth_difference` as in [`super::Conflict`].
    pub fn new(rules: &RoomRules, conflicted: Vec<Id>, auth_difference: Vec<Id>) -> Self {
        Resolution {
            algorithm: match rules.state_resolution {
                StateResolution::V1 => Algorithm::V1(V1::new(*rules, conflicted)),
                StateResolution::V2 | StateResolution::V2_1 => {
                    Algorithm::V2(Box::new(V2::new(*rules, conflicted, auth_difference)))
                }
            },
            loaded: HashMap::new(),
        }
    }

    /// Goes on for `budget` events, at least one. Every pass over an event counts; with each come the few that it names.
    ///
    /// The source and the agreed state must be the same in all steps. A resolution that is done or failed is over.
    pub fn step<S: EventSource<Id = Id>>(
        &mut self,
        source: &S,
        unconflicted: &Unconflicted<'_, S>,
        budget: usize,
    ) -> Resolved<Step<Id>, S> {
        let mut reading = Reading::new(source, unconflicted, &mut self.loaded, budget.max(1));
        let resolved = match &mut self.algorithm {
            Algorithm::V1(algorithm) => algorithm.advance(&mut reading)?,
            Algorithm::V2(algorithm) => algorithm.advance(&mut reading)?,
        };
        Ok(resolved.map_or(Step::More, Step::Done))
    }
}
