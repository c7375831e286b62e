//! The redaction algorithm: what of an event stays when its content is taken away, by room version.
//!
//! The same slice of the event is what signatures and reference hashes cover, so it is written once here. Members keep
//! their order: the redaction of a canonical object is canonical.
//!
//! Source: "Redactions" in each room version, <https://spec.matrix.org/v1.19/rooms/>.

use crate::json::{self, ObjectWriter};
use crate::room_version::{RedactionRules, RoomRules};

/// The redacted form of an event in canonical JSON. `unsigned` is gone too: it may quote what was redacted.
pub fn redact(rules: &RoomRules, event: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.len().min(1024));
    write(rules, event, true, &mut out);
    out
}

/// What signatures and the reference hash cover: the redacted event without `signatures`.
pub(crate) fn signed_part(rules: &RoomRules, event: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.len().min(1024));
    write(rules, event, false, &mut out);
    out
}

fn write(rules: &RoomRules, event: &str, with_signatures: bool, out: &mut Vec<u8>) {
    let event_type = json::member(event, "type")
        .and_then(json::string)
        .unwrap_or_default();
    let mut writer = ObjectWriter::open(out);
    for (key, value) in json::members(event) {
        match key {
            "signatures" if !with_signatures => {}
            "content" => write_content(&rules.redaction, &event_type, value, writer.key(key)),
            _ if keeps_member(&rules.redaction, key) => writer.raw(key, value),
            _ => {}
        }
    }
    writer.close();
}

fn keeps_member(rules: &RedactionRules, key: &str) -> bool {
    match key {
        "event_id" | "type" | "room_id" | "sender" | "state_key" | "hashes" | "signatures"
        | "depth" | "prev_events" | "auth_events" | "origin_server_ts" => true,
        "origin" | "membership" | "prev_state" => rules.keep_origin_membership_prev_state,
        _ => false,
    }
}

fn write_content(rules: &RedactionRules, event_type: &str, content: &str, out: &mut Vec<u8>) {
    if event_type == "m.room.create" && rules.keep_create_content {
        out.extend_from_slice(content.as_bytes());
        return;
    }
    let mut writer = ObjectWriter::open(out);
    for (key, value) in json::members(content) {
        if keeps_content(rules, event_type, key) {
            writer.raw(key, value);
        } else if event_type == "m.room.member"
            && key == "third_party_invite"
            && rules.keep_member_third_party_signed
            && let Some(signed) = json::member(value, "signed")
        {
            let mut invite = ObjectWriter::open(writer.key(key));
            invite.raw("signed", signed);
            invite.close();
        }
    }
    writer.close();
}

fn keeps_content(rules: &RedactionRules, event_type: &str, key: &str) -> bool {
    match (event_type, key) {
        ("m.room.member", "membership") => true,
        ("m.room.member", "join_authorised_via_users_server") => rules.keep_member_authorised_via,
        ("m.room.create", "creator") => true,
        ("m.room.join_rules", "join_rule") => true,
        ("m.room.join_rules", "allow") => rules.keep_join_rules_allow,
        (
            "m.room.power_levels",
            "ban" | "events" | "events_default" | "kick" | "redact" | "state_default" | "users"
            | "users_default",
        ) => true,
        ("m.room.power_levels", "invite") => rules.keep_power_levels_invite,
        ("m.room.aliases", "aliases") => rules.keep_aliases,
        ("m.room.history_visibility", "history_visibility") => true,
        ("m.room.redaction", "redacts") => rules.keep_redaction_redacts,
        _ => false,
    }
}
