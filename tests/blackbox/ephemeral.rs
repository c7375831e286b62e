//! Receipts, read markers, typing notifications, and the unread counts that receipts move.

use serde_json::{Value, json};
use testkit::{Server, SyncAnswer, User, encode};

use crate::{pair, server};

fn receipt(user: &User, room: &str, kind: &str, event: &str, body: Value) -> testkit::Response {
    user.post(
        &format!("/v3/rooms/{room}/receipt/{kind}/{}", encode(event)),
        body,
    )
}

/// The receipt of a user in what a sync says about a room.
fn seen_receipt(
    answer: &SyncAnswer,
    room: &str,
    event: &str,
    kind: &str,
    user: &str,
) -> Option<Value> {
    let receipts = answer
        .ephemeral(room)
        .iter()
        .find(|event| event["type"] == "m.receipt")?;
    let receipt = &receipts["content"][event][kind][user];
    receipt.is_object().then(|| receipt.clone())
}

/// The notification and highlight counts of a room.
fn unread(user: &User, room: &str) -> (u64, u64) {
    let answer = user.sync(None, "");
    let counts = &answer.joined(room)["unread_notifications"];
    let count = |key: &str| counts[key].as_u64().unwrap_or_default();
    (count("notification_count"), count("highlight_count"))
}

#[test]
fn a_receipt_is_seen_by_the_other_members() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let id = alice.say(&room, "read me");
    let mut follower = alice.follow_from_now();
    receipt(&bob, &room, "m.read", &id, json!({})).ok();
    let seen = follower.until("the receipt of bob", |answer| {
        seen_receipt(answer, &room, &id, "m.read", &bob.id)
    });
    assert!(
        seen["ts"]
            .as_u64()
            .is_some_and(|time| time > 1_600_000_000_000),
        "{seen}"
    );
}

#[test]
fn a_private_receipt_is_seen_by_its_user_alone() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let id = alice.say(&room, "read me");
    let (since_alice, since_bob) = (alice.sync(None, ""), bob.sync(None, ""));
    receipt(&bob, &room, "m.read.private", &id, json!({})).ok();
    let of_bob = bob.sync(Some(since_bob.next_batch()), "");
    assert!(seen_receipt(&of_bob, &room, &id, "m.read.private", &bob.id).is_some());
    let of_alice = alice.sync(Some(since_alice.next_batch()), "");
    assert!(of_alice.ephemeral(&room).is_empty(), "{of_alice:?}");
}

#[test]
fn a_receipt_of_a_thread_says_so() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let root = alice.say(&room, "root");
    let relation = json!({"rel_type": "m.thread", "event_id": root});
    let content = json!({"msgtype": "m.text", "body": "reply", "m.relates_to": relation});
    let reply = alice.send(&room, "m.room.message", content);
    let since = alice.sync(None, "").next_batch().to_owned();
    receipt(&bob, &room, "m.read", &reply, json!({"thread_id": root})).ok();
    receipt(&bob, &room, "m.read", &root, json!({"thread_id": "main"})).ok();
    let answer = alice.sync(Some(&since), "");
    let thread = |event: &str| {
        seen_receipt(&answer, &room, event, "m.read", &bob.id).map(|seen| seen["thread_id"].clone())
    };
    assert_eq!(thread(&reply), Some(json!(root)));
    assert_eq!(thread(&root), Some(json!("main")));
}

#[test]
fn receipts_that_are_not_understood_are_refused() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let id = alice.say(&room, "read me");
    let wrong = receipt(&bob, &room, "org.example.receipt", &id, json!({}));
    assert_eq!(wrong.status, 400, "{wrong}");
    for thread in [json!(""), json!(7)] {
        let wrong = receipt(&bob, &room, "m.read", &id, json!({"thread_id": thread}));
        assert_eq!(wrong.status, 400, "{wrong}");
    }
    let carol = server.register("carol");
    let stranger = receipt(&carol, &room, "m.read", &id, json!({}));
    assert!(matches!(stranger.status, 403 | 404), "{stranger}");
}

#[test]
fn messages_of_others_are_counted_until_they_are_read() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let first = alice.say(&room, "one");
    let second = alice.say(&room, "two");
    assert_eq!(unread(&bob, &room), (2, 0));
    assert_eq!(unread(&alice, &room), (0, 0));
    receipt(&bob, &room, "m.read", &first, json!({})).ok();
    assert_eq!(unread(&bob, &room), (1, 0));
    receipt(&bob, &room, "m.read.private", &second, json!({})).ok();
    assert_eq!(unread(&bob, &room), (0, 0));
    receipt(&bob, &room, "m.read", &first, json!({})).ok();
    assert_eq!(
        unread(&bob, &room),
        (0, 0),
        "an older receipt unreads nothing"
    );
}

#[test]
fn mentions_are_highlights() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mention =
        |users: Value| json!({"msgtype": "m.text", "body": "you there", "m.mentions": users});
    alice.send(
        &room,
        "m.room.message",
        mention(json!({"user_ids": [bob.id]})),
    );
    assert_eq!(unread(&bob, &room), (1, 1));
    alice.send(&room, "m.room.message", mention(json!({"room": true})));
    assert_eq!(
        unread(&bob, &room),
        (2, 2),
        "alice has the power to mention the room"
    );
    bob.send(&room, "m.room.message", mention(json!({"room": true})));
    assert_eq!(unread(&alice, &room).1, 0, "bob has not");
}

