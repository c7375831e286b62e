//! Spaces across servers: what other servers are told of ours, and what clients see of theirs.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::{Peer, PeerAnswer, Server, User, encode};

use crate::server;

fn space(user: &User, preset: &str) -> String {
    let kind = json!({"type": "m.space"});
    user.create_room(json!({"preset": preset, "name": "Space", "creation_content": kind}))
}

fn add(user: &User, space: &str, child: &str, via: &str) {
    user.set_state(space, "m.space.child", child, json!({"via": [via]}));
}

fn ask(peer: &Peer, server: &Server, room: &str) -> testkit::Response {
    let path = format!("/_matrix/federation/v1/hierarchy/{}", encode(room));
    peer.get(server, &path)
}

fn ids(rooms: &Value) -> Vec<&str> {
    let rooms = rooms.as_array().into_iter().flatten();
    rooms.filter_map(|room| room["room_id"].as_str()).collect()
}

#[test]
fn another_server_is_told_of_a_space_and_its_children() {
    let (server, peer) = (server(), Peer::start());
    let alice = server.register("alice");
    let top = space(&alice, "public_chat");
    let (open, secret) = (
        alice.create_public_room(),
        alice.create_room(json!({"preset": "private_chat"})),
    );
    for child in [open.as_str(), secret.as_str(), "!unknown:elsewhere.example"] {
        add(&alice, &top, child, server.name());
    }
    let level = ask(&peer, &server, &top).ok();
    assert_eq!(level["room"]["room_id"], top);
    assert_eq!(level["room"]["room_type"], "m.space");
    let children = level["room"]["children_state"].as_array().map(Vec::len);
    assert_eq!(children, Some(3), "{level}");
    assert_eq!(ids(&level["children"]), [open.as_str()]);
    assert_eq!(level["inaccessible_children"], json!([secret]));
    ask(&peer, &server, &secret).error(404, "M_NOT_FOUND");
    ask(&peer, &server, "!unknown:elsewhere.example").error(404, "M_NOT_FOUND");
}

#[test]
fn a_restricted_room_is_told_of_to_servers_in_the_room_it_is_open_to() {
    let (server, peer) = (server(), Peer::start());
    let alice = server.register("alice");
    let top = space(&alice, "public_chat");
    let rules = json!({
        "type": "m.room.join_rules", "state_key": "", "content": {
            "join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": top}],
        },
    });
    let room = alice.create_room(json!({"preset": "private_chat", "initial_state": [rules]}));
    add(&alice, &top, &room, server.name());
    ask(&peer, &server, &room).error(404, "M_NOT_FOUND");
    testkit::PeerRoom::join(&peer, &server, &top, &peer.user("bob"));
    let level = ask(&peer, &server, &room).ok();
    assert_eq!(level["room"]["allowed_room_ids"], json!([top]));
    let level = ask(&peer, &server, &top).ok();
    assert_eq!(ids(&level["children"]), [room.as_str()]);
}

#[test]
fn a_hierarchy_goes_on_into_spaces_of_other_servers() {
    let (server, peer) = (server(), Peer::start());
    let alice = server.register("alice");
    let top = space(&alice, "public_chat");
    let name = peer.name().to_owned();
    let (theirs, leaf) = (format!("!space:{name}"), format!("!leaf:{name}"));
    let (private, shut) = (format!("!private:{name}"), format!("!shut:{name}"));
    add(&alice, &top, &theirs, &name);
    let child = |id: &str| {
        json!({"type": "m.space.child", "state_key": id, "sender": "@a:x", "origin_server_ts": 1,
            "content": {"via": [name]}})
    };
    let answer = json!({
        "room": {"room_id": theirs, "name": "Theirs", "num_joined_members": 2, "join_rule": "public",
            "room_type": "m.space", "world_readable": false, "guest_can_join": false,
            "children_state": [child(&leaf), child(&private), child(&shut)]},
        "children": [
            {"room_id": leaf, "num_joined_members": 1, "join_rule": "public"},
            {"room_id": private, "num_joined_members": 1, "join_rule": "invite"},
        ],
        "inaccessible_children": [shut],
    });
    peer.on("GET", "/_matrix/federation/v1/hierarchy/", move |_| {
        PeerAnswer::ok(answer.clone())
    });
    let path = format!("/v1/rooms/{}/hierarchy", encode(&top));
    let page = alice.get(&path).ok();
    assert_eq!(ids(&page["rooms"]), [&top, &theirs, &leaf], "{page}");
    assert_eq!(page["rooms"][1]["name"], "Theirs");
    let children = page["rooms"][1]["children_state"].as_array().map(Vec::len);
    assert_eq!(children, Some(3));
    // Page by page it is the same, and nothing is asked again.
    let first = alice.get(&format!("{path}?limit=2")).ok();
    assert_eq!(ids(&first["rooms"]), [&top, &theirs]);
    let next = first["next_batch"].as_str().expect("a token");
    let second = alice.get(&format!("{path}?limit=2&from={next}")).ok();
    assert_eq!(ids(&second["rooms"]), [&leaf]);
    let asked = peer.requests("/_matrix/federation/v1/hierarchy/");
    assert_eq!(asked.len(), 1, "{asked:?}");
    // What nobody answers for is left out.
    let dead = "!dead:127.0.0.1:1";
    add(&alice, &top, dead, "127.0.0.1:1");
    let page = alice.get(&path).ok();
    assert_eq!(ids(&page["rooms"]).len(), 3);
}

#[test]
fn a_room_of_another_server_is_summed_up() {
    let (server, peer) = (server(), Peer::start());
    let alice = server.register("alice");
    let room = format!("!room:{}", peer.name());
    let answer = json!({
        "room": {"room_id": room, "name": "Theirs", "num_joined_members": 2, "join_rule": "knock",
            "world_readable": false, "guest_can_join": false, "children_state": []},
        "children": [], "inaccessible_children": [],
    });
    peer.on("GET", "/_matrix/federation/v1/hierarchy/", move |_| {
        PeerAnswer::ok(answer.clone())
    });
    let path = format!("/v1/room_summary/{}", encode(&room));
    let by = format!("{path}?via={}", encode(peer.name()));
    let summary = alice.get(&by).ok();
    assert_eq!(
        (&summary["name"], &summary["join_rule"]),
        (&json!("Theirs"), &json!("knock"))
    );
    server.client().get(&by).error(404, "M_NOT_FOUND");
    let other = format!("/v1/room_summary/{}", encode("!other:127.0.0.1:1"));
    alice.get(&other).error(404, "M_NOT_FOUND");
}

#[test]
fn a_server_that_does_not_answer_is_not_asked_for_each_page() {
    let server = server();
    let alice = server.register("alice");
    let top = space(&alice, "public_chat");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let name = listener.local_addr().expect("its address").to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    // Whoever connects is hung up on.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    for child in ["a", "b", "c"] {
        add(&alice, &top, &format!("!{child}:{name}"), &name);
    }
    let page = || {
        let path = format!("/v1/rooms/{}/hierarchy", encode(&top));
        ids(&alice.get(&path).ok()["rooms"]).len()
    };
    assert_eq!(page(), 1);
    let asked = connections.load(Ordering::SeqCst);
    assert!(asked > 0);
    assert_eq!(page(), 1);
    assert_eq!(connections.load(Ordering::SeqCst), asked);
}
