//! Events from draft to bytes and back, and what is refused on the way.

mod room;

use event::render::{self, RenderOptions};
use event::signature::{self, Integrity, SignatureError};
use event::{
    CanonicalError, DraftError, EventDraft, EventIdFormat, FormatError, Pdu, RoomIdFormat,
    RoomVersion, SigningKey, VerifyKey,
};
use room::{CREATOR, MEMBER, Room, key};
use serde_json::{Value, json};

fn tree(pdu: &Pdu) -> Value {
    serde_json::from_str(pdu.json()).unwrap()
}

fn receive(room: &Room, tree: &Value) -> Result<Pdu, FormatError> {
    Pdu::from_federation(room.rules, tree.to_string().as_bytes())
}

fn own_keys(server: &str, id: &str) -> Option<VerifyKey> {
    (server == "a.org" && id == key().key_id()).then(|| key().verify_key())
}

#[test]
fn what_is_sealed_is_received_unchanged_and_verified() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let events = [
            room.event(
                CREATOR,
                "m.room.message",
                None,
                json!({"body": "é \" \\ \n", "a": {"z": 1, "b": [null]}}),
            ),
            room.event(CREATOR, "m.room.topic", Some(""), json!({"topic": "t"})),
            room.event(CREATOR, "odd \"type\"\n", Some("odd \\key\u{1}"), json!({})),
            room.state[0].pdu().clone(),
        ];
        for pdu in events {
            assert!(event::canonical::is_canonical(pdu.json().as_bytes()));
            let received = Pdu::from_federation(room.rules, pdu.json().as_bytes()).unwrap();
            assert_eq!(received, pdu);
            let stored =
                Pdu::from_stored(room.rules, pdu.event_id().clone(), pdu.json().as_bytes())
                    .unwrap();
            assert_eq!(stored, pdu);
            assert_eq!(
                signature::verify_event(room.rules, &pdu, &own_keys),
                Ok(Integrity::Whole)
            );
            let pretty = serde_json::to_string_pretty(&tree(&pdu)).unwrap();
            assert_eq!(
                Pdu::from_federation(room.rules, pretty.as_bytes()).unwrap(),
                pdu
            );
        }
    }
}

#[test]
fn event_ids_have_the_form_of_their_version() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let pdu = room.event(CREATOR, "m.room.message", None, json!({}));
        let id = pdu.event_id().as_str();
        match room.rules.event_id {
            EventIdFormat::Chosen => {
                assert!(id.ends_with(":a.org"));
                assert_eq!(tree(&pdu)["event_id"], id);
            }
            EventIdFormat::HashStandard | EventIdFormat::HashUrlSafe => {
                assert_eq!(id.len(), 44);
                assert_eq!(tree(&pdu).get("event_id"), None);
            }
        }
    }
    // Over enough events both special characters of the alphabet occur.
    for (version, special, other) in [(RoomVersion::V3, "+/", "-_"), (RoomVersion::V4, "-_", "+/")]
    {
        let mut room = Room::new(version);
        let ids: String = (0..100)
            .map(|_| {
                room.event(CREATOR, "m.room.message", None, json!({}))
                    .event_id()
                    .to_string()
            })
            .collect();
        assert!(ids.contains(|c| special.contains(c)) && !ids.contains(|c| other.contains(c)));
    }
}

#[test]
fn the_create_event_of_version_12_is_its_room_id() {
    let room = Room::new(RoomVersion::V12);
    let create = room.state[0].pdu();
    assert_eq!(tree(create).get("room_id"), None);
    assert!(!create.has_room_id());
    assert_eq!(
        create.room_id().strip_prefix('!'),
        create.event_id().strip_prefix('$')
    );
    assert_eq!(room.state[1].pdu().room_id(), create.room_id());
    assert!(room.state.iter().all(|event| {
        event
            .pdu()
            .auth_events()
            .all(|id| id != create.event_id().as_str())
    }));
    let without = {
        let mut tree = tree(room.state[1].pdu());
        tree.as_object_mut().unwrap().remove("room_id");
        tree
    };
    assert_eq!(
        receive(&room, &without),
        Err(FormatError::Missing("room_id"))
    );
}

