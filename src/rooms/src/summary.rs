//! Who may know what a room says of itself without being in it.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias>,
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy>

use event::auth::Membership;
use event::json;
use names::UserSn;
use store::Read;

use crate::about::About;
use crate::{Result, members};

/// Whether a user may know of a room: by their own membership, because anybody may read it, or because
/// they could join or knock.
pub fn may_know(from: &impl Read, about: &About, viewer: Option<UserSn>) -> Result<bool> {
    let open_rule = matches!(
        about.join_rule.as_str(),
        "public" | "knock" | "knock_restricted"
    );
    if about.world_readable || open_rule {
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
