//! The homeserver that tests play is one: it speaks HTTP over TLS, and its rooms follow the rules.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use event::signature::{Integrity, verify_event, verify_object};
use event::{EventIdFormat, Pdu, RoomVersion, VerifyKey, canonical, hash_and_sign};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use testkit::{Peer, PeerRoom, authority, encode};

/// Asks a peer over TLS, trusting the authority alone.
fn ask(peer: &Peer, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(authority().pem().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(peer.name()).unwrap());
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // The connection is kept open, so the body ends where it has its length.
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return (head[9..12].parse().unwrap(), body);
        }
        assert!(count > 0, "the answer ends early: {text}");
    }
}

#[test]
fn a_peer_publishes_its_key_and_goes_away_and_comes_back() {
    let mut peer = Peer::start();
    let (status, keys) = ask(&peer, "GET", "/_matrix/key/v2/server", "");
    assert_eq!((status, &keys["server_name"]), (200, &json!(peer.name())));
    let key = keys["verify_keys"][peer.key().key_id()]["key"].as_str();
    let key = VerifyKey::from_base64(key.unwrap()).unwrap();
    let text = String::from_utf8(canonical::to_bytes(&keys).unwrap()).unwrap();
    let of = |server: &str, id: &str| {
        (server == peer.name() && id == peer.key().key_id()).then_some(key)
    };
    verify_object(&text, peer.name(), &of).unwrap();
    let name = peer.name().to_owned();
    peer.go_away();
    assert!(TcpStream::connect(&name).is_err());
    peer.come_back();
    assert_eq!(ask(&peer, "GET", "/nothing", "").0, 404);
    assert_eq!(peer.requests("/nothing").len(), 1);
}

#[test]
fn a_room_of_a_peer_can_be_joined_and_read_in_every_version() {
    let peer = Peer::start();
    for version in RoomVersion::ALL {
        let rules = version.rules();
        let room = PeerRoom::create(&peer, version, &peer.user("alice"));
        let said = room.event_id(&room.say(&peer.user("alice"), "hello"));
        let other = Peer::start();
        let path = |name: &str, last: &str| {
            format!("/_matrix/federation/{name}/{}/{last}", encode(&room.id()))
        };
        let user = other.user("bob");
        let (_, made) = ask(&peer, "GET", &path("v1/make_join", &encode(&user)), "");
        assert_eq!(made["room_version"], version.as_str());
        let mut template = made["event"].clone();
        assert_eq!(template["depth"], 7);
        if rules.event_id == EventIdFormat::Chosen {
            template["event_id"] = format!("$join:{}", other.name()).into();
        }
        let join = hash_and_sign(rules, &template.to_string(), other.key()).unwrap();
        let (_, sent) = ask(&peer, "PUT", &path("v2/send_join", "$x"), &join);
        assert_eq!(sent["state"].as_array().map(Vec::len), Some(5), "{sent}");
        let keys = |server: &str, _: &str| match server == peer.name() {
            true => Some(peer.key().verify_key()),
            false => Some(other.key().verify_key()),
        };
        let all = ["state", "auth_chain"].map(|part| sent[part].as_array().unwrap());
        for event in all.into_iter().flatten().chain([&sent["event"]]) {
            let pdu = Pdu::from_federation(rules, event.to_string().as_bytes()).unwrap();
            let integrity = verify_event(rules, &pdu, &keys);
            assert_eq!(integrity, Ok(Integrity::Whole), "{event}");
        }
        let before = format!("?event_id={}", encode(&said));
        let ids = path("v1/state_ids", &before).replace("/?", "?");
        let (_, state) = ask(&peer, "GET", &ids, "");
        assert_eq!(
            state["pdu_ids"].as_array().map(Vec::len),
            Some(5),
            "{state}"
        );
    }
}
