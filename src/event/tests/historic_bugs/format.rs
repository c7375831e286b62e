//! What an event is made of: numbers, keys, references, room ids.

use event::auth::Rule;
use event::signature::{self, Integrity};
use event::{CanonicalError, FormatError, Pdu, RoomVersion};
use serde_json::json;

use crate::room::{CREATOR, MEMBER, Room, STRANGER, key};
use crate::{own_keys, receive, tree, versions_from};

/// Synapse, pull request 3165 (matrix-spec issue 283): after one event with a depth of 2^63 - 1 the depths of later ones
/// overflowed, and the room was stuck.
#[test]
fn an_event_of_the_greatest_depth_does_not_end_a_room() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let mut last = tree(&room.event(CREATOR, "m.room.message", None, json!({})));
        last["depth"] = room.rules.max_depth.into();
        let last = receive(&room, &last).unwrap();
        let next = event::EventDraft {
            room_id: Some(&room.room_id),
            sender: CREATOR,
            event_type: "m.room.message",
            state_key: None,
            content: "{}",
            redacts: None,
            origin_server_ts: 1,
            prev_events: &[last.event_id()],
            auth_events: &[],
            depth: last.depth() + 1,
            first_format: (version <= RoomVersion::V2).then_some(event::FirstFormat {
                event_id: "$next:a.org",
                prev_hashes: &[[0; 32]],
                auth_hashes: &[],
            }),
        };
        let next = next.seal(room.rules, &key()).unwrap();
        assert_eq!(next.depth(), room.rules.max_depth);
        let received = Pdu::from_federation(room.rules, next.json().as_bytes());
        assert_eq!(received.unwrap().depth(), room.rules.max_depth);
    }
}

/// Synapse, CVE-2025-30355 (GHSA-v56r-hwv5-mxg6, pull request 18447): depths up to 2^63 - 1 were taken in rooms whose
/// numbers end at 2^53 - 1. Events built on such a one could not be put into canonical JSON, nor sent.
#[test]
fn a_depth_beyond_canonical_json_is_refused_where_canonical_json_is_enforced() {
    for version in versions_from(RoomVersion::V6) {
        let mut room = Room::new(version);
        let mut event = tree(&room.event(CREATOR, "m.room.message", None, json!({})));
        for depth in [1u64 << 53, (1 << 63) - 1, 1 << 63, u64::MAX] {
            event["depth"] = depth.into();
            let refused = FormatError::Canonical(CanonicalError::Number(depth.to_string()));
            assert_eq!(receive(&room, &event), Err(refused));
        }
    }
    let mut room = Room::new(RoomVersion::V5);
    let mut event = tree(&room.event(CREATOR, "m.room.message", None, json!({})));
    event["depth"] = (1u64 << 63).into();
    assert_eq!(receive(&room, &event), Err(FormatError::Invalid("depth")));
}

/// Synapse, CVE-2020-26890: `NaN` and the infinities, which are not JSON, were read in member events and passed on to
/// clients and servers that could not read them.
#[test]
fn numbers_that_json_does_not_have_are_refused() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let content = json!({"membership": "join", "x": "?"});
        let join = room.event(STRANGER, "m.room.member", Some(STRANGER), content);
        for number in [
            "NaN",
            "Infinity",
            "-Infinity",
            "-NaN",
            "1e999",
            "0x1",
            "1_0",
        ] {
            let text = join.json().replace("\"?\"", number);
            let received = Pdu::from_federation(room.rules, text.as_bytes());
            assert!(
                matches!(received, Err(FormatError::Canonical(_))),
                "{number}"
            );
        }
    }
}

/// MSC4458: one server took the first of two equal keys and another the last, so that one event said different things
/// under the same signature. Here the last one counts for everything: hash, signature, id and meaning.
#[test]
fn an_event_with_two_equal_keys_has_one_meaning() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let message = room.event(CREATOR, "m.room.message", None, json!({"body": "signed"}));
        let doubled = |first: &str, last: &str| {
            let both = format!(r#""body":"{first}","body":"{last}""#);
            let text = message.json().replace(r#""body":"signed""#, &both);
            let pdu = Pdu::from_federation(room.rules, text.as_bytes()).unwrap();
            let integrity = signature::verify_event(room.rules, &pdu, &own_keys);
            (pdu.content().to_owned(), integrity)
        };
        let body = |body: &str| json!({"body": body}).to_string();
        assert_eq!(
            doubled("forged", "signed"),
            (body("signed"), Ok(Integrity::Whole))
        );
        assert_eq!(
            doubled("signed", "forged"),
            (body("forged"), Ok(Integrity::Redacted))
        );
    }
}

