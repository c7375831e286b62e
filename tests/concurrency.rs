//! Many clients write and wait at once, and all end with one same order and one same state.
//!
//! Every follower does what a client does: it long-polls, and where a timeline is limited it fills
//! the gap by `/messages`. What it has seen in the end must be, event for event, what the room's
//! history says, whatever happened between its requests.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::{LIMIT, Server, ServerOptions, User, encode};

const WRITERS: usize = 6;
const MESSAGES: usize = 30;
const FOLLOWERS: usize = 6;

fn server() -> Server {
    Server::start(ServerOptions::new(env!("CARGO_BIN_EXE_meyrin")))
}

/// What a client has put together from its syncs: the events in order, and the current state.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    events: Vec<String>,
    state: BTreeMap<(String, String), String>,
}

impl Seen {
    fn take_state(&mut self, events: &[Value]) {
        for event in events {
            if let Some(key) = event["state_key"].as_str() {
                let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                self.state
                    .insert((text("type"), key.to_owned()), text("event_id"));
            }
        }
    }
}

#[test]
fn all_followers_of_a_busy_room_see_one_order_and_one_state() {
    let server = server();
    let writers: Vec<User> = (0..WRITERS).map(|_| server.register("writer")).collect();
    let room = writers[0].create_room(json!({
        "preset": "public_chat", "power_level_content_override": {"state_default": 0},
    }));
    for writer in &writers[1..] {
        writer.join(&room);
    }
    let followers: Vec<User> = (0..FOLLOWERS)
        .map(|_| server.register("follower"))
        .collect();
    for follower in &followers {
        follower.join(&room);
    }

    let (sent, seen) = std::thread::scope(|scope| {
        let following: Vec<_> = followers
            .iter()
            .map(|user| scope.spawn(|| follow(user, &room)))
            .collect();
        let writing: Vec<_> = writers
            .iter()
            .map(|user| scope.spawn(|| write(user, &room)))
            .collect();
        let sent: Vec<String> = writing
            .into_iter()
            .flat_map(|writer| writer.join().expect("a writer"))
            .collect();
        writers[0].send(&room, "org.example.end", json!({}));
        let seen: Vec<Seen> = following
            .into_iter()
            .map(|follower| follower.join().expect("a follower"))
            .collect();
        (sent, seen)
    });

    let history = history(&writers[0], &room);
    for id in &sent {
        assert_eq!(
            history.iter().filter(|known| *known == id).count(),
            1,
            "{id}"
        );
    }
    let state = current_state(&writers[0], &room);
    for seen in seen {
        let begin = seen.events.first().expect("events");
        let begin = history
            .iter()
            .position(|id| id == begin)
            .expect("a known event");
        assert_eq!(
            seen.events,
            history[begin..],
            "the order of the room, with nothing missed"
        );
        assert_eq!(seen.state, state);
    }
}

#[test]
fn a_transaction_sent_many_times_at_once_is_one_event() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    let path = format!("/v3/rooms/{room}/send/m.room.message/once");
    let body = json!({"msgtype": "m.text", "body": "once"});
    let ids: Vec<Value> = std::thread::scope(|scope| {
        let send = || user.with_own_connections().put(&path, body.clone()).ok();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(send)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("an answer"))
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let count = history(&user, &room)
        .iter()
        .filter(|id| ids[0]["event_id"] == id.as_str())
        .count();
    assert_eq!(count, 1);
}

#[test]
fn the_last_of_many_concurrent_changes_of_state_is_the_state() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (user, room) = (&user, &room);
            scope.spawn(move || {
                let client = user.with_own_connections();
                for number in 0..10 {
                    let path = format!("/v3/rooms/{room}/state/m.room.topic/");
                    client
                        .put(&path, json!({"topic": format!("{thread} {number}")}))
                        .ok();
                }
            });
        }
    });
    let messages = user
        .get(&format!("/v3/rooms/{room}/messages?dir=b&limit=1"))
        .ok();
    let last = &messages["chunk"][0];
    assert_eq!(last["type"], "m.room.topic");
    assert_eq!(user.state(&room, "m.room.topic", "").ok(), last["content"]);
    assert_eq!(
        history_of_topics(&user, &room),
        60,
        "every change is an event"
    );
}

