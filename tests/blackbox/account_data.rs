//! Client configuration (account data), room tags, ignored users.

use serde_json::{Value, json};
use testkit::User;

use crate::server;

fn path(user: &User, kind: &str) -> String {
    format!("/v3/user/{}/account_data/{kind}", user.id)
}

fn room_path(user: &User, room: &str, kind: &str) -> String {
    format!("/v3/user/{}/rooms/{room}/account_data/{kind}", user.id)
}

fn tags_path(user: &User, room: &str) -> String {
    format!("/v3/user/{}/rooms/{room}/tags", user.id)
}

#[test]
fn account_data_is_kept_and_replaced() {
    let server = server();
    let user = server.register("alice");
    let path = path(&user, "org.example.setting");
    user.get(&path).error(404, "M_NOT_FOUND");
    user.put(
        &path,
        json!({"colour": "red", "nested": {"list": [1, null, true]}}),
    )
    .ok();
    assert_eq!(
        user.get(&path).ok(),
        json!({"colour": "red", "nested": {"list": [1, null, true]}})
    );
    user.put(&path, json!({"colour": "blue"})).ok();
    assert_eq!(user.get(&path).ok(), json!({"colour": "blue"}));
}

#[test]
fn account_data_of_a_room_is_apart_from_that_of_the_user() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    user.put(&path(&user, "org.example.setting"), json!({"of": "user"}))
        .ok();
    let in_room = room_path(&user, &room, "org.example.setting");
    user.get(&in_room).error(404, "M_NOT_FOUND");
    user.put(&in_room, json!({"of": "room"})).ok();
    assert_eq!(user.get(&in_room).ok(), json!({"of": "room"}));
    assert_eq!(
        user.get(&path(&user, "org.example.setting")).ok(),
        json!({"of": "user"})
    );
}

#[test]
fn account_data_of_others_is_forbidden() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    alice
        .put(
            &path(&alice, "org.example.setting"),
            json!({"secret": true}),
        )
        .ok();
    bob.get(&path(&alice, "org.example.setting"))
        .error(403, "M_FORBIDDEN");
    bob.put(&path(&alice, "org.example.setting"), json!({}))
        .error(403, "M_FORBIDDEN");
    bob.get(&tags_path(&alice, "!a:b"))
        .error(403, "M_FORBIDDEN");
    assert_eq!(
        alice.get(&path(&alice, "org.example.setting")).ok(),
        json!({"secret": true})
    );
}

#[test]
fn types_that_the_server_manages_cannot_be_set() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    user.put(&path(&user, "m.push_rules"), json!({}))
        .error(405, "M_BAD_JSON");
    user.put(&room_path(&user, &room, "m.fully_read"), json!({}))
        .error(405, "M_BAD_JSON");
}

#[test]
fn account_data_that_is_no_object_is_refused() {
    let server = server();
    let user = server.register("alice");
    let path = path(&user, "org.example.setting");
    for body in [json!([1]), json!("text"), json!(7)] {
        let answer = user.put(&path, body);
        assert_eq!(answer.status, 400, "{answer}");
    }
    user.get(&path).error(404, "M_NOT_FOUND");
}

#[test]
fn account_data_comes_down_sync_once() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    let since = user.sync(None, "").next_batch().to_owned();
    user.put(&path(&user, "org.example.setting"), json!({"n": 1}))
        .ok();
    user.put(
        &room_path(&user, &room, "org.example.setting"),
        json!({"n": 2}),
    )
    .ok();
    let answer = user.sync(Some(&since), "");
    let expected = json!({"type": "org.example.setting", "content": {"n": 1}});
    assert_eq!(answer.account_data(), [expected]);
    let in_room = &answer.joined(&room)["account_data"]["events"];
    assert_eq!(
        in_room,
        &json!([{"type": "org.example.setting", "content": {"n": 2}}])
    );
    let next = user.sync(Some(answer.next_batch()), "");
    assert!(
        next.account_data().is_empty() && next.joined(&room).is_null(),
        "{next:?}"
    );
}

#[test]
fn account_data_reaches_the_other_device_in_its_long_poll() {
    let server = server();
    let user = server.register("alice");
    let other = user.login_again();
    let mut follower = other.follow_from_now();
    user.put(&path(&user, "org.example.setting"), json!({"n": 1}))
        .ok();
    follower.until("account data", |answer| {
        let found = |event: &&Value| event["type"] == "org.example.setting";
        answer
            .account_data()
            .iter()
            .find(found)
            .map(|event| assert_eq!(event["content"]["n"], 1))
    });
}

#[test]
fn tags_are_set_listed_and_removed() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    let tags = tags_path(&user, &room);
    assert_eq!(user.get(&tags).ok(), json!({"tags": {}}));
    user.put(&format!("{tags}/m.favourite"), json!({"order": 0.25}))
        .ok();
    user.put(&format!("{tags}/u.work"), json!({})).ok();
    let expected = json!({"tags": {"m.favourite": {"order": 0.25}, "u.work": {}}});
    assert_eq!(user.get(&tags).ok(), expected);
    user.delete(&format!("{tags}/m.favourite")).ok();
    assert_eq!(user.get(&tags).ok(), json!({"tags": {"u.work": {}}}));
}

#[test]
fn tags_come_down_sync_as_account_data_of_the_room() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    let since = user.sync(None, "").next_batch().to_owned();
    user.put(
        &format!("{}/m.favourite", tags_path(&user, &room)),
        json!({"order": 0.5}),
    )
    .ok();
    let answer = user.sync(Some(&since), "");
    let expected = json!([{
        "type": "m.tag", "content": {"tags": {"m.favourite": {"order": 0.5}}},
    }]);
    assert_eq!(answer.joined(&room)["account_data"]["events"], expected);
}

#[test]
fn events_of_ignored_users_are_not_sent_down_sync() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    bob.join(&room);
    let ignored = json!({"ignored_users": {bob.id.clone(): {}}});
    alice
        .put(&path(&alice, "m.ignored_user_list"), ignored)
        .ok();
    let since = alice.sync(None, "").next_batch().to_owned();
    let unseen = bob.say(&room, "nobody listens");
    let seen = alice.say(&room, "silence");
    let answer = alice.sync(Some(&since), "");
    let ids = answer.event_ids(&room);
    assert!(
        ids.contains(&seen.as_str()) && !ids.contains(&unseen.as_str()),
        "{ids:?}"
    );
}

#[test]
fn invitations_of_ignored_users_are_not_shown() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let ignored = json!({"ignored_users": {bob.id.clone(): {}}});
    alice
        .put(&path(&alice, "m.ignored_user_list"), ignored)
        .ok();
    let room = bob.create_room(json!({"invite": [alice.id]}));
    assert!(alice.sync(None, "").invited(&room).is_null());
}
