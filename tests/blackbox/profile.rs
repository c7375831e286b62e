//! Profiles, with the fields of one's own that v1.16 added.

use serde_json::json;
use testkit::{User, encode};

use crate::server;

fn path(user: &User, field: &str) -> String {
    format!("/v3/profile/{}/{field}", user.id)
}

#[test]
fn the_display_name_and_avatar_are_set_and_read_by_anyone() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    alice
        .put(
            &path(&alice, "displayname"),
            json!({"displayname": "Alice \u{1f600}"}),
        )
        .ok();
    let avatar = json!({"avatar_url": "mxc://test.example/avatar"});
    alice.put(&path(&alice, "avatar_url"), avatar.clone()).ok();
    let name = bob.get(&path(&alice, "displayname")).ok();
    assert_eq!(name, json!({"displayname": "Alice \u{1f600}"}));
    assert_eq!(bob.get(&path(&alice, "avatar_url")).ok(), avatar);
    let whole = bob.get(&format!("/v3/profile/{}", alice.id)).ok();
    assert_eq!(whole["displayname"], "Alice \u{1f600}");
    assert_eq!(whole["avatar_url"], "mxc://test.example/avatar");
}

#[test]
fn a_profile_can_be_changed_only_by_its_user() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let answer = bob.put(
        &path(&alice, "displayname"),
        json!({"displayname": "Mallory"}),
    );
    answer.error(403, "M_FORBIDDEN");
    let name = alice.get(&format!("/v3/profile/{}", alice.id)).ok();
    assert_ne!(name["displayname"], "Mallory");
}

#[test]
fn the_profile_of_an_unknown_user_is_not_found() {
    let server = server();
    let alice = server.register("alice");
    let unknown = format!("@nobody-of-this-name:{}", alice.server_name());
    alice
        .get(&format!("/v3/profile/{}", encode(&unknown)))
        .error(404, "M_NOT_FOUND");
    let name = format!("/v3/profile/{}/displayname", encode(&unknown));
    alice.get(&name).error(404, "M_NOT_FOUND");
}

#[test]
fn a_new_name_is_told_to_the_rooms_of_the_user() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    bob.join(&room);
    let mut follower = alice.follow_from_now();
    bob.put(&path(&bob, "displayname"), json!({"displayname": "Bobby"}))
        .ok();
    follower.until("the member event with the new name", |answer| {
        answer.timeline(&room).iter().find(|event| {
            event["state_key"] == bob.id.as_str() && event["content"]["displayname"] == "Bobby"
        })?;
        Some(())
    });
    let member = alice.state(&room, "m.room.member", &bob.id).ok();
    assert_eq!(
        (&member["membership"], &member["displayname"]),
        (&json!("join"), &json!("Bobby"))
    );
}

#[test]
fn members_join_with_their_profile() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    bob.put(&path(&bob, "displayname"), json!({"displayname": "Bobby"}))
        .ok();
    bob.put(
        &path(&bob, "avatar_url"),
        json!({"avatar_url": "mxc://test.example/b"}),
    )
    .ok();
    let room = alice.create_public_room();
    bob.join(&room);
    let member = alice.state(&room, "m.room.member", &bob.id).ok();
    assert_eq!(member["displayname"], "Bobby");
    assert_eq!(member["avatar_url"], "mxc://test.example/b");
}

#[test]
fn fields_of_ones_own_are_set_read_and_deleted() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let zone = path(&alice, "m.tz");
    alice.put(&zone, json!({"m.tz": "Europe/Zurich"})).ok();
    assert_eq!(bob.get(&zone).ok(), json!({"m.tz": "Europe/Zurich"}));
    let own = path(&alice, "org.example.pronouns");
    alice
        .put(
            &own,
            json!({"org.example.pronouns": [{"summary": "she/her"}]}),
        )
        .ok();
    let whole = bob.get(&format!("/v3/profile/{}", alice.id)).ok();
    assert_eq!(whole["m.tz"], "Europe/Zurich");
    assert_eq!(
        whole["org.example.pronouns"],
        json!([{"summary": "she/her"}])
    );
    alice.delete(&zone).ok();
    bob.get(&zone).error(404, "M_NOT_FOUND");
}

#[test]
fn a_field_whose_body_lacks_it_is_refused() {
    let server = server();
    let alice = server.register("alice");
    let answer = alice.put(
        &path(&alice, "org.example.field"),
        json!({"org.example.other": 1}),
    );
    assert_eq!(answer.status, 400, "{answer}");
    alice
        .get(&path(&alice, "org.example.field"))
        .error(404, "M_NOT_FOUND");
}

#[test]
fn a_profile_over_its_size_limit_is_refused() {
    let server = server();
    let alice = server.register("alice");
    let field = path(&alice, "org.example.field");
    let answer = alice.put(&field, json!({"org.example.field": "a".repeat(65_600)}));
    assert!(matches!(answer.status, 400 | 413), "{answer}");
    alice.get(&field).error(404, "M_NOT_FOUND");
}

#[test]
fn a_display_name_can_be_removed() {
    let server = server();
    let alice = server.register("alice");
    alice
        .put(
            &path(&alice, "displayname"),
            json!({"displayname": "Alice"}),
        )
        .ok();
    alice.delete(&path(&alice, "displayname")).ok();
    let whole = alice.get(&format!("/v3/profile/{}", alice.id));
    assert!(matches!(whole.status, 200 | 404), "{whole}");
    assert!(whole.value()["displayname"].is_null(), "{whole}");
}
