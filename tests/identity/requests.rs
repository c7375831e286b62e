//! Signed requests of other servers.
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use testkit::Peer;

use crate::{SIGNED, server};

const KEYS: &str = "/_matrix/key/v2/server";

#[test]
fn a_signed_request_is_taken_and_the_key_asked_for_once_by_many_at_a_time() {
    let (server, peer) = (server(""), Peer::start());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| peer.get(&server, SIGNED).ok());
        }
    });
    assert_eq!(peer.requests(KEYS).len(), 1);
}

#[test]
fn a_request_that_is_not_signed_or_for_another_target_or_server_is_refused() {
    let (server, peer) = (server(""), Peer::start());
    let client = server.client();
    client.get(SIGNED).error(401, "M_UNAUTHORIZED");
    let ask = |path: &str, authorization: &str| {
        peer.request_as(&client, "GET", path, None, authorization)
    };
    let good = peer.authorization(server.name(), "GET", SIGNED, None);
    ask(SIGNED, &good).ok();
    let other_target = format!("{SIGNED}&since=x");
    ask(&other_target, &good).error(401, "M_UNAUTHORIZED");
    let other_method = peer.authorization(server.name(), "PUT", SIGNED, None);
    ask(SIGNED, &other_method).error(401, "M_UNAUTHORIZED");
    let other_server = peer.authorization("else.example", "GET", SIGNED, None);
    ask(SIGNED, &other_server).error(401, "M_UNAUTHORIZED");
    let stranger = Peer::start();
    let of_another = good.replace(peer.name(), stranger.name());
    ask(SIGNED, &of_another).error(401, "M_UNAUTHORIZED");
    for broken in ["Bearer secret", "X-Matrix", "X-Matrix origin=a.example"] {
        ask(SIGNED, broken).error(401, "M_UNAUTHORIZED");
    }
}

#[test]
fn old_forms_of_the_header_are_understood() {
    let (server, peer) = (server(""), Peer::start());
    let client = server.client();
    let good = peer.authorization(server.name(), "GET", SIGNED, None);
    let destination = format!("destination=\"{}\",", server.name());
    for form in [
        good.replace('"', ""),
        good.replace(&destination, ""),
        good.replace("X-Matrix ", "x-matrix   ").replace(',', " , "),
        good.replace("origin=", "Origin=") + ",unknown=1",
    ] {
        let answer = peer.request_as(&client, "GET", SIGNED, None, &form);
        assert_eq!(answer.status, 200, "{form}");
    }
}

#[test]
fn a_server_whose_keys_can_not_be_had_is_refused() {
    let (server, mut peer) = (server(""), Peer::start());
    peer.go_away();
    peer.get(&server, SIGNED).error(401, "M_UNAUTHORIZED");
}

#[test]
fn denied_servers_are_refused_and_a_closed_federation_knows_nobody() {
    let peer = Peer::start();
    let denying = server("deny = [\"127.0.0.*\"]");
    peer.get(&denying, SIGNED).error(403, "M_FORBIDDEN");
    let closed = server("allow = [\"*.partner.example\"]");
    peer.get(&closed, SIGNED).error(403, "M_FORBIDDEN");
    assert!(peer.requests(KEYS).is_empty(), "nobody asked for its keys");
    let open = server(&format!("allow = [\"{}\"]", peer.name()));
    peer.get(&open, SIGNED).ok();
}

#[test]
fn a_partner_sees_only_the_users_that_are_for_it() {
    let partner = "\n[[federation.partner]]\nservers = [\"127.0.0.1\"]\nusers = [\"@guide*\"]\n";
    let (server, peer) = (server(partner), Peer::start());
    let profile = |name: &str| {
        let user = server.register(name);
        let path = "/_matrix/federation/v1/query/profile?user_id=";
        peer.get(&server, &format!("{path}{}", testkit::encode(&user.id)))
    };
    profile("guide").ok();
    profile("boss").error(403, "M_FORBIDDEN");
}
