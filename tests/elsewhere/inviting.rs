//! Users of the server under test invite users of another.

use event::{RoomVersion, add_signature};
use serde_json::{Value, json};
use testkit::{Peer, PeerAnswer, PeerRoom, User, encode};

use crate::{of_type, server};

/// The peer signs every invitation.
fn sign_invitations(peer: &Peer) {
    let key = peer.key().clone();
    peer.on("PUT", "/_matrix/federation/v2/invite/", move |request| {
        let body = request.json();
        let version: RoomVersion = body["room_version"].as_str().unwrap().parse().unwrap();
        let text = body["event"].to_string();
        let event = event::canonical::from_text(&text, version.rules().numbers).unwrap();
        let signed = add_signature(version.rules(), &event, &key).unwrap();
        let signed: Value = serde_json::from_str(&signed).unwrap();
        PeerAnswer::ok(json!({"event": signed}))
    });
}

fn invite(user: &User, room: &str, target: &str) -> testkit::Response {
    let path = format!("/v3/rooms/{}/invite", encode(room));
    user.post(&path, json!({"user_id": target, "reason": "Come"}))
}

#[test]
fn an_invitation_enters_the_room_when_the_other_server_has_signed_it() {
    for version in ["2", "6", "11", "12"] {
        let server = server();
        let alice = server.register("alice");
        let peer = Peer::start();
        sign_invitations(&peer);
        let room = alice.create_room(
            json!({"preset": "private_chat", "name": "Here", "room_version": version}),
        );
        let bob = peer.user("bob");
        invite(&alice, &room, &bob).ok();
        let member = alice.state(&room, "m.room.member", &bob).ok();
        assert_eq!(member, json!({"membership": "invite", "reason": "Come"}));
        let request = peer.requests("/_matrix/federation/v2/invite/").remove(0);
        let body = request.json();
        assert_eq!(body["room_version"], version);
        let described = &body["invite_room_state"];
        for event_type in [
            "m.room.create",
            "m.room.join_rules",
            "m.room.name",
            "m.room.member",
        ] {
            let event = of_type(described, event_type);
            assert!(
                event["signatures"].is_object(),
                "{event_type} is whole: {event}"
            );
        }
        // Once more is the same.
        invite(&alice, &room, &bob).ok();
        assert_eq!(peer.requests("/_matrix/federation/v2/invite/").len(), 1);
        let joined = PeerRoom::join(&peer, &server, &room, &bob);
        let invite = joined.state("m.room.member", &bob);
        assert_eq!(invite.unwrap()["content"]["membership"], "join");
    }
}

#[test]
fn what_the_other_server_refuses_is_refused_and_does_not_enter_the_room() {
    let server = server();
    let alice = server.register("alice");
    let mut peer = Peer::start();
    let room = alice.create_room(json!({"preset": "private_chat"}));
    let bob = peer.user("bob");
    let path = "/_matrix/federation/v2/invite/";
    peer.on("PUT", path, |_| PeerAnswer::error(403, "M_FORBIDDEN"));
    invite(&alice, &room, &bob).error(403, "M_FORBIDDEN");
    peer.on("PUT", path, |_| PeerAnswer::error(403, "M_INVITE_BLOCKED"));
    invite(&alice, &room, &bob).error(403, "M_INVITE_BLOCKED");
    // What speaks of something else than this is not passed on.
    for (status, errcode) in [
        (400, "M_INVALID_PARAM"),
        (403, "M_UNKNOWN_TOKEN"),
        (500, "M_UNKNOWN"),
    ] {
        peer.on("PUT", path, move |_| PeerAnswer::error(status, errcode));
        invite(&alice, &room, &bob).error(502, "M_UNKNOWN");
    }
    // Another event than the one that was sent, and the one that was sent without a signature.
    peer.on("PUT", path, |request| {
        let mut event = request.json()["event"].clone();
        event["content"]["displayname"] = "Somebody".into();
        PeerAnswer::ok(json!({"event": event}))
    });
    invite(&alice, &room, &bob).error(502, "M_UNKNOWN");
    peer.on("PUT", path, |request| {
        PeerAnswer::ok(json!({"event": request.json()["event"]}))
    });
    invite(&alice, &room, &bob).error(502, "M_UNKNOWN");
    peer.go_away();
    invite(&alice, &room, &bob).error(502, "M_UNKNOWN");
    alice
        .state(&room, "m.room.member", &bob)
        .error(404, "M_NOT_FOUND");
}

#[test]
fn a_room_is_made_with_those_who_could_be_invited() {
    let server = server();
    let (alice, carol) = (server.register("alice"), server.register("carol"));
    let (peer, mut away) = (Peer::start(), Peer::start());
    sign_invitations(&peer);
    let gone = away.user("gone");
    away.go_away();
    let bob = peer.user("bob");
    let room = alice.create_room(json!({
        "preset": "trusted_private_chat", "is_direct": true, "invite": [bob, carol.id, gone],
    }));
    let member = alice.state(&room, "m.room.member", &bob).ok();
    assert_eq!(member, json!({"membership": "invite", "is_direct": true}));
    assert!(carol.sync(None, "").invited(&room).is_object());
    let missing = alice.state(&room, "m.room.member", &gone);
    missing.error(404, "M_NOT_FOUND");
}
