//! Typing and presence: kept in memory alone, with positions of the same order as everything else.
//! <https://spec.matrix.org/v1.19/client-server-api/#typing-notifications>,
//! <https://spec.matrix.org/v1.19/client-server-api/#presence>

use std::collections::{BTreeMap, HashMap};

use event::json;
use names::{RoomSn, UserSn};
use parking_lot::RwLock;
use store::{Position, Read};

use crate::Result;

#[derive(Default)]
struct TypingRoom {
    /// Until when each types, in milliseconds since 1970.
    until: BTreeMap<UserSn, u64>,
    changed: Position,
}

/// Who is typing, by room.
#[derive(Default)]
pub struct Typing {
    rooms: RwLock<HashMap<RoomSn, TypingRoom>>,
}

impl Typing {
    /// Whether setting this would change what the room is told.
    pub fn would_change(&self, room: RoomSn, user: UserSn, typing: bool) -> bool {
        let rooms = self.rooms.read();
        rooms
            .get(&room)
            .is_some_and(|typists| typists.until.contains_key(&user))
            != typing
    }

    /// Sets when a user's typing ends, or ends it.
    pub fn set(&self, room: RoomSn, user: UserSn, until_ms: Option<u64>, position: Position) {
        let mut rooms = self.rooms.write();
        let typists = rooms.entry(room).or_default();
        match until_ms {
            Some(until_ms) => typists.until.insert(user, until_ms),
            None => typists.until.remove(&user),
        };
        typists.changed = position;
    }

    /// Lets a user go on typing; no one is told anything new.
    pub fn extend(&self, room: RoomSn, user: UserSn, until_ms: u64) {
        let mut rooms = self.rooms.write();
        if let Some(until) = rooms
            .get_mut(&room)
            .and_then(|room| room.until.get_mut(&user))
        {
            *until = until_ms;
        }
    }

    /// Those whose typing has ended by itself.
    pub fn expired(&self, now_ms: u64) -> Vec<(RoomSn, UserSn)> {
        let rooms = self.rooms.read();
        let mut found = Vec::new();
        for (room, typists) in rooms.iter() {
            found.extend(
                typists
                    .until
                    .iter()
                    .filter(|(_, until)| **until <= now_ms)
                    .map(|(user, _)| (*room, *user)),
            );
        }
        found
    }

    /// Who types, if that changed after `since`; without one, if anybody types.
    pub fn since(&self, room: RoomSn, since: Option<Position>) -> Option<Vec<UserSn>> {
        let rooms = self.rooms.read();
        let typists = rooms.get(&room)?;
        let tell = match since {
            Some(since) => typists.changed > since,
            None => !typists.until.is_empty(),
        };
        tell.then(|| typists.until.keys().copied().collect())
    }
}

/// Appends an `m.typing` event.
pub fn write_typing(out: &mut Vec<u8>, from: &impl Read, users: &[UserSn]) -> Result<()> {
    out.extend_from_slice(b"{\"type\":\"m.typing\",\"content\":{\"user_ids\":[");
    for (n, id) in names::user_ids(from, users)?.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json::write_string(out, id);
    }
    out.extend_from_slice(b"]}}");
    Ok(())
}

/// A user's presence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceState {
    /// `online`, `unavailable` or `offline`.
    pub presence: &'static str,
    /// `status_msg`.
    pub status: Option<String>,
    /// When the user was last active, in milliseconds since 1970; zero for never.
    pub last_active_ms: u64,
    /// When the user last synced; of users of other servers, when their server last spoke of them.
    pub last_sync_ms: u64,
    /// Where it changed last.
    pub changed: Position,
}

/// Who is online.
#[derive(Default)]
pub struct Presence {
    users: RwLock<HashMap<UserSn, PresenceState>>,
}

impl Presence {
    /// A user's presence.
    pub fn get(&self, user: UserSn) -> Option<PresenceState> {
        self.users.read().get(&user).cloned()
    }

    /// Sets a user's presence.
    pub fn set(&self, user: UserSn, state: PresenceState) {
        self.users.write().insert(user, state);
    }

    /// Notes that a user synced; nobody is told.
    pub fn touch(&self, user: UserSn, now_ms: u64, active: bool) {
        if let Some(state) = self.users.write().get_mut(&user) {
            state.last_sync_ms = now_ms;
            if active {
                state.last_active_ms = now_ms;
            }
        }
    }

    /// Those who are not offline and were not heard of for too long: local users who have not synced since `local_ms`,
    /// others of whom their server has said nothing since `remote_ms`.
    pub fn gone(&self, local_ms: u64, remote_ms: u64) -> Vec<UserSn> {
        let users = self.users.read();
        let is_gone = |(user, state): &(&UserSn, &PresenceState)| {
            let before_ms = if user.is_local() { local_ms } else { remote_ms };
            state.presence != "offline" && state.last_sync_ms < before_ms
        };
        users
            .iter()
            .filter(is_gone)
            .map(|(user, _)| *user)
            .collect()
    }

    /// The local users who are not offline.
    pub fn present(&self) -> Vec<UserSn> {
        let users = self.users.read();
        let is_present = |(user, state): &(&UserSn, &PresenceState)| {
            user.is_local() && state.presence != "offline"
        };
        users
            .iter()
            .filter(is_present)
            .map(|(user, _)| *user)
            .collect()
    }

    /// The users whose presence changed after `since`; without one, all that are known.
    pub fn since(&self, since: Option<Position>) -> Vec<(UserSn, PresenceState)> {
        let users = self.users.read();
        users
            .iter()
            .filter(|(_, state)| since.is_none_or(|since| state.changed > since))
            .map(|(user, state)| (*user, state.clone()))
            .collect()
    }

    /// Whether anyone's presence changed after `since`.
    pub fn changed_since(&self, since: Position) -> bool {
        self.users
            .read()
            .values()
            .any(|state| state.changed > since)
    }
}
