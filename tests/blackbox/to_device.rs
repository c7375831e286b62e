//! Send-to-device messages: in order, at least once, and gone when they are known to be received.

use serde_json::{Value, json};
use testkit::{SyncAnswer, User};

use crate::server;

fn send(by: &User, transaction: &str, messages: Value) -> testkit::Response {
    let path = format!("/v3/sendToDevice/org.example.note/{transaction}");
    by.put(&path, json!({"messages": messages}))
}

fn note(by: &User, to: &User, number: u64) {
    let messages = json!({to.id.clone(): {to.device.clone(): {"n": number}}});
    send(by, &format!("note{number}"), messages).ok();
}

fn numbers(answer: &SyncAnswer) -> Vec<u64> {
    answer
        .to_device()
        .iter()
        .filter_map(|event| event["content"]["n"].as_u64())
        .collect()
}

#[test]
fn a_message_arrives_with_its_sender_and_type() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    note(&alice, &bob, 1);
    let expected = json!({"type": "org.example.note", "sender": alice.id, "content": {"n": 1}});
    assert_eq!(bob.sync(None, "").to_device(), [expected]);
}

#[test]
fn messages_arrive_in_their_order_and_wake_who_waits() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let mut follower = bob.follow_from_now();
    for number in 0..5 {
        note(&alice, &bob, number);
    }
    let mut seen: Vec<u64> = Vec::new();
    while seen.len() < 5 {
        let new = follower.until("more messages", |answer| {
            let numbers = numbers(answer);
            (!numbers.is_empty()).then_some(numbers)
        });
        seen.extend(new);
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[test]
fn messages_come_again_until_the_next_token_proves_their_receipt() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let since = bob.sync(None, "").next_batch().to_owned();
    note(&alice, &bob, 1);
    assert_eq!(numbers(&bob.sync(Some(&since), "")), [1]);
    let answer = bob.sync(Some(&since), "");
    assert_eq!(numbers(&answer), [1], "the answer may have been lost");
    let next = bob.sync(Some(answer.next_batch()), "");
    assert!(numbers(&next).is_empty());
    assert!(
        numbers(&bob.sync(None, "")).is_empty(),
        "received messages are gone"
    );
}

#[test]
fn a_transaction_sent_again_is_one_message() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    note(&alice, &bob, 1);
    note(&alice, &bob, 1);
    assert_eq!(numbers(&bob.sync(None, "")), [1]);
}

#[test]
fn a_message_is_for_one_device_or_for_all() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let second = bob.login_again();
    send(
        &alice,
        "one",
        json!({bob.id.clone(): {second.device.clone(): {"n": 1}}}),
    )
    .ok();
    send(&alice, "all", json!({bob.id.clone(): {"*": {"n": 2}}})).ok();
    assert_eq!(numbers(&bob.sync(None, "")), [2]);
    assert_eq!(numbers(&second.sync(None, "")), [1, 2]);
}

#[test]
fn different_messages_to_different_devices_go_in_one_request() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let messages = json!({
        bob.id.clone(): {bob.device.clone(): {"n": 1}},
        alice.id.clone(): {alice.device.clone(): {"n": 2}, "NOSUCHDEVICE": {"n": 3}},
        format!("@nobody:{}", bob.server_name()): {"*": {"n": 4}},
    });
    send(&alice, "many", messages).ok();
    assert_eq!(numbers(&bob.sync(None, "")), [1]);
    assert_eq!(numbers(&alice.sync(None, "")), [2]);
}

#[test]
fn many_messages_all_arrive_over_several_syncs() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let since = bob.sync(None, "").next_batch().to_owned();
    for number in 0..150 {
        note(&alice, &bob, number);
    }
    let mut seen = Vec::new();
    let mut token = since;
    while seen.len() < 150 {
        let answer = bob.sync(Some(&token), "");
        let new = numbers(&answer);
        assert!(!new.is_empty(), "{} of 150 arrived", seen.len());
        seen.extend(new);
        token = answer.next_batch().to_owned();
    }
    assert_eq!(seen, (0..150).collect::<Vec<u64>>());
}

#[test]
fn messages_that_are_not_understood_are_refused() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let path = "/v3/sendToDevice/org.example.note/t1";
    for body in [
        json!({}),
        json!({"messages": []}),
        json!({"messages": {bob.id.clone(): 7}}),
    ] {
        let answer = alice.put(path, body);
        assert_eq!(answer.status, 400, "{answer}");
    }
    assert!(numbers(&bob.sync(None, "")).is_empty());
}

#[test]
fn messages_of_a_device_that_logs_out_are_gone() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let second = bob.login_again();
    note(&alice, &second, 1);
    second.post("/v3/logout", json!({})).ok();
    let body = json!({
        "type": "m.login.password", "password": bob.password, "device_id": second.device,
        "identifier": {"type": "m.id.user", "user": bob.id},
    });
    let login = bob.without_token().post("/v3/login", body).ok();
    let token = login["access_token"].as_str().expect("a token");
    let sync = bob.with_token(token).get("/v3/sync").ok();
    let events = sync["to_device"]["events"].as_array().map_or(0, Vec::len);
    assert_eq!(events, 0, "{sync}");
}
