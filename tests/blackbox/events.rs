//! Sending events, state, and redactions.

use serde_json::{Value, json};
use testkit::User;

use crate::{pair, server};

fn text(body: &str) -> Value {
    json!({"msgtype": "m.text", "body": body})
}

fn put(user: &User, room: &str, transaction: &str, body: &str) -> String {
    let path = format!("/v3/rooms/{room}/send/m.room.message/{transaction}");
    user.put(&path, text(body)).ok()["event_id"]
        .as_str()
        .expect("an event id")
        .to_owned()
}

#[test]
fn an_event_is_given_as_it_was_sent() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let content = json!({"msgtype": "m.text", "body": "h\u{e9} \u{1f600}", "n": [1, -2, null, {}]});
    let id = alice.send(&room, "m.room.message", content.clone());
    let event = bob.event(&room, &id).ok();
    assert_eq!(event["content"], content);
    assert_eq!(event["sender"], alice.id);
    assert_eq!(event["room_id"], room);
    assert_eq!(event["type"], "m.room.message");
    assert_eq!(event["event_id"], id);
    assert!(
        event["origin_server_ts"]
            .as_u64()
            .is_some_and(|time| time > 1_600_000_000_000)
    );
    for internal in [
        "auth_events",
        "prev_events",
        "hashes",
        "signatures",
        "depth",
    ] {
        assert!(event[internal].is_null(), "{internal}: {event}");
    }
}

#[test]
fn a_transaction_sent_again_is_the_same_event() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let since = bob.sync(None, "").next_batch().to_owned();
    let first = put(&alice, &room, "one", "hello");
    assert_eq!(put(&alice, &room, "one", "hello"), first);
    assert_eq!(
        bob.sync(Some(&since), "").event_ids(&room),
        [first.as_str()]
    );
    assert_ne!(put(&alice, &room, "two", "hello"), first);
}

#[test]
fn transactions_belong_to_a_device_and_to_a_room() {
    let server = server();
    let (alice, _, room) = pair(&server);
    let other_room = alice.create_room(json!({}));
    let first = put(&alice, &room, "one", "hello");
    assert_ne!(put(&alice.login_again(), &room, "one", "hello"), first);
    assert_ne!(put(&alice, &other_room, "one", "hello"), first);
}

#[test]
fn only_the_sending_device_sees_the_transaction_id() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let other = alice.login_again();
    let since = alice.sync(None, "").next_batch().to_owned();
    let id = put(&alice, &room, "mine", "hello");
    let seen = |user: &User| {
        let answer = user.sync(Some(&since), "");
        let event = answer.event(&room, &id).cloned().expect("the event");
        event["unsigned"]["transaction_id"].clone()
    };
    assert_eq!(seen(&alice), "mine");
    assert_eq!(seen(&other), Value::Null);
    let of_bob = bob.event(&room, &id).ok();
    assert_eq!(of_bob["unsigned"]["transaction_id"], Value::Null);
    assert_eq!(
        alice.event(&room, &id).ok()["unsigned"]["transaction_id"],
        "mine"
    );
}

#[test]
fn strangers_cannot_send() {
    let server = server();
    let (alice, _, room) = pair(&server);
    let carol = server.register("carol");
    carol
        .try_send(&room, "m.room.message", text("hello"))
        .error(403, "M_FORBIDDEN");
    carol
        .try_set_state(&room, "m.room.topic", "", json!({}))
        .error(403, "M_FORBIDDEN");
    assert_eq!(
        alice
            .sync(None, "")
            .timeline(&room)
            .last()
            .map(|e| &e["type"]),
        Some(&json!("m.room.member"))
    );
}

#[test]
fn state_is_set_and_read_with_and_without_a_key() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "first"}));
    let id = alice.set_state(
        &room,
        "org.example.seat",
        "window/1 #\u{e9}",
        json!({"of": "bob"}),
    );
    assert_eq!(
        bob.state(&room, "m.room.topic", "").ok(),
        json!({"topic": "first"})
    );
    let without_slash = bob
        .get(&format!("/v3/rooms/{room}/state/m.room.topic"))
        .ok();
    assert_eq!(without_slash, json!({"topic": "first"}));
    let seat = bob
        .state(&room, "org.example.seat", "window/1 #\u{e9}")
        .ok();
    assert_eq!(seat, json!({"of": "bob"}));
    bob.state(&room, "org.example.seat", "other")
        .error(404, "M_NOT_FOUND");
    let all = bob.get(&format!("/v3/rooms/{room}/state")).ok();
    let found = |event: &Value| event["event_id"] == id.as_str();
    assert!(
        all.as_array()
            .is_some_and(|events| events.iter().any(found))
    );
}

