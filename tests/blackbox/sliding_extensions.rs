//! Extensions of sliding sync: messages to the device, keys, account data, receipts, typing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{User, encode};

use crate::sliding_sync::Sliding;
use crate::{column, pair, server, strings};

fn extension(name: &str, options: Value) -> Value {
    let mut asked = json!({"enabled": true});
    for (key, value) in options.as_object().into_iter().flatten() {
        asked[key] = value.clone();
    }
    json!({name: asked})
}

/// A connection that shows all rooms and has one extension.
fn with<'a>(user: &'a User, name: &str, options: Value) -> Sliding<'a> {
    let mut sliding = Sliding::all(user, 1, json!([]));
    sliding.body["extensions"] = extension(name, options);
    sliding
}

fn set_account_data(user: &User, room: Option<&str>, kind: &str, content: Value) {
    let of = encode(&user.id);
    let room = room.map_or(String::new(), |room| format!("/rooms/{}", encode(room)));
    let path = format!("/v3/user/{of}{room}/account_data/{kind}");
    user.put(&path, content).ok();
}

#[test]
fn extensions_that_are_not_enabled_say_nothing() {
    let server = server();
    let user = server.register("alice");
    let mut sliding = Sliding::all(&user, 1, json!([]));
    sliding.body["extensions"] = json!({"e2ee": {"enabled": false}, "typing": {}});
    assert_eq!(sliding.next()["extensions"], json!({}));
}

#[test]
fn messages_to_the_device_come_again_until_they_are_known_to_have_arrived() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let send = |n: u64| {
        let messages = json!({&bob.id: {&bob.device: {"n": n}}});
        let path = format!("/v3/sendToDevice/org.example.note/{n}");
        alice.put(&path, json!({"messages": messages})).ok();
    };
    let numbers = |answer: &Value| {
        let events = answer["extensions"]["to_device"]["events"].as_array();
        let numbers = events.into_iter().flatten();
        let numbers = numbers.filter_map(|event| event["content"]["n"].as_u64());
        numbers.collect::<Vec<_>>()
    };
    let mut sliding = Sliding::new(
        &bob,
        json!({"extensions": extension("to_device", json!({}))}),
    );
    assert!(numbers(&sliding.next()).is_empty());
    send(1);
    assert_eq!(numbers(&sliding.wait(30_000)), [1]);
    send(2);
    let answer = sliding.next();
    assert_eq!(numbers(&answer), [1, 2]);
    let next = &answer["extensions"]["to_device"]["next_batch"];
    sliding.body["extensions"]["to_device"]["since"] = next.clone();
    assert!(numbers(&sliding.next()).is_empty());
    send(3);
    send(4);
    sliding.body["extensions"]["to_device"]["limit"] = json!(1);
    let answer = sliding.next();
    assert_eq!(numbers(&answer), [3]);
    let next = &answer["extensions"]["to_device"]["next_batch"];
    sliding.body["extensions"]["to_device"]["since"] = next.clone();
    assert_eq!(numbers(&sliding.next()), [4]);
    // What was acknowledged is gone for a connection that begins anew, too.
    let mut anew = Sliding::new(
        &bob,
        json!({"extensions": extension("to_device", json!({}))}),
    );
    assert_eq!(numbers(&anew.next()), [4]);
}

#[test]
fn key_counts_are_always_told_and_device_lists_when_they_change() {
    let server = server();
    let (alice, bob, _room) = pair(&server);
    let mut sliding = with(&alice, "e2ee", json!({}));
    let first = sliding.next();
    let told = &first["extensions"]["e2ee"];
    assert!(told["device_one_time_keys_count"].is_object(), "{told}");
    assert!(
        told["device_unused_fallback_key_types"].is_array(),
        "{told}"
    );
    assert!(told["device_lists"].is_null(), "{told}");
    let again = bob.login_again();
    let keys = json!({
        "user_id": bob.id, "device_id": again.device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {}, "signatures": {},
    });
    again
        .post("/v3/keys/upload", json!({"device_keys": keys}))
        .ok();
    let answer = sliding.wait(30_000);
    let lists = &answer["extensions"]["e2ee"]["device_lists"];
    assert_eq!(strings(&lists["changed"]), [bob.id.as_str()]);
    assert!(sliding.next()["extensions"]["e2ee"]["device_lists"].is_null());
}

#[test]
fn account_data_is_told_at_first_and_when_it_changes() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    set_account_data(&user, None, "org.example.global", json!({"n": 1}));
    set_account_data(&user, Some(&room), "org.example.room", json!({"n": 1}));
    let mut sliding = with(&user, "account_data", json!({}));
    let answer = sliding.next();
    let told = &answer["extensions"]["account_data"];
    let global = column(&told["global"], "type");
    assert!(global.contains(&"m.push_rules"), "{global:?}");
    assert!(global.contains(&"org.example.global"), "{global:?}");
    assert_eq!(column(&told["rooms"][&room], "type"), ["org.example.room"]);
    let empty = json!({"global": [], "rooms": {}});
    assert_eq!(sliding.next()["extensions"]["account_data"], empty);
    set_account_data(&user, Some(&room), "org.example.room", json!({"n": 2}));
    let answer = sliding.wait(30_000);
    let told = &answer["extensions"]["account_data"]["rooms"][&room];
    assert_eq!(told[0]["content"]["n"], 2);
    assert_eq!(sliding.next()["extensions"]["account_data"], empty);
}

