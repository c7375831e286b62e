//! Auth events selection: which entries of the state decide about an event.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection>.

use std::borrow::Cow;

use super::auth_event::Membership;
use crate::json;
use crate::pdu::Pdu;
use crate::room_version::{RoomIdFormat, RoomRules};

/// The type and state key of a state event.
pub type AuthKey<'a> = (&'static str, Cow<'a, str>);

/// The keys whose events belong into `auth_events` of such an event, as far as the state has them. None for create events.
///
/// From room version 12 on, `m.room.create` is not among them; [`super::check`] still asks the state for it.
pub fn auth_types<'a>(
    rules: &RoomRules,
    event_type: &str,
    sender: &'a str,
    state_key: Option<&'a str>,
    content: &'a str,
) -> Vec<AuthKey<'a>> {
    if event_type == "m.room.create" {
        return Vec::new();
    }
    let mut keys: Vec<AuthKey<'a>> = Vec::with_capacity(6);
    if rules.room_id == RoomIdFormat::Domain {
        keys.push(("m.room.create", "".into()));
    }
    keys.push(("m.room.power_levels", "".into()));
    keys.push(("m.room.member", sender.into()));
    if event_type == "m.room.member" {
        add_member_keys(rules, state_key, content, &mut keys);
    }
    keys
}

/// The same for an event that is there already.
pub fn auth_types_of<'a>(rules: &RoomRules, pdu: &'a Pdu) -> Vec<AuthKey<'a>> {
    auth_types(
        rules,
        pdu.event_type(),
        pdu.sender(),
        pdu.state_key(),
        pdu.content(),
    )
}

/// Whether events of this type can be among `auth_events` of any event.
pub fn is_auth_type(event_type: &str) -> bool {
    matches!(
        event_type,
        "m.room.create"
            | "m.room.power_levels"
            | "m.room.member"
            | "m.room.join_rules"
            | "m.room.third_party_invite"
    )
}

fn add_member_keys<'a>(
    rules: &RoomRules,
    state_key: Option<&'a str>,
    content: &'a str,
    keys: &mut Vec<AuthKey<'a>>,
) {
    let add = |keys: &mut Vec<AuthKey<'a>>, key: AuthKey<'a>| {
        if !keys.contains(&key) {
            keys.push(key);
        }
    };
    if let Some(target) = state_key {
        add(keys, ("m.room.member", target.into()));
    }
    let membership = Membership::of_content(content);
    if matches!(
        membership,
        Some(Membership::Join | Membership::Invite | Membership::Knock)
    ) {
        add(keys, ("m.room.join_rules", "".into()));
    }
    if membership == Some(Membership::Invite)
        && let Some(token) = json::member(content, "third_party_invite")
            .and_then(|invite| json::member(invite, "signed"))
            .and_then(|signed| json::member(signed, "token"))
            .and_then(json::string)
    {
        add(keys, ("m.room.third_party_invite", token));
    }
    if membership == Some(Membership::Join)
        && rules.auth.restricted
        && let Some(authoriser) =
            json::member(content, "join_authorised_via_users_server").and_then(json::string)
    {
        add(keys, ("m.room.member", authoriser));
    }
}