#[test]
fn the_whole_event_of_a_state_can_be_asked_for() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let id = alice.set_state(&room, "m.room.topic", "", json!({"topic": "first"}));
    let event = bob
        .get(&format!(
            "/v3/rooms/{room}/state/m.room.topic/?format=event"
        ))
        .ok();
    assert_eq!(event["event_id"], id);
    assert_eq!(event["content"], json!({"topic": "first"}));
    assert_eq!(event["sender"], alice.id);
}

#[test]
fn new_state_names_what_it_replaces() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let first = alice.set_state(&room, "m.room.topic", "", json!({"topic": "first"}));
    let since = bob.sync(None, "").next_batch().to_owned();
    let second = alice.set_state(&room, "m.room.topic", "", json!({"topic": "second"}));
    let answer = bob.sync(Some(&since), "");
    let unsigned = &answer.event(&room, &second).expect("the new topic")["unsigned"];
    assert_eq!(unsigned["prev_content"], json!({"topic": "first"}));
    let replaces = &unsigned["replaces_state"];
    assert!(
        replaces.is_null() || replaces == first.as_str(),
        "{unsigned}"
    );
}

#[test]
fn state_needs_the_power_that_the_room_asks_for() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    bob.try_set_state(&room, "m.room.topic", "", json!({"topic": "x"}))
        .error(403, "M_FORBIDDEN");
    let mut levels = alice.state(&room, "m.room.power_levels", "").ok();
    levels["users"][&bob.id] = json!(50);
    alice.set_state(&room, "m.room.power_levels", "", levels);
    bob.set_state(&room, "m.room.topic", "", json!({"topic": "by bob"}));
    assert_eq!(
        alice.state(&room, "m.room.topic", "").ok()["topic"],
        "by bob"
    );
}

#[test]
fn nobody_gives_more_power_than_they_have() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut levels = alice.state(&room, "m.room.power_levels", "").ok();
    levels["users"][&bob.id] = json!(50);
    levels["events"]["m.room.power_levels"] = json!(50);
    alice.set_state(&room, "m.room.power_levels", "", levels.clone());
    let mut more = levels.clone();
    more["users"][&bob.id] = json!(100);
    bob.try_set_state(&room, "m.room.power_levels", "", more)
        .error(403, "M_FORBIDDEN");
    levels["users"][&bob.id] = json!(20);
    bob.set_state(&room, "m.room.power_levels", "", levels);
}

#[test]
fn power_levels_that_are_no_integers_are_refused() {
    let server = server();
    let (alice, _, room) = pair(&server);
    let before = alice.state(&room, "m.room.power_levels", "").ok();
    for wrong in [json!("50"), json!(1.5), json!([]), json!(true)] {
        let mut levels = before.clone();
        levels["users_default"] = wrong;
        alice
            .try_set_state(&room, "m.room.power_levels", "", levels)
            .error(400, "M_BAD_JSON");
    }
    assert_eq!(alice.state(&room, "m.room.power_levels", "").ok(), before);
}

#[test]
fn power_levels_never_name_a_creator_of_the_room() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({
        "preset": "public_chat",
        "room_version": "12",
        "creation_content": {"additional_creators": [bob.id]},
    }));
    let stranger = server.register("stranger");
    for creator in [&alice, &bob] {
        let levels = json!({"users": {&creator.id: 100}});
        alice
            .try_set_state(&room, "m.room.power_levels", "", levels.clone())
            .error(400, "M_BAD_JSON");
        stranger
            .try_set_state(&room, "m.room.power_levels", "", levels)
            .error(403, "M_FORBIDDEN");
    }
}

#[test]
fn state_under_the_name_of_another_user_is_refused() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let answer = alice.try_set_state(&room, "org.example.state", &bob.id, json!({}));
    answer.error(403, "M_FORBIDDEN");
    alice.set_state(&room, "org.example.state", &alice.id, json!({"mine": true}));
}

