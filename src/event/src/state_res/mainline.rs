//! Mainline ordering: events by how old the power levels are that they rest on.
//!
//! Source: <https://spec.matrix.org/v1.19/rooms/v2/#definitions>.

use std::collections::HashMap;

use super::loaded::Loaded;
use super::{EventSource, Resolved};
use crate::event_id::EventId;

/// Sorts the events by the mainline of `power_levels`, from earliest to latest.
pub(super) fn sort<S: EventSource>(
    events: impl IntoIterator<Item = S::Id>,
    power_levels: Option<S::Id>,
    loaded: &mut Loaded<'_, S>,
) -> Resolved<Vec<S::Id>, S> {
    let mut positions = mainline(power_levels, loaded)?;
    let mut ranked: Vec<(isize, i64, EventId, S::Id)> = Vec::new();
    for id in events {
        let position = position(id, &mut positions, loaded)?;
        let entry = loaded.get(id)?;
        let pdu = entry.event.pdu();
        // Greater positions are older and go first.
        ranked.push((
            -position,
            pdu.origin_server_ts(),
            pdu.event_id().clone(),
            id,
        ));
    }
    ranked.sort_unstable();
    Ok(ranked.into_iter().map(|(_, _, _, id)| id).collect())
}

/// For each event of the mainline its distance from the current power levels.
fn mainline<S: EventSource>(
    mut power_levels: Option<S::Id>,
    loaded: &mut Loaded<'_, S>,
) -> Resolved<HashMap<S::Id, isize>, S> {
    let mut positions = HashMap::new();
    while let Some(id) = power_levels {
        positions.insert(id, positions.len() as isize);
        // `auth_events` has no cycles unless SHA-256 is broken; in versions 1 and 2 ids are chosen, so look.
        power_levels = loaded
            .power_levels_of(id)?
            .filter(|next| !positions.contains_key(next));
    }
    Ok(positions)
}

/// The mainline position of an event; `isize::MAX` is the specification's infinity. Positions of the power levels
/// events on the way are remembered in `positions`, so that each edge is walked once per resolution.
fn position<S: EventSource>(
    id: S::Id,
    positions: &mut HashMap<S::Id, isize>,
    loaded: &mut Loaded<'_, S>,
) -> Resolved<isize, S> {
    let mut way = Vec::new();
    let mut at = Some(id);
    let position = loop {
        match at {
            None => break isize::MAX,
            Some(at) if positions.contains_key(&at) => break positions[&at],
            Some(event) => {
                way.push(event);
                at = loaded
                    .power_levels_of(event)?
                    .filter(|next| !way.contains(next));
            }
        }
    };
    positions.extend(way.into_iter().map(|id| (id, position)));
    Ok(position)
}
