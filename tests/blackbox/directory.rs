//! Room aliases, the published room directory, and the user directory.

use serde_json::{Value, json};
use testkit::{User, encode};

use crate::{column, pair, server, strings};

fn alias(user: &User, name: &str) -> String {
    format!("#{name}-{}:{}", user.localpart(), user.server_name())
}

fn alias_path(alias: &str) -> String {
    format!("/v3/directory/room/{}", encode(alias))
}

#[test]
fn an_alias_leads_to_its_room_until_it_is_deleted() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let alias = alias(&alice, "tea\u{e9}");
    let path = alias_path(&alias);
    alice.get(&path).error(404, "M_NOT_FOUND");
    alice.put(&path, json!({"room_id": room})).ok();
    let found = server.client().get(&path).ok();
    assert_eq!(found["room_id"], room);
    assert!(
        strings(&found["servers"]).contains(&alice.server_name()),
        "{found}"
    );
    let of_room = bob.get(&format!("/v3/rooms/{room}/aliases")).ok();
    assert_eq!(of_room["aliases"], json!([alias]));
    alice.delete(&path).ok();
    bob.get(&path).error(404, "M_NOT_FOUND");
}

#[test]
fn an_alias_is_given_only_once() {
    let server = server();
    let (alice, _, room) = pair(&server);
    let path = alias_path(&alias(&alice, "once"));
    alice.put(&path, json!({"room_id": room})).ok();
    let other = alice.create_room(json!({}));
    let answer = alice.put(&path, json!({"room_id": other}));
    assert_eq!(answer.status, 409, "{answer}");
    assert_eq!(alice.get(&path).ok()["room_id"], room);
}

#[test]
fn an_alias_is_deleted_by_its_maker_or_by_power() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let (of_alice, of_bob) = (
        alias_path(&alias(&alice, "a")),
        alias_path(&alias(&bob, "b")),
    );
    alice.put(&of_alice, json!({"room_id": room})).ok();
    bob.put(&of_bob, json!({"room_id": room})).ok();
    bob.delete(&of_alice).error(403, "M_FORBIDDEN");
    alice.delete(&of_bob).ok();
    alice.delete(&of_bob).error(404, "M_NOT_FOUND");
}

#[test]
fn aliases_of_other_servers_and_broken_ones_are_refused() {
    let server = server();
    let (alice, _, room) = pair(&server);
    let elsewhere = alice.put(
        &alias_path("#tea:elsewhere.example"),
        json!({"room_id": room}),
    );
    assert!(matches!(elsewhere.status, 400 | 403), "{elsewhere}");
    let broken = alice.put(&alias_path("tea"), json!({"room_id": room}));
    assert_eq!(broken.status, 400, "{broken}");
    let no_room = alice.put(&alias_path(&alias(&alice, "x")), json!({"room_id": "tea"}));
    assert_eq!(no_room.status, 400, "{no_room}");
}

#[test]
fn the_aliases_of_a_room_are_for_its_members() {
    let server = server();
    let (_, _, room) = pair(&server);
    let carol = server.register("carol");
    carol
        .get(&format!("/v3/rooms/{room}/aliases"))
        .error(403, "M_FORBIDDEN");
}

fn publish(user: &User, room: &str, visibility: &str) -> testkit::Response {
    let path = format!("/v3/directory/list/room/{room}");
    user.put(&path, json!({"visibility": visibility}))
}

fn find(user: &User, body: Value) -> Value {
    user.post("/v3/publicRooms", body).ok()
}

#[test]
fn a_published_room_is_listed_with_what_it_is() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let name = alias(&alice, "listed");
    let room = alice.create_room(json!({
        "preset": "public_chat", "name": "The listed room", "topic": "Being found",
    }));
    alice.put(&alias_path(&name), json!({"room_id": room})).ok();
    alice.set_state(&room, "m.room.canonical_alias", "", json!({"alias": name}));
    alice.set_state(
        &room,
        "m.room.avatar",
        "",
        json!({"url": "mxc://test.example/room"}),
    );
    publish(&alice, &room, "public").ok();
    bob.join(&room);
    testkit::until("the room is listed with both members", || {
        let list = bob.get("/v3/publicRooms?limit=1000").ok();
        let rooms = list["chunk"].as_array()?;
        let entry = rooms
            .iter()
            .find(|entry| entry["room_id"] == room.as_str())?;
        (entry["num_joined_members"] == 2).then_some(())?;
        assert_eq!(entry["name"], "The listed room");
        assert_eq!(entry["topic"], "Being found");
        assert_eq!(entry["canonical_alias"], name);
        assert_eq!(entry["avatar_url"], "mxc://test.example/room");
        assert_eq!(entry["join_rule"], "public");
        assert_eq!(
            (&entry["world_readable"], &entry["guest_can_join"]),
            (&json!(false), &json!(false))
        );
        Some(())
    });
    publish(&alice, &room, "private").ok();
    let list = bob.get("/v3/publicRooms?limit=1000").ok();
    assert!(
        !column(&list["chunk"], "room_id").contains(&room.as_str()),
        "{list}"
    );
}

