//! What redaction keeps, for every room version.

mod room;

use event::signature::{self, Integrity};
use event::{Pdu, RoomVersion, hash, redaction};
use room::{CREATOR, MEMBER, Room};
use serde_json::{Map, Value, json};

/// An event with every member any version ever kept, and some that none keeps.
fn full_event(event_type: &str, content: Value) -> Value {
    json!({
        "auth_events": [], "content": content, "depth": 1, "event_id": "$e:a.org", "hashes": {"sha256": "x"},
        "membership": "join", "origin": "a.org", "origin_server_ts": 5, "prev_events": [], "prev_state": [],
        "redacts": "$x:a.org", "room_id": "!r:a.org", "sender": MEMBER, "signatures": {"a.org": {}},
        "state_key": "", "type": event_type, "unsigned": {"age": 1}, "zzz": 1
    })
}

fn redact(version: RoomVersion, event: &Value) -> Value {
    let canonical = event::canonical::to_bytes(event).unwrap();
    let redacted = redaction::redact(version.rules(), std::str::from_utf8(&canonical).unwrap());
    assert!(event::canonical::is_canonical(&redacted));
    serde_json::from_slice(&redacted).unwrap()
}

fn object(keys: &[&str], from: &Value) -> Value {
    Value::Object(
        keys.iter()
            .map(|key| (key.to_string(), from[key].clone()))
            .collect::<Map<_, _>>(),
    )
}

#[test]
fn the_top_level_keeps_what_its_version_lists() {
    const ALWAYS: [&str; 12] = [
        "event_id",
        "type",
        "room_id",
        "sender",
        "state_key",
        "content",
        "hashes",
        "signatures",
        "depth",
        "prev_events",
        "auth_events",
        "origin_server_ts",
    ];
    for version in RoomVersion::ALL {
        let event = full_event("org.example", json!({}));
        let mut keys = ALWAYS.to_vec();
        if version < RoomVersion::V11 {
            keys.extend(["prev_state", "origin", "membership"]);
        }
        assert_eq!(
            redact(version, &event),
            object(&keys, &event),
            "version {version}"
        );
    }
}

#[test]
fn the_content_keeps_what_its_version_lists() {
    use RoomVersion::{V1, V6, V8, V9, V11};
    let after =
        |from: RoomVersion, key: &'static str| move |version| (version >= from).then_some(key);
    type Kept = Box<dyn Fn(RoomVersion) -> Option<&'static str>>;
    let always = |key: &'static str| -> Kept { Box::new(after(V1, key)) };
    let since = |from, key| -> Kept { Box::new(after(from, key)) };
    let table: Vec<(&str, Vec<Kept>)> = vec![
        (
            "m.room.member",
            vec![
                always("membership"),
                since(V9, "join_authorised_via_users_server"),
            ],
        ),
        (
            "m.room.join_rules",
            vec![always("join_rule"), since(V8, "allow")],
        ),
        (
            "m.room.power_levels",
            vec![
                always("ban"),
                always("events"),
                always("events_default"),
                always("kick"),
                always("redact"),
                always("state_default"),
                always("users"),
                always("users_default"),
                since(V11, "invite"),
            ],
        ),
        (
            "m.room.history_visibility",
            vec![always("history_visibility")],
        ),
        (
            "m.room.aliases",
            vec![Box::new(|version| (version < V6).then_some("aliases"))],
        ),
        ("m.room.redaction", vec![since(V11, "redacts")]),
        ("m.room.message", vec![]),
        ("m.room.name", vec![]),
    ];
    let content = json!({
        "membership": "join", "join_authorised_via_users_server": "@a:b", "join_rule": "public", "allow": [],
        "ban": 1, "events": {}, "events_default": 2, "kick": 3, "redact": 4, "state_default": 5, "users": {},
        "users_default": 6, "invite": 7, "history_visibility": "shared", "aliases": [], "redacts": "$x", "body": "b",
        "notifications": {}, "displayname": "d", "name": "n", "creator": "@a:b", "avatar_url": "mxc://x"
    });
    for version in RoomVersion::ALL {
        for (event_type, kept) in &table {
            let keys: Vec<&str> = kept.iter().filter_map(|kept| kept(version)).collect();
            let redacted = redact(version, &full_event(event_type, content.clone()));
            assert_eq!(
                redacted["content"],
                object(&keys, &content),
                "{event_type} in version {version}"
            );
        }
        let create = redact(version, &full_event("m.room.create", content.clone()));
        let expected = if version >= V11 {
            content.clone()
        } else {
            json!({"creator": "@a:b"})
        };
        assert_eq!(create["content"], expected, "create in version {version}");
    }
}

#[test]
fn a_third_party_invite_keeps_its_signed_part_from_version_11() {
    for version in RoomVersion::ALL {
        let signed = json!({"mxid": "@a:b", "token": "t", "signatures": {}});
        let content = json!({"membership": "invite", "third_party_invite": {"display_name": "d", "signed": signed}});
        let redacted = redact(version, &full_event("m.room.member", content));
        let expected = match version >= RoomVersion::V11 {
            true => json!({"membership": "invite", "third_party_invite": {"signed": signed}}),
            false => json!({"membership": "invite"}),
        };
        assert_eq!(redacted["content"], expected, "version {version}");
        let odd = json!({"membership": "invite", "third_party_invite": "text"});
        let redacted = redact(version, &full_event("m.room.member", odd));
        assert_eq!(redacted["content"], json!({"membership": "invite"}));
    }
}

#[test]
fn redaction_changes_neither_the_event_id_nor_the_signatures_and_is_idempotent() {
    let keys = |server: &str, _: &str| (server == "a.org").then(|| room::key().verify_key());
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let extra =
            json!({"body": "secret", "membership": "join", "join_rule": "public", "users": {}});
        let mut events = vec![room.event(CREATOR, "m.room.message", None, extra.clone())];
        for (event_type, state_key) in [
            ("m.room.create", ""),
            ("m.room.member", CREATOR),
            ("m.room.join_rules", ""),
            ("m.room.power_levels", ""),
            ("m.room.name", ""),
        ] {
            events.push(room.event(CREATOR, event_type, Some(state_key), extra.clone()));
        }
        for event in events {
            let redacted = event.redacted(room.rules).unwrap();
            assert_eq!(redacted.event_id(), event.event_id());
            assert_eq!(redacted.room_id(), event.room_id());
            assert_eq!(
                hash::reference_hash(room.rules, redacted.json()),
                hash::reference_hash(room.rules, event.json())
            );
            // Only where the whole content stays, as of a create event from version 11 on, does the content hash hold.
            let integrity = match redacted.content() == event.content() {
                true => Integrity::Whole,
                false => Integrity::Redacted,
            };
            assert!(hash::content_hash_matches(event.json()));
            assert_eq!(
                signature::verify_event(room.rules, &redacted, &keys),
                Ok(integrity)
            );
            assert_eq!(redacted.redacted(room.rules).unwrap(), redacted);
            let received = Pdu::from_federation(room.rules, redacted.json().as_bytes()).unwrap();
            assert_eq!(received, redacted);
        }
    }
}
