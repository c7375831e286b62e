//! Reverse topological power ordering.
//!
//! Source: <https://spec.matrix.org/v1.19/rooms/v2/#definitions>.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use super::loaded::Loaded;
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

/// Sorts the events, and those of their auth chains that are in `full_conflicted_set`, from earliest to latest.
pub(super) fn sort<S: EventSource>(
    rules: &RoomRules,
    create: Option<&Arc<AuthEvent>>,
    events: Vec<S::Id>,
    full_conflicted_set: &HashSet<S::Id>,
    loaded: &mut Loaded<'_, S>,
) -> Resolved<Vec<S::Id>, S> {
    // An event comes after those of its auth events that are in the graph.
    let mut waits_for: HashMap<S::Id, usize> = HashMap::new();
    let mut waited_for_by: HashMap<S::Id, Vec<S::Id>> = HashMap::new();
    let mut open = events;
    while let Some(id) = open.pop() {
        if waits_for.contains_key(&id) {
            continue;
        }
        let within: HashSet<S::Id> = loaded
            .get(id)?
            .auth_events
            .iter()
            .copied()
            .filter(|auth_id| full_conflicted_set.contains(auth_id))
            .collect();
        waits_for.insert(id, within.len());
        for auth_id in within {
            waited_for_by.entry(auth_id).or_default().push(id);
            open.push(auth_id);
        }
    }
    let mut ready = BinaryHeap::new();
    for (&id, &count) in &waits_for {
        if count == 0 {
            ready.push(Reverse(rank(rules, create, id, loaded)?));
        }
    }
    let mut sorted = Vec::with_capacity(waits_for.len());
    while let Some(Reverse(Rank { id, .. })) = ready.pop() {
        sorted.push(id);
        for &later in waited_for_by.get(&id).into_iter().flatten() {
            let Some(count) = waits_for.get_mut(&later) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                ready.push(Reverse(rank(rules, create, later, loaded)?));
            }
        }
    }
    Ok(sorted)
}

fn rank<S: EventSource>(
    rules: &RoomRules,
    create: Option<&Arc<AuthEvent>>,
    id: S::Id,
    loaded: &mut Loaded<'_, S>,
) -> Resolved<Rank<S::Id>, S> {
    let sender_level = Reverse(sender_level(rules, create, id, loaded)?);
    let entry = loaded.get(id)?;
    let pdu = entry.event.pdu();
    let (origin_server_ts, event_id) = (pdu.origin_server_ts(), pdu.event_id().clone());
    Ok(Rank {
        sender_level,
        origin_server_ts,
        event_id,
        id,
    })
}

/// The sender's power level by the event's own auth events. Without a create event to know the creator by (only the
/// create event itself has none), and with levels that can't be read, it is 0.
fn sender_level<S: EventSource>(
    rules: &RoomRules,
    create: Option<&Arc<AuthEvent>>,
    id: S::Id,
    loaded: &mut Loaded<'_, S>,
) -> Resolved<PowerLevel, S> {
    let entry = loaded.get(id)?;
    let mut power_levels = None;
    let mut named_create = None;
    for &auth_id in entry.auth_events.iter() {
        let event = loaded.get(auth_id)?.event;
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
