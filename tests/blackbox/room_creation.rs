//! Creation of rooms.

use serde_json::{Value, json};
use testkit::User;

use crate::{column, server};

fn whole_state(user: &User, room: &str) -> Vec<Value> {
    let state = user.get(&format!("/v3/rooms/{room}/state")).ok();
    state.as_array().cloned().expect("a list of events")
}

fn content(user: &User, room: &str, kind: &str) -> Value {
    user.state(room, kind, "").ok()
}

#[test]
fn a_room_begins_with_its_creation_and_its_creator() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    let messages = user
        .get(&format!("/v3/rooms/{room}/messages?dir=f&limit=100"))
        .ok();
    let kinds = column(&messages["chunk"], "type");
    assert_eq!(
        kinds[..3],
        ["m.room.create", "m.room.member", "m.room.power_levels"],
        "{kinds:?}"
    );
    let create = content(&user, &room, "m.room.create");
    assert_eq!(create["room_version"], "12", "the default version");
    let member = user.state(&room, "m.room.member", &user.id).ok();
    assert_eq!(member["membership"], "join");
    assert_eq!(
        user.get("/v3/joined_rooms").ok()["joined_rooms"],
        json!([room])
    );
}

#[test]
fn presets_set_the_rules_for_joining_history_and_guests() {
    let server = server();
    let user = server.register("alice");
    for (preset, join_rule, guests) in [
        ("private_chat", "invite", "can_join"),
        ("trusted_private_chat", "invite", "can_join"),
        ("public_chat", "public", "forbidden"),
    ] {
        let room = user.create_room(json!({"preset": preset}));
        assert_eq!(
            content(&user, &room, "m.room.join_rules")["join_rule"],
            join_rule,
            "{preset}"
        );
        let visibility = content(&user, &room, "m.room.history_visibility");
        assert_eq!(visibility["history_visibility"], "shared", "{preset}");
        let guest_access = user.state(&room, "m.room.guest_access", "");
        let access = match guest_access.status {
            404 => json!("forbidden"),
            _ => guest_access.ok()["guest_access"].clone(),
        };
        assert_eq!(access, guests, "{preset}");
    }
}

#[test]
fn the_visibility_chooses_the_preset_where_none_is_given() {
    let server = server();
    let user = server.register("alice");
    let public = user.create_room(json!({"visibility": "public"}));
    assert_eq!(
        content(&user, &public, "m.room.join_rules")["join_rule"],
        "public"
    );
    let private = user.create_room(json!({"visibility": "private"}));
    assert_eq!(
        content(&user, &private, "m.room.join_rules")["join_rule"],
        "invite"
    );
    let path = |room: &str| format!("/v3/directory/list/room/{room}");
    assert_eq!(user.get(&path(&public)).ok()["visibility"], "public");
    assert_eq!(user.get(&path(&private)).ok()["visibility"], "private");
}

#[test]
fn name_topic_and_alias_become_state() {
    let server = server();
    let user = server.register("alice");
    let alias_name = format!("alias-of-{}", user.localpart());
    let options = json!({"name": "The room", "topic": "Its topic", "room_alias_name": alias_name});
    let room = user.create_room(options);
    assert_eq!(content(&user, &room, "m.room.name")["name"], "The room");
    let topic = content(&user, &room, "m.room.topic");
    assert_eq!(topic["topic"], "Its topic");
    let text = &topic["m.topic"]["m.text"];
    assert!(text.is_null() || text[0]["body"] == "Its topic", "{topic}");
    let alias = format!("#{alias_name}:{}", user.server_name());
    assert_eq!(
        content(&user, &room, "m.room.canonical_alias")["alias"],
        alias
    );
    let path = format!("/v3/directory/room/{}", testkit::encode(&alias));
    assert_eq!(user.get(&path).ok()["room_id"], room);
}

#[test]
fn initial_state_overrides_the_preset() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({
        "preset": "private_chat",
        "initial_state": [
            {"type": "m.room.history_visibility", "state_key": "",
             "content": {"history_visibility": "joined"}},
            {"type": "org.example.state", "state_key": "key", "content": {"n": 1}},
            {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
        ],
    }));
    let visibility = content(&user, &room, "m.room.history_visibility");
    assert_eq!(visibility["history_visibility"], "joined");
    assert_eq!(
        user.state(&room, "org.example.state", "key").ok(),
        json!({"n": 1})
    );
    let encryption = content(&user, &room, "m.room.encryption");
    assert_eq!(encryption["algorithm"], "m.megolm.v1.aes-sha2");
    let state = whole_state(&user, &room);
    let count = state
        .iter()
        .filter(|event| event["type"] == "m.room.history_visibility")
        .count();
    assert_eq!(count, 1);
}

