//! Memberships of local users in rooms that this server is not in, or not any more: invitations that came from another
//! server, knocks that were sent to one, and how they ended.
//!
//! Nothing here is part of a room's graph: the member event is kept as it came, and what the user may know of the room
//! beside it. Invariants:
//! - Each row of `OUTSIDE` has one of `USER_ROOMS` that says the same membership, so that whatever lists a user's rooms
//!   finds them like all others.
//! - What the room's own state comes to say of a user takes the row away ([`RoomWriter`]): entering the room merges the
//!   two. A row that the state says nothing of stays, for its event may still be on its way.
//!
//! [`RoomWriter`]: crate::RoomWriter

use std::collections::BTreeSet;

use event::auth::Membership;
use event::{EventId, NumberRule, Pdu, RoomRules, RoomVersion, canonical, json, render};
use names::{RoomSn, UserSn};
use serde::{Deserialize, Serialize};
use store::{At, Blob, Direction, Read, Record, Txn};

use crate::append::string_member;
use crate::schema::{OUTSIDE, STRIPPED_STATE, USER_ROOMS};
use crate::{EventNo, Result, UserRoom};

/// The membership of a local user in a room that this server is not in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    version: String,
    event_id: String,
    json: String,
    /// Servers that were in the room when this began: whom to ask when it is to end.
    pub servers: Vec<String>,
}

impl Record for Outside {}

/// The most bytes of stripped state that are kept. What another server says of a room is cut off there.
const MOST_STRIPPED_BYTES: usize = 64 << 10;
/// The most events that another server's description of a room is made of.
const MOST_STRIPPED: usize = 100;

impl Outside {
    /// A membership by its event.
    pub fn new(rules: &RoomRules, member: &Pdu, servers: Vec<String>) -> Self {
        Self {
            version: rules.version.to_string(),
            event_id: member.event_id().to_string(),
            json: member.json().to_owned(),
            servers,
        }
    }

    /// The rules of the room's version.
    pub fn rules(&self) -> Option<&'static RoomRules> {
        self.version
            .parse::<RoomVersion>()
            .ok()
            .map(RoomVersion::rules)
    }

    /// The member event's id.
    pub fn event_id(&self) -> EventId {
        EventId::from(self.event_id.as_str())
    }

    /// The member event, canonical JSON.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The room's id.
    pub fn room_id(&self) -> String {
        string_member(&self.json, "room_id")
            .map_or_else(String::new, |room_id| room_id.into_owned())
    }

    /// Who sent the member event.
    pub fn sender(&self) -> String {
        string_member(&self.json, "sender").map_or_else(String::new, |sender| sender.into_owned())
    }

    /// The membership that it says.
    pub fn membership(&self) -> Membership {
        json::member(&self.json, "content")
            .and_then(Membership::of_content)
            .unwrap_or(Membership::Other)
    }
}

/// The membership of a user that stands beside the room's state, if there is one.
pub fn get(from: &impl Read, room: RoomSn, user: UserSn) -> Result<Option<Outside>> {
    Ok(OUTSIDE.get(from, &(room, user))?)
}

/// Whether the user is invited to, or has knocked on, a room that this server is not in.
pub fn is_open(from: &impl Read, room: RoomSn, user: UserSn) -> Result<bool> {
    let outside = get(from, room, user)?;
    Ok(outside.is_some_and(|outside| {
        matches!(outside.membership(), Membership::Invite | Membership::Knock)
    }))
}

/// The local users with such a membership in the room.
pub fn users(from: &impl Read, room: RoomSn) -> Result<Vec<(UserSn, Outside)>> {
    let mut found = Vec::new();
    for row in OUTSIDE.scan(from, &(room,), Direction::Forward) {
        let ((_, user), outside) = row?;
        found.push((user, outside));
    }
    Ok(found)
}

/// Keeps a membership; `stripped` is what the user may know of the room meanwhile ([`stripped_state`]).
pub fn put(
    txn: &mut Txn,
    room: RoomSn,
    user: UserSn,
    outside: &Outside,
    stripped: Option<Vec<u8>>,
) -> Result<()> {
    // Who was in the room once may go on reading what was said up to then.
    let before = USER_ROOMS.get(txn, &(user, room))?;
    let place = before.map_or(EventNo::MIN, |before| before.value.place);
    let entry = UserRoom::new(outside.membership(), place);
    USER_ROOMS.put(txn, &(user, room), &At::now(entry));
    match stripped {
        Some(stripped) => STRIPPED_STATE.put(txn, &(user, room), &Blob(stripped)),
        None => STRIPPED_STATE.delete(txn, &(user, room)),
    }
    OUTSIDE.put(txn, &(room, user), outside);
    Ok(())
}

/// Stripped state from what another server says of a room, and the member event it goes with. What is no state event, or
/// is said of an entry a second time, is left out.
/// <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
pub fn stripped_state<'e>(described: impl IntoIterator<Item = &'e str>, member: &Pdu) -> Vec<u8> {
    let mut last = Vec::new();
    render::stripped_state(&mut last, member.json());
    let mut out = vec![b'['];
    let mut seen = BTreeSet::from([(
        "m.room.member".to_owned(),
        member.state_key().unwrap_or_default().to_owned(),
    )]);
    for event in described.into_iter().take(MOST_STRIPPED) {
        let Ok(event) = canonical::from_text(event, NumberRule::Integers) else {
            continue;
        };
        let Some(entry) = entry_of(&event) else {
            continue;
        };
        let before = out.len();
        render::stripped_state(&mut out, &event);
        out.push(b',');
        if out.len() + last.len() > MOST_STRIPPED_BYTES || !seen.insert(entry) {
            out.truncate(before);
        }
    }
    out.extend_from_slice(&last);
    out.push(b']');
    out
}

/// Type and state key of what has all that stripped state needs.
fn entry_of(event: &str) -> Option<(String, String)> {
    if !json::is_object(event) || !json::member(event, "content").is_some_and(json::is_object) {
        return None;
    }
    string_member(event, "sender")?;
    let event_type = string_member(event, "type")?.into_owned();
    let state_key = string_member(event, "state_key")?.into_owned();
    Some((event_type, state_key))
}
