//! Presence.

use serde_json::json;
use testkit::User;

use crate::server;

fn path(user: &User) -> String {
    format!("/v3/presence/{}/status", user.id)
}

#[test]
fn presence_is_set_and_seen_by_who_shares_a_room() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    bob.join(&room);
    let mut follower = bob.follow_from_now();
    let status = json!({"presence": "unavailable", "status_msg": "at lunch"});
    alice.put(&path(&alice), status).ok();
    follower.until("the presence of alice", |answer| {
        let events = answer.0["presence"]["events"].as_array()?;
        events.iter().find(|event| {
            event["sender"] == alice.id.as_str()
                && event["type"] == "m.presence"
                && event["content"]["status_msg"] == "at lunch"
        })?;
        Some(())
    });
    let seen = bob.get(&path(&alice)).ok();
    assert_eq!(seen["status_msg"], "at lunch");
}

#[test]
fn the_presence_of_who_comes_into_a_room_is_told() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    let status = json!({"presence": "online", "status_msg": "new here"});
    bob.put(&path(&bob), status).ok();
    let since = alice.sync(None, "").next_batch().to_owned();
    let told = |user: &User, since: &str, of: &User| {
        let answer = user.sync(Some(since), "");
        let events = answer.0["presence"]["events"].as_array().cloned();
        let events = events.unwrap_or_default();
        events.iter().any(|event| event["sender"] == of.id.as_str())
    };
    assert!(!told(&alice, &since, &bob));
    let before_join = bob.sync(None, "").next_batch().to_owned();
    bob.join(&room);
    assert!(told(&alice, &since, &bob));
    assert!(told(&bob, &before_join, &alice));
}

#[test]
fn presence_of_others_cannot_be_set() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    bob.put(&path(&alice), json!({"presence": "online"}))
        .error(403, "M_FORBIDDEN");
}

#[test]
fn presence_that_is_none_of_the_three_is_refused() {
    let server = server();
    let alice = server.register("alice");
    let answer = alice.put(&path(&alice), json!({"presence": "asleep"}));
    assert_eq!(answer.status, 400, "{answer}");
}

#[test]
fn presence_is_hidden_from_who_shares_no_room() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let answer = bob.get(&path(&alice));
    assert!(matches!(answer.status, 403 | 404), "{answer}");
}

#[test]
fn syncing_makes_one_online_unless_told_otherwise() {
    let server = server();
    let alice = server.register("alice");
    alice.sync(None, "&set_presence=offline");
    alice
        .put(&path(&alice), json!({"presence": "offline"}))
        .ok();
    assert_eq!(alice.get(&path(&alice)).ok()["presence"], "offline");
    alice.sync(None, "&set_presence=online");
    testkit::until("alice is online", || {
        (alice.get(&path(&alice)).ok()["presence"] == "online").then_some(())
    });
}
