//! The server-default rules of specification v1.19, word for word ("Predefined Rules").
//!
//! The only thing in them that depends on the user is the user id, passed in. `.m.rule.master` stands
//! before the user's own rules, all others after those of their kind.

use serde_json::{Value, json};

use super::rules::{Kind, Rule};

/// The rule that is checked before all others.
pub const MASTER: &str = ".m.rule.master";

fn rule(id: &str, enabled: bool, conditions: Value, actions: Value) -> Rule {
    let list = |value| match value {
        Value::Array(values) => values,
        other => vec![other],
    };
    Rule {
        rule_id: id.to_owned(),
        default: true,
        enabled,
        actions: list(actions),
        conditions: Some(list(conditions)),
        pattern: None,
    }
}

/// The default rules of a kind, most important first.
pub fn of_kind(kind: Kind, user_id: &str) -> Vec<Rule> {
    match kind {
        Kind::Override => overrides(user_id),
        Kind::Underride => underrides(),
        Kind::Content | Kind::Room | Kind::Sender => Vec::new(),
    }
}

/// True if there is a default rule of this kind and id.
pub fn exists(kind: Kind, rule_id: &str) -> bool {
    of_kind(kind, "").iter().any(|rule| rule.rule_id == rule_id)
}

fn is(key: &str, pattern: &str) -> Value {
    json!({"kind": "event_match", "key": key, "pattern": pattern})
}

fn sound(name: &str) -> Value {
    json!({"set_tweak": "sound", "value": name})
}

fn overrides(user_id: &str) -> Vec<Rule> {
    let highlight = json!({"set_tweak": "highlight"});
    vec![
        rule(MASTER, false, json!([]), json!([])),
        rule(
            ".m.rule.suppress_notices",
            true,
            json!([is("content.msgtype", "m.notice")]),
            json!([]),
        ),
        rule(
            ".m.rule.invite_for_me",
            true,
            json!([
                is("type", "m.room.member"),
                is("content.membership", "invite"),
                is("state_key", user_id),
            ]),
            json!(["notify", sound("default")]),
        ),
        rule(
            ".m.rule.member_event",
            true,
            json!([is("type", "m.room.member")]),
            json!([]),
        ),
        rule(
            ".m.rule.is_user_mention",
            true,
            json!([{
                "kind": "event_property_contains",
                "key": "content.m\\.mentions.user_ids",
                "value": user_id,
            }]),
            json!(["notify", sound("default"), highlight]),
        ),
        rule(
            ".m.rule.is_room_mention",
            true,
            json!([
                {"kind": "event_property_is", "key": "content.m\\.mentions.room", "value": true},
                {"kind": "sender_notification_permission", "key": "room"},
            ]),
            json!(["notify", highlight]),
        ),
        rule(
            ".m.rule.tombstone",
            true,
            json!([is("type", "m.room.tombstone"), is("state_key", "")]),
            json!(["notify", highlight]),
        ),
        rule(
            ".m.rule.reaction",
            true,
            json!([is("type", "m.reaction")]),
            json!([]),
        ),
        rule(
            ".m.rule.room.server_acl",
            true,
            json!([is("type", "m.room.server_acl"), is("state_key", "")]),
            json!([]),
        ),
        rule(
            ".m.rule.suppress_edits",
            true,
            json!([{
                "kind": "event_property_is",
                "key": "content.m\\.relates_to.rel_type",
                "value": "m.replace",
            }]),
            json!([]),
        ),
    ]
}

fn underrides() -> Vec<Rule> {
    let of_two = json!({"kind": "room_member_count", "is": "2"});
    vec![
        rule(
            ".m.rule.call",
            true,
            json!([is("type", "m.call.invite")]),
            json!(["notify", sound("ring")]),
        ),
        rule(
            ".m.rule.encrypted_room_one_to_one",
            true,
            json!([of_two, is("type", "m.room.encrypted")]),
            json!(["notify", sound("default")]),
        ),
        rule(
            ".m.rule.room_one_to_one",
            true,
            json!([of_two, is("type", "m.room.message")]),
            json!(["notify", sound("default")]),
        ),
        rule(
            ".m.rule.message",
            true,
            json!([is("type", "m.room.message")]),
            json!(["notify"]),
        ),
        rule(
            ".m.rule.encrypted",
            true,
            json!([is("type", "m.room.encrypted")]),
            json!(["notify"]),
        ),
    ]
}
