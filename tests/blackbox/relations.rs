//! Relations between events: edits, annotations, references, threads.

use serde_json::{Value, json};
use testkit::User;

use crate::{column, pair, server};

fn edit(user: &User, room: &str, target: &str, body: &str) -> String {
    let new = json!({"msgtype": "m.text", "body": body});
    let relation = json!({"rel_type": "m.replace", "event_id": target});
    user.send(
        room,
        "m.room.message",
        json!({
            "msgtype": "m.text", "body": format!("* {body}"), "m.new_content": new,
            "m.relates_to": relation,
        }),
    )
}

fn react(user: &User, room: &str, target: &str, key: &str) -> String {
    let relation = json!({"rel_type": "m.annotation", "event_id": target, "key": key});
    user.send(room, "m.reaction", json!({"m.relates_to": relation}))
}

fn in_thread(user: &User, room: &str, root: &str, body: &str) -> String {
    let relation = json!({"rel_type": "m.thread", "event_id": root});
    let content = json!({"msgtype": "m.text", "body": body, "m.relates_to": relation});
    user.send(room, "m.room.message", content)
}

fn bundle(user: &User, room: &str, event: &str) -> Value {
    user.event(room, event).ok()["unsigned"]["m.relations"].clone()
}

fn related(user: &User, room: &str, path: &str) -> Value {
    user.get(&format!("/v1/rooms/{room}/relations/{path}")).ok()
}

#[test]
fn the_relations_of_an_event_are_listed_newest_first() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let target = alice.say(&room, "target");
    let sent: Vec<String> = ["a", "b", "c"]
        .map(|key| react(&bob, &room, &target, key))
        .into();
    let edited = edit(&alice, &room, &target, "edited");
    let newest_first = [&edited, &sent[2], &sent[1], &sent[0]];
    let all = related(&alice, &room, &target);
    assert_eq!(column(&all["chunk"], "event_id"), newest_first);
    let reactions = related(&alice, &room, &format!("{target}/m.annotation"));
    assert_eq!(column(&reactions["chunk"], "event_id"), newest_first[1..]);
    let of_type = related(
        &alice,
        &room,
        &format!("{target}/m.annotation/m.reaction?dir=f"),
    );
    assert_eq!(
        column(&of_type["chunk"], "event_id"),
        [&sent[0], &sent[1], &sent[2]]
    );
    let none = related(
        &alice,
        &room,
        &format!("{target}/m.annotation/org.example.other"),
    );
    assert_eq!(none["chunk"], json!([]));
}

#[test]
fn relations_are_read_page_by_page() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let target = alice.say(&room, "target");
    let keys = ["1", "2", "3", "4", "5"];
    let mut sent: Vec<String> = keys.map(|key| react(&bob, &room, &target, key)).into();
    sent.reverse();
    let first = related(&bob, &room, &format!("{target}?limit=2"));
    assert_eq!(column(&first["chunk"], "event_id"), sent[..2]);
    let next = testkit::encode(first["next_batch"].as_str().expect("there are more"));
    let rest = related(&bob, &room, &format!("{target}?limit=10&from={next}"));
    assert_eq!(column(&rest["chunk"], "event_id"), sent[2..]);
    assert!(rest["next_batch"].is_null(), "{rest}");
}

#[test]
fn an_edit_is_bundled_with_what_it_edits() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let target = alice.say(&room, "first");
    edit(&alice, &room, &target, "second");
    let latest = edit(&alice, &room, &target, "third");
    let event = bob.event(&room, &target).ok();
    let replacement = &event["unsigned"]["m.relations"]["m.replace"];
    assert_eq!(replacement["event_id"], latest);
    assert_eq!(replacement["sender"], alice.id);
    assert_eq!(
        event["content"]["body"], "first",
        "the original is given as it was"
    );
}

#[test]
fn an_edit_by_somebody_else_is_none() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let target = alice.say(&room, "mine");
    edit(&bob, &room, &target, "not mine");
    assert!(bundle(&alice, &room, &target)["m.replace"].is_null());
}

#[test]
fn a_redacted_edit_is_none() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let target = alice.say(&room, "first");
    let second = edit(&alice, &room, &target, "second");
    let third = edit(&alice, &room, &target, "third");
    alice.redact(&room, &third);
    assert_eq!(
        bundle(&bob, &room, &target)["m.replace"]["event_id"],
        second
    );
    alice.redact(&room, &second);
    assert!(bundle(&bob, &room, &target)["m.replace"].is_null());
}

#[test]
fn the_same_reaction_twice_is_refused() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let target = alice.say(&room, "target");
    let first = react(&bob, &room, &target, "x");
    let relation = json!({"rel_type": "m.annotation", "event_id": target, "key": "x"});
    let again = json!({"m.relates_to": relation});
    let answer = bob.try_send(&room, "m.reaction", again);
    answer.error(400, "M_DUPLICATE_ANNOTATION");
    react(&bob, &room, &target, "y");
    react(&alice, &room, &target, "x");
    bob.redact(&room, &first);
    react(&bob, &room, &target, "x");
}

