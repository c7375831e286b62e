//! Summaries of rooms, and the hierarchy of spaces.

use serde_json::{Value, json};
use testkit::{User, encode};

use crate::{column, server};

fn space(user: &User, preset: &str) -> String {
    let kind = json!({"type": "m.space"});
    user.create_room(json!({"preset": preset, "name": "Space", "creation_content": kind}))
}

fn add(user: &User, space: &str, child: &str, content: Value) {
    let mut content = content;
    content["via"] = json!([user.server_name()]);
    user.set_state(space, "m.space.child", child, content);
}

fn hierarchy(user: &User, room: &str, query: &str) -> Value {
    user.get(&format!("/v1/rooms/{room}/hierarchy?{query}"))
        .ok()
}

#[test]
fn a_summary_says_what_the_room_is() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let encryption = json!({"algorithm": "m.megolm.v1.aes-sha2"});
    let room = alice.create_room(json!({
        "preset": "public_chat", "name": "The room", "topic": "Its topic",
        "room_alias_name": format!("sum-{}", alice.localpart()),
        "initial_state": [{"type": "m.room.encryption", "content": encryption}],
    }));
    let summary = bob.get(&format!("/v1/room_summary/{room}")).ok();
    assert_eq!(summary["room_id"], room);
    assert_eq!(summary["name"], "The room");
    assert_eq!(summary["topic"], "Its topic");
    assert_eq!(summary["num_joined_members"], 1);
    assert_eq!(summary["join_rule"], "public");
    assert_eq!(summary["room_version"], "12");
    assert_eq!(summary["encryption"], "m.megolm.v1.aes-sha2");
    assert_eq!(summary["world_readable"], false);
    let membership = &summary["membership"];
    assert!(membership.is_null() || membership == "leave", "{summary}");
    let alias = format!("#sum-{}:{}", alice.localpart(), alice.server_name());
    let by_alias = alice
        .get(&format!("/v1/room_summary/{}", encode(&alias)))
        .ok();
    assert_eq!(
        (&by_alias["room_id"], &by_alias["membership"]),
        (&json!(room), &json!("join"))
    );
}

#[test]
fn a_private_room_is_summed_up_only_to_who_may_know_of_it() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"preset": "private_chat", "name": "Secret"}));
    bob.get(&format!("/v1/room_summary/{room}"))
        .error(404, "M_NOT_FOUND");
    alice.invite(&room, &bob);
    let summary = bob.get(&format!("/v1/room_summary/{room}")).ok();
    assert_eq!(
        (&summary["name"], &summary["membership"]),
        (&json!("Secret"), &json!("invite"))
    );
}

#[test]
fn a_hierarchy_goes_down_through_the_spaces() {
    let server = server();
    let alice = server.register("alice");
    let (top, inner) = (space(&alice, "public_chat"), space(&alice, "public_chat"));
    let rooms = [alice.create_public_room(), alice.create_public_room()];
    add(&alice, &top, &rooms[0], json!({"order": "b"}));
    add(
        &alice,
        &top,
        &inner,
        json!({"order": "a", "suggested": true}),
    );
    add(&alice, &inner, &rooms[1], json!({}));
    let all = hierarchy(&alice, &top, "");
    assert_eq!(
        column(&all["rooms"], "room_id"),
        [&top, &inner, &rooms[1], &rooms[0]]
    );
    assert_eq!(all["rooms"][0]["room_type"], "m.space");
    let children = &all["rooms"][0]["children_state"];
    assert_eq!(column(children, "state_key").len(), 2, "{all}");
    for key in ["type", "sender", "content", "origin_server_ts"] {
        assert!(!children[0][key].is_null(), "{key}: {children}");
    }
    let shallow = hierarchy(&alice, &top, "max_depth=1");
    assert_eq!(
        column(&shallow["rooms"], "room_id"),
        [&top, &inner, &rooms[0]]
    );
    let suggested = hierarchy(&alice, &top, "suggested_only=true");
    assert_eq!(column(&suggested["rooms"], "room_id"), [&top, &inner]);
}

#[test]
fn a_hierarchy_is_read_page_by_page() {
    let server = server();
    let alice = server.register("alice");
    let top = space(&alice, "public_chat");
    let mut expected = vec![top.clone()];
    for number in 0..5 {
        let room = alice.create_public_room();
        add(&alice, &top, &room, json!({"order": number.to_string()}));
        expected.push(room);
    }
    let mut seen: Vec<String> = Vec::new();
    let mut from = String::new();
    loop {
        let page = hierarchy(&alice, &top, &format!("limit=2{from}"));
        let ids = column(&page["rooms"], "room_id");
        assert!(ids.len() <= 2, "{page}");
        seen.extend(ids.into_iter().map(str::to_owned));
        match page["next_batch"].as_str() {
            Some(next) => from = format!("&from={}", encode(next)),
            None => break,
        }
    }
    assert_eq!(seen, expected);
}

#[test]
fn rooms_that_one_may_not_see_are_left_out_of_a_hierarchy() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let top = space(&alice, "public_chat");
    let (open, closed) = (alice.create_public_room(), alice.create_room(json!({})));
    add(&alice, &top, &open, json!({}));
    add(&alice, &top, &closed, json!({}));
    let seen = hierarchy(&bob, &top, "");
    assert_eq!(column(&seen["rooms"], "room_id"), [&top, &open]);
    let hidden = space(&alice, "private_chat");
    bob.get(&format!("/v1/rooms/{hidden}/hierarchy"))
        .error(403, "M_FORBIDDEN");
}

#[test]
fn children_without_via_are_none_and_circles_end() {
    let server = server();
    let alice = server.register("alice");
    let (first, second) = (space(&alice, "public_chat"), space(&alice, "public_chat"));
    let room = alice.create_public_room();
    add(&alice, &first, &second, json!({}));
    add(&alice, &second, &first, json!({}));
    alice.set_state(&first, "m.space.child", &room, json!({}));
    let all = hierarchy(&alice, &first, "");
    assert_eq!(column(&all["rooms"], "room_id"), [&first, &second]);
}
