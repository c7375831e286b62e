//! The conflicted state subgraph of room version 12.
//!
//! Source: <https://spec.matrix.org/v1.19/rooms/v12/#definitions>.

use std::collections::{HashMap, HashSet};
use std::mem;

use super::reading::Reading;
use super::{EventSource, Resolved};
use crate::auth;

/// The conflicted state subgraph: the events on all paths over `auth_events` from one event of the set to another, ends
/// included, sorted.
///
/// A path can end only in an event that others can name, and every step of it goes to a lesser generation: what is not
/// above the least generation of such an event of the set is not walked into.
pub fn conflicted_subgraph<S: EventSource>(
    conflicted: &[S::Id],
    source: &S,
) -> Resolved<Vec<S::Id>, S> {
    let mut walk = Subgraph::new(conflicted.to_vec());
    let mut loaded = HashMap::new();
    let nothing = |_: &str, _: &str| Ok(None);
    let mut reading = Reading::new(source, &nothing, &mut loaded, usize::MAX);
    loop {
        if let Some(subgraph) = walk.advance(&mut reading)? {
            let mut subgraph: Vec<S::Id> = subgraph.into_iter().collect();
            subgraph.sort_unstable();
            return Ok(subgraph);
        }
    }
}

/// The walk: first for where paths can end, then down from the set, then up from it within what was visited.
pub(super) struct Subgraph<Id> {
    conflicted: Vec<Id>,
    measured: usize,
    /// The least generation in which a path can end.
    floor: u32,
    down: Vec<Id>,
    visited: HashSet<Id>,
    /// The edges walked down, turned round.
    named_by: HashMap<Id, Vec<Id>>,
    up: Vec<Id>,
    subgraph: HashSet<Id>,
}

impl<Id: Copy + Eq + std::hash::Hash + Ord> Subgraph<Id> {
    pub(super) fn new(conflicted: Vec<Id>) -> Self {
        Subgraph {
            measured: 0,
            floor: u32::MAX,
            down: conflicted.clone(),
            visited: HashSet::new(),
            named_by: HashMap::new(),
            up: conflicted.clone(),
            subgraph: HashSet::new(),
            conflicted,
        }
    }

    /// The subgraph once it is complete, `None` when the budget ends before.
    pub(super) fn advance<S: EventSource<Id = Id>>(
        &mut self,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<Option<HashSet<Id>>, S> {
        while reading.spend() {
            if let Some(&id) = self.conflicted.get(self.measured) {
                self.measured += 1;
                if auth::is_auth_type(reading.get(id)?.event.pdu().event_type()) {
                    self.floor = self.floor.min(reading.generation(id)?);
                }
            } else if let Some(id) = self.down.pop() {
                if self.visited.insert(id) && reading.generation(id)? > self.floor {
                    for &auth_id in reading.auth_events(id)?.iter() {
                        self.named_by.entry(auth_id).or_default().push(id);
                        self.down.push(auth_id);
                    }
                }
            } else if let Some(id) = self.up.pop() {
                if self.subgraph.insert(id) {
                    self.up.extend(self.named_by.get(&id).into_iter().flatten());
                }
            } else {
                return Ok(Some(mem::take(&mut self.subgraph)));
            }
        }
        Ok(None)
    }
}