#[test]
fn the_creation_content_is_merged_and_cannot_forge_the_version() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({
        "creation_content": {"type": "m.space", "m.federate": false, "room_version": "1"},
        "room_version": "11",
    }));
    let create = content(&user, &room, "m.room.create");
    assert_eq!(create["type"], "m.space");
    assert_eq!(create["m.federate"], false);
    assert_eq!(create["room_version"], "11");
}

#[test]
fn power_levels_can_be_overridden() {
    let server = server();
    let user = server.register("alice");
    let levels = json!({"events": {"m.room.name": 0}, "users_default": 5});
    let room = user.create_room(json!({"power_level_content_override": levels}));
    let levels = content(&user, &room, "m.room.power_levels");
    assert_eq!(levels["events"]["m.room.name"], 0);
    assert_eq!(levels["users_default"], 5);
}

#[test]
fn creators_of_version_12_have_no_level_of_their_own() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({"room_version": "12"}));
    let levels = content(&user, &room, "m.room.power_levels");
    assert!(levels["users"][&user.id].is_null(), "{levels}");
    assert!(
        !room.contains(':'),
        "the room's id is the hash of its creation: {room}"
    );
    let create = whole_state(&user, &room)
        .into_iter()
        .find(|event| event["type"] == "m.room.create")
        .expect("the creation event");
    let id = create["event_id"].as_str().expect("an event id");
    assert_eq!(room[1..], id[1..]);
}

#[test]
fn creators_of_version_11_have_level_100() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({"room_version": "11"}));
    assert!(
        room.ends_with(&format!(":{}", user.server_name())),
        "{room}"
    );
    let levels = content(&user, &room, "m.room.power_levels");
    assert_eq!(levels["users"][&user.id], 100);
    let create = content(&user, &room, "m.room.create");
    assert!(create["creator"].is_null(), "{create}");
}

#[test]
fn creators_of_version_10_are_named_in_the_creation_event() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({"room_version": "10"}));
    assert_eq!(content(&user, &room, "m.room.create")["creator"], user.id);
}

#[test]
fn the_trusted_preset_trusts_who_is_invited() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let options = |version: &str| {
        json!({
            "preset": "trusted_private_chat", "invite": [bob.id], "room_version": version,
        })
    };
    let old = alice.create_room(options("11"));
    assert_eq!(
        content(&alice, &old, "m.room.power_levels")["users"][&bob.id],
        100
    );
    let new = alice.create_room(options("12"));
    let create = content(&alice, &new, "m.room.create");
    assert_eq!(create["additional_creators"], json!([bob.id]));
}

#[test]
fn invitations_at_creation_reach_the_invited_with_the_direct_flag() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"invite": [bob.id], "is_direct": true, "name": "Us two"}));
    let answer = bob.sync(None, "");
    let stripped = &answer.invited(&room)["invite_state"]["events"];
    let find = |kind: &str| {
        let events = stripped.as_array().into_iter().flatten();
        events
            .filter(|event| event["type"] == kind)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(find("m.room.name")[0]["content"]["name"], "Us two");
    assert_eq!(find("m.room.create").len(), 1);
    let invitation = find("m.room.member")
        .into_iter()
        .find(|event| event["state_key"] == bob.id.as_str())
        .expect("the invitation");
    assert_eq!(invitation["content"]["membership"], "invite");
    assert_eq!(invitation["content"]["is_direct"], true);
}

#[test]
fn unknown_versions_are_refused() {
    let server = server();
    let user = server.register("alice");
    let answer = user.post("/v3/createRoom", json!({"room_version": "no such version"}));
    answer.error(400, "M_UNSUPPORTED_ROOM_VERSION");
    let rooms = user.get("/v3/joined_rooms").ok();
    assert_eq!(rooms["joined_rooms"], json!([]), "nothing was changed");
}

#[test]
fn an_alias_in_use_is_refused_and_makes_no_room() {
    let server = server();
    let user = server.register("alice");
    let options = json!({"room_alias_name": format!("taken-{}", user.localpart())});
    let room = user.create_room(options.clone());
    user.post("/v3/createRoom", options)
        .error(400, "M_ROOM_IN_USE");
    let rooms = user.get("/v3/joined_rooms").ok();
    assert_eq!(rooms["joined_rooms"], json!([room]), "nothing was changed");
}

#[test]
fn state_that_is_no_event_is_refused() {
    let server = server();
    let user = server.register("alice");
    let options = json!({"initial_state": [{"state_key": "no type", "content": {}}]});
    let answer = user.post("/v3/createRoom", options);
    assert_eq!(answer.status, 400, "{answer}");
    let answer = user.post("/v3/createRoom", json!({"invite": ["not a user id"]}));
    assert_eq!(answer.status, 400, "{answer}");
    let rooms = user.get("/v3/joined_rooms").ok();
    assert_eq!(rooms["joined_rooms"], json!([]), "nothing was changed");
}
