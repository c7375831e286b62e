//! History visibility, on every path by which history can be read.

use serde_json::{Value, json};
use testkit::{Server, User, encode};

use crate::{column, server};

/// What each of three messages should be to a member who came after the second:
/// said before the invitation, between the invitation and the join, and after the join.
struct Story {
    reader: User,
    room: String,
    said: [String; 3],
}

fn story(server: &Server, visibility: &str) -> Story {
    let (alice, reader) = (server.register("alice"), server.register("reader"));
    let content = json!({"history_visibility": visibility});
    let state = json!([{"type": "m.room.history_visibility", "content": content}]);
    let room = alice.create_room(json!({"preset": "private_chat", "initial_state": state}));
    let before = alice.say(&room, "before the invitation");
    alice.invite(&room, &reader);
    let between = alice.say(&room, "before the join");
    reader.join(&room);
    let after = alice.say(&room, "after the join");
    Story {
        reader,
        room,
        said: [before, between, after],
    }
}

impl Story {
    /// Which of the three messages the reader sees, by each way of reading; all have to agree.
    fn seen(&self) -> [bool; 3] {
        let Self { reader, room, said } = self;
        let list = |ids: Vec<&str>| said.each_ref().map(|id| ids.contains(&id.as_str()));
        let messages = reader
            .get(&format!("/v3/rooms/{room}/messages?dir=b&limit=100"))
            .ok();
        let by_messages = list(column(&messages["chunk"], "event_id"));

        let filter = encode(&json!({"room": {"timeline": {"limit": 100}}}).to_string());
        let sync = reader.sync(None, &format!("&filter={filter}"));
        assert_eq!(
            list(sync.event_ids(room)),
            by_messages,
            "sync against messages"
        );

        let by_event = said
            .each_ref()
            .map(|id| reader.event(room, id).status == 200);
        assert_eq!(by_event, by_messages, "single events against messages");

        let context = reader
            .get(&format!("/v3/rooms/{room}/context/{}?limit=100", said[2]))
            .ok();
        let mut around = column(&context["events_before"], "event_id");
        around.push(said[2].as_str());
        assert_eq!(list(around), by_messages, "context against messages");
        by_messages
    }
}

#[test]
fn shared_history_is_seen_from_before_ones_time() {
    let server = server();
    assert_eq!(story(&server, "shared").seen(), [true, true, true]);
}

#[test]
fn world_readable_history_is_seen_from_before_ones_time() {
    let server = server();
    assert_eq!(story(&server, "world_readable").seen(), [true, true, true]);
}

#[test]
fn invited_history_is_seen_from_the_invitation_on() {
    let server = server();
    assert_eq!(story(&server, "invited").seen(), [false, true, true]);
}

#[test]
fn joined_history_is_seen_from_the_join_on() {
    let server = server();
    assert_eq!(story(&server, "joined").seen(), [false, false, true]);
}

#[test]
fn what_is_said_after_one_left_is_not_seen() {
    let server = server();
    for visibility in ["shared", "invited", "joined"] {
        let Story { reader, room, said } = story(&server, visibility);
        let (other, since) = (
            server.register("other"),
            reader.sync(None, "").next_batch().to_owned(),
        );
        reader.invite(&room, &other);
        other.join(&room);
        reader.leave(&room);
        let late = other.say(&room, "now we can talk");
        let messages = reader
            .get(&format!("/v3/rooms/{room}/messages?dir=b&limit=100"))
            .ok();
        let ids = column(&messages["chunk"], "event_id");
        assert!(
            ids.contains(&said[2].as_str()) && !ids.contains(&late.as_str()),
            "{visibility}"
        );
        reader.event(&room, &late).error(404, "M_NOT_FOUND");
        let answer = reader.sync(Some(&since), "");
        let left = column(&answer.left(&room)["timeline"]["events"], "event_id");
        assert!(!left.contains(&late.as_str()), "{visibility}");
        assert!(left.len() >= 2, "one's own leaving is seen: {answer:?}");
    }
}

#[test]
fn the_state_seen_after_leaving_is_that_of_leaving() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"invite": [bob.id], "topic": "old"}));
    bob.join(&room);
    bob.leave(&room);
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "new"}));
    assert_eq!(bob.state(&room, "m.room.topic", "").ok()["topic"], "old");
    let state = bob.get(&format!("/v3/rooms/{room}/state")).ok();
    let topic = |event: &&Value| event["type"] == "m.room.topic";
    let topic = state
        .as_array()
        .and_then(|events| events.iter().find(topic))
        .cloned();
    assert_eq!(topic.expect("a topic")["content"]["topic"], "old");
}

#[test]
fn a_world_readable_room_is_read_without_joining() {
    let server = server();
    let (alice, carol) = (server.register("alice"), server.register("carol"));
    let content = json!({"history_visibility": "world_readable"});
    let state = json!([{"type": "m.room.history_visibility", "content": content}]);
    let room = alice.create_room(json!({"preset": "public_chat", "initial_state": state}));
    let id = alice.say(&room, "to the world");
    let messages = carol.get(&format!("/v3/rooms/{room}/messages?dir=b")).ok();
    assert!(column(&messages["chunk"], "event_id").contains(&id.as_str()));
    carol.event(&room, &id).ok();
    carol.get(&format!("/v3/rooms/{room}/state")).ok();
    carol.state(&room, "m.room.history_visibility", "").ok();
}

#[test]
fn a_change_of_visibility_works_from_then_on() {
    let server = server();
    let (alice, reader) = (server.register("alice"), server.register("reader"));
    let room = alice.create_public_room();
    let shared = alice.say(&room, "while shared");
    let content = json!({"history_visibility": "joined"});
    alice.set_state(&room, "m.room.history_visibility", "", content);
    let hidden = alice.say(&room, "while joined");
    reader.join(&room);
    reader.event(&room, &shared).ok();
    reader.event(&room, &hidden).error(404, "M_NOT_FOUND");
}

#[test]
fn messages_tell_what_membership_one_had() {
    let server = server();
    let Story { reader, room, said } = story(&server, "shared");
    let membership = |id: &str| reader.event(&room, id).ok()["unsigned"]["membership"].clone();
    let seen = said.each_ref().map(|id| membership(id));
    assert_eq!(seen, [json!("leave"), json!("invite"), json!("join")]);
}
