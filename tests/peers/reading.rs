//! What a server reads of a room that it is in: events, states, auth chains, history.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{Peer, PeerRoom, Response, encode};

use crate::{Scene, server, types};

fn public(version: &str) -> Scene {
    Scene::with(json!({"preset": "public_chat", "room_version": version}))
}

fn event(scene: &Scene, by: &Peer, event_id: &str) -> Response {
    let path = format!("/_matrix/federation/v1/event/{}", encode(event_id));
    by.get(&scene.server, &path)
}

/// The ids of events, as their bytes make them.
fn ids(scene: &Scene, events: &Value) -> BTreeSet<String> {
    let events = events.as_array().into_iter().flatten();
    events.map(|event| scene.joined.event_id(event)).collect()
}

fn texts(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[test]
fn an_event_is_given_to_servers_in_the_room_alone() {
    let scene = public("12");
    let said = scene.alice.say(&scene.room, "hello");
    let answer = event(&scene, &scene.peer, &said).ok();
    assert_eq!(answer["origin"], scene.server.name());
    assert!(answer["origin_server_ts"].is_u64());
    assert_eq!(answer["pdus"].as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(answer["pdus"][0]["content"]["body"], "hello");
    assert_eq!(scene.joined.event_id(&answer["pdus"][0]), said);
    event(&scene, &Peer::start(), &said).error(403, "M_FORBIDDEN");
    event(&scene, &scene.peer, "$nothing").error(404, "M_NOT_FOUND");
}

#[test]
fn events_of_the_first_room_versions_keep_their_ids_and_later_ones_have_none() {
    let scene = public("1");
    let said = scene.alice.say(&scene.room, "hello");
    let old = event(&scene, &scene.peer, &said).ok();
    assert_eq!(old["pdus"][0]["event_id"], said);
    let scene = public("11");
    let said = scene.alice.say(&scene.room, "hello");
    let new = event(&scene, &scene.peer, &said).ok();
    assert!(new["pdus"][0].get("event_id").is_none());
    assert!(new["pdus"][0].get("unsigned").is_none());
}

#[test]
fn a_redacted_event_is_given_without_its_content() {
    let scene = public("12");
    let said = scene.alice.say(&scene.room, "a secret");
    scene.alice.redact(&scene.room, &said);
    let answer = event(&scene, &scene.peer, &said).ok();
    assert_eq!(answer["pdus"][0]["content"], json!({}));
    assert_eq!(scene.joined.event_id(&answer["pdus"][0]), said);
}

#[test]
fn who_joins_is_given_the_state_without_what_was_redacted_of_it() {
    let scene = public("12");
    let topic = json!({"topic": "a secret"});
    let set = scene
        .alice
        .set_state(&scene.room, "m.room.topic", "", topic);
    scene.alice.redact(&scene.room, &set);
    let other = Peer::start();
    let joined = PeerRoom::join(&other, &scene.server, &scene.room, &other.user("carol"));
    let topic = joined.state("m.room.topic", "").expect("the topic");
    assert_eq!(topic["content"], json!({}));
    assert_eq!(joined.event_id(&topic), set);
}

#[test]
fn the_state_before_an_event_is_the_same_whole_and_by_ids() {
    for version in ["1", "6", "12"] {
        let scene = public(version);
        let topic = json!({"topic": "one"});
        let first = scene
            .alice
            .set_state(&scene.room, "m.room.topic", "", topic);
        let topic = json!({"topic": "two"});
        let second = scene
            .alice
            .set_state(&scene.room, "m.room.topic", "", topic);
        let at = format!("?event_id={}", encode(&second));
        let whole = scene.path("state", &at);
        let whole = scene.peer.get(&scene.server, &whole).ok();
        let by_ids = scene.path("state_ids", &at);
        let by_ids = scene.peer.get(&scene.server, &by_ids).ok();
        let state = texts(&by_ids["pdu_ids"]);
        assert_eq!(ids(&scene, &whole["pdus"]), state);
        assert!(state.contains(&first) && !state.contains(&second));
        let chain = texts(&by_ids["auth_chain_ids"]);
        assert_eq!(ids(&scene, &whole["auth_chain"]), chain);
        let levels = scene.joined.state("m.room.power_levels", "");
        assert!(chain.contains(&scene.joined.event_id(&levels.expect("a room"))));
    }
}

#[test]
fn the_state_is_told_to_nobody_else_and_at_no_unknown_event() {
    let scene = public("12");
    let said = scene.alice.say(&scene.room, "hello");
    let stranger = Peer::start();
    for endpoint in ["state", "state_ids"] {
        let path = scene.path(endpoint, &format!("?event_id={}", encode(&said)));
        stranger.get(&scene.server, &path).error(403, "M_FORBIDDEN");
        let path = scene.path(endpoint, "?event_id=$nothing");
        scene
            .peer
            .get(&scene.server, &path)
            .error(404, "M_NOT_FOUND");
        let path = scene.path(endpoint, "");
        scene
            .peer
            .get(&scene.server, &path)
            .error(400, "M_MISSING_PARAM");
    }
}

#[test]
fn the_auth_chain_of_an_event_reaches_back_to_the_beginning() {
    let scene = Scene::with(json!({"preset": "public_chat", "room_version": "11"}));
    let said = scene.alice.say(&scene.room, "hello");
    let path = scene.path("event_auth", &format!("/{}", encode(&said)));
    let answer = scene.peer.get(&scene.server, &path).ok();
    let mut chain = types(&answer["auth_chain"]);
    chain.sort_unstable();
    let expected = ["m.room.create", "m.room.member", "m.room.power_levels"];
    assert_eq!(chain, expected);
    let unknown = scene.path("event_auth", "/$nothing");
    scene
        .peer
        .get(&scene.server, &unknown)
        .error(404, "M_NOT_FOUND");
    Peer::start()
        .get(&scene.server, &path)
        .error(403, "M_FORBIDDEN");
}

#[test]
fn history_is_read_backwards_from_an_event_and_that_is_part_of_it() {
    let scene = public("12");
    let said: Vec<String> = (0..5)
        .map(|n| scene.alice.say(&scene.room, &n.to_string()))
        .collect();
    let path = scene.path("backfill", &format!("?v={}&limit=3", encode(&said[4])));
    let answer = scene.peer.get(&scene.server, &path).ok();
    let expected: BTreeSet<String> = said[2..].iter().cloned().collect();
    assert_eq!(ids(&scene, &answer["pdus"]), expected);
    let path = scene.path("backfill", &format!("?v={}&limit=1000", encode(&said[4])));
    let answer = scene.peer.get(&scene.server, &path).ok();
    let found = types(&answer["pdus"]);
    assert!(
        found.contains(&"m.room.create") && found.len() > 10,
        "{answer}"
    );
    // What is of another room is as if it were not there.
    let other = scene.alice.create_public_room();
    let elsewhere = scene.alice.say(&other, "elsewhere");
    let path = scene.path("backfill", &format!("?v={}&limit=10", encode(&elsewhere)));
    let answer = scene.peer.get(&scene.server, &path).ok();
    assert_eq!(answer["pdus"], json!([]));
}

#[test]
fn missing_events_are_those_between_and_in_order() {
    let scene = public("12");
    let said: Vec<String> = (0..6)
        .map(|n| scene.alice.say(&scene.room, &n.to_string()))
        .collect();
    let ask = |limit: u64, min_depth: u64| {
        let body = json!({
            "earliest_events": [said[0]], "latest_events": [said[5]],
            "limit": limit, "min_depth": min_depth,
        });
        let path = scene.path("get_missing_events", "");
        let answer = scene.peer.post(&scene.server, &path, body).ok();
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        let ids = events.iter().map(|event| scene.joined.event_id(event));
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ask(20, 0), said[1..5]);
    assert_eq!(ask(2, 0), said[3..5]);
    assert_eq!(ask(20, 1_000_000), Vec::<String>::new());
    let path = scene.path("get_missing_events", "");
    scene
        .peer
        .post(&scene.server, &path, json!({"latest_events": []}))
        .error(400, "M_MISSING_PARAM");
}

/// Of a room with this visibility: what the peer is given of what was said before it came, and after.
fn said_before_and_after(visibility: &str) -> (Value, Value) {
    let history = json!({
        "type": "m.room.history_visibility", "state_key": "",
        "content": {"history_visibility": visibility},
    });
    let (server, peer) = (server(), Peer::start());
    let alice = server.register("alice");
    let room = alice.create_room(json!({"preset": "public_chat", "initial_state": [history]}));
    alice.say(&room, "before");
    PeerRoom::join(&peer, &server, &room, &peer.user("bob"));
    let after = alice.say(&room, "after");
    let path = format!(
        "/_matrix/federation/v1/backfill/{}?v={}&limit=100",
        encode(&room),
        encode(&after)
    );
    let answer = peer.get(&server, &path).ok();
    let messages = answer["pdus"].as_array().into_iter().flatten();
    let mut messages = messages.filter(|pdu| pdu["type"] == "m.room.message");
    let mut content = || messages.next().expect("a message")["content"].clone();
    let (newer, older) = (content(), content());
    (older, newer)
}

#[test]
fn what_was_before_a_server_came_is_redacted_where_the_history_is_closed() {
    for open in ["shared", "world_readable"] {
        let (before, after) = said_before_and_after(open);
        assert_eq!(before["body"], "before", "{open}");
        assert_eq!(after["body"], "after");
    }
    for closed in ["invited", "joined"] {
        let (before, after) = said_before_and_after(closed);
        assert_eq!(before, json!({}), "{closed}");
        assert_eq!(after["body"], "after");
    }
}

#[test]
fn a_server_that_was_there_before_sees_what_was_said_then_and_not_in_between() {
    let history = json!({
        "type": "m.room.history_visibility", "state_key": "",
        "content": {"history_visibility": "joined"},
    });
    let scene = Scene::with(json!({"preset": "public_chat", "initial_state": [history]}));
    let there = scene.alice.say(&scene.room, "while it was there");
    let bob = scene.peer.user("bob");
    let room = encode(&scene.room);
    for action in ["ban", "unban"] {
        let path = format!("/v3/rooms/{room}/{action}");
        scene.alice.post(&path, json!({"user_id": bob})).ok();
    }
    event(&scene, &scene.peer, &there).error(403, "M_FORBIDDEN");
    let away = scene.alice.say(&scene.room, "while it was away");
    PeerRoom::join(&scene.peer, &scene.server, &scene.room, &bob);
    let content = |id: &str| event(&scene, &scene.peer, id).ok()["pdus"][0]["content"].clone();
    assert_eq!(content(&there)["body"], "while it was there");
    assert_eq!(content(&away), json!({}));
}

#[test]
fn the_event_nearest_to_a_time_is_found_in_both_directions() {
    let scene = public("12");
    let said: Vec<String> = (0..3)
        .map(|n| scene.alice.say(&scene.room, &n.to_string()))
        .collect();
    let ask = |ts: u64, dir: &str| {
        let path = scene.path("timestamp_to_event", &format!("?ts={ts}&dir={dir}"));
        scene.peer.get(&scene.server, &path)
    };
    let last = ask(u64::from(u32::MAX) * 1000, "b").ok();
    assert_eq!(last["event_id"], said[2]);
    assert!(last["origin_server_ts"].is_u64());
    let first = ask(0, "f").ok();
    let create = scene.joined.state("m.room.create", "").expect("a room");
    assert_eq!(first["event_id"], scene.joined.event_id(&create));
    ask(0, "b").error(404, "M_NOT_FOUND");
    ask(0, "x").error(400, "M_INVALID_PARAM");
}