#[test]
fn members_that_are_missing_or_of_the_wrong_type_are_refused() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let good = tree(&room.event(CREATOR, "m.room.topic", Some(""), json!({})));
        assert!(receive(&room, &good).is_ok());
        let mut required = vec![
            "auth_events",
            "content",
            "depth",
            "hashes",
            "origin_server_ts",
            "prev_events",
            "room_id",
            "sender",
            "signatures",
            "type",
        ];
        if room.rules.event_id == EventIdFormat::Chosen {
            required.push("event_id");
        }
        for name in required {
            let mut without = good.clone();
            without.as_object_mut().unwrap().remove(name);
            assert_eq!(receive(&room, &without), Err(FormatError::Missing(name)));
            for wrong in [
                json!(null),
                json!(true),
                json!(-1.0),
                json!([1]),
                json!([[]]),
                json!(""),
                json!({}),
            ] {
                let fits = match name {
                    "content" | "hashes" | "signatures" => wrong.is_object(),
                    // Odd, but a string.
                    "type" => wrong.is_string(),
                    _ => false,
                };
                let mut tree = good.clone();
                tree[name] = wrong.clone();
                assert_eq!(
                    receive(&room, &tree).is_ok(),
                    fits,
                    "{name}: {wrong} in version {version}"
                );
            }
        }
        let mut state_key = good.clone();
        state_key["state_key"] = json!(1);
        assert_eq!(
            receive(&room, &state_key),
            Err(FormatError::Invalid("state_key"))
        );
        for text in ["", "[]", "null", "\"x\"", "{", "5"] {
            assert!(Pdu::from_federation(room.rules, text.as_bytes()).is_err());
        }
        assert_eq!(
            Pdu::from_federation(room.rules, b"{\"a\":\"\xff\"}"),
            Err(FormatError::Canonical(CanonicalError::Encoding))
        );
    }
}

#[test]
fn numbers_follow_the_version() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let mut event = tree(&room.event(CREATOR, "m.room.message", None, json!({})));
        event["content"]["float"] = json!(1.5);
        assert_eq!(receive(&room, &event).is_ok(), version < RoomVersion::V6);
        event["content"]["float"] = json!(1);
        event["depth"] = json!(9_007_199_254_740_991i64);
        assert!(receive(&room, &event).is_ok());
        event["depth"] = json!(i64::MAX);
        assert_eq!(receive(&room, &event).is_ok(), version < RoomVersion::V6);
        event["depth"] = json!(-1);
        assert!(receive(&room, &event).is_err());
    }
}

#[test]
fn sizes_are_bounded() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let good = tree(&room.event(CREATOR, "m.room.topic", Some(""), json!({})));
        for name in ["type", "state_key"] {
            // Of two bytes each.
            let most = if room.rules.sizes_in_bytes { 127 } else { 255 };
            let mut tree = good.clone();
            tree[name] = "é".repeat(most).into();
            assert!(receive(&room, &tree).is_ok());
            tree[name] = "é".repeat(most + 1).into();
            assert_eq!(receive(&room, &tree), Err(FormatError::TooLarge(name)));
        }
        let mut sender = good.clone();
        sender["sender"] = format!("@{}:a.org", "x".repeat(250)).into();
        assert_eq!(
            receive(&room, &sender),
            Err(FormatError::TooLarge("sender"))
        );
        for (name, most) in [("prev_events", 20), ("auth_events", 10)] {
            let mut tree = good.clone();
            let reference = match room.rules.references {
                event::ReferenceFormat::Plain => json!("$x"),
                event::ReferenceFormat::WithHash => json!(["$x:a.org", {"sha256": "x"}]),
            };
            tree[name] = vec![reference.clone(); most].into();
            assert!(receive(&room, &tree).is_ok());
            tree[name] = vec![reference; most + 1].into();
            assert_eq!(receive(&room, &tree), Err(FormatError::TooLarge(name)));
        }
        let mut large = good.clone();
        let room_left = event::MAX_EVENT_BYTES - good.to_string().len() - "\"body\":\"\"".len();
        large["content"]["body"] = "x".repeat(room_left).into();
        // What does not count: it is dropped before.
        large["unsigned"] = json!({"age": 5});
        let received = receive(&room, &large).unwrap();
        assert_eq!(received.json().len(), event::MAX_EVENT_BYTES);
        assert!(!received.json().contains("unsigned"));
        large["content"]["body"] = "x".repeat(room_left + 1).into();
        assert_eq!(receive(&room, &large), Err(FormatError::TooLarge("event")));
    }
}

