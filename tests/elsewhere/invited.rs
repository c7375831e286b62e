//! Users of the server under test are invited from elsewhere.

use event::RoomVersion;
use serde_json::json;
use testkit::{Peer, PeerAnswer, PeerRoom, Server, User, encode, until};

use crate::{hosted, invite_path, of_type, send_invite, server};

fn invite(room: &PeerRoom, host: &str, user: &User) -> serde_json::Value {
    let content = json!({"membership": "invite"});
    room.event(host, "m.room.member", Some(&user.id), content)
}

/// The peer takes leavings.
fn take_leavings(peer: &Peer, room: &PeerRoom) {
    let leaver = room.clone();
    let version = room.version();
    peer.on(
        "GET",
        "/_matrix/federation/v1/make_leave/",
        move |request| {
            let user = request.segment(5);
            let content = json!({"membership": "leave"});
            let mut event = leaver.draft(&user, "m.room.member", Some(&user), content);
            for sealed in ["hashes", "signatures", "event_id"] {
                event.as_object_mut().unwrap().remove(sealed);
            }
            PeerAnswer::ok(json!({"room_version": version.as_str(), "event": event}))
        },
    );
    let taker = room.clone();
    peer.on(
        "PUT",
        "/_matrix/federation/v2/send_leave/",
        move |request| {
            taker.take(&request.json());
            PeerAnswer::ok(json!({}))
        },
    );
}

fn invited(version: RoomVersion) -> (Server, User, Peer, PeerRoom, String) {
    let server = server();
    let alice = server.register("alice");
    let (peer, room, host) = hosted(version);
    let event = invite(&room, &host, &alice);
    let answer = send_invite(&peer, &server, &room, &event).ok();
    let signatures = &answer["event"]["signatures"];
    assert!(signatures[server.name()].is_object(), "{answer}");
    assert_eq!(signatures[peer.name()], event["signatures"][peer.name()]);
    (server, alice, peer, room, host)
}

#[test]
fn an_invitation_is_signed_and_shown_in_every_kind_of_room() {
    for version in [RoomVersion::V2, RoomVersion::V11, RoomVersion::V12] {
        let (_server, alice, _peer, room, host) = invited(version);
        let sync = alice.sync(None, "");
        let shown = &sync.invited(&room.id())["invite_state"]["events"];
        assert_eq!(
            of_type(shown, "m.room.name")["content"]["name"],
            "Elsewhere"
        );
        let member = of_type(shown, "m.room.member");
        assert_eq!(member["sender"], host);
        assert_eq!(member["state_key"], alice.id);
        for event in shown.as_array().unwrap() {
            assert_eq!(event.as_object().unwrap().len(), 4, "{event}");
        }
        let joined = alice.get("/v3/joined_rooms").ok();
        assert_eq!(joined["joined_rooms"], json!([]));
        let state = format!("/v3/rooms/{}/state", encode(&room.id()));
        alice.get(&state).error(403, "M_FORBIDDEN");
    }
}

#[test]
fn a_waiting_sync_is_woken_by_an_invitation_and_told_once() {
    let server = server();
    let alice = server.register("alice");
    let mut follower = alice.follow_from_now();
    let (peer, room, host) = hosted(RoomVersion::V11);
    let event = invite(&room, &host, &alice);
    std::thread::scope(|scope| {
        scope.spawn(|| send_invite(&peer, &server, &room, &event).ok());
        follower.until("the invitation", |sync| {
            sync.invited(&room.id()).is_object().then_some(())
        });
    });
    let since = follower.since().unwrap().to_owned();
    send_invite(&peer, &server, &room, &event).ok();
    assert!(alice.sync(Some(&since), "").invited(&room.id()).is_null());
}

#[test]
fn the_first_version_of_the_request_is_taken_for_old_rooms() {
    let server = server();
    let alice = server.register("alice");
    let (peer, room, host) = hosted(RoomVersion::V1);
    let mut event = invite(&room, &host, &alice);
    let path = invite_path("v1", &room, &event);
    event["unsigned"] = json!({"invite_room_state": crate::described(&room)});
    let answer = peer.put(&server, &path, event).ok();
    assert_eq!(answer[0], 200);
    assert!(answer[1]["event"]["signatures"][server.name()].is_object());
    let sync = alice.sync(None, "");
    let shown = &sync.invited(&room.id())["invite_state"]["events"];
    assert_eq!(
        of_type(shown, "m.room.name")["content"]["name"],
        "Elsewhere"
    );
}

