//! Orders in which events can be taken in: each after those that it follows, or that authorise it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use super::Verified;
use crate::{Error, Result};

/// The events, each after those of them that it follows.
///
/// # Errors
/// [`Error::BadEvent`] if they follow each other in a circle.
pub fn in_prev_order(events: Vec<Verified>) -> Result<Vec<Verified>> {
    ordered(events, |event| event.pdu.prev_events().collect())
        .ok_or_else(|| Error::BadEvent("the events follow each other in a circle".to_owned()))
}

/// The events, each after those of them that it names in `auth_events`.
///
/// # Errors
/// [`Error::BadEvent`] if they name each other in a circle.
pub fn in_auth_order(events: Vec<Verified>) -> Result<Vec<Verified>> {
    ordered(events, |event| event.pdu.auth_events().collect())
        .ok_or_else(|| Error::BadEvent("the auth events go in a circle".to_owned()))
}

fn ordered(
    events: Vec<Verified>,
    named_by: impl for<'e> Fn(&'e Verified) -> Vec<&'e str>,
) -> Option<Vec<Verified>> {
    let mut by_id: BTreeMap<&str, &Verified> = BTreeMap::new();
    for event in &events {
        by_id.insert(event.pdu.event_id().as_str(), event);
    }
    let order = in_order(&by_id, named_by)?;
    Some(order.into_iter().cloned().collect())
}

/// Events in an order in which each comes after those that it names; of those that are free to come the first by
/// depth, time and id. Nothing if they name each other in a circle.
pub(crate) fn in_order<'e>(
    by_id: &BTreeMap<&'e str, &'e Verified>,
    named_by: impl Fn(&'e Verified) -> Vec<&'e str>,
) -> Option<Vec<&'e Verified>> {
    let rank = |event: &'e Verified| {
        let pdu = &event.pdu;
        Reverse((pdu.depth(), pdu.origin_server_ts(), pdu.event_id().as_str()))
    };
    let mut waits_for: HashMap<&str, usize> = HashMap::new();
    let mut waited_for_by: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut ready = BinaryHeap::new();
    for (id, event) in by_id {
        let mut named = named_by(event);
        named.sort_unstable();
        named.dedup();
        named.retain(|name| by_id.contains_key(name));
        for name in &named {
            waited_for_by.entry(name).or_default().push(id);
        }
        waits_for.insert(id, named.len());
        if named.is_empty() {
            ready.push(rank(event));
        }
    }
    let mut order = Vec::with_capacity(by_id.len());
    while let Some(Reverse((_, _, id))) = ready.pop() {
        order.extend(by_id.get(id).copied());
        for later in waited_for_by.remove(id).unwrap_or_default() {
            let count = waits_for.get_mut(later)?;
            *count -= 1;
            if *count == 0 {
                ready.push(rank(by_id.get(later)?));
            }
        }
    }
    (order.len() == by_id.len()).then_some(order)
}