#[test]
fn white_space_does_not_count_but_has_a_limit() {
    let mut room = Room::new(RoomVersion::V11);
    let pdu = room.event(CREATOR, "m.room.message", None, json!({}));
    let padded = |spaces: usize| format!("{}{}", pdu.json(), " ".repeat(spaces));
    assert_eq!(
        Pdu::from_federation(room.rules, padded(100_000).as_bytes()),
        Ok(pdu.clone())
    );
    let too_large = Pdu::from_federation(room.rules, padded(1_000_000).as_bytes());
    assert_eq!(too_large, Err(FormatError::TooLarge("event")));
}

fn draft<'a>(room_id: &'a str, content: &'a str) -> EventDraft<'a> {
    EventDraft {
        room_id: Some(room_id),
        sender: CREATOR,
        event_type: "m.room.message",
        state_key: None,
        content,
        redacts: None,
        origin_server_ts: 1,
        prev_events: &[],
        auth_events: &[],
        depth: 1,
        first_format: None,
    }
}

#[test]
fn drafts_are_refused_with_the_reason() {
    let rules = RoomVersion::V11.rules();
    let seal = |draft: EventDraft<'_>| draft.seal(rules, &key());
    let room_id = "!r:a.org";
    assert!(seal(draft(room_id, " { } ")).is_ok());
    assert!(matches!(
        seal(draft(room_id, "{")),
        Err(DraftError::Content(CanonicalError::Syntax { .. }))
    ));
    assert!(matches!(
        seal(draft(room_id, "{\"a\":1.5}")),
        Err(DraftError::Content(CanonicalError::Number(_)))
    ));
    assert_eq!(
        seal(draft(room_id, "[]")),
        Err(DraftError::ContentNotAnObject)
    );
    let large = json!({"body": "x".repeat(66_000)}).to_string();
    assert_eq!(
        seal(draft(room_id, &large)),
        Err(DraftError::TooLarge("event"))
    );
    let long = "x".repeat(256);
    assert_eq!(
        seal(EventDraft {
            event_type: &long,
            ..draft(room_id, "{}")
        }),
        Err(DraftError::TooLarge("type"))
    );
    assert_eq!(
        seal(EventDraft {
            state_key: Some(&long),
            ..draft(room_id, "{}")
        }),
        Err(DraftError::TooLarge("state_key"))
    );
    assert_eq!(
        seal(EventDraft {
            room_id: None,
            ..draft(room_id, "{}")
        }),
        Err(DraftError::Field("room_id"))
    );
    let deep = seal(EventDraft {
        depth: u64::MAX,
        ..draft(room_id, "{}")
    })
    .unwrap();
    assert_eq!(deep.depth(), rules.max_depth);
    let first = draft(room_id, "{}").seal(RoomVersion::V1.rules(), &key());
    assert_eq!(first, Err(DraftError::Field("event_id")));
}