#[test]
fn nothing_but_an_invitation_of_an_own_user_by_a_user_of_the_asking_server_is_signed() {
    let server = server();
    let alice = server.register("alice");
    let (peer, room, host) = hosted(RoomVersion::V11);
    let other = Peer::start();
    let good = invite(&room, &host, &alice);
    let body = |event: &serde_json::Value, version: &str| json!({"room_version": version, "event": event, "invite_room_state": []});
    let path = invite_path("v2", &room, &good);
    let refused = |response: testkit::Response| response.error(400, "M_INVALID_PARAM");

    let mut unsigned = good.clone();
    unsigned["signatures"] = json!({});
    refused(peer.put(&server, &path, body(&unsigned, "11")));
    let mut changed = good.clone();
    changed["content"]["displayname"] = "Another".into();
    refused(peer.put(&server, &path, body(&changed, "11")));
    refused(other.put(&server, &path, body(&good, "11")));
    let elsewhere = format!("{}x", path);
    refused(peer.put(&server, &elsewhere, body(&good, "11")));

    let leave = room.draft(
        &host,
        "m.room.member",
        Some(&alice.id),
        json!({"membership": "leave"}),
    );
    refused(send_invite(&peer, &server, &room, &leave));
    let stranger = other.user("stranger");
    let content = json!({"membership": "invite"});
    let of_other = room.draft(&host, "m.room.member", Some(&stranger), content.clone());
    refused(send_invite(&peer, &server, &room, &of_other));

    let unknown = format!("@nobody:{}", server.name());
    let of_nobody = room.draft(&host, "m.room.member", Some(&unknown), content);
    send_invite(&peer, &server, &room, &of_nobody).error(404, "M_NOT_FOUND");

    let answer = peer.put(&server, &path, body(&good, "99"));
    let answer = answer.error(400, "M_INCOMPATIBLE_ROOM_VERSION");
    assert_eq!(answer["room_version"], "99");
    assert!(alice.sync(None, "").invited(&room.id()).is_null());
}

#[test]
fn in_the_newest_rooms_what_is_said_of_the_room_must_be_its_events() {
    let server = server();
    let alice = server.register("alice");
    let (peer, room, host) = hosted(RoomVersion::V12);
    let (_, other, _) = hosted(RoomVersion::V12);
    let event = invite(&room, &host, &alice);
    let path = invite_path("v2", &room, &event);
    let create = room.state("m.room.create", "").unwrap();
    let name = room.state("m.room.name", "").unwrap();
    let stripped = json!({
        "type": "m.room.name", "state_key": "", "sender": host, "content": {"name": "Elsewhere"},
    });
    for room_state in [
        json!([]),
        json!([name]),
        json!([create, stripped]),
        json!([create, other.state("m.room.name", "").unwrap()]),
        json!([other.state("m.room.create", "").unwrap()]),
    ] {
        let body = json!({"room_version": "12", "event": event, "invite_room_state": room_state});
        peer.put(&server, &path, body).error(400, "M_INVALID_PARAM");
    }
    send_invite(&peer, &server, &room, &event).ok();
}

#[test]
fn who_wants_no_invitations_gets_none_from_elsewhere() {
    let server = server();
    let alice = server.register("alice");
    let path = format!(
        "/v3/user/{}/account_data/m.invite_permission_config",
        encode(&alice.id)
    );
    alice.put(&path, json!({"default_action": "block"})).ok();
    let (peer, room, host) = hosted(RoomVersion::V11);
    let event = invite(&room, &host, &alice);
    send_invite(&peer, &server, &room, &event).error(403, "M_INVITE_BLOCKED");
}

