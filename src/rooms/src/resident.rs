//! What a server gives to another whose user joins a room by it: the state before the join, and what authorises it.
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>

use std::collections::BTreeSet;

use event::json;
use names::RoomSn;
use store::Read;

use crate::graph::{self, StateOf};
use crate::{EventNo, Flags, Result, auth_index, event_log, state};

/// Whether the members are part of what is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Members {
    /// All of them.
    All,
    /// A few by whom the room is shown, and those that authorise something else, in the auth chain: a faster join asks
    /// for the rest later.
    Omitted,
}

/// The state right before an accepted event of the room, and the auth chains of its events and of the event itself,
/// without what is in the state. Nothing if there is no such event.
///
/// # Errors
/// If the store fails.
pub fn state_before(
    from: &impl Read,
    room: RoomSn,
    event_id: &str,
    members: Members,
) -> Result<Option<StateOf<EventNo>>> {
    let Some(no) = event_log::find_in(from, room, event_id)? else {
        return Ok(None);
    };
    let event = event_log::get(from, room, no)?;
    let Some(event) = event.filter(|event| !event.flags.has(Flags::REJECTED)) else {
        return Ok(None);
    };
    let Some(point) = graph::state_before(no, &event) else {
        return Ok(None);
    };
    let mut numbers = BTreeSet::new();
    let mut omitted = BTreeSet::new();
    for entry in state::all_at(from, room, point)? {
        if members == Members::All || entry.event_type != "m.room.member" {
            numbers.insert(entry.event);
        } else {
            omitted.insert(entry.event);
        }
    }
    numbers.extend(heroes(from, room, omitted)?);
    let mut named = BTreeSet::new();
    let own = event.outlier.unwrap_or(no);
    for no in numbers.iter().chain([&own]) {
        if let Some(node) = auth_index::node(from, room, *no)? {
            named.extend(node.auth_events);
        }
    }
    let mut chain = auth_index::chain(from, room, named)?;
    chain.retain(|no| !numbers.contains(no));
    Ok(Some(StateOf {
        state: numbers.into_iter().collect(),
        auth_chain: chain.into_iter().collect(),
    }))
}

/// Members given all the same when the others are omitted: a room without a name is shown by theirs.
const MOST_HEROES: usize = 5;

/// Members that are looked at for these.
const MOST_LOOKED_AT: usize = 50;

fn heroes(from: &impl Read, room: RoomSn, members: BTreeSet<EventNo>) -> Result<Vec<EventNo>> {
    let members: Vec<EventNo> = members.into_iter().take(MOST_LOOKED_AT).collect();
    let mut heroes = Vec::new();
    for (no, event) in event_log::get_many(from, room, &members)? {
        let content = json::member(&event.json, "content").unwrap_or("{}");
        let membership = json::member(content, "membership").and_then(json::string);
        if matches!(membership.as_deref(), Some("join" | "invite")) {
            heroes.push(no);
        }
        if heroes.len() == MOST_HEROES {
            break;
        }
    }
    Ok(heroes)
}