#[test]
fn account_data_of_a_room_that_was_out_of_sight_comes_with_it() {
    let server = server();
    let user = server.register("alice");
    let (first, second) = (user.create_room(json!({})), user.create_room(json!({})));
    let mut sliding = with(&user, "account_data", json!({}));
    sliding.next();
    sliding.body["lists"]["all"]["ranges"] = json!([[0, 0]]);
    set_account_data(&user, Some(&first), "org.example.room", json!({"n": 1}));
    let answer = sliding.next();
    assert!(answer["extensions"]["account_data"]["rooms"][&first].is_null());
    user.say(&second, "still out of sight");
    sliding.next();
    user.say(&first, "in sight");
    let answer = sliding.next();
    let told = &answer["extensions"]["account_data"]["rooms"];
    assert_eq!(told[&first][0]["content"]["n"], 1);
    assert!(told[&second].is_null(), "{told}");
}

#[test]
fn receipts_are_told_of_the_events_shown_and_as_they_come() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let (first, second) = (alice.say(&room, "first"), alice.say(&room, "second"));
    let read = |event: &str| {
        let (room, event) = (encode(&room), encode(event));
        bob.post(
            &format!("/v3/rooms/{room}/receipt/m.read/{event}"),
            json!({}),
        )
        .ok();
    };
    read(&first);
    let mut sliding = with(&alice, "receipts", json!({}));
    // The first event is not in the timeline of one.
    assert_eq!(sliding.next()["extensions"]["receipts"]["rooms"], json!({}));
    read(&second);
    let answer = sliding.wait(30_000);
    let told = &answer["extensions"]["receipts"]["rooms"][&room];
    assert_eq!(told["type"], "m.receipt");
    assert!(
        told["content"][&second]["m.read"][&bob.id].is_object(),
        "{told}"
    );
    assert_eq!(sliding.next()["extensions"]["receipts"]["rooms"], json!({}));
    let answer = with(&alice, "receipts", json!({})).next();
    let told = &answer["extensions"]["receipts"]["rooms"][&room];
    assert!(
        told["content"][&second]["m.read"][&bob.id].is_object(),
        "{told}"
    );
}

#[test]
fn typing_begins_and_ends() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut sliding = with(&alice, "typing", json!({}));
    sliding.next();
    let path = format!("/v3/rooms/{}/typing/{}", encode(&room), encode(&bob.id));
    bob.put(&path, json!({"typing": true, "timeout": 30_000}))
        .ok();
    let answer = sliding.wait(30_000);
    let told = &answer["extensions"]["typing"]["rooms"][&room];
    assert_eq!(told["type"], "m.typing");
    assert_eq!(strings(&told["content"]["user_ids"]), [bob.id.as_str()]);
    bob.put(&path, json!({"typing": false})).ok();
    let answer = sliding.wait(30_000);
    let told = &answer["extensions"]["typing"]["rooms"][&room];
    assert_eq!(told["content"]["user_ids"], json!([]));
    assert_eq!(sliding.next()["extensions"]["typing"]["rooms"], json!({}));
}

#[test]
fn an_extension_can_be_kept_to_lists_and_rooms() {
    let server = server();
    let (alice, bob, listed) = pair(&server);
    let subscribed = alice.create_public_room();
    bob.join(&subscribed);
    let config = json!({"timeline_limit": 1, "required_state": []});
    let typing = |lists: Value, rooms: Value| {
        let mut sliding = Sliding::new(
            &alice,
            json!({
                "lists": {"l": {
                    "timeline_limit": 1, "required_state": [], "filters": {"is_dm": true},
                }},
                "room_subscriptions": {&subscribed: config},
            }),
        );
        let options = json!({"lists": lists, "rooms": rooms});
        sliding.body["extensions"] = extension("typing", options);
        let answer = sliding.next();
        let mut rooms: Vec<String> = (answer["extensions"]["typing"]["rooms"].as_object())
            .into_iter()
            .flatten()
            .map(|(id, _)| id.clone())
            .collect();
        rooms.sort_unstable();
        rooms
    };
    set_account_data(&alice, None, "m.direct", json!({&bob.id: [&listed]}));
    for room in [&listed, &subscribed] {
        let path = format!("/v3/rooms/{}/typing/{}", encode(room), encode(&bob.id));
        bob.put(&path, json!({"typing": true, "timeout": 60_000}))
            .ok();
    }
    let mut both = vec![listed.clone(), subscribed.clone()];
    both.sort_unstable();
    assert_eq!(typing(json!(["*"]), json!(["*"])), both);
    assert_eq!(typing(json!(["l"]), json!([])), [listed.as_str()]);
    assert_eq!(typing(json!([]), json!(["*"])), [subscribed.as_str()]);
    assert_eq!(typing(json!(["none"]), json!([&listed])), [listed.as_str()]);
    assert!(typing(json!([]), json!([])).is_empty());
}

#[test]
fn a_connection_without_rooms_waits_through_their_events() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut sliding = Sliding::new(&alice, json!({"extensions": extension("e2ee", json!({}))}));
    sliding.next();
    let begin = Instant::now();
    bob.say(&room, "not for this connection");
    sliding.wait(500);
    assert!(begin.elapsed() >= Duration::from_millis(500));
}