#[test]
fn an_invitation_is_refused_by_way_of_who_sent_it_and_can_be_forgotten() {
    for version in [RoomVersion::V1, RoomVersion::V11, RoomVersion::V12] {
        let (_server, alice, peer, room, _) = invited(version);
        take_leavings(&peer, &room);
        let since = alice.sync(None, "").next_batch().to_owned();
        let leave = format!("/v3/rooms/{}/leave", encode(&room.id()));
        alice.post(&leave, json!({"reason": "No time"})).ok();
        let told = room.state("m.room.member", &alice.id).unwrap();
        assert_eq!(
            told["content"],
            json!({"membership": "leave", "reason": "No time"})
        );
        let sync = alice.sync(Some(&since), "");
        let event = &sync.left(&room.id())["timeline"]["events"][0];
        assert_eq!(event["content"]["membership"], "leave");
        assert_eq!(event["event_id"], room.event_id(&told));
        assert!(alice.sync(None, "").left(&room.id()).is_null());
        let archive = encode(r#"{"room":{"include_leave":true}}"#);
        let archived = alice.sync(None, &format!("&filter={archive}"));
        assert!(archived.left(&room.id()).is_object());
        alice.post(&leave, json!({})).error(403, "M_FORBIDDEN");
        let forget = format!("/v3/rooms/{}/forget", encode(&room.id()));
        alice.post(&forget, json!({})).ok();
        let archived = alice.sync(None, &format!("&filter={archive}"));
        assert!(archived.left(&room.id()).is_null());
    }
}

#[test]
fn an_invitation_is_refused_even_if_nobody_elsewhere_listens() {
    let (mut server, alice, mut peer, room, _) = invited(RoomVersion::V11);
    peer.go_away();
    let since = alice.sync(None, "").next_batch().to_owned();
    alice.leave(&room.id());
    let sync = alice.sync(Some(&since), "");
    let event = &sync.left(&room.id())["timeline"]["events"][0];
    assert_eq!(event["content"]["membership"], "leave");
    assert_eq!(event["sender"], alice.id);
    server.terminate();
    let check = server.run(&["db", "check"]);
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn only_who_invited_takes_the_invitation_back() {
    let (server, alice, peer, room, host) = invited(RoomVersion::V11);
    let second = peer.user("second");
    let join = json!({"membership": "join"});
    room.event(&second, "m.room.member", Some(&second), join);
    let leave = json!({"membership": "leave"});
    let by_second = room.draft(&second, "m.room.member", Some(&alice.id), leave.clone());
    peer.send(&server, &[by_second], &[]).ok();
    assert!(alice.sync(None, "").invited(&room.id()).is_object());
    let since = alice.sync(None, "").next_batch().to_owned();
    let by_host = room.event(&host, "m.room.member", Some(&alice.id), leave);
    peer.send(&server, std::slice::from_ref(&by_host), &[]).ok();
    let sync = until("the withdrawal", || {
        let sync = alice.sync(Some(&since), "");
        sync.left(&room.id()).is_object().then_some(sync)
    });
    let event = &sync.left(&room.id())["timeline"]["events"][0];
    assert_eq!(event["event_id"], room.event_id(&by_host));
    let again = invite(&room, &host, &alice);
    send_invite(&peer, &server, &room, &again).ok();
    assert!(alice.sync(None, "").invited(&room.id()).is_object());
}

#[test]
fn an_invitation_leads_into_the_room_and_ends_there() {
    let (_server, alice, _peer, room, _) = invited(RoomVersion::V11);
    alice.join(&room.id());
    let sync = alice.sync(None, "");
    assert!(sync.invited(&room.id()).is_null());
    assert!(sync.joined(&room.id()).is_object());
}

#[test]
fn sliding_sync_shows_the_invitation_and_its_end() {
    let (_server, alice, peer, room, _) = invited(RoomVersion::V11);
    let path = "/unstable/org.matrix.simplified_msc3575/sync?timeout=0";
    let lists = json!({"all": {
        "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [["m.room.member", "$ME"]],
    }});
    let first = alice.post(path, json!({"lists": lists})).ok();
    let shown = &first["rooms"][room.id()];
    assert_eq!(
        of_type(&shown["invite_state"], "m.room.name")["content"]["name"],
        "Elsewhere"
    );
    take_leavings(&peer, &room);
    alice.leave(&room.id());
    let pos = first["pos"].as_str().unwrap();
    let next = alice
        .post(&format!("{path}&pos={pos}"), json!({"lists": lists}))
        .ok();
    let shown = &next["rooms"][room.id()];
    assert_eq!(
        shown["timeline"][0]["content"]["membership"], "leave",
        "{next}"
    );
}
