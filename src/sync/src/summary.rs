//! `summary`: how many are in a room, and who gives it a name where it has none.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use event::auth::Membership;
use event::json;
use names::{RoomSn, UserSn};
use rooms::{Member, RoomHead, event_log, members, state};
use store::Read;

use crate::Result;

/// Members that may give a room its name.
const MOST_HEROES: usize = 5;

/// The members that give a room its name, if it has neither a name nor an alias: up to five that are
/// joined or invited, or if nobody else is, that were.
pub fn heroes(from: &impl Read, room: RoomSn, viewer: UserSn) -> Result<Option<Vec<UserSn>>> {
    let named = [("m.room.name", "name"), ("m.room.canonical_alias", "alias")];
    for (event_type, key) in named {
        let Some(no) = state::current(from, room, event_type, "")? else {
            continue;
        };
        let Some(event) = event_log::get(from, room, no)? else {
            continue;
        };
        let content = json::member(&event.json, "content").unwrap_or("{}");
        if json::member(content, key)
            .and_then(json::string)
            .is_some_and(|text| !text.is_empty())
        {
            return Ok(None);
        }
    }
    let found = members_for_a_name(from, room, viewer)?;
    Ok(Some(found.into_iter().map(|(user, _)| user).collect()))
}

/// The same for a room of which is known that it has no name.
pub fn members_for_a_name(
    from: &impl Read,
    room: RoomSn,
    viewer: UserSn,
) -> Result<Vec<(UserSn, Member)>> {
    let present = |user, member: Member| {
        user != viewer && matches!(member.membership(), Membership::Join | Membership::Invite)
    };
    let gone = |user, member: Member| {
        user != viewer && matches!(member.membership(), Membership::Leave | Membership::Ban)
    };
    let mut found = members::some(from, room, MOST_HEROES, present)?;
    if found.is_empty() {
        found = members::some(from, room, MOST_HEROES, gone)?;
    }
    Ok(found)
}

/// Appends the `summary` object to `out`.
pub fn render(
    out: &mut Vec<u8>,
    from: &impl Read,
    head: &RoomHead,
    heroes: Option<&[UserSn]>,
) -> Result<()> {
    out.push(b'{');
    if let Some(heroes) = heroes {
        out.extend_from_slice(b"\"m.heroes\":[");
        for (n, id) in names::user_ids(from, heroes)?.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            json::write_string(out, id);
        }
        out.extend_from_slice(b"],");
    }
    let counts = format!(
        "\"m.joined_member_count\":{},\"m.invited_member_count\":{}}}",
        head.joined, head.invited
    );
    out.extend_from_slice(counts.as_bytes());
    Ok(())
}
