//! Sync: rooms that are joined, left, invited to, and joined again between two syncs.

use serde_json::{Value, json};
use testkit::encode;

use crate::{column, pair, server};

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect()
}

#[test]
fn a_newly_joined_room_comes_whole() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "from before"}));
    let before = alice.say(&room, "from before");
    let since = bob.sync(None, "").next_batch().to_owned();
    bob.join(&room);
    let answer = bob.sync(Some(&since), "");
    let mut everything = kinds(answer.state(&room));
    everything.extend(kinds(answer.timeline(&room)));
    for kind in [
        "m.room.create",
        "m.room.topic",
        "m.room.power_levels",
        "m.room.join_rules",
    ] {
        assert!(everything.contains(&kind), "{kind}: {everything:?}");
    }
    assert!(
        answer.event(&room, &before).is_some(),
        "history that may be seen: {answer:?}"
    );
    let own = answer
        .timeline(&room)
        .iter()
        .find(|event| event["state_key"] == bob.id.as_str());
    assert_eq!(
        own.map(|event| &event["content"]["membership"]),
        Some(&json!("join"))
    );
}

#[test]
fn a_newly_joined_room_comes_whole_with_a_timeline_of_one() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    let since = bob.sync(None, "").next_batch().to_owned();
    bob.join(&room);
    let filter = encode(&json!({"room": {"timeline": {"limit": 1}}}).to_string());
    let answer = bob.sync(Some(&since), &format!("&filter={filter}"));
    assert_eq!(answer.joined(&room)["timeline"]["limited"], true);
    assert_eq!(answer.timeline(&room).len(), 1);
    assert!(kinds(answer.state(&room)).contains(&"m.room.create"));
}

#[test]
fn a_left_room_comes_once_with_ones_leaving() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let since = bob.sync(None, "").next_batch().to_owned();
    let last = alice.say(&room, "goodbye");
    bob.leave(&room);
    alice.say(&room, "never heard");
    let answer = bob.sync(Some(&since), "");
    assert!(answer.joined(&room).is_null(), "{answer:?}");
    let left = &answer.left(&room)["timeline"]["events"];
    let ids = column(left, "event_id");
    assert_eq!(ids.len(), 2, "{left}");
    assert_eq!(ids[0], last);
    assert_eq!(left[1]["content"]["membership"], "leave");
    let next = bob.sync(Some(answer.next_batch()), "");
    assert!(next.left(&room).is_null(), "{next:?}");
}

#[test]
fn a_kick_and_a_ban_end_a_room_too() {
    let server = server();
    for (action, membership) in [("kick", "leave"), ("ban", "ban")] {
        let (alice, bob, room) = pair(&server);
        let mut follower = bob.follow_from_now();
        alice.membership(&room, action, &bob).ok();
        let event = follower.until("the room is left", |answer| {
            let events = answer.left(&room)["timeline"]["events"].as_array()?.clone();
            events
                .into_iter()
                .find(|event| event["state_key"] == bob.id.as_str())
        });
        assert_eq!(event["content"]["membership"], membership);
    }
}

#[test]
fn a_first_sync_tells_of_rooms_that_somebody_else_put_one_out_of() {
    let server = server();
    for action in ["kick", "ban"] {
        let (alice, bob, room) = pair(&server);
        alice.membership(&room, action, &bob).ok();
        let answer = bob.sync(None, "");
        let timeline = &answer.left(&room)["timeline"]["events"];
        let last = timeline.as_array().and_then(|events| events.last());
        let last = last.expect("the room is told as left");
        assert_eq!(last["state_key"], bob.id.as_str(), "{answer:?}");
        bob.post(&format!("/v3/rooms/{room}/forget"), json!({}))
            .ok();
        assert!(bob.sync(None, "").left(&room).is_null());
    }
}

#[test]
fn who_is_banned_after_leaving_is_told_of_the_ban_alone() {
    let server = server();
    for (query, state) in [("", "state"), ("&use_state_after=true", "state_after")] {
        let (alice, bob, room) = pair(&server);
        alice.membership(&room, "kick", &bob).ok();
        let since = bob.sync(None, query).next_batch().to_owned();
        alice.set_state(&room, "m.room.topic", "", json!({"topic": "him"}));
        alice.say(&room, "never heard");
        alice.membership(&room, "ban", &bob).ok();
        let answer = bob.sync(Some(&since), query);
        let left = answer.left(&room);
        let timeline = &left["timeline"];
        assert_eq!(
            column(&timeline["events"], "type"),
            ["m.room.member"],
            "{left}"
        );
        assert_eq!(timeline["events"][0]["content"]["membership"], "ban");
        assert_eq!(timeline["limited"], false);
        let told = column(&left[state]["events"], "type");
        let expected: &[&str] = if state == "state" {
            &[]
        } else {
            &["m.room.member"]
        };
        assert_eq!(told, expected, "{left}");
    }
}

