//! `device_lists`: whose keys a viewer should ask for again, exact over joins and leaves.
//! <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user>

use std::collections::{BTreeSet, HashSet};

use event::auth::Membership;
use event::json;
use names::{RoomSn, UserSn};
use rooms::visibility::Visibility;
use rooms::{EventNo, Point, UserRoom, event_log, members, partial, state};
use store::{At, Position, View};
use users::keys::device_lists::{self, DeviceLists, SharedRooms};

use crate::Result;

/// With whom a user shares rooms, now and at a position before.
pub struct Shares<'a> {
    view: &'a View,
    since: Position,
    now: HashSet<RoomSn>,
    before: HashSet<RoomSn>,
}

impl<'a> Shares<'a> {
    /// Reads in which rooms the user is, and was at `since`.
    pub fn read(
        view: &'a View,
        user: UserSn,
        user_id: &str,
        rooms: &[(RoomSn, At<UserRoom>)],
        since: Position,
    ) -> Result<Self> {
        let mut shares = Self {
            view,
            since,
            now: HashSet::new(),
            before: HashSet::new(),
        };
        for (room, entry) in rooms {
            let joined = entry.value.membership() == Membership::Join;
            if joined {
                shares.now.insert(*room);
            }
            let was_joined = if entry.position > since {
                let visibility = Visibility::of(view, *room, Some((user, user_id)))?;
                let place = event_log::after_position(view, *room, since)?;
                visibility.membership_at(EventNo(place.0.saturating_sub(1))) == Membership::Join
            } else {
                joined
            };
            if was_joined {
                shares.before.insert(*room);
            }
        }
        Ok(shares)
    }

    /// The rooms that the user entered or left since.
    fn moved_rooms(&self) -> impl Iterator<Item = RoomSn> + '_ {
        self.now.symmetric_difference(&self.before).copied()
    }

    /// Whether another user is in one of the rooms now.
    pub fn shares_now(&self, other: UserSn) -> rooms::Result<bool> {
        if other.is_local() {
            let theirs = members::rooms_of(self.view, other)?;
            return Ok(theirs.iter().any(|(room, entry)| {
                entry.value.membership() == Membership::Join && self.now.contains(room)
            }));
        }
        for room in &self.now {
            if members::membership(self.view, *room, other)? == Membership::Join {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn shared_before(&self, other: UserSn) -> rooms::Result<bool> {
        let other_id = names::user_id(self.view, other)?;
        for room in &self.before {
            let Some(member) = members::get(self.view, *room, other)? else {
                continue;
            };
            let event = event_log::get(self.view, *room, member.event)?;
            if event.is_some_and(|event| event.position <= self.since) {
                if member.membership() == Membership::Join {
                    return Ok(true);
                }
                continue;
            }
            if was_joined(self.view, *room, &other_id, self.since)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn was_joined(view: &View, room: RoomSn, user_id: &str, since: Position) -> rooms::Result<bool> {
    let place = EventNo(
        event_log::after_position(view, room, since)?
            .0
            .saturating_sub(1),
    );
    let Some(no) = state::at(view, room, "m.room.member", user_id, Point::main(place))? else {
        return Ok(false);
    };
    let event = event_log::get(view, room, no)?;
    Ok(event.is_some_and(|event| {
        let content = event::json::member(&event.json, "content").unwrap_or("{}");
        Membership::of_content(content) == Some(Membership::Join)
    }))
}

impl SharedRooms for Shares<'_> {
    fn before(&self, user: UserSn) -> users::Result<bool> {
        self.shared_before(user).map_err(not_readable)
    }

    fn now(&self, user: UserSn) -> users::Result<bool> {
        self.shares_now(user).map_err(not_readable)
    }
}

fn not_readable(error: rooms::Error) -> users::Error {
    match error {
        rooms::Error::Store(error) => users::Error::Store(error),
        _ => users::Error::Store(store::StoreError::Corrupt {
            table: "rooms",
            why: "unreadable",
        }),
    }
}

/// What changed for a viewer after `since`. `changed` says whether a room may have news.
pub fn device_changes(
    view: &View,
    user: UserSn,
    user_id: &str,
    rooms: &[(RoomSn, At<UserRoom>)],
    changed: impl Fn(RoomSn) -> bool,
    since: Position,
) -> Result<DeviceLists> {
    let keys_changed: Vec<UserSn> =
        device_lists::changed_since(view, since).collect::<users::Result<_>>()?;
    let signed: Vec<UserSn> =
        device_lists::signed_since(view, user, since).collect::<users::Result<_>>()?;
    let candidates: Vec<RoomSn> = rooms
        .iter()
        .filter(|(room, entry)| changed(*room) || entry.position > since)
        .map(|(room, _)| *room)
        .collect();
    if keys_changed.is_empty() && signed.is_empty() && candidates.is_empty() {
        return Ok(DeviceLists::default());
    }
    let mut moved: BTreeSet<UserSn> = BTreeSet::new();
    // Rooms whose members became known: nobody was told to share them.
    let mut learnt: Vec<RoomSn> = Vec::new();
    for room in candidates {
        if partial::completed(view, room)?.is_some_and(|at| at > since) {
            learnt.push(room);
        }
        let Some(head) = event_log::head(view, room)? else {
            continue;
        };
        let start = event_log::after_position(view, room, since)?;
        for (_, change) in state::changes(view, room, start, head.next)? {
            if change.event_type == "m.room.member"
                && change.state_key != user_id
                && let Some(other) = names::user_sn(view, &change.state_key)?
            {
                moved.insert(other);
            }
        }
    }
    if keys_changed.is_empty()
        && signed.is_empty()
        && moved.is_empty()
        && learnt.is_empty()
        && !rooms.iter().any(|(_, entry)| entry.position > since)
    {
        return Ok(DeviceLists::default());
    }
    let mut shares = Shares::read(view, user, user_id, rooms, since)?;
    for room in &learnt {
        shares.before.remove(room);
    }
    if shares.now.difference(&shares.before).next().is_some() {
        moved.insert(user);
    }
    for room in shares.moved_rooms() {
        for (other, member) in members::all(view, room)? {
            if member.membership() == Membership::Join && other != user {
                moved.insert(other);
            }
        }
    }
    Ok(device_lists::compose(
        user,
        keys_changed,
        signed,
        moved,
        &shares,
    )?)
}

/// Appends users as a list of their ids.
pub fn write_users(out: &mut Vec<u8>, view: &View, users: &BTreeSet<UserSn>) -> Result<()> {
    let users: Vec<UserSn> = users.iter().copied().collect();
    out.push(b'[');
    for (n, id) in names::user_ids(view, &users)?.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json::write_string(out, id);
    }
    out.push(b']');
    Ok(())
}
