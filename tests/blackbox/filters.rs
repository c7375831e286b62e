//! Filters: kept on the server, and applied to sync.

use serde_json::{Value, json};
use testkit::{User, encode};

use crate::{column, server};

fn upload(user: &User, filter: Value) -> String {
    let answer = user
        .post(&format!("/v3/user/{}/filter", user.id), filter)
        .ok();
    answer["filter_id"]
        .as_str()
        .expect("a filter id")
        .to_owned()
}

fn inline(filter: &Value) -> String {
    format!("&filter={}", encode(&filter.to_string()))
}

#[test]
fn a_filter_is_kept_as_it_was_given() {
    let server = server();
    let user = server.register("alice");
    let filter = json!({
        "event_format": "client", "room": {"timeline": {"limit": 10, "types": ["m.*"]}},
    });
    let id = upload(&user, filter.clone());
    assert!(
        !id.starts_with('{'),
        "a filter id is told from an inline filter by its first letter"
    );
    assert_eq!(
        user.get(&format!("/v3/user/{}/filter/{id}", user.id)).ok(),
        filter
    );
}

#[test]
fn unknown_filters_and_those_of_others_are_refused() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let id = upload(&alice, json!({}));
    alice
        .get(&format!("/v3/user/{}/filter/87654", alice.id))
        .error(404, "M_NOT_FOUND");
    bob.get(&format!("/v3/user/{}/filter/{id}", alice.id))
        .error(403, "M_FORBIDDEN");
    let answer = bob.post(&format!("/v3/user/{}/filter", alice.id), json!({}));
    answer.error(403, "M_FORBIDDEN");
}

#[test]
fn filters_of_the_wrong_shape_are_refused() {
    let server = server();
    let user = server.register("alice");
    let path = format!("/v3/user/{}/filter", user.id);
    for filter in [
        json!({"room": {"timeline": {"senders": "no list"}}}),
        json!({"room": {"rooms": ["not a room id"]}}),
        json!({"presence": 7}),
        json!([]),
    ] {
        let answer = user.post(&path, filter);
        assert_eq!(answer.status, 400, "{answer}");
    }
}

#[test]
fn a_sync_takes_a_filter_by_its_id_and_inline() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    for number in 0..5 {
        user.say(&room, &format!("message {number}"));
    }
    let filter = json!({"room": {"timeline": {"limit": 2}}});
    let by_id = user.sync(None, &format!("&filter={}", upload(&user, filter.clone())));
    let by_value = user.sync(None, &inline(&filter));
    assert_eq!(by_id.timeline(&room).len(), 2);
    assert_eq!(by_id.event_ids(&room), by_value.event_ids(&room));
}

#[test]
fn types_and_senders_choose_what_the_timeline_has() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    bob.join(&room);
    alice.say(&room, "of alice");
    bob.say(&room, "of bob");
    bob.send(&room, "org.example.other", json!({}));
    let only = |timeline: Value| {
        let filter = json!({"room": {"timeline": timeline}});
        let answer = alice.sync(None, &inline(&filter));
        answer.joined(&room)["timeline"]["events"].clone()
    };
    let messages = only(json!({"types": ["m.room.message"]}));
    assert_eq!(
        column(&messages, "sender"),
        [alice.id.as_str(), bob.id.as_str()]
    );
    let of_bob = only(json!({"senders": [bob.id], "types": ["m.room.message", "org.*"]}));
    assert_eq!(
        column(&of_bob, "type"),
        ["m.room.message", "org.example.other"]
    );
    let without = only(json!({"not_types": ["m.*"]}));
    assert_eq!(column(&without, "type"), ["org.example.other"]);
    let not_bob = only(json!({"not_senders": [bob.id], "types": ["m.room.message"]}));
    assert_eq!(column(&not_bob, "sender"), [alice.id.as_str()]);
    assert_eq!(only(json!({"types": []})), json!([]));
}

#[test]
fn rooms_can_be_chosen_and_left_out() {
    let server = server();
    let user = server.register("alice");
    let (first, second) = (user.create_room(json!({})), user.create_room(json!({})));
    let chosen = user.sync(None, &inline(&json!({"room": {"rooms": [first]}})));
    assert!(!chosen.joined(&first).is_null() && chosen.joined(&second).is_null());
    let left_out = user.sync(None, &inline(&json!({"room": {"not_rooms": [first]}})));
    assert!(left_out.joined(&first).is_null() && !left_out.joined(&second).is_null());
}

#[test]
fn left_rooms_come_in_a_first_sync_only_if_asked_for() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    user.leave(&room);
    assert!(user.sync(None, "").left(&room).is_null());
    let with = user.sync(None, &inline(&json!({"room": {"include_leave": true}})));
    assert!(!with.left(&room).is_null());
}

#[test]
fn an_inline_filter_that_is_no_json_is_refused() {
    let server = server();
    let user = server.register("alice");
    let answer = user.get(&format!("/v3/sync?filter={}", encode("{broken")));
    assert_eq!(answer.status, 400, "{answer}");
}

#[test]
fn events_with_a_url_can_be_chosen() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    let plain = user.say(&room, "plain");
    let picture = json!({"msgtype": "m.image", "body": "x", "url": "mxc://test.example/abc"});
    let picture = user.send(&room, "m.room.message", picture);
    let ids = |contains: bool| {
        let timeline = json!({"contains_url": contains, "types": ["m.room.message"]});
        let answer = user.sync(None, &inline(&json!({"room": {"timeline": timeline}})));
        answer
            .event_ids(&room)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!((ids(true), ids(false)), (vec![picture], vec![plain]));
}
