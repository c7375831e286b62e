//! Users of other servers whom this server follows: those joined to a room in which a user of ours is joined.
//!
//! Their servers send what changes about them (device lists, presence) exactly as long as that lasts. So what was
//! learnt of a user holds for as long as they were followed without a break since, which [`since`] answers.
//!
//! [`REMOTE_ROOMS`] is kept by [`crate::RoomWriter`] where memberships change in the current state. Whether a user of ours
//! is in the room is looked up, because that changes for all its members at once.

use std::collections::HashMap;

use event::auth::Membership;
use names::{RoomSn, UserSn};
use store::{At, Direction, Position, Read, Txn};

use crate::schema::{REMOTE_ROOMS, USER_ROOMS};
use crate::{Result, members};

/// Local members of a room who are looked at to find one who has been there for long.
const MOST_LOCAL_MEMBERS: usize = 64;

/// The rooms to which a user of another server is joined, as far as is known here, in the order of their numbers, each
/// with the position at which they joined.
pub fn rooms_of(
    from: &impl Read,
    user: UserSn,
) -> impl Iterator<Item = Result<(RoomSn, Position)>> {
    REMOTE_ROOMS
        .scan(from, &(user,), Direction::Forward)
        .map(|row| row.map(|((_, room), at)| (room, at.position)))
        .map(|row| Ok(row?))
}

/// Since when users of ours have been in rooms without a break: remembered over the questions of one request.
#[derive(Debug, Default)]
pub struct OurStays(HashMap<RoomSn, Option<Position>>);

impl OurStays {
    /// Since when a user of ours has been in the room without a break, as far as one look tells: a change of their
    /// profile there counts as a break. None if nobody is. Looks no further than to one who has been since `enough`.
    fn since(
        &mut self,
        from: &impl Read,
        room: RoomSn,
        enough: Position,
    ) -> Result<Option<Position>> {
        if let Some(known) = self.0.get(&room) {
            return Ok(*known);
        }
        let is_ours = |user: UserSn, member: crate::Member| {
            user.is_local() && member.membership() == Membership::Join
        };
        let mut first: Option<Position> = None;
        for (user, _) in members::some(from, room, MOST_LOCAL_MEMBERS, is_ours)? {
            if let Some(entry) = USER_ROOMS.get(from, &(user, room))? {
                first = Some(first.map_or(entry.position, |first| first.min(entry.position)));
            }
            if first.is_some_and(|first| first <= enough) {
                break;
            }
        }
        self.0.insert(room, first);
        Ok(first)
    }
}

/// Since when this server has followed a user of another server without a break; none if it does not. May say a later
/// position than the true one, never an earlier one. Looks no further than to find that it is since `enough`, so that
/// the rooms shared with somebody are not all looked at.
pub fn since(
    from: &impl Read,
    user: UserSn,
    ours: &mut OurStays,
    enough: Position,
) -> Result<Option<Position>> {
    let mut first: Option<Position> = None;
    for row in rooms_of(from, user) {
        let (room, joined) = row?;
        if let Some(stay) = ours.since(from, room, enough)? {
            let both = stay.max(joined);
            first = Some(first.map_or(both, |first| first.min(both)));
        }
        if first.is_some_and(|first| first <= enough) {
            break;
        }
    }
    Ok(first)
}

/// A user of another server begins or ceases to be joined.
pub(crate) fn note(txn: &mut Txn, room: RoomSn, user: UserSn, joins: bool) {
    if joins {
        REMOTE_ROOMS.put(txn, &(user, room), &At::now(()));
    } else {
        REMOTE_ROOMS.delete(txn, &(user, room));
    }
}
