//! Who may know what a room says of itself without being in it.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias>,
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy>,
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>

use event::auth::Membership;
use event::json;
use names::UserSn;
use store::Read;

use crate::about::About;
use crate::{Result, event_log, members, servers};

/// Whether a user may know of a room: by their own membership, because anybody may read it, or because
/// they could join or knock.
pub fn may_know(from: &impl Read, about: &About, viewer: Option<UserSn>) -> Result<bool> {
    if is_open(about) {
        return Ok(true);
    }
    let Some(user) = viewer else {
        return Ok(false);
    };
    let membership = members::membership(from, about.room, user)?;
    if matches!(
        membership,
        Membership::Join | Membership::Invite | Membership::Knock
    ) {
        return Ok(true);
    }
    for room_id in allowed_rooms(about).unwrap_or_default() {
        if let Some(room) = names::room_sn(from, &room_id)?
            && members::membership(from, room, user)? == Membership::Join
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether anybody may know of a room: they may read it, or could join or knock.
fn is_open(about: &About) -> bool {
    let rule = about.join_rule.as_str();
    about.world_readable || matches!(rule, "public" | "knock" | "knock_restricted")
}

/// Members looked at for invitations of a server's users.
const MOST_MEMBERS: usize = 10_000;

/// Whether a server may know of a room: by what anybody may know, by users who are in it or are invited, or by users
/// whom a restricted join rule lets in.
///
/// # Errors
/// If the rooms can't be read.
pub fn may_server_know(from: &impl Read, about: &About, server: &str) -> Result<bool> {
    if is_open(about) || servers::is_joined(from, about.room, server)? {
        return Ok(true);
    }
    for room_id in allowed_rooms(about).unwrap_or_default() {
        if let Some(room) = names::room_sn(from, &room_id)?
            && servers::is_joined(from, room, server)?
        {
            return Ok(true);
        }
    }
    // Only rooms that nothing else opens, and that somebody is invited to, are looked through.
    if event_log::head(from, about.room)?.is_none_or(|head| head.invited == 0) {
        return Ok(false);
    }
    let users = members::of_server(from, about.room, server, MOST_MEMBERS)?;
    Ok(users
        .iter()
        .any(|(_, _, member)| member.membership() == Membership::Invite))
}

/// The rooms whose members may join a room by a restricted join rule; nothing under another rule.
pub fn allowed_rooms(about: &About) -> Option<Vec<String>> {
    if !matches!(about.join_rule.as_str(), "restricted" | "knock_restricted") {
        return None;
    }
    let allow = json::member(&about.join_rules, "allow").unwrap_or("[]");
    let mut found = Vec::new();
    for entry in json::elements(allow).filter(|entry| json::is_object(entry)) {
        let text = |key| json::member(entry, key).and_then(json::string);
        if text("type").as_deref() == Some("m.room_membership")
            && let Some(room_id) = text("room_id")
        {
            found.push(room_id.into_owned());
        }
    }
    Some(found)
}