#[test]
fn the_state_of_a_left_room_is_that_of_the_leaving() {
    let server = server();
    let filter = r#"{"room":{"include_leave":true,"timeline":{"limit":1}}}"#;
    let filter = encode(filter);
    for (query, state) in [("", "state"), ("&use_state_after=true", "state_after")] {
        let (alice, bob, room) = pair(&server);
        alice.set_state(&room, "m.room.topic", "", json!({"topic": "all of us"}));
        alice.membership(&room, "kick", &bob).ok();
        alice.set_state(&room, "m.room.topic", "", json!({"topic": "him"}));
        alice.membership(&room, "ban", &bob).ok();
        let answer = bob.sync(None, &format!("&filter={filter}{query}"));
        let events = &answer.left(&room)[state]["events"];
        let found = events.as_array().into_iter().flatten();
        let topics: Vec<_> = found
            .filter(|event| event["type"] == "m.room.topic")
            .map(|event| &event["content"]["topic"])
            .collect();
        assert_eq!(topics, [&json!("all of us")], "{events}");
    }
}

#[test]
fn an_invitation_comes_once_and_wakes_who_waits() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"name": "Come in"}));
    let mut follower = bob.follow_from_now();
    alice.invite(&room, &bob);
    let stripped = follower.until("the invitation", |answer| {
        let events = &answer.invited(&room)["invite_state"]["events"];
        events.is_array().then(|| events.clone())
    });
    for event in stripped.as_array().into_iter().flatten() {
        for key in ["type", "state_key", "content", "sender"] {
            assert!(
                !event[key].is_null(),
                "stripped state has its {key}: {event}"
            );
        }
    }
    assert!(
        column(&stripped, "type").contains(&"m.room.join_rules"),
        "{stripped}"
    );
    let next = bob.sync(follower.since(), "");
    assert!(next.invited(&room).is_null(), "{next:?}");
    let again = bob.sync(None, "");
    assert!(!again.invited(&room).is_null(), "a first sync has it again");
    bob.join(&room);
    let joined = bob.sync(follower.since(), "");
    assert!(joined.invited(&room).is_null() && !joined.joined(&room).is_null());
}

#[test]
fn leaving_and_joining_again_between_two_syncs_shows_both() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let since = bob.sync(None, "").next_batch().to_owned();
    bob.leave(&room);
    alice.say(&room, "while he was away");
    bob.join(&room);
    let after = alice.say(&room, "welcome back");
    let answer = bob.sync(Some(&since), "");
    assert!(answer.left(&room).is_null(), "{answer:?}");
    assert!(answer.event(&room, &after).is_some(), "{answer:?}");
}

#[test]
fn a_room_joined_and_left_between_two_syncs_is_a_left_one() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    let since = bob.sync(None, "").next_batch().to_owned();
    bob.join(&room);
    bob.leave(&room);
    let answer = bob.sync(Some(&since), "");
    assert!(answer.joined(&room).is_null(), "{answer:?}");
    assert!(!answer.left(&room).is_null(), "{answer:?}");
}

#[test]
fn every_device_syncs_for_itself() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let other = bob.login_again();
    let (mut first, mut second) = (bob.follow_from_now(), other.follow_from_now());
    let id = alice.say(&room, "to all devices");
    first.until_event(&room, &id);
    second.until_event(&room, &id);
}

#[test]
fn a_room_created_on_one_device_appears_on_the_other() {
    let server = server();
    let alice = server.register("alice");
    let mut follower = alice.login_again().follow_from_now();
    let room = alice.create_room(json!({}));
    follower.until("the new room", |answer| {
        (!answer.joined(&room).is_null()).then_some(())
    });
}

#[test]
fn a_new_member_is_told_to_who_waits() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    let mut follower = alice.follow_from_now();
    bob.join(&room);
    follower.until("bob's join", |answer| {
        let own = |event: &&Value| event["state_key"] == bob.id.as_str();
        answer.timeline(&room).iter().find(own).map(|_| ())
    });
}