#[test]
fn a_room_is_created_only_once() {
    let server = server();
    let (alice, _, room) = pair(&server);
    for content in [json!({}), alice.state(&room, "m.room.create", "").ok()] {
        alice
            .try_set_state(&room, "m.room.create", "", content)
            .error(400, "M_INVALID_PARAM");
    }
    let stranger = server.register("stranger");
    stranger
        .try_set_state(&room, "m.room.create", "", json!({}))
        .error(403, "M_FORBIDDEN");
}

#[test]
fn a_redacted_event_loses_its_content() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let id = alice.say(&room, "a secret");
    let path = format!("/v3/rooms/{room}/redact/{id}/r1");
    let redaction = alice.put(&path, json!({"reason": "told too much"})).ok();
    assert_eq!(
        alice.put(&path, json!({"reason": "told too much"})).ok(),
        redaction
    );
    let event = bob.event(&room, &id).ok();
    assert_eq!(event["content"], json!({}));
    let because = &event["unsigned"]["redacted_because"];
    assert_eq!(because["event_id"], redaction["event_id"]);
    assert_eq!(because["content"]["reason"], "told too much");
    let redaction = bob
        .event(&room, redaction["event_id"].as_str().expect("an id"))
        .ok();
    assert_eq!(redaction["type"], "m.room.redaction");
    assert_eq!(redaction["content"]["redacts"], id);
}

#[test]
fn one_redacts_ones_own_events_and_power_redacts_those_of_others() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let of_alice = alice.say(&room, "of alice");
    let of_bob = bob.say(&room, "of bob");
    let path = format!("/v3/rooms/{room}/redact/{of_alice}/r1");
    bob.put(&path, json!({})).error(403, "M_FORBIDDEN");
    assert_eq!(
        bob.event(&room, &of_alice).ok()["content"]["body"],
        "of alice"
    );
    alice.redact(&room, &of_bob);
    assert_eq!(bob.event(&room, &of_bob).ok()["content"], json!({}));
}

#[test]
fn redacted_state_keeps_what_protects_the_room() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let topic = alice.set_state(&room, "m.room.topic", "", json!({"topic": "secret"}));
    alice.redact(&room, &topic);
    assert_eq!(bob.state(&room, "m.room.topic", "").ok(), json!({}));
    let member = alice.get(&format!(
        "/v3/rooms/{room}/state/m.room.member/{}?format=event",
        bob.id
    ));
    let member = member.ok()["event_id"].as_str().expect("an id").to_owned();
    bob.put(
        &format!("/v3/profile/{}/displayname", bob.id),
        json!({"displayname": "B"}),
    )
    .ok();
    bob.redact(&room, &member);
    assert_eq!(
        alice.event(&room, &member).ok()["content"]["membership"],
        "join"
    );
}

#[test]
fn a_redaction_arrives_in_sync_and_so_does_the_redacted_event() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let since = bob.sync(None, "").next_batch().to_owned();
    let id = alice.say(&room, "a secret");
    let redaction = alice.redact(&room, &id);
    let answer = bob.sync(Some(&since), "");
    assert_eq!(answer.event_ids(&room), [id.as_str(), redaction.as_str()]);
    assert_eq!(
        answer.event(&room, &id).map(|event| &event["content"]),
        Some(&json!({}))
    );
}

#[test]
fn joined_rooms_and_events_of_unknown_id() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    assert_eq!(
        bob.get("/v3/joined_rooms").ok()["joined_rooms"],
        json!([room])
    );
    alice.event(&room, "$nosuchevent").error(404, "M_NOT_FOUND");
}

#[test]
fn an_alias_in_the_canonical_alias_must_lead_to_the_room() {
    let server = server();
    let (alice, _, room) = pair(&server);
    let name = format!("canon-{}", alice.localpart());
    let other = alice.create_room(json!({"room_alias_name": name}));
    let alias = format!("#{name}:{}", alice.server_name());
    let wrong = alice.try_set_state(&room, "m.room.canonical_alias", "", json!({"alias": alias}));
    wrong.error(400, "M_BAD_ALIAS");
    let broken = json!({"alias": "no alias"});
    let broken = alice.try_set_state(&room, "m.room.canonical_alias", "", broken);
    broken.error(400, "M_INVALID_PARAM");
    alice.set_state(
        &other,
        "m.room.canonical_alias",
        "",
        json!({"alt_aliases": [alias]}),
    );
}
