//! Reverse topological power ordering.
//!
//! Source: <https://spec.matrix.org/v1.19/rooms/v2/#definitions>.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::Hash;
use std::mem;
use std::sync::Arc;

use super::reading::Reading;
use super::{EventSource, Resolved};
use crate::auth::{AuthEvent, PowerLevel, PowerLevels};
use crate::event_id::EventId;
use crate::room_version::{RoomIdFormat, RoomRules};

/// What decides between events of which neither comes first in the graph; the smallest goes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank<Id> {
    sender_level: Reverse<PowerLevel>,
    origin_server_ts: i64,
    event_id: EventId,
    id: Id,
}

/// Sorts power events, and those of their auth chains that are in the full conflicted set, from earliest to latest.
pub(super) struct PowerOrder<Id> {
    rules: RoomRules,
    create: Option<Arc<AuthEvent>>,
    /// Events that have not been taken into the graph.
    open: Vec<Id>,
    /// For each event of the graph how many of its auth events come before it and are not sorted yet.
    waits_for: HashMap<Id, usize>,
    waited_for_by: HashMap<Id, Vec<Id>>,
    /// Events of the graph that have not been asked whether they wait.
    unasked: Vec<Id>,
    ready: BinaryHeap<Reverse<Rank<Id>>>,
    sorted: Vec<Id>,
}

impl<Id: Copy + Eq + Hash + Ord> PowerOrder<Id> {
    pub(super) fn new(
        rules: RoomRules,
        create: Option<Arc<AuthEvent>>,
        power_events: Vec<Id>,
    ) -> Self {
        PowerOrder {
            rules,
            create,
            open: power_events,
            waits_for: HashMap::new(),
            waited_for_by: HashMap::new(),
            unasked: Vec::new(),
            ready: BinaryHeap::new(),
            sorted: Vec::new(),
        }
    }

    /// The sorted events, `None` when the budget ends before.
    pub(super) fn advance<S: EventSource<Id = Id>>(
        &mut self,
        full_conflicted_set: &HashSet<Id>,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<Option<Vec<Id>>, S> {
        while reading.spend() {
            if let Some(id) = self.open.pop() {
                self.add(id, full_conflicted_set, reading)?;
            } else if let Some(id) = self.unasked.pop() {
                if self.waits_for.get(&id) == Some(&0) {
                    self.make_ready(id, reading)?;
                }
            } else if let Some(Reverse(Rank { id, .. })) = self.ready.pop() {
                self.sorted.push(id);
                for later in self.waited_for_by.remove(&id).unwrap_or_default() {
                    let Some(count) = self.waits_for.get_mut(&later) else {
                        continue;
                    };
                    *count -= 1;
                    if *count == 0 {
                        self.make_ready(later, reading)?;
                    }
                }
            } else {
                return Ok(Some(mem::take(&mut self.sorted)));
            }
        }
        Ok(None)
    }

    /// Takes an event into the graph: it comes after those of its auth events that are in the full conflicted set.
    fn add<S: EventSource<Id = Id>>(
        &mut self,
        id: Id,
        full_conflicted_set: &HashSet<Id>,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<(), S> {
        if self.waits_for.contains_key(&id) {
            return Ok(());
        }
        let entry = reading.get(id)?;
        let named: HashSet<Id> = entry.auth_events.iter().copied().collect();
        let mut count = 0;
        for auth_id in named {
            if full_conflicted_set.contains(&auth_id) {
                count += 1;
                self.waited_for_by.entry(auth_id).or_default().push(id);
                self.open.push(auth_id);
            }
        }
        self.waits_for.insert(id, count);
        self.unasked.push(id);
        Ok(())
    }

    fn make_ready<S: EventSource<Id = Id>>(
        &mut self,
        id: Id,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<(), S> {
        let level = sender_level(&self.rules, self.create.as_ref(), id, reading)?;
        let event = reading.get(id)?.event;
        self.ready.push(Reverse(Rank {
            sender_level: Reverse(level),
            origin_server_ts: event.pdu().origin_server_ts(),
            event_id: event.pdu().event_id().clone(),
            id,
        }));
        Ok(())
    }
}

/// The sender's power level by the event's own auth events. Without a create event to know the creator by (only the
/// create event itself has none), and with levels that can't be read, it is 0.
fn sender_level<S: EventSource>(
    rules: &RoomRules,
    create: Option<&Arc<AuthEvent>>,
    id: S::Id,
    reading: &mut Reading<'_, S>,
) -> Resolved<PowerLevel, S> {
    let entry = reading.get(id)?;
    let mut power_levels = None;
    let mut named_create = None;
    for &auth_id in entry.auth_events.iter() {
        let event = reading.get(auth_id)?.event;
        if event.pdu().is_state("m.room.power_levels", "") {
            power_levels.get_or_insert(event);
        } else if event.pdu().is_state("m.room.create", "") {
            named_create.get_or_insert(event);
        }
    }
    let create = match rules.room_id {
        RoomIdFormat::Domain => named_create.as_ref(),
        RoomIdFormat::CreateHash => create,
    };
    let levels = match create {
        Some(create) => PowerLevels::of_events(rules, create, power_levels.as_deref()),
        None => None,
    };
    Ok(levels.map_or(PowerLevel::Level(0), |levels| {
        levels.user(entry.event.pdu().sender())
    }))
}
