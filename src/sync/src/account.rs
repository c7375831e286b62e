//! What an answer says of the account and the device, apart from rooms.

use std::collections::HashSet;

use event::json;
use names::UserSn;
use store::View;

use crate::Result;
use crate::ephemeral::PresenceState;

/// One `m.presence` event.
pub fn write_presence(out: &mut Vec<u8>, user_id: &str, state: &PresenceState, now_ms: u64) {
    out.extend_from_slice(b"{\"type\":\"m.presence\",\"sender\":");
    json::write_string(out, user_id);
    out.extend_from_slice(b",\"content\":");
    presence_content(out, state, now_ms);
    out.push(b'}');
}

/// The content of an `m.presence` event, also the answer of the status endpoint.
pub fn presence_content(out: &mut Vec<u8>, state: &PresenceState, now_ms: u64) {
    out.extend_from_slice(b"{\"presence\":");
    json::write_string(out, state.presence);
    if state.last_active_ms > 0 {
        let ago = now_ms.saturating_sub(state.last_active_ms);
        out.extend_from_slice(format!(",\"last_active_ago\":{ago}").as_bytes());
    }
    if state.presence == "online" {
        out.extend_from_slice(b",\"currently_active\":true");
    }
    if let Some(status) = &state.status {
        out.extend_from_slice(b",\"status_msg\":");
        json::write_string(out, status);
    }
    out.push(b'}');
}

/// The numbers of the users that a user ignores.
pub fn ignored(view: &View, user: UserSn) -> Result<HashSet<UserSn>> {
    let mut found = HashSet::new();
    for id in users::account_data::ignored_users(view, user)? {
        if let Some(user) = names::user_sn(view, &id)? {
            found.insert(user);
        }
    }
    Ok(found)
}
