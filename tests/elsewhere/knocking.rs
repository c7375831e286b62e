//! Users of the server under test knock on rooms of another.

use event::RoomVersion;
use serde_json::{Value, json};
use testkit::{Peer, PeerAnswer, PeerRoom, encode, until};

use crate::{hosted, of_type, send_invite, server};

/// The peer hears knocks.
fn hear_knocks(peer: &Peer, room: &PeerRoom) {
    let maker = room.clone();
    let version = room.version();
    peer.on(
        "GET",
        "/_matrix/federation/v1/make_knock/",
        move |request| {
            let user = request.segment(5);
            let content = json!({"membership": "knock"});
            let mut event = maker.draft(&user, "m.room.member", Some(&user), content);
            for sealed in ["hashes", "signatures", "event_id"] {
                event.as_object_mut().unwrap().remove(sealed);
            }
            event["unsigned"] = json!({"said": "by a stranger"});
            event["more"] = json!("by a stranger");
            PeerAnswer::ok(json!({"room_version": version.as_str(), "event": event}))
        },
    );
    let taker = room.clone();
    let described = crate::described(room);
    peer.on(
        "PUT",
        "/_matrix/federation/v1/send_knock/",
        move |request| {
            taker.take(&request.json());
            PeerAnswer::ok(json!({"knock_room_state": described}))
        },
    );
}

fn shown<'a>(sync: &'a testkit::SyncAnswer, room: &str) -> &'a Value {
    &sync.0["rooms"]["knock"][room]["knock_state"]["events"]
}

#[test]
fn a_knock_is_heard_elsewhere_and_shown_with_what_the_room_is() {
    for version in [RoomVersion::V7, RoomVersion::V12] {
        let server = server();
        let alice = server.register("alice");
        let (peer, room, host) = hosted(version);
        hear_knocks(&peer, &room);
        let path = format!(
            "/v3/knock/{}?via={}",
            encode(&room.id()),
            encode(peer.name())
        );
        let answer = alice.post(&path, json!({"reason": "Please"})).ok();
        assert_eq!(answer["room_id"], room.id());
        let told = room.state("m.room.member", &alice.id).unwrap();
        assert_eq!(told["content"]["membership"], "knock");
        assert_eq!(told["content"]["reason"], "Please");
        assert!(told["more"].is_null(), "{told}");
        let sync = alice.sync(None, "");
        let events = shown(&sync, &room.id());
        assert_eq!(
            of_type(events, "m.room.name")["content"]["name"],
            "Elsewhere"
        );
        assert_eq!(
            of_type(events, "m.room.member")["content"]["membership"],
            "knock"
        );
        // Somebody of that server says no.
        let leave = json!({"membership": "leave"});
        let refusal = room.event(&host, "m.room.member", Some(&alice.id), leave);
        peer.send(&server, &[refusal], &[]).ok();
        until("the refusal", || {
            alice
                .sync(Some(sync.next_batch()), "")
                .left(&room.id())
                .is_object()
                .then_some(())
        });
        // And yes, the next time.
        alice.post(&path, json!({})).ok();
        let invite = json!({"membership": "invite"});
        let invite = room.event(&host, "m.room.member", Some(&alice.id), invite);
        send_invite(&peer, &server, &room, &invite).ok();
        let sync = alice.sync(None, "");
        assert!(sync.invited(&room.id()).is_object());
        assert!(shown(&sync, &room.id()).is_null());
        alice.post(&path, json!({})).error(403, "M_FORBIDDEN");
    }
}

#[test]
fn a_knock_that_nobody_hears_is_refused_in_the_words_of_who_could_have() {
    let server = server();
    let alice = server.register("alice");
    let (peer, room, _) = hosted(RoomVersion::V11);
    let path = |via: &str| format!("/v3/knock/{}?server_name={via}", encode(&room.id()));
    peer.on("GET", "/_matrix/federation/v1/make_knock/", |_| {
        PeerAnswer::error(403, "M_FORBIDDEN")
    });
    alice
        .post(&path(peer.name()), json!({}))
        .error(403, "M_FORBIDDEN");
    let path = format!("/v3/knock/{}", encode("!unknownroom"));
    alice.post(&path, json!({})).error(404, "M_NOT_FOUND");
    assert!(shown(&alice.sync(None, ""), &room.id()).is_null());
}