#[test]
fn redactions_name_their_target_where_the_version_wants_it_and_clients_see_both() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let content = json!({"reason": "r", "zz": 1, "redacts": "$junk"});
        let content = if version >= RoomVersion::V11 {
            content
        } else {
            json!({"reason": "r", "zz": 1})
        };
        let pdu = room.event_with(
            &["$p:a.org"],
            Some("$target"),
            CREATOR,
            "m.room.redaction",
            None,
            content,
        );
        assert_eq!(pdu.redacts(), Some("$target"));
        let in_content = version >= RoomVersion::V11;
        assert_eq!(tree(&pdu).get("redacts").is_some(), !in_content);
        assert_eq!(tree(&pdu)["content"].get("redacts").is_some(), in_content);
        let mut out = Vec::new();
        render::client_event(
            &mut out,
            room.rules,
            pdu.event_id(),
            pdu.json(),
            RenderOptions::default(),
        );
        let shown: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(shown["redacts"], "$target");
        assert_eq!(
            shown["content"],
            json!({"reason": "r", "redacts": "$target", "zz": 1})
        );
        // A redacted redaction of an old room has lost its target.
        let redacted = pdu.redacted(room.rules).unwrap();
        assert_eq!(redacted.redacts().is_some(), in_content);
    }
}

#[test]
fn clients_see_the_client_members_and_nothing_else() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let topic = room.event(
            CREATOR,
            "m.room.topic",
            Some("k\""),
            json!({"topic": "é\n"}),
        );
        let mut out = b"[".to_vec();
        let unsigned = r#""age":5,"transaction_id":"t""#;
        render::client_event(
            &mut out,
            room.rules,
            topic.event_id(),
            topic.json(),
            RenderOptions {
                with_room_id: true,
                unsigned,
            },
        );
        out.push(b',');
        render::client_event(
            &mut out,
            room.rules,
            topic.event_id(),
            topic.json(),
            RenderOptions::default(),
        );
        out.push(b',');
        render::stripped_state(&mut out, topic.json());
        out.push(b',');
        let create = room.state[0].pdu();
        let options = RenderOptions {
            with_room_id: true,
            unsigned: "",
        };
        render::client_event(
            &mut out,
            room.rules,
            create.event_id(),
            create.json(),
            options,
        );
        out.push(b']');
        let shown: Value = serde_json::from_slice(&out).unwrap();
        let stripped = json!({
            "content": {"topic": "é\n"}, "sender": CREATOR, "state_key": "k\"", "type": "m.room.topic"
        });
        let mut plain = stripped.clone();
        plain["event_id"] = topic.event_id().as_str().into();
        plain["origin_server_ts"] = topic.origin_server_ts().into();
        let mut with_all = plain.clone();
        with_all["room_id"] = room.room_id.as_str().into();
        with_all["unsigned"] = json!({"age": 5, "transaction_id": "t"});
        assert_eq!(shown[0], with_all);
        assert_eq!(shown[1], plain);
        assert_eq!(shown[2], stripped);
        assert_eq!(shown[3]["room_id"], room.room_id.as_str());
    }
}

#[test]
fn a_changed_event_is_either_redacted_or_refused() {
    let mut room = Room::new(RoomVersion::V11);
    let pdu = room.event(CREATOR, "m.room.message", None, json!({"body": "true"}));
    let mut changed = tree(&pdu);
    changed["content"]["body"] = "false".into();
    let changed = receive(&room, &changed).unwrap();
    assert_eq!(changed.event_id(), pdu.event_id());
    assert_eq!(
        signature::verify_event(room.rules, &changed, &own_keys),
        Ok(Integrity::Redacted)
    );
    let mut resent = tree(&pdu);
    resent["sender"] = "@other:a.org".into();
    let resent = receive(&room, &resent).unwrap();
    let wrong = SignatureError::Wrong {
        server_name: "a.org".into(),
        key_id: key().key_id().into(),
    };
    assert_eq!(
        signature::verify_event(room.rules, &resent, &own_keys),
        Err(wrong)
    );
}

