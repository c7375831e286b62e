//! Events go to the servers that they concern, in the order of their room.

use serde_json::json;
use testkit::{Peer, PeerRoom};

use crate::{hears, shared, texts};

#[test]
fn messages_come_to_the_servers_of_a_room_in_their_order() {
    let all = shared();
    let second = Peer::start();
    PeerRoom::join(&second, &all.server, &all.room, &second.user("otto"));
    let sent: Vec<String> = (0..120).map(|n| format!("Message {n}")).collect();
    for text in &sent {
        all.user.say(&all.room, text);
    }
    for peer in [&all.peer, &second] {
        hears(peer, "Message 119");
        assert_eq!(texts(peer), sent);
    }
    for request in all.peer.requests("/_matrix/federation/v1/send/") {
        let body = request.json();
        assert_eq!(body["origin"], all.server.name());
        assert!(body["origin_server_ts"].is_u64());
        assert!(body["pdus"].as_array().unwrap().len() <= 50);
    }
    // A join that came in by this server goes on to the others, and not back.
    let joined = second.user("otto");
    all.peer
        .pdu("Otto's join", |pdu| pdu["state_key"] == joined.as_str());
    let back = second.pdus().into_iter();
    assert_eq!(
        back.filter(|pdu| pdu["state_key"] == joined.as_str())
            .count(),
        0
    );
}

#[test]
fn a_room_without_other_servers_is_nobodys_business() {
    let all = shared();
    let own = all.user.create_public_room();
    all.user.say(&own, "To myself");
    all.user.say(&all.room, "To all");
    hears(&all.peer, "To all");
    assert_eq!(texts(&all.peer), ["To all"]);
}

#[test]
fn a_server_hears_of_the_kick_of_its_last_user_and_of_nothing_after() {
    let all = shared();
    let kick = json!({"user_id": all.other, "reason": "Enough"});
    let path = format!("/v3/rooms/{}/kick", testkit::encode(&all.room));
    all.user.post(&path, kick).ok();
    all.peer.pdu("the kick", |pdu| {
        pdu["state_key"] == all.other.as_str() && pdu["content"]["membership"] == "leave"
    });
    all.user.say(&all.room, "Behind the back");
    let again = all.peer.user("oskar");
    PeerRoom::join(&all.peer, &all.server, &all.room, &again);
    all.user.say(&all.room, "Welcome");
    hears(&all.peer, "Welcome");
    assert!(!texts(&all.peer).contains(&"Behind the back".to_owned()));
}

#[test]
fn an_event_between_the_template_of_a_join_and_the_join_is_not_lost() {
    let all = shared();
    let peer = Peer::start();
    let user = peer.user("otto");
    let path = format!(
        "/_matrix/federation/v1/make_join/{}/{}?ver=10&ver=11&ver=12",
        testkit::encode(&all.room),
        testkit::encode(&user)
    );
    let template = peer.get(&all.server, &path).ok();
    all.user.say(&all.room, "In between");
    let version = template["room_version"].as_str().unwrap().parse();
    let version: event::RoomVersion = version.unwrap();
    let rules = version.rules();
    let join = event::hash_and_sign(rules, &template["event"].to_string(), peer.key()).unwrap();
    let pdu = event::Pdu::from_federation(rules, join.as_bytes()).unwrap();
    let path = format!(
        "/_matrix/federation/v2/send_join/{}/{}",
        testkit::encode(&all.room),
        testkit::encode(pdu.event_id().as_str())
    );
    let join = serde_json::from_str(&join).unwrap();
    peer.put(&all.server, &path, join).ok();
    hears(&peer, "In between");
}
