//! Events as other servers are given them: which of a room's events a server may see, and their bytes.
//!
//! A server that is in the room sees what its users may see. What is hidden from them it is given redacted, since it
//! needs the graph; so is what was redacted. All else goes out as the bytes that are stored.
//!
//! Deliberately not here: whether a server may ask at all ([`crate::servers`], [`crate::server_acl`]).

use std::cell::OnceCell;

use event::auth::Membership;
use event::{RoomRules, identifier, json, redaction};
use names::RoomSn;
use store::Read;

use crate::visibility::{Changes, HistoryVisibility, membership_in, memberships, visibility_in};
use crate::{EventNo, Result, StoredEvent, event_log, graph, members, servers};

/// What one server, which is in a room, may see of it.
pub struct ServerVisibility<'a> {
    room: RoomSn,
    server: &'a str,
    visibility: Changes,
    /// Where the server's present time in the room began.
    joined_since: Option<EventNo>,
    /// The server's users and their memberships over time; read when they are first asked for.
    users: OnceCell<Vec<User>>,
}

struct User {
    user_id: String,
    /// Oldest first.
    membership: Vec<(EventNo, Membership)>,
}

/// Members looked at for users of the server. In rooms with more, what is hidden by a closed history from before the
/// server came is hidden also from those of its users who were in the room once already.
const MOST_MEMBERS: usize = 10_000;

impl<'a> ServerVisibility<'a> {
    /// Reads what is needed to judge nearly all events.
    ///
    /// # Errors
    /// If the room can't be read.
    pub fn of(from: &impl Read, room: RoomSn, server: &'a str) -> Result<Self> {
        Ok(Self {
            room,
            server,
            visibility: Changes::read(from, room)?,
            joined_since: servers::joined_since(from, room, server)?,
            users: OnceCell::new(),
        })
    }

    /// Whether the server may see the event at `no`. Outliers stand on no state that is known; they are named by
    /// what the server has, and seen.
    ///
    /// # Errors
    /// If the room can't be read.
    pub fn allows(&self, from: &impl Read, no: EventNo, event: &StoredEvent) -> Result<bool> {
        if no < EventNo::HISTORY || self.is_own(event) {
            return Ok(true);
        }
        if no.is_past() {
            return self.allows_past(from, no, event);
        }
        let visibility = self.visibility.at(no);
        if is_open(visibility) || self.joined_since.is_some_and(|since| since <= no) {
            return Ok(true);
        }
        for user in self.users(from)? {
            let changes = user.membership.partition_point(|(at, _)| *at <= no);
            let is = changes.checked_sub(1).map(|last| user.membership[last].1);
            if is.is_some_and(|is| lets_in(visibility, is)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether one of the server's own users sent the event, or is the member that it is about.
    fn is_own(&self, event: &StoredEvent) -> bool {
        ["sender", "state_key"].into_iter().any(|key| {
            let id = json::member(&event.json, key).and_then(json::string);
            id.is_some_and(|id| id.starts_with('@') && identifier::domain(&id) == Some(self.server))
        })
    }

    /// The same for what happened before this server came: judged by the states that the event stands between.
    fn allows_past(&self, from: &impl Read, no: EventNo, event: &StoredEvent) -> Result<bool> {
        let (Some(before), Some(after)) = (graph::state_before(no, event), event.state_after(no))
        else {
            return Ok(false);
        };
        let visibility = visibility_in(from, self.room, before)?;
        let visibility = visibility.min(visibility_in(from, self.room, after)?);
        if is_open(visibility) {
            return Ok(true);
        }
        for user in self.users(from)? {
            let is = membership_in(from, self.room, &user.user_id, after)?;
            if lets_in(visibility, is) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// O(members of other servers), bounded: only where the history is closed and older than the server's time in the
    /// room, and once a request.
    fn users(&self, from: &impl Read) -> Result<&[User]> {
        if let Some(users) = self.users.get() {
            return Ok(users);
        }
        let mut users = Vec::new();
        for (user, user_id, _) in members::of_server(from, self.room, self.server, MOST_MEMBERS)? {
            users.push(User {
                membership: memberships(from, self.room, user, &user_id)?,
                user_id,
            });
        }
        Ok(self.users.get_or_init(|| users))
    }
}

fn is_open(visibility: HistoryVisibility) -> bool {
    visibility <= HistoryVisibility::Shared
}

fn lets_in(visibility: HistoryVisibility, is: Membership) -> bool {
    match is {
        Membership::Join => true,
        Membership::Invite => visibility == HistoryVisibility::Invited,
        _ => false,
    }
}

/// Events read at once where there are many.
const EVENTS_AT_ONCE: usize = 500;

/// Writes the events of many numbers as a JSON list.
///
/// # Errors
/// If the room can't be read.
pub fn write_numbers(
    out: &mut Vec<u8>,
    from: &impl Read,
    (room, rules): (RoomSn, &RoomRules),
    numbers: &[EventNo],
) -> Result<()> {
    out.push(b'[');
    for (index, numbers) in numbers.chunks(EVENTS_AT_ONCE).enumerate() {
        let events = event_log::get_many(from, room, numbers)?;
        if index > 0 && !events.is_empty() {
            out.push(b',');
        }
        write(out, from, (room, rules), &events, None)?;
    }
    out.push(b']');
    Ok(())
}

/// Writes events as a JSON list; those that `visibility` hides are redacted.
///
/// # Errors
/// If the room can't be read.
pub fn write_events(
    out: &mut Vec<u8>,
    from: &impl Read,
    (room, rules): (RoomSn, &RoomRules),
    events: &[(EventNo, StoredEvent)],
    visibility: &ServerVisibility<'_>,
) -> Result<()> {
    out.push(b'[');
    write(out, from, (room, rules), events, Some(visibility))?;
    out.push(b']');
    Ok(())
}

fn write(
    out: &mut Vec<u8>,
    from: &impl Read,
    (room, rules): (RoomSn, &RoomRules),
    events: &[(EventNo, StoredEvent)],
    visibility: Option<&ServerVisibility<'_>>,
) -> Result<()> {
    let ids = events.iter().map(|(_, event)| &event.event_id);
    let marks = event_log::marks_of(from, room, ids)?;
    for (index, ((no, event), marks)) in events.iter().zip(marks).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let hidden = match visibility {
            Some(visibility) => !visibility.allows(from, *no, event)?,
            None => false,
        };
        match hidden || marks.redacted_by.is_some() {
            true => out.extend_from_slice(&redaction::redact(rules, &event.json)),
            false => out.extend_from_slice(event.json.as_bytes()),
        }
    }
    Ok(())
}
