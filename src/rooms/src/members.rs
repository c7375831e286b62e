//! Who is in a room, and which rooms a user is in.

use event::auth::Membership;
use event::{identifier, json};
use names::{RoomSn, UserSn};
use store::{At, Direction, Read, Txn};

use crate::schema::{MEMBERS, STRIPPED_STATE, USER_ROOMS};
use crate::{Member, Result, UserRoom};

/// A user's membership in the current state; leave if there is none.
pub fn membership(from: &impl Read, room: RoomSn, user: UserSn) -> Result<Membership> {
    Ok(get(from, room, user)?.map_or(Membership::Leave, Member::membership))
}

/// A user's entry in the current state.
pub fn get(from: &impl Read, room: RoomSn, user: UserSn) -> Result<Option<Member>> {
    Ok(MEMBERS.get(from, &(room, user))?)
}

/// The local users who are joined.
pub fn local_joined(from: &impl Read, room: RoomSn) -> Result<Vec<UserSn>> {
    let mut found = Vec::new();
    for row in MEMBERS.scan(from, &(room,), Direction::Forward) {
        let ((_, user), member) = row?;
        if !user.is_local() {
            break;
        }
        if member.membership() == Membership::Join {
            found.push(user);
        }
    }
    Ok(found)
}

/// Whether any local user is joined: whether this server is in the room.
pub fn is_resident(from: &impl Read, room: RoomSn) -> Result<bool> {
    for row in MEMBERS.scan(from, &(room,), Direction::Forward) {
        let ((_, user), member) = row?;
        if !user.is_local() {
            break;
        }
        if member.membership() == Membership::Join {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Users of one other server among the room's members, whatever their membership. Looks at all members of other
/// servers, at most at `most`.
pub(crate) fn of_server(
    from: &impl Read,
    room: RoomSn,
    server: &str,
    most: usize,
) -> Result<Vec<(UserSn, String, Member)>> {
    let mut found = Vec::new();
    let start = (room, UserSn::FIRST_REMOTE);
    for row in MEMBERS.scan_from(from, &(room,), &start).take(most) {
        let ((_, user), member) = row?;
        let user_id = names::user_id(from, user)?;
        if event::identifier::domain(&user_id) == Some(server) {
            found.push((user, user_id, member));
        }
    }
    Ok(found)
}

/// The joined members of other servers, in the order of their numbers.
pub fn joined_elsewhere(
    from: &impl Read,
    room: RoomSn,
) -> impl Iterator<Item = Result<(UserSn, Member)>> {
    let start = (room, UserSn::FIRST_REMOTE);
    let rows = MEMBERS.scan_from(from, &(room,), &start);
    rows.filter_map(|row| match row {
        Ok((_, member)) if member.membership() != Membership::Join => None,
        row => Some(
            row.map(|((_, user), member)| (user, member))
                .map_err(Into::into),
        ),
    })
}

/// All members, whatever their membership, the local ones first.
pub fn all(from: &impl Read, room: RoomSn) -> Result<Vec<(UserSn, Member)>> {
    let mut found = Vec::new();
    for row in MEMBERS.scan(from, &(room,), Direction::Forward) {
        let ((_, user), member) = row?;
        found.push((user, member));
    }
    Ok(found)
}

/// At most `most` members for whom `accept` is true, the local ones first.
pub fn some(
    from: &impl Read,
    room: RoomSn,
    most: usize,
    mut accept: impl FnMut(UserSn, Member) -> bool,
) -> Result<Vec<(UserSn, Member)>> {
    let mut found = Vec::new();
    for row in MEMBERS.scan(from, &(room,), Direction::Forward) {
        if found.len() == most {
            break;
        }
        let ((_, user), member) = row?;
        if accept(user, member) {
            found.push((user, member));
        }
    }
    Ok(found)
}

/// The rooms that a local user is in or was in, forgotten ones included.
pub fn rooms_of(from: &impl Read, user: UserSn) -> Result<Vec<(RoomSn, At<UserRoom>)>> {
    let mut found = Vec::new();
    for row in USER_ROOMS.scan(from, &(user,), Direction::Forward) {
        let ((_, room), entry) = row?;
        found.push((room, entry));
    }
    Ok(found)
}

/// The user's first room after `after`, by number, and the membership there.
pub fn next_room_of(
    from: &impl Read,
    user: UserSn,
    after: RoomSn,
) -> Result<Option<(RoomSn, Membership)>> {
    let start = (user, RoomSn(after.0.saturating_add(1)));
    let first = USER_ROOMS.scan_from(from, &(user,), &start).next();
    Ok(first
        .transpose()?
        .map(|((_, room), entry)| (room, entry.value.membership())))
}

/// The rooms that a local user is joined to.
pub fn joined_rooms(from: &impl Read, user: UserSn) -> Result<Vec<RoomSn>> {
    let rooms = rooms_of(from, user)?;
    Ok(rooms
        .into_iter()
        .filter(|(_, entry)| entry.value.membership() == Membership::Join)
        .map(|(room, _)| room)
        .collect())
}

/// A room as a local user has it.
pub fn room_of(from: &impl Read, user: UserSn, room: RoomSn) -> Result<Option<At<UserRoom>>> {
    Ok(USER_ROOMS.get(from, &(user, room))?)
}

/// Whether two users share a room that both are joined to. `first` is local.
pub fn share_room(from: &impl Read, first: UserSn, second: UserSn) -> Result<bool> {
    for room in joined_rooms(from, first)? {
        if membership(from, room, second)? == Membership::Join {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What an invited or knocking user may know of the room, as a JSON list.
pub fn stripped_state(from: &impl Read, user: UserSn, room: RoomSn) -> Result<Option<Vec<u8>>> {
    Ok(STRIPPED_STATE.get(from, &(user, room))?.map(|blob| blob.0))
}

/// The server of who invited the user to a room, if somebody did.
pub fn inviting_server(from: &impl Read, user: UserSn, room: RoomSn) -> Result<Option<String>> {
    let Some(state) = stripped_state(from, user, room)? else {
        return Ok(None);
    };
    let user_id = names::user_id(from, user)?;
    let state = std::str::from_utf8(&state).unwrap_or_default();
    let is = |event: &str, key: &str, value: &str| {
        json::member(event, key)
            .and_then(json::string)
            .is_some_and(|is| is == value)
    };
    let mut events = json::elements(state);
    let invite =
        events.find(|event| is(event, "type", "m.room.member") && is(event, "state_key", &user_id));
    let sender = invite.and_then(|invite| json::member(invite, "sender"));
    let sender = sender.and_then(json::string);
    Ok(sender.and_then(|sender| identifier::domain(&sender).map(str::to_owned)))
}

/// Makes a room that the user has left disappear for them.
///
/// # Errors
/// [`crate::Error::Invalid`] if the user has not left the room.
pub fn forget(txn: &mut Txn, user: UserSn, room: RoomSn) -> Result<()> {
    let Some(entry) = room_of(txn, user, room)? else {
        return Err(crate::Error::UnknownRoom);
    };
    if !matches!(
        entry.value.membership(),
        Membership::Leave | Membership::Ban
    ) {
        return Err(crate::Error::Invalid(
            "the user is still in the room".to_owned(),
        ));
    }
    let mut entry = entry;
    entry.value.forgotten = true;
    USER_ROOMS.put(txn, &(user, room), &entry);
    Ok(())
}
