//! Profiles of users, and proofs of who they are.

use serde_json::json;
use testkit::{Peer, PeerAnswer, User, encode};

use crate::{Scene, server};

const PROFILE: &str = "/_matrix/federation/v1/query/profile";

#[test]
fn profiles_of_users_here_are_shown_whole_or_by_field() {
    let (server, peer) = (server(), Peer::start());
    let alice = server.register("alice");
    let id = encode(&alice.id);
    for (field, value) in [
        ("displayname", json!("Alice")),
        ("org.example.job", json!({"title": "Owl"})),
    ] {
        alice
            .put(&format!("/v3/profile/{id}/{field}"), json!({field: value}))
            .ok();
    }
    let ask = |query: &str| peer.get(&server, &format!("{PROFILE}?{query}"));
    let whole = ask(&format!("user_id={id}")).ok();
    assert_eq!(
        whole,
        json!({"displayname": "Alice", "org.example.job": {"title": "Owl"}})
    );
    let field = |field: &str| ask(&format!("user_id={id}&field={field}"));
    assert_eq!(field("displayname").ok(), json!({"displayname": "Alice"}));
    assert_eq!(
        field("org.example.job").ok(),
        json!({"org.example.job": {"title": "Owl"}})
    );
    assert_eq!(field("avatar_url").ok(), json!({"avatar_url": null}));
    field("m.tz").error(404, "M_NOT_FOUND");
    let nobody = encode(&format!("@nobody:{}", server.name()));
    ask(&format!("user_id={nobody}")).error(404, "M_NOT_FOUND");
    for foreign in ["@user1:localhost:http".to_owned(), peer.user("bob")] {
        ask(&format!("user_id={}", encode(&foreign))).error(400, "M_INVALID_PARAM");
    }
}

#[test]
fn profiles_of_users_elsewhere_are_asked_for_and_remembered_for_a_while() {
    let (server, mut peer) = (server(), Peer::start());
    let alice = server.register("alice");
    let bob = peer.user("bob");
    let known = bob.clone();
    peer.on("GET", PROFILE, move |request| {
        match request.query("user_id") {
            ids if ids == [known.clone()] => {
                PeerAnswer::ok(json!({"displayname": "Bob", "avatar_url": null}))
            }
            _ => PeerAnswer::error(404, "M_NOT_FOUND"),
        }
    });
    let path = format!("/v3/profile/{}", encode(&bob));
    assert_eq!(
        server.client().get(&path).ok(),
        json!({"displayname": "Bob"})
    );
    assert_eq!(
        alice.get(&format!("{path}/displayname")).ok(),
        json!({"displayname": "Bob"})
    );
    alice
        .get(&format!("{path}/avatar_url"))
        .error(404, "M_NOT_FOUND");
    assert_eq!(peer.requests(PROFILE).len(), 1);
    let nobody = format!("/v3/profile/{}", encode(&peer.user("nobody")));
    alice.get(&nobody).error(404, "M_NOT_FOUND");
    peer.go_away();
    assert_eq!(alice.get(&path).ok(), json!({"displayname": "Bob"}));
    let unknown = format!("/v3/profile/{}", encode(&peer.user("carol")));
    assert_eq!(alice.get(&unknown).status, 502);
}

#[test]
fn a_token_tells_a_service_who_somebody_is() {
    let server = server();
    let alice = server.register("alice");
    let path = format!("/v3/user/{}/openid/request_token", encode(&alice.id));
    let token = alice.post(&path, json!({})).ok();
    let token = token["access_token"].as_str().unwrap().to_owned();
    let ask = |query: &str| {
        let path = format!("/_matrix/federation/v1/openid/userinfo{query}");
        server.client().get(&path)
    };
    let told = ask(&format!("?access_token={}", encode(&token))).ok();
    assert_eq!(told, json!({"sub": alice.id}));
    ask("?access_token=other").error(401, "M_UNKNOWN_TOKEN");
    ask("").error(401, "M_MISSING_TOKEN");
}

#[test]
fn who_shares_a_room_finds_users_of_other_servers() {
    let scene = Scene::with(json!({"preset": "public_chat"}));
    let bob = scene.peer.user("bob");
    let named = json!({"membership": "join", "displayname": "Robert Owl"});
    let member = scene.joined.event(&bob, "m.room.member", Some(&bob), named);
    scene.peer.send(&scene.server, &[member], &[]).ok();
    let carol = scene.server.register("carol");
    let search = |user: &User, term: &str| {
        let body = json!({"search_term": term, "limit": 10});
        user.post("/v3/user_directory/search", body).ok()["results"].clone()
    };
    for term in ["bo", "OWL rob", &bob] {
        let found = search(&scene.alice, term);
        let expected = json!([{"user_id": bob, "display_name": "Robert Owl"}]);
        assert_eq!(found, expected, "{term}");
        assert_eq!(search(&carol, term), json!([]), "{term}");
    }
    assert_eq!(search(&scene.alice, "nobody"), json!([]));
}