#[test]
fn joins_and_leaves_at_once_leave_a_membership_that_all_agree_on() {
    let server = server();
    let owner = server.register("owner");
    let room = owner.create_public_room();
    let users: Vec<User> = (0..6).map(|_| server.register("visitor")).collect();
    std::thread::scope(|scope| {
        for (number, user) in users.iter().enumerate() {
            let room = &room;
            scope.spawn(move || {
                for _ in 0..5 {
                    user.join(room);
                    user.leave(room);
                }
                if number % 2 == 0 {
                    user.join(room);
                }
            });
        }
    });
    let members = owner.get(&format!("/v3/rooms/{room}/joined_members")).ok();
    for (number, user) in users.iter().enumerate() {
        let joined = user.get("/v3/joined_rooms").ok()["joined_rooms"] == json!([room]);
        let listed = !members["joined"][&user.id].is_null();
        assert_eq!(
            (joined, listed),
            (number % 2 == 0, number % 2 == 0),
            "{}",
            user.id
        );
    }
    assert_eq!(
        history(&owner, &room).len(),
        history(&users[0], &room).len()
    );
}

/// Sends messages, and every tenth time a state event.
fn write(user: &User, room: &str) -> Vec<String> {
    (0..MESSAGES)
        .map(|number| match number % 10 {
            9 => user.set_state(room, "org.example.state", "", json!({"n": number})),
            _ => user.say(room, &format!("message {number}")),
        })
        .collect()
}

/// Syncs from the beginning until the end is announced.
fn follow(user: &User, room: &str) -> Seen {
    let mut seen = Seen::default();
    let mut since: Option<String> = None;
    let begin = std::time::Instant::now();
    loop {
        assert!(begin.elapsed() < 2 * LIMIT, "the end never came");
        let token = since
            .as_deref()
            .map_or(String::new(), |since| format!("&since={}", encode(since)));
        let answer = user.get(&format!("/v3/sync?timeout=5000{token}")).ok();
        let joined = &answer["rooms"]["join"][room];
        let empty = Vec::new();
        let timeline = joined["timeline"]["events"].as_array().unwrap_or(&empty);
        if joined["timeline"]["limited"] == true
            && let Some(since) = &since
        {
            let gap = gap(user, room, &joined["timeline"]["prev_batch"], since);
            seen.events.extend(gap);
        }
        seen.take_state(joined["state"]["events"].as_array().unwrap_or(&empty));
        seen.take_state(timeline);
        seen.events.extend(
            timeline
                .iter()
                .filter_map(|event| event["event_id"].as_str())
                .map(str::to_owned),
        );
        if timeline
            .iter()
            .any(|event| event["type"] == "org.example.end")
        {
            return seen;
        }
        since = answer["next_batch"].as_str().map(str::to_owned);
    }
}

/// What stands between two tokens, oldest first.
fn gap(user: &User, room: &str, from: &Value, to: &str) -> Vec<String> {
    let from = from.as_str().expect("a token where the gap ends");
    backwards(
        user,
        room,
        &format!("&from={}&to={}", encode(from), encode(to)),
    )
}

/// The whole history, oldest first.
fn history(user: &User, room: &str) -> Vec<String> {
    backwards(user, room, "")
}

fn backwards(user: &User, room: &str, range: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let mut range = range.to_owned();
    loop {
        let path = format!("/v3/rooms/{}/messages?dir=b&limit=50{range}", encode(room));
        let page = user.get(&path).ok();
        let chunk = page["chunk"].as_array().cloned().unwrap_or_default();
        ids.extend(
            chunk
                .iter()
                .filter_map(|event| event["event_id"].as_str())
                .map(str::to_owned),
        );
        let to = range
            .split("&to=")
            .nth(1)
            .map_or(String::new(), |to| format!("&to={to}"));
        match page["end"].as_str() {
            Some(end) if !chunk.is_empty() => range = format!("&from={}{to}", encode(end)),
            _ => break,
        }
    }
    ids.reverse();
    ids
}

fn history_of_topics(user: &User, room: &str) -> usize {
    let filter = encode(&json!({"types": ["m.room.topic"]}).to_string());
    let path = format!("/v3/rooms/{room}/messages?dir=b&limit=100&filter={filter}");
    user.get(&path).ok()["chunk"].as_array().map_or(0, Vec::len)
}

fn current_state(user: &User, room: &str) -> BTreeMap<(String, String), String> {
    let mut seen = Seen::default();
    let state = user.get(&format!("/v3/rooms/{}/state", encode(room))).ok();
    seen.take_state(state.as_array().expect("a list of events"));
    seen.state
}