#[test]
fn ones_own_message_reads_what_was_before_it() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    alice.say(&room, "one");
    bob.say(&room, "reply");
    assert_eq!(unread(&bob, &room), (0, 0));
    alice.say(&room, "two");
    assert_eq!(unread(&bob, &room), (1, 0));
}

#[test]
fn counts_come_down_an_incremental_sync() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let since = bob.sync(None, "").next_batch().to_owned();
    let id = alice.say(&room, "one");
    let answer = bob.sync(Some(&since), "");
    assert_eq!(
        answer.joined(&room)["unread_notifications"]["notification_count"],
        1
    );
    receipt(&bob, &room, "m.read", &id, json!({})).ok();
    let answer = bob.sync(Some(answer.next_batch()), "");
    assert_eq!(
        answer.joined(&room)["unread_notifications"]["notification_count"],
        0
    );
}

fn thread_counts(server: &Server) -> (User, User, String, String) {
    let (alice, bob, room) = pair(server);
    let root = alice.say(&room, "root");
    let relation = json!({"rel_type": "m.thread", "event_id": root});
    let content = json!({"msgtype": "m.text", "body": "reply", "m.relates_to": relation});
    alice.send(&room, "m.room.message", content.clone());
    alice.send(&room, "m.room.message", content);
    (alice, bob, room, root)
}

#[test]
fn threads_are_counted_apart_where_the_client_asks_for_it() {
    let server = server();
    let (_, bob, room, root) = thread_counts(&server);
    assert_eq!(unread(&bob, &room), (3, 0), "together, where it does not");
    let filter = json!({"room": {"timeline": {"unread_thread_notifications": true}}}).to_string();
    let filter = format!("&filter={}", encode(&filter));
    let answer = bob.sync(None, &filter);
    let joined = answer.joined(&room);
    assert_eq!(
        joined["unread_notifications"]["notification_count"], 1,
        "{joined}"
    );
    let threads = &joined["unread_thread_notifications"];
    assert_eq!(threads[&root]["notification_count"], 2, "{joined}");
}

#[test]
fn the_read_marker_is_set_with_the_receipts() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let id = alice.say(&room, "read me");
    let since = bob.sync(None, "").next_batch().to_owned();
    let body = json!({"m.fully_read": id, "m.read": id});
    bob.post(&format!("/v3/rooms/{room}/read_markers"), body)
        .ok();
    let answer = bob.sync(Some(&since), "");
    let expected = json!([{"type": "m.fully_read", "content": {"event_id": id}}]);
    assert_eq!(answer.joined(&room)["account_data"]["events"], expected);
    assert!(seen_receipt(&answer, &room, &id, "m.read", &bob.id).is_some());
    let path = format!("/v3/user/{}/rooms/{room}/account_data/m.fully_read", bob.id);
    assert_eq!(bob.get(&path).ok()["event_id"], id);
}

#[test]
fn the_read_marker_can_be_set_by_the_receipt_endpoint() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let id = alice.say(&room, "read me");
    receipt(&bob, &room, "m.fully_read", &id, json!({})).ok();
    let path = format!("/v3/user/{}/rooms/{room}/account_data/m.fully_read", bob.id);
    assert_eq!(bob.get(&path).ok()["event_id"], id);
}

fn typing(user: &User, room: &str, body: Value) -> testkit::Response {
    user.put(&format!("/v3/rooms/{room}/typing/{}", user.id), body)
}

fn who_types(answer: &SyncAnswer, room: &str) -> Option<Value> {
    let event = answer
        .ephemeral(room)
        .iter()
        .find(|event| event["type"] == "m.typing")?;
    Some(event["content"]["user_ids"].clone())
}

#[test]
fn typing_begins_and_ends() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut follower = alice.follow_from_now();
    typing(&bob, &room, json!({"typing": true, "timeout": 30_000})).ok();
    follower.until("bob types", |answer| {
        (who_types(answer, &room)? == json!([bob.id])).then_some(())
    });
    typing(&bob, &room, json!({"typing": false})).ok();
    follower.until("bob types no more", |answer| {
        (who_types(answer, &room)? == json!([])).then_some(())
    });
}

#[test]
fn typing_ends_by_itself() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut follower = alice.follow_from_now();
    typing(&bob, &room, json!({"typing": true, "timeout": 200})).ok();
    follower.until("bob types no more", |answer| {
        (who_types(answer, &room)? == json!([])).then_some(())
    });
}

#[test]
fn typing_for_somebody_else_or_elsewhere_is_forbidden() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let path = format!("/v3/rooms/{room}/typing/{}", alice.id);
    bob.put(&path, json!({"typing": true, "timeout": 1000}))
        .error(403, "M_FORBIDDEN");
    let carol = server.register("carol");
    typing(&carol, &room, json!({"typing": true, "timeout": 1000})).error(403, "M_FORBIDDEN");
}
