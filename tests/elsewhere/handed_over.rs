//! Users of another server leave, refuse and knock by way of the server under test.

use event::{EventIdFormat, RoomVersion, hash_and_sign};
use serde_json::{Value, json};
use testkit::{Peer, PeerRoom, Server, encode};

use crate::{of_type, server};

/// Asks for a template and finishes it; the room's version, the event's path and the event.
fn finished(peer: &Peer, server: &Server, what: &str, room: &str, user: &str) -> (String, Value) {
    let versions: Vec<String> = RoomVersion::ALL
        .iter()
        .map(|version| format!("ver={version}"))
        .collect();
    let (room_id, versions) = (encode(room), versions.join("&"));
    let path = format!(
        "/_matrix/federation/v1/make_{what}/{room_id}/{}?{versions}",
        encode(user)
    );
    let template = peer.get(server, &path).ok();
    let version: RoomVersion = template["room_version"].as_str().unwrap().parse().unwrap();
    let rules = version.rules();
    let mut event = template["event"].clone();
    assert_eq!(event["origin"], server.name());
    if rules.event_id == EventIdFormat::Chosen {
        event["event_id"] = format!("$chosen:{}", peer.name()).into();
    }
    let signed = hash_and_sign(rules, &event.to_string(), peer.key()).unwrap();
    let id = event::Pdu::from_federation(rules, signed.as_bytes()).unwrap();
    let id = encode(id.event_id().as_str());
    let path = format!("send_{what}/{room_id}/{id}");
    (path, serde_json::from_str(&signed).unwrap())
}

#[test]
fn a_user_of_another_server_leaves_by_both_versions_of_the_request() {
    for (room_version, api) in [("1", "v1"), ("11", "v2"), ("12", "v2")] {
        let server = server();
        let alice = server.register("alice");
        let room =
            alice.create_room(json!({"preset": "public_chat", "room_version": room_version}));
        let peer = Peer::start();
        let bob = peer.user("bob");
        PeerRoom::join(&peer, &server, &room, &bob);
        let (path, leave) = finished(&peer, &server, "leave", &room, &bob);
        let path = format!("/_matrix/federation/{api}/{path}");
        let answer = peer.put(&server, &path, leave.clone()).ok();
        let wanted = if api == "v1" {
            json!([200, {}])
        } else {
            json!({})
        };
        assert_eq!(answer, wanted);
        let member = alice.state(&room, "m.room.member", &bob).ok();
        assert_eq!(member["membership"], "leave");
        // It is the same when it comes again.
        assert_eq!(peer.put(&server, &path, leave).ok(), wanted);
    }
}

#[test]
fn who_is_not_in_the_room_can_not_leave_it_and_nobody_leaves_for_another() {
    let server = server();
    let alice = server.register("alice");
    let room = alice.create_public_room();
    let (peer, other) = (Peer::start(), Peer::start());
    let bob = peer.user("bob");
    let path = |room: &str, user: &str| {
        format!(
            "/_matrix/federation/v1/make_leave/{}/{}",
            encode(room),
            encode(user)
        )
    };
    peer.get(&server, &path(&room, &bob))
        .error(403, "M_FORBIDDEN");
    other
        .get(&server, &path(&room, &bob))
        .error(403, "M_FORBIDDEN");
    let unknown = format!("!unknown:{}", server.name());
    peer.get(&server, &path(&unknown, &bob))
        .error(404, "M_NOT_FOUND");
    PeerRoom::join(&peer, &server, &room, &bob);
    let (path, leave) = finished(&peer, &server, "leave", &room, &bob);
    let send = format!("/_matrix/federation/v2/{path}");
    other
        .put(&server, &send, leave.clone())
        .error(400, "M_INVALID_PARAM");
    let mut changed = leave.clone();
    changed["content"]["membership"] = "join".into();
    peer.put(&server, &send, changed)
        .error(400, "M_INVALID_PARAM");
    let mut unsigned = leave.clone();
    unsigned["signatures"] = json!({});
    peer.put(&server, &send, unsigned)
        .error(400, "M_INVALID_PARAM");
    let as_knock = send.replace("v2/send_leave", "v1/send_knock");
    peer.put(&server, &as_knock, leave)
        .error(400, "M_INVALID_PARAM");
    let member = alice.state(&room, "m.room.member", &bob).ok();
    assert_eq!(member["membership"], "join");
}

#[test]
fn a_knock_is_heard_and_answered_with_what_the_room_is() {
    for room_version in ["7", "12"] {
        let server = server();
        let alice = server.register("alice");
        let room = alice.create_room(json!({
            "preset": "private_chat", "name": "Here", "room_version": room_version,
        }));
        let peer = Peer::start();
        let bob = peer.user("bob");
        let make = format!(
            "/_matrix/federation/v1/make_knock/{}/{}",
            encode(&room),
            encode(&bob)
        );
        let with = |versions: &str| format!("{make}?{versions}");
        peer.get(&server, &make).error(400, "M_MISSING_PARAM");
        let refused = peer.get(&server, &with("ver=1&ver=2"));
        let refused = refused.error(400, "M_INCOMPATIBLE_ROOM_VERSION");
        assert_eq!(refused["room_version"], room_version);
        peer.get(&server, &with(&format!("ver={room_version}")))
            .error(403, "M_FORBIDDEN");
        alice.set_state(
            &room,
            "m.room.join_rules",
            "",
            json!({"join_rule": "knock"}),
        );
        let (path, knock) = finished(&peer, &server, "knock", &room, &bob);
        let answer = peer
            .put(&server, &format!("/_matrix/federation/v1/{path}"), knock)
            .ok();
        let described = &answer["knock_room_state"];
        for event_type in ["m.room.create", "m.room.name", "m.room.join_rules"] {
            let event = of_type(described, event_type);
            assert!(
                event["hashes"].is_object(),
                "{event_type} is whole: {answer}"
            );
        }
        let member = alice.state(&room, "m.room.member", &bob).ok();
        assert_eq!(member["membership"], "knock");
    }
}

#[test]
fn a_server_that_the_room_denies_leaves_and_knocks_nowhere() {
    let server = server();
    let alice = server.register("alice");
    let room = alice.create_public_room();
    let peer = Peer::start();
    let bob = peer.user("bob");
    let acl = json!({"allow": ["*"], "deny": ["127.0.0.1"]});
    alice.set_state(&room, "m.room.server_acl", "", acl);
    for what in ["make_leave", "make_knock"] {
        let (room, user) = (encode(&room), encode(&bob));
        let path = format!("/_matrix/federation/v1/{what}/{room}/{user}?ver=11&ver=12");
        peer.get(&server, &path).error(403, "M_FORBIDDEN");
    }
}
