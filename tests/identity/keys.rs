//! Keys: published, rotated, looked up for others.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

use event::signature::verify_object;
use event::{VerifyKey, canonical};
use serde_json::{Value, json};
use testkit::{Peer, PeerAnswer, Server};

use crate::{SIGNED, server};

const KEYS: &str = "/_matrix/key/v2/server";

/// What a server publishes, which has to be signed by all of its current keys.
#[track_caller]
fn published(server: &Server) -> Value {
    let keys = server.client().get(KEYS).ok();
    assert_eq!(keys["server_name"], server.name());
    assert!(is_signed(&keys, server.name(), &keys));
    keys
}

/// Whether `document` is signed by a server whose keys are in `keys`.
fn is_signed(document: &Value, server_name: &str, keys: &Value) -> bool {
    let text = String::from_utf8(canonical::to_bytes(document).expect("JSON")).expect("text");
    let find = |_: &str, key_id: &str| {
        VerifyKey::from_base64(keys["verify_keys"][key_id]["key"].as_str()?)
    };
    verify_object(&text, server_name, &find).is_ok()
}

fn only_key(keys: &Value) -> String {
    let keys = keys["verify_keys"].as_object().expect("keys");
    assert_eq!(keys.len(), 1);
    keys.keys().next().expect("one").clone()
}

#[test]
fn the_key_is_published_signed_and_good_for_more_than_an_hour() {
    let server = server("");
    let keys = published(&server);
    let valid_until = keys["valid_until_ts"].as_u64().expect("a time");
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    assert!(u128::from(valid_until) > now.as_millis() + 3_600_000);
    assert_eq!(keys["old_verify_keys"], json!({}));
    let client = server.client();
    let by_id = format!("{KEYS}/{}", testkit::encode(&only_key(&keys)));
    assert_eq!(client.get(&by_id).ok(), keys);
    let version = client.get("/_matrix/federation/v1/version").ok();
    assert_eq!(version["server"]["name"], "Meyrin");
}

#[test]
fn a_rotated_key_is_published_as_an_old_one_and_a_running_server_keeps_its_own() {
    let mut server = server("");
    let before = published(&server);
    assert!(!server.run(&["key", "rotate"]).status.success());
    assert!(server.terminate().success());
    let rotated = server.run(&["key", "rotate"]);
    assert!(rotated.status.success());
    server.start_again();
    let after = published(&server);
    let (old, new) = (only_key(&before), only_key(&after));
    assert_ne!(old, new);
    assert_eq!(String::from_utf8_lossy(&rotated.stdout).trim(), new);
    assert_eq!(
        after["old_verify_keys"][&old]["key"],
        before["verify_keys"][&old]["key"]
    );
    assert!(after["old_verify_keys"][&old]["expired_ts"].as_u64() > Some(0));
}

#[test]
fn keys_of_others_are_given_with_a_signature_also_while_they_are_away() {
    let (server, mut peer) = (server(""), Peer::start());
    let own = published(&server);
    let client = server.client();
    let one = || {
        client
            .get(&format!("/_matrix/key/v2/query/{}", peer.name()))
            .ok()
    };
    let first = one();
    let document = &first["server_keys"][0];
    assert_eq!(document["server_name"], peer.name());
    assert!(is_signed(document, peer.name(), document));
    assert!(is_signed(document, server.name(), &own));
    let name = peer.name().to_owned();
    peer.go_away();
    let many = json!({"server_keys": {
        (name): {(peer.key().key_id()): {"minimum_valid_until_ts": 1000}},
        (server.name()): {},
        "127.0.0.1:1": {},
    }});
    let answer = client.post("/_matrix/key/v2/query", many).ok();
    let documents = answer["server_keys"].as_array().expect("a list");
    assert_eq!(documents.len(), 2, "{answer}");
    assert!(
        documents
            .iter()
            .all(|document| is_signed(document, server.name(), &own))
    );
    let unknown = client.get("/_matrix/key/v2/query/127.0.0.1:1").ok();
    assert_eq!(unknown, json!({"server_keys": []}));
    client
        .get("/_matrix/key/v2/query/no%20name")
        .error(400, "M_INVALID_PARAM");
}

/// A peer that does not tell its keys, and what it would have told.
fn silent() -> (Peer, Value) {
    let peer = Peer::start();
    peer.on("GET", KEYS, |_| PeerAnswer::error(500, "M_UNKNOWN"));
    let key = peer.key().verify_key().to_base64();
    let mut document = json!({
        "server_name": peer.name(), "valid_until_ts": 1u64 << 52, "old_verify_keys": {},
        "verify_keys": {(peer.key().key_id()): {"key": key}},
    });
    peer.key().sign_value(&mut document).expect("an object");
    (peer, document)
}

/// A notary that answers every query with one document.
fn notary(document: Value) -> Peer {
    let notary = Peer::start();
    notary.on("POST", "/_matrix/key/v2/query", move |_| {
        PeerAnswer::ok(json!({"server_keys": [document]}))
    });
    notary
}

#[test]
fn a_trusted_notary_is_asked_for_the_keys_of_a_server_that_is_silent() {
    let (peer, mut document) = silent();
    let notary = Peer::start();
    notary.key().sign_value(&mut document).expect("an object");
    notary.on("POST", "/_matrix/key/v2/query", move |_| {
        PeerAnswer::ok(json!({"server_keys": [document]}))
    });
    let server = server(&format!("trusted_key_servers = [\"{}\"]", notary.name()));
    peer.get(&server, SIGNED).ok();
    peer.get(&server, SIGNED).ok();
    let asked = notary.requests("/_matrix/key/v2/query");
    assert_eq!(asked.len(), 1);
    let criteria = &asked[0].json()["server_keys"][peer.name()][peer.key().key_id()];
    assert!(criteria["minimum_valid_until_ts"].is_u64());
}

#[test]
fn a_notary_is_believed_only_with_its_signature_and_that_of_the_server() {
    let (peer, unsigned_by_notary) = silent();
    let notary = notary(unsigned_by_notary);
    let with_one = server(&format!("trusted_key_servers = [\"{}\"]", notary.name()));
    peer.get(&with_one, SIGNED).error(401, "M_UNAUTHORIZED");

    let (peer, mut forged) = silent();
    let other = Peer::start();
    // Its own key in the place of the server's, which therefore did not sign.
    forged["verify_keys"] = json!({"ed25519:x": {"key": other.key().verify_key().to_base64()}});
    other.key().sign_value(&mut forged).expect("an object");
    other.on("POST", "/_matrix/key/v2/query", move |_| {
        PeerAnswer::ok(json!({"server_keys": [forged]}))
    });
    let with_other = server(&format!("trusted_key_servers = [\"{}\"]", other.name()));
    peer.get(&with_other, SIGNED).error(401, "M_UNAUTHORIZED");
}