#[test]
fn the_directory_is_searched_and_read_page_by_page() {
    let server = server();
    let alice = server.register("alice");
    let word = alice.localpart().to_owned();
    let rooms: Vec<String> = (0..5)
        .map(|number| {
            let name = format!("Room {number} {word}");
            alice.create_room(json!({"visibility": "public", "name": name}))
        })
        .collect();
    alice.create_room(json!({"visibility": "public", "name": "Another"}));
    let search = |more: Value| {
        let mut body = json!({"filter": {"generic_search_term": word.to_uppercase()}});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        find(&alice, body)
    };
    let all = testkit::until("all rooms are found", || {
        let found = search(json!({}));
        (found["chunk"].as_array()?.len() == 5).then_some(found)
    });
    assert!(all["total_room_count_estimate"].is_u64(), "{all}");
    let first = search(json!({"limit": 2}));
    assert_eq!(first["chunk"].as_array().map(Vec::len), Some(2));
    let second = search(json!({"limit": 3, "since": first["next_batch"]}));
    let mut seen = column(&first["chunk"], "room_id");
    seen.extend(column(&second["chunk"], "room_id"));
    seen.sort_unstable();
    let mut expected: Vec<&str> = rooms.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[test]
fn the_directory_can_be_narrowed_to_spaces() {
    let server = server();
    let alice = server.register("alice");
    let word = alice.localpart().to_owned();
    let options = |kind: Value| {
        json!({
            "visibility": "public", "name": format!("X {word}"), "creation_content": kind,
        })
    };
    let space = alice.create_room(options(json!({"type": "m.space"})));
    let room = alice.create_room(options(json!({})));
    let search = |types: Value| {
        let filter = json!({"generic_search_term": word, "room_types": types});
        find(&alice, json!({"filter": filter}))
    };
    testkit::until("the space is found", || {
        (column(&search(json!(["m.space"]))["chunk"], "room_id") == [&space]).then_some(())
    });
    assert_eq!(column(&search(json!([null]))["chunk"], "room_id"), [&room]);
    assert_eq!(
        search(json!(["m.space"]))["chunk"][0]["room_type"],
        "m.space"
    );
}

#[test]
fn publishing_needs_power() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    publish(&bob, &room, "public").error(403, "M_FORBIDDEN");
    let path = format!("/v3/directory/list/room/{room}");
    assert_eq!(alice.get(&path).ok()["visibility"], "private");
    let unknown = "/v3/directory/list/room/!nosuchroom:test.example";
    alice.get(unknown).error(404, "M_NOT_FOUND");
    let wrong = publish(&alice, &room, "secret");
    assert_eq!(wrong.status, 400, "{wrong}");
}

fn search_users(user: &User, term: &str) -> Vec<String> {
    let body = json!({"search_term": term, "limit": 10});
    let found = user.post("/v3/user_directory/search", body).ok();
    assert!(found["limited"].is_boolean(), "{found}");
    column(&found["results"], "user_id")
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[test]
fn users_who_share_a_room_find_each_other_by_id_and_name() {
    let server = server();
    let (alice, bob, _) = pair(&server);
    let name = format!("Robert {}", bob.localpart().replace('-', ""));
    let path = format!("/v3/profile/{}/displayname", bob.id);
    bob.put(&path, json!({"displayname": name})).ok();
    for term in [
        bob.localpart(),
        &bob.localpart().replace('-', "").to_uppercase(),
    ] {
        testkit::until("bob is found", || {
            search_users(&alice, term).contains(&bob.id).then_some(())
        });
        assert!(
            !search_users(&bob, term).contains(&bob.id),
            "bob found himself"
        );
    }
}

#[test]
fn users_of_private_rooms_are_hidden_from_who_does_not_share_one() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"preset": "private_chat", "invite": [bob.id]}));
    bob.join(&room);
    testkit::until("alice finds bob", || {
        search_users(&alice, bob.localpart())
            .contains(&bob.id)
            .then_some(())
    });
    let carol = server.register("carol");
    assert!(!search_users(&carol, bob.localpart()).contains(&bob.id));
}
