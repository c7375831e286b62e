//! The presence of those with whom the user shares a room: what changed, and that of those who are new.
//! <https://spec.matrix.org/v1.19/client-server-api/#presence>

use std::collections::BTreeMap;

use event::auth::Membership;
use names::{RoomSn, UserSn};
use rooms::{EventNo, UserRoom, event_log, members, state};
use store::{At, Position, Read, View};

use crate::account::write_presence;
use crate::devices::Shares;
use crate::response::Request;
use crate::{Memory, PresenceState, Result};

/// Appends the presences that the device does not know. Says whether there are any.
pub fn write_presences(
    out: &mut Vec<u8>,
    view: &View,
    memory: &Memory,
    rooms: &[(RoomSn, At<UserRoom>)],
    changed: &dyn Fn(RoomSn) -> bool,
    request: &Request<'_>,
) -> Result<bool> {
    if !request.filter.presence.shows("m.presence", None) {
        return Ok(false);
    }
    let since = request.since.map(|since| since.position);
    let mut told: BTreeMap<UserSn, PresenceState> =
        memory.presence.since(since).into_iter().collect();
    match since {
        None => told.retain(|_, state| state.presence != "offline" || state.status.is_some()),
        Some(since) => {
            for user in met(view, memory, rooms, changed, since)? {
                if let Some(state) = memory.presence.get(user) {
                    told.insert(user, state);
                }
            }
        }
    }
    if told.is_empty() {
        return Ok(false);
    }
    let from = since.unwrap_or(view.position());
    let shares = Shares::read(view, request.user, request.user_id, rooms, from)?;
    let mut first = true;
    for (user, state) in told {
        if user != request.user && !shares.shares_now(user)? {
            continue;
        }
        let user_id = names::user_id(view, user)?;
        if !request.filter.presence.shows("m.presence", Some(&user_id)) {
            continue;
        }
        out.extend_from_slice(if first {
            b",\"presence\":{\"events\":["
        } else {
            b","
        });
        first = false;
        write_presence(out, &user_id, &state, request.now_ms);
    }
    if !first {
        out.extend_from_slice(b"]}");
    }
    Ok(!first)
}

/// Those whom the user may have met since: who came into a room of the user's, and who was in a room
/// that the user came into.
fn met(
    view: &View,
    memory: &Memory,
    rooms: &[(RoomSn, At<UserRoom>)],
    changed: &dyn Fn(RoomSn) -> bool,
    since: Position,
) -> Result<Vec<UserSn>> {
    let mut found = Vec::new();
    for (room, of) in rooms {
        if of.value.membership() != Membership::Join || !changed(*room) {
            continue;
        }
        if of.position > since {
            for (user, state) in memory.presence.since(None) {
                let is_there = members::membership(view, *room, user)? == Membership::Join;
                if state.presence != "offline" && is_there {
                    found.push(user);
                }
            }
            continue;
        }
        let start = event_log::after_position(view, *room, since)?;
        for (_, change) in state::changes(view, *room, start, EventNo::MAX)? {
            if change.event_type == "m.room.member"
                && let Some(user) = names::user_sn(view, &change.state_key)?
                && members::membership(view, *room, user)? == Membership::Join
            {
                found.push(user);
            }
        }
    }
    Ok(found)
}
