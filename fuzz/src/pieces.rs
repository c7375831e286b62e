//! Pieces of events as JSON texts: mostly what belongs at a place, now and then what does not.

use std::collections::BTreeMap;

use crate::Choices;

/// Senders and members, of three servers; the last are no user ids.
pub const USERS: [&str; 8] = [
    "@a:here", "@b:here", "@c:there", "@d:there", "@e:else", "@:here", "@nobody", "",
];

/// The first of them are user ids.
pub const PEOPLE: usize = 5;

/// Types of events with a meaning to a server, and one without.
pub const TYPES: [&str; 14] = [
    "m.room.message",
    "m.room.member",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.topic",
    "m.room.redaction",
    "m.room.third_party_invite",
    "m.room.create",
    "m.room.aliases",
    "m.room.history_visibility",
    "m.room.server_acl",
    "m.room.tombstone",
    "m.reaction",
    "org.example.odd",
];

const MEMBERSHIPS: [&str; 7] = ["join", "leave", "invite", "ban", "knock", "join", "odd"];
const JOIN_RULES: [&str; 7] = [
    "public",
    "invite",
    "knock",
    "restricted",
    "knock_restricted",
    "private",
    "odd",
];
const LEVELS: [&str; 20] = [
    "0",
    "50",
    "100",
    "49",
    "51",
    "-1",
    "101",
    "9007199254740991",
    "-9007199254740991",
    "9007199254740992",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "50.5",
    "1e2",
    "-0",
    "\"50\"",
    "\" +100 \"",
    "\"\"",
    "\"5_0\"",
];
const ODD: [&str; 16] = [
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "\"\"",
    "\"text\"",
    "\"\\u0000\"",
    "\"\\ud83d\\ude00\"",
    "[]",
    "{}",
    "[null]",
    "{\"\":null}",
    "{\"a\":{\"a\":{\"a\":[[[[]]]]}}}",
    "[\"@a:here\",\"@c:there\"]",
    "\"@a:here\"",
];

/// A text as a JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An object of members that are JSON texts already.
pub fn object<K: AsRef<str>>(members: &BTreeMap<K, String>) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(key, value)| format!("{}:{value}", quoted(key.as_ref())))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// A value that need not fit where it stands.
pub fn odd(choices: &mut Choices<'_>) -> String {
    if choices.one_in(4) {
        return quoted(&choices.text());
    }
    choices.pick(&ODD).to_owned()
}

/// The content of an event of this type, referring to `ids` of events.
pub fn content(choices: &mut Choices<'_>, event_type: &str, ids: &[&str]) -> String {
    let keys: &[&str] = match event_type {
        "m.room.member" => &[
            "membership",
            "join_authorised_via_users_server",
            "third_party_invite",
            "displayname",
        ],
        "m.room.power_levels" => &[
            "users",
            "users_default",
            "events",
            "events_default",
            "state_default",
            "ban",
            "kick",
            "redact",
            "invite",
            "notifications",
        ],
        "m.room.join_rules" => &["join_rule", "allow"],
        "m.room.create" => &[
            "creator",
            "room_version",
            "m.federate",
            "additional_creators",
            "predecessor",
            "type",
        ],
        "m.room.third_party_invite" => &["public_key", "public_keys", "display_name"],
        "m.room.redaction" => &["redacts", "reason"],
        "m.room.history_visibility" => &["history_visibility"],
        "m.room.aliases" => &["aliases"],
        _ => &["body", "m.relates_to", "m.new_content", "msgtype"],
    };
    let mut members = BTreeMap::new();
    // What a type can't do without comes first in its list.
    members.insert(keys[0].to_owned(), fitting(choices, keys[0], ids));
    for _ in 0..choices.below(4) {
        let key = match choices.one_in(16) {
            true => choices.text(),
            false => choices.pick(keys).to_owned(),
        };
        let value = match choices.one_in(8) {
            true => odd(choices),
            false => fitting(choices, &key, ids),
        };
        members.insert(key, value);
    }
    object(&members)
}

/// A value as it belongs to this member of a content.
fn fitting(choices: &mut Choices<'_>, key: &str, ids: &[&str]) -> String {
    let user = |choices: &mut Choices<'_>| quoted(choices.pick(&USERS));
    match key {
        "membership" => quoted(choices.pick(&MEMBERSHIPS)),
        "join_rule" => quoted(choices.pick(&JOIN_RULES)),
        "join_authorised_via_users_server" | "creator" | "mxid" | "sender" => user(choices),
        "users" => map(choices, &USERS),
        "events" => map(choices, &TYPES),
        "notifications" => map(choices, &["room"]),
        "users_default" | "events_default" | "state_default" | "ban" | "kick" | "redact"
        | "invite" => choices.pick(&LEVELS).to_owned(),
        "allow" => {
            r#"[{"type":"m.room_membership","room_id":"!other:here"},{"type":0},7]"#.to_owned()
        }
        "additional_creators" => format!("[{},{}]", user(choices), user(choices)),
        "m.federate" => choices.pick(&["true", "false", "0"]).to_owned(),
        "third_party_invite" => {
            let (mxid, token) = (user(choices), choices.pick(&["\"token\"", "\"\"", "1"]));
            let signature = quoted(&choices.text());
            format!(
                r#"{{"display_name":"d","signed":{{"mxid":{mxid},"signatures":{{"id":{{"ed25519:0":{signature}}}}},"token":{token}}}}}"#
            )
        }
        "public_keys" => format!(
            r#"[{{"public_key":{}}},{{}},1]"#,
            fitting(choices, "public_key", ids)
        ),
        "public_key" => choices
            .pick(&[
                "\"ZRsAu1EspsDGWHuPYL/dmvXEXP3dHFqUxH9LiIKHbCQ\"",
                "\"AAAA\"",
                "\"\"",
            ])
            .to_owned(),
        "m.relates_to" => {
            let rel_type = choices.pick(&["m.thread", "m.annotation", "m.replace", "m.reference"]);
            let id = quoted(reference(choices, ids));
            format!(
                r#"{{"event_id":{id},"key":"k","m.in_reply_to":{{"event_id":{id}}},"rel_type":"{rel_type}"}}"#
            )
        }
        "redacts" => quoted(reference(choices, ids)),
        "m.new_content" => r#"{"body":"new"}"#.to_owned(),
        "history_visibility" => {
            quoted(choices.pick(&["shared", "joined", "invited", "world_readable", "odd"]))
        }
        "body" | "msgtype" | "reason" | "displayname" | "display_name" => quoted(&choices.text()),
        _ => odd(choices),
    }
}

/// Levels by name.
fn map(choices: &mut Choices<'_>, names: &[&str]) -> String {
    let mut members = BTreeMap::new();
    for _ in 0..choices.below(5) {
        members.insert(choices.pick(names), choices.pick(&LEVELS).to_owned());
    }
    object(&members)
}

/// The id of an event, mostly of one that there is.
pub fn reference<'a>(choices: &mut Choices<'_>, ids: &[&'a str]) -> &'a str {
    if ids.is_empty() || choices.one_in(16) {
        return choices.pick(&["$missing:there", "$missing", "", "$2:here"]);
    }
    // Mostly near the newest, so that forks have some length.
    let back = choices.below(ids.len());
    ids[ids.len() - 1 - back]
}
