//! Room upgrades.

use serde_json::{Value, json};
use testkit::{User, encode};

use crate::{pair, server};

fn upgrade(user: &User, room: &str, version: &str) -> testkit::Response {
    user.post(
        &format!("/v3/rooms/{room}/upgrade"),
        json!({"new_version": version}),
    )
}

fn upgraded(user: &User, room: &str, version: &str) -> String {
    let answer = upgrade(user, room, version).ok();
    answer["replacement_room"]
        .as_str()
        .expect("a room id")
        .to_owned()
}

#[test]
fn the_old_room_leads_to_the_new_one_and_back() {
    let server = server();
    let (alice, bob, _) = pair(&server);
    let old = alice.create_room(json!({"preset": "public_chat", "room_version": "10"}));
    bob.join(&old);
    let new = upgraded(&alice, &old, "12");
    assert_ne!(old, new);
    let tombstone = bob.state(&old, "m.room.tombstone", "").ok();
    assert_eq!(tombstone["replacement_room"], new);
    let create = alice.state(&new, "m.room.create", "").ok();
    assert_eq!(
        (&create["room_version"], &create["predecessor"]["room_id"]),
        (&json!("12"), &json!(old))
    );
    let levels = alice.state(&old, "m.room.power_levels", "").ok();
    assert!(
        levels["events_default"]
            .as_u64()
            .is_some_and(|level| level >= 50),
        "{levels}"
    );
    let late = json!({"msgtype": "m.text", "body": "too late"});
    bob.try_send(&old, "m.room.message", late)
        .error(403, "M_FORBIDDEN");
    bob.join(&new);
}

#[test]
fn state_bans_and_aliases_go_along() {
    let server = server();
    let (alice, bob, carol) = (
        server.register("alice"),
        server.register("bob"),
        server.register("carol"),
    );
    let name = format!("up-{}", alice.localpart());
    let alias = format!("#{name}:{}", alice.server_name());
    let old = alice.create_room(json!({
        "room_version": "11", "preset": "public_chat", "name": "The room", "topic": "Its topic",
        "room_alias_name": name, "power_level_content_override": {"invite": 33},
    }));
    bob.join(&old);
    let mut levels = alice.state(&old, "m.room.power_levels", "").ok();
    levels["users"][&bob.id] = json!(42);
    alice.set_state(&old, "m.room.power_levels", "", levels);
    alice.membership(&old, "ban", &carol).ok();
    alice.set_state(
        &old,
        "m.room.server_acl",
        "",
        json!({"allow": ["*"], "deny": ["bad.example"]}),
    );
    let new = upgraded(&alice, &old, "12");
    let content = |kind: &str| alice.state(&new, kind, "").ok();
    assert_eq!(content("m.room.name")["name"], "The room");
    assert_eq!(content("m.room.topic")["topic"], "Its topic");
    assert_eq!(content("m.room.join_rules")["join_rule"], "public");
    assert_eq!(content("m.room.server_acl")["deny"], json!(["bad.example"]));
    assert_eq!(content("m.room.canonical_alias")["alias"], alias);
    let levels = content("m.room.power_levels");
    assert_eq!(
        (&levels["invite"], &levels["users"][&bob.id]),
        (&json!(33), &json!(42))
    );
    assert!(
        levels["users"][&alice.id].is_null(),
        "creators have no level in version 12: {levels}"
    );
    let ban = alice.state(&new, "m.room.member", &carol.id).ok();
    assert_eq!(ban["membership"], "ban");
    let path = format!("/v3/directory/room/{}", encode(&alias));
    assert_eq!(alice.get(&path).ok()["room_id"], new);
}

#[test]
fn a_space_stays_a_space() {
    let server = server();
    let alice = server.register("alice");
    let kind = json!({"type": "m.space"});
    let old = alice.create_room(json!({"room_version": "11", "creation_content": kind}));
    let new = upgraded(&alice, &old, "12");
    assert_eq!(
        alice.state(&new, "m.room.create", "").ok()["type"],
        "m.space"
    );
}

#[test]
fn an_upgrade_needs_power_and_changes_nothing_without() {
    let server = server();
    let (_, bob, room) = pair(&server);
    upgrade(&bob, &room, "12").error(403, "M_FORBIDDEN");
    bob.state(&room, "m.room.tombstone", "")
        .error(404, "M_NOT_FOUND");
    let rooms = bob.get("/v3/joined_rooms").ok();
    assert_eq!(
        rooms["joined_rooms"].as_array().map(Vec::len),
        Some(1),
        "{rooms}"
    );
}

#[test]
fn an_upgrade_to_an_unknown_version_is_refused() {
    let server = server();
    let (alice, _, room) = pair(&server);
    upgrade(&alice, &room, "no such version").error(400, "M_UNSUPPORTED_ROOM_VERSION");
    alice
        .state(&room, "m.room.tombstone", "")
        .error(404, "M_NOT_FOUND");
}

#[test]
fn the_publication_in_the_directory_goes_along() {
    let server = server();
    let alice = server.register("alice");
    let old = alice.create_room(json!({"visibility": "public", "room_version": "11"}));
    let new = upgraded(&alice, &old, "12");
    let visibility = |room: &str| -> Value {
        alice.get(&format!("/v3/directory/list/room/{room}")).ok()["visibility"].clone()
    };
    assert_eq!(
        (visibility(&old), visibility(&new)),
        (json!("private"), json!("public"))
    );
}