/// MSC2540: -0, 1.0 and 1e3 are integers for some JSON libraries and floats for others, which gave events different
/// hashes on different servers. From version 6 on there is one spelling, before that all are kept.
#[test]
fn odd_spellings_of_integers_do_not_change_an_events_id() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let message = room.event(CREATOR, "m.room.message", None, json!({"n": 0}));
        for spelling in ["0.0", "0e0", "1e3", "1.0"] {
            let text = message
                .json()
                .replace(r#""n":0"#, &format!(r#""n":{spelling}"#));
            let received = Pdu::from_federation(room.rules, text.as_bytes());
            assert_eq!(received.is_ok(), version < RoomVersion::V6, "{spelling}");
        }
        let minus = message.json().replace(r#""n":0"#, r#""n":-0"#);
        assert_eq!(
            Pdu::from_federation(room.rules, minus.as_bytes()).unwrap(),
            message
        );
    }
}

/// Synapse, issues 9341 and 10886: the database took no U+0000, so that events with it in a state key or a display name
/// were refused with an internal error, and the room with them.
#[test]
fn the_character_zero_is_a_character() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let content = json!({"displayname": "a\u{0}b"});
        let pdu = room.event(CREATOR, "org.example", Some("key\u{0}"), content);
        assert_eq!(room.check(&pdu), Ok(()));
        let received = Pdu::from_federation(room.rules, pdu.json().as_bytes()).unwrap();
        assert_eq!(received.state_key(), Some("key\u{0}"));
        assert_eq!(
            received.content_str("displayname").as_deref(),
            Some("a\u{0}b")
        );
        assert_eq!(
            signature::verify_event(room.rules, &received, &own_keys),
            Ok(Integrity::Whole)
        );
    }
}

/// Synapse, issue 1225 (SYN-544): references in the form of other room versions, and other wrong types, were internal
/// errors.
#[test]
fn references_of_another_room_version_are_a_format_error() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let good = tree(&room.event(CREATOR, "m.room.message", None, json!({})));
        let wrong = match room.rules.references {
            event::ReferenceFormat::Plain => json!([["$a:b", {"sha256": "x"}]]),
            event::ReferenceFormat::WithHash => json!(["$a:b"]),
        };
        for bad in [
            wrong,
            json!([[]]),
            json!([null]),
            json!({}),
            json!("$a:b"),
            json!([1]),
        ] {
            for name in ["prev_events", "auth_events"] {
                let mut event = good.clone();
                event[name] = bad.clone();
                assert_eq!(
                    receive(&room, &event),
                    Err(FormatError::Invalid(name)),
                    "{bad}"
                );
            }
        }
    }
}

/// Project Hydra, MSC4291: two create events for one room id let a server make up a room of its own under another's id. From version 12
/// on the id is the create event's hash, without a server's name to trust.
#[test]
fn a_room_id_of_version_12_is_its_create_event_and_nothing_else() {
    let mut room = Room::new(RoomVersion::V12);
    let message = room.event(MEMBER, "m.room.message", None, json!({}));
    let forged = Room::created_with(
        RoomVersion::V12,
        json!({"additional_creators": ["@evil:c.org"]}),
    );
    assert_ne!(forged.room_id, room.room_id);
    assert_eq!(forged.check(&message), Err(Rule::RoomIdNotCreate));
    let good = tree(&message);
    let hash = room.room_id.strip_prefix('!').unwrap().to_owned();
    for bad in [
        format!("!{hash}:a.org"),
        format!("!{hash}="),
        format!("${hash}"),
        format!("!{}", &hash[1..]),
        format!("!{}+", &hash[1..]),
        "!room:a.org".to_owned(),
    ] {
        let mut event = good.clone();
        event["room_id"] = bad.clone().into();
        assert_eq!(
            receive(&room, &event),
            Err(FormatError::Invalid("room_id")),
            "{bad}"
        );
    }
}
