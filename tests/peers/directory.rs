//! Aliases and published rooms, asked for by other servers, and of other servers.

use serde_json::{Value, json};
use testkit::{Peer, PeerAnswer, encode};

use crate::{Scene, server};

const QUERY: &str = "/_matrix/federation/v1/query";
const PUBLIC_ROOMS: &str = "/_matrix/federation/v1/publicRooms";

fn named() -> Scene {
    Scene::with(json!({
        "preset": "public_chat", "visibility": "public", "name": "The room",
        "room_alias_name": "here",
    }))
}

#[test]
fn an_alias_of_this_server_leads_to_its_room_and_the_servers_in_it() {
    let scene = named();
    let ask = |alias: &str| {
        let path = format!("{QUERY}/directory?room_alias={}", encode(alias));
        scene.peer.get(&scene.server, &path)
    };
    let answer = ask(&format!("#here:{}", scene.server.name())).ok();
    assert_eq!(answer["room_id"], scene.room);
    let servers = json!([scene.server.name(), scene.peer.name()]);
    assert_eq!(answer["servers"], servers);
    ask(&format!("#there:{}", scene.server.name())).error(404, "M_NOT_FOUND");
    ask("#here:elsewhere.example").error(400, "M_INVALID_PARAM");
    ask("here").error(400, "M_INVALID_PARAM");
    scene
        .peer
        .get(&scene.server, &format!("{QUERY}/directory"))
        .error(400, "M_MISSING_PARAM");
    scene
        .peer
        .get(&scene.server, &format!("{QUERY}/weather"))
        .error(404, "M_UNRECOGNIZED");
}

#[test]
fn published_rooms_are_listed_and_searched_by_other_servers() {
    let scene = named();
    let list = scene.peer.get(&scene.server, PUBLIC_ROOMS).ok();
    assert_eq!(list["chunk"][0]["room_id"], scene.room, "{list}");
    assert_eq!(list["chunk"][0]["num_joined_members"], 2);
    assert_eq!(list["total_room_count_estimate"], 1);
    let search = |term: &str| {
        let body = json!({"filter": {"generic_search_term": term}});
        let answer = scene.peer.post(&scene.server, PUBLIC_ROOMS, body).ok();
        answer["chunk"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((search("the ROOM"), search("other")), (1, 0));
}

#[test]
fn a_client_finds_the_room_of_an_alias_on_another_server() {
    let (server, peer) = (server(), Peer::start());
    let alice = server.register("alice");
    let alias = format!("#there:{}", peer.name());
    let known = alias.clone();
    peer.on(
        "GET",
        "/_matrix/federation/v1/query/directory",
        move |request| match request.query("room_alias") == [known.clone()] {
            true => PeerAnswer::ok(json!({"room_id": "!r:x.example", "servers": ["x.example"]})),
            false => PeerAnswer::error(404, "M_NOT_FOUND"),
        },
    );
    let resolve = |alias: &str| alice.get(&format!("/v3/directory/room/{}", encode(alias)));
    let answer = resolve(&alias).ok();
    assert_eq!(answer["room_id"], "!r:x.example");
    assert_eq!(answer["servers"], json!(["x.example", peer.name()]));
    resolve(&alias).ok();
    assert_eq!(peer.requests(QUERY).len(), 1, "it is known for a while");
    resolve(&format!("#other:{}", peer.name())).error(404, "M_NOT_FOUND");
    resolve("#there:127.0.0.1:1").error(404, "M_NOT_FOUND");
    // Aliases of others are theirs to give.
    let room = alice.create_public_room();
    let path = format!("/v3/directory/room/{}", encode("#mine:elsewhere.example"));
    alice
        .put(&path, json!({"room_id": room}))
        .error(400, "M_INVALID_PARAM");
}

#[test]
fn a_client_reads_the_directory_of_another_server() {
    let (server, peer) = (server(), Peer::start());
    let alice = server.register("alice");
    let page = json!({
        "chunk": [{"room_id": "!r:x.example", "num_joined_members": 3, "world_readable": true,
            "guest_can_join": false}],
        "next_batch": "more", "total_room_count_estimate": 8,
    });
    let (listed, found) = (page.clone(), page.clone());
    peer.on("GET", PUBLIC_ROOMS, move |_| PeerAnswer::ok(listed.clone()));
    peer.on("POST", PUBLIC_ROOMS, move |_| PeerAnswer::ok(found.clone()));
    let path = format!("/v3/publicRooms?server={}", encode(peer.name()));
    let answer = alice.get(&format!("{path}&limit=5&since=token")).ok();
    assert_eq!(answer, page);
    let asked = peer.requests(PUBLIC_ROOMS).remove(0);
    assert_eq!(
        (asked.query("limit"), asked.query("since")),
        (vec!["5".to_owned()], vec!["token".to_owned()])
    );
    let wanted = json!({"filter": {"generic_search_term": "x"}, "limit": 2});
    assert_eq!(alice.post(&path, wanted.clone()).ok(), page);
    assert_eq!(peer.requests(PUBLIC_ROOMS)[1].json(), wanted);
    // Without an account nobody makes this server ask others.
    server.client().get(&path).error(401, "M_MISSING_TOKEN");
    let nobody: Value = alice.get("/v3/publicRooms?server=127.0.0.1:1").value();
    assert!(nobody["errcode"].is_string(), "{nobody}");
}