#[test]
fn references_are_bundled() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let target = alice.say(&room, "target");
    let relation = json!({"rel_type": "m.reference", "event_id": target});
    let reference = json!({"m.relates_to": relation});
    let sent = [
        alice.send(&room, "org.example.reference", reference.clone()),
        bob.send(&room, "org.example.reference", reference),
    ];
    let bundled = bundle(&bob, &room, &target)["m.reference"]["chunk"].clone();
    assert_eq!(column(&bundled, "event_id"), sent);
}

#[test]
fn a_thread_is_summed_up_at_its_root() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let root = alice.say(&room, "root");
    in_thread(&bob, &room, &root, "one");
    let last = in_thread(&bob, &room, &root, "two");
    let summary = bundle(&alice, &room, &root)["m.thread"].clone();
    assert_eq!(summary["count"], 2);
    assert_eq!(summary["latest_event"]["event_id"], last);
    assert_eq!(summary["latest_event"]["content"]["body"], "two");
    assert_eq!(summary["current_user_participated"], true, "alice began it");
    let carol = server.register("carol");
    carol.join(&room);
    assert_eq!(
        bundle(&carol, &room, &root)["m.thread"]["current_user_participated"],
        false
    );
}

#[test]
fn a_redacted_reply_leaves_its_thread() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let root = alice.say(&room, "root");
    let first = in_thread(&bob, &room, &root, "one");
    let second = in_thread(&bob, &room, &root, "two");
    bob.redact(&room, &second);
    let summary = bundle(&alice, &room, &root)["m.thread"].clone();
    assert_eq!(summary["count"], 1);
    assert_eq!(summary["latest_event"]["event_id"], first);
}

#[test]
fn threads_are_listed_by_their_latest_reply() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let roots = [
        alice.say(&room, "first root"),
        bob.say(&room, "second root"),
    ];
    in_thread(&bob, &room, &roots[1], "in the second");
    in_thread(&bob, &room, &roots[0], "in the first");
    let threads = alice.get(&format!("/v1/rooms/{room}/threads")).ok();
    assert_eq!(
        column(&threads["chunk"], "event_id"),
        [&roots[0], &roots[1]]
    );
    let summary = &threads["chunk"][0]["unsigned"]["m.relations"]["m.thread"];
    assert_eq!(summary["count"], 1, "{threads}");
    in_thread(&bob, &room, &roots[1], "in the second again");
    let threads = alice.get(&format!("/v1/rooms/{room}/threads?limit=1")).ok();
    assert_eq!(column(&threads["chunk"], "event_id"), [&roots[1]]);
    let next = testkit::encode(threads["next_batch"].as_str().expect("there are more"));
    let rest = alice
        .get(&format!("/v1/rooms/{room}/threads?from={next}"))
        .ok();
    assert_eq!(column(&rest["chunk"], "event_id"), [&roots[0]]);
}

#[test]
fn threads_can_be_those_that_one_took_part_in() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mine = alice.say(&room, "root of alice");
    let other = bob.say(&room, "root of bob");
    in_thread(&bob, &room, &mine, "reply");
    in_thread(&bob, &room, &other, "reply");
    let threads = alice
        .get(&format!("/v1/rooms/{room}/threads?include=participated"))
        .ok();
    assert_eq!(column(&threads["chunk"], "event_id"), [&mine]);
}

#[test]
fn bundles_come_with_messages_context_and_limited_sync() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let root = alice.say(&room, "root");
    let reply = in_thread(&alice, &room, &root, "reply");
    let latest = |event: &Value| {
        event["unsigned"]["m.relations"]["m.thread"]["latest_event"]["event_id"].clone()
    };
    // Where a sync is not limited, the client has seen the relations themselves.
    let filter = testkit::encode(&json!({"room": {"timeline": {"limit": 2}}}).to_string());
    let synced = bob.sync(None, &format!("&filter={filter}"));
    assert_eq!(synced.joined(&room)["timeline"]["limited"], true);
    assert_eq!(synced.event(&room, &root).map(&latest), Some(json!(reply)));
    let messages = bob
        .get(&format!("/v3/rooms/{room}/messages?dir=b&limit=2"))
        .ok();
    assert_eq!(latest(&messages["chunk"][1]), reply);
    let context = bob.get(&format!("/v3/rooms/{room}/context/{root}")).ok();
    assert_eq!(latest(&context["event"]), reply);
}

#[test]
fn relations_of_an_unknown_event_are_not_found() {
    let server = server();
    let (alice, _, room) = pair(&server);
    let answer = alice.get(&format!("/v1/rooms/{room}/relations/$nosuchevent"));
    assert!(answer.status == 404 || answer.ok()["chunk"] == json!([]));
}

#[test]
fn filters_by_relation_find_what_has_one() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let root = alice.say(&room, "root");
    alice.say(&room, "alone");
    in_thread(&bob, &room, &root, "reply");
    let filter = json!({"related_by_rel_types": ["m.thread"]}).to_string();
    let filter = testkit::encode(&filter);
    let messages = alice
        .get(&format!("/v3/rooms/{room}/messages?dir=b&filter={filter}"))
        .ok();
    assert_eq!(column(&messages["chunk"], "event_id"), [&root]);
}