#[test]
fn signatures_are_asked_for_by_server() {
    let mut room = Room::new(RoomVersion::V11);
    let pdu = room.event(CREATOR, "m.room.message", None, json!({}));
    let no_keys = |_: &str, _: &str| None;
    assert_eq!(
        signature::verify_event(room.rules, &pdu, &no_keys),
        Err(SignatureError::UnknownKeys {
            server_name: "a.org".into(),
            key_ids: vec![key().key_id().into()]
        })
    );
    // Signed by a.org in the name of a member of b.org.
    let foreign = room.event(MEMBER, "m.room.message", None, json!({}));
    assert_eq!(
        signature::verify_event(room.rules, &foreign, &own_keys),
        Err(SignatureError::Missing {
            server_name: "b.org".into()
        })
    );
    let other = SigningKey::generate("b.org", [2; 32]);
    let both = event::add_signature(room.rules, foreign.json(), &other).unwrap();
    let both = Pdu::from_federation(room.rules, both.as_bytes()).unwrap();
    assert_eq!(both.event_id(), foreign.event_id());
    let all_keys = |server: &str, id: &str| match server {
        "b.org" => (id == other.key_id()).then(|| other.verify_key()),
        _ => own_keys(server, id),
    };
    assert_eq!(
        signature::verify_event(room.rules, &both, &all_keys),
        Ok(Integrity::Whole)
    );
}

#[test]
fn some_events_need_other_signatures_than_the_senders() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let servers = |pdu: &Pdu| -> Vec<String> {
            signature::required_servers(room.rules, pdu)
                .into_iter()
                .map(str::to_owned)
                .collect()
        };
        let join = json!({"membership": "join", "join_authorised_via_users_server": "@x:c.org"});
        let join = room
            .clone()
            .event(MEMBER, "m.room.member", Some(MEMBER), join);
        assert_eq!(
            servers(&join),
            if version >= RoomVersion::V8 {
                vec!["b.org", "c.org"]
            } else {
                vec!["b.org"]
            }
        );
        let invite = json!({"membership": "invite", "third_party_invite": {"signed": {}}});
        let invite = room
            .clone()
            .event(MEMBER, "m.room.member", Some("@new:d.org"), invite);
        let of_event_id = room.rules.event_id == EventIdFormat::Chosen;
        assert_eq!(
            servers(&invite),
            if of_event_id { vec!["b.org"] } else { vec![] }
        );
        let hashed = room.rules.room_id == RoomIdFormat::CreateHash;
        assert_eq!(hashed, version == RoomVersion::V12);
        if of_event_id {
            let content = json!({});
            let mut tree = tree(&room.event(MEMBER, "m.room.message", None, content));
            tree["event_id"] = "$elsewhere:e.org".into();
            let pdu = receive(&room, &tree).unwrap();
            assert_eq!(
                signature::required_servers(room.rules, &pdu),
                ["b.org", "e.org"]
            );
        }
    }
}

#[test]
fn templates_of_other_servers_become_events() {
    let room = Room::new(RoomVersion::V11);
    let template = json!({
        "type": "m.room.member", "room_id": room.room_id, "sender": CREATOR, "state_key": CREATOR, "depth": 7,
        "content": {"membership": "join"}, "origin_server_ts": 5, "auth_events": ["$a"], "prev_events": ["$b"]
    });
    let signed = event::hash_and_sign(room.rules, &template.to_string(), &key()).unwrap();
    let pdu = Pdu::from_federation(room.rules, signed.as_bytes()).unwrap();
    assert_eq!(
        signature::verify_event(room.rules, &pdu, &own_keys),
        Ok(Integrity::Whole)
    );
    assert_eq!(pdu.prev_events().collect::<Vec<_>>(), ["$b"]);
}
