//! Invitations of e-mail addresses: <https://spec.matrix.org/v1.19/client-server-api/#third-party-invites>. The identity
//! server is a peer of the test that answers nothing else.

use event::{SigningKey, add_signature};
use serde_json::{Value, json};
use testkit::{Peer, PeerAnswer, PeerRoom, Response, Server, ServerOptions, User, encode};

use crate::of_type;

const LOOKUP: &str = "/_matrix/identity/v2/lookup";
const STORE: &str = "/_matrix/identity/v2/store-invite";
const HASH_DETAILS: &str = "/_matrix/identity/v2/hash_details";
const IS_VALID: &str = "/_matrix/identity/v2/pubkey/isvalid";
const TOKEN: &str = "some.token";

/// The hash of `bob@example.com` with the pepper of the specification's example.
const BOB: &str = "LJwSazmv46n0hlMlsb_iYxI0_HXEqy_yj6Jm636cdT8";

struct Scene {
    server: Server,
    identity: Peer,
    alice: User,
    room: String,
}

impl Scene {
    /// With an identity server that knows no address.
    fn new() -> Self {
        let mut options = ServerOptions::new(env!("CARGO_BIN_EXE_meyrin")).federated();
        options.more = "[identity_servers]\nallowed = [\"127.0.0.1\"]\n".to_owned();
        let server = Server::start(options);
        let identity = Peer::start();
        let details = json!({"lookup_pepper": "matrixrocks", "algorithms": ["none", "sha256"]});
        identity.on("GET", HASH_DETAILS, move |_| {
            PeerAnswer::ok(details.clone())
        });
        let key = identity.key().verify_key().to_base64();
        let url = format!("https://{}{IS_VALID}", identity.name());
        let stored = json!({
            "token": TOKEN, "display_name": "b...@e...",
            "public_keys": [{"public_key": key, "key_validity_url": url}],
        });
        identity.on("POST", STORE, move |_| PeerAnswer::ok(stored.clone()));
        identity.on("GET", IS_VALID, |_| PeerAnswer::ok(json!({"valid": true})));
        let alice = server.register("alice");
        let room = alice.create_room(json!({"preset": "private_chat", "name": "Here"}));
        let scene = Self {
            server,
            identity,
            alice,
            room,
        };
        scene.belongs_to(None);
        scene
    }

    /// Whose address it is.
    fn belongs_to(&self, user_id: Option<&str>) {
        let mappings = match user_id {
            Some(user_id) => json!({BOB: user_id}),
            None => json!({}),
        };
        self.identity.on("POST", LOOKUP, move |_| {
            PeerAnswer::ok(json!({"mappings": mappings}))
        });
    }

    fn address(&self) -> Value {
        json!({
            "id_server": self.identity.name(), "id_access_token": "secret",
            "medium": "email", "address": "Bob@Example.com",
        })
    }

    fn invite(&self, address: Value) -> Response {
        let path = format!("/v3/rooms/{}/invite", encode(&self.room));
        self.alice.post(&path, address)
    }

    fn member(&self, user_id: &str) -> Response {
        self.alice.state(&self.room, "m.room.member", user_id)
    }

    /// The identity server's word that the address belongs to a user.
    fn proof(&self, user_id: &str) -> Value {
        let mut proof = json!({"mxid": user_id, "token": TOKEN});
        self.identity.key().sign_value(&mut proof).unwrap();
        proof
    }

    /// The identity server tells the server under test of it.
    fn bind(&self, user_id: &str) {
        let invite = json!({
            "medium": "email", "address": "bob@example.com", "mxid": user_id,
            "room_id": self.room, "sender": self.alice.id, "signed": self.proof(user_id),
        });
        let binding = json!({
            "medium": "email", "address": "bob@example.com", "mxid": user_id, "invites": [invite],
        });
        let path = "/_matrix/federation/v1/3pid/onbind";
        self.server.client().put(path, binding).ok();
    }
}

#[test]
fn an_address_that_nobody_has_is_invited_and_whoever_proves_to_have_it_later_is() {
    let scene = Scene::new();
    let bert = scene.server.register("bert");
    scene.invite(scene.address()).ok();
    let offer = scene
        .alice
        .state(&scene.room, "m.room.third_party_invite", TOKEN)
        .ok();
    let key = scene.identity.key().verify_key().to_base64();
    assert_eq!(offer["display_name"], "b...@e...");
    assert_eq!(offer["public_key"], key.as_str());
    assert_eq!(offer["public_keys"][0]["public_key"], key.as_str());

    // In clear the address is only where it has to be.
    let asked = scene.identity.requests(LOOKUP).remove(0);
    let wanted = json!({"addresses": [BOB], "algorithm": "sha256", "pepper": "matrixrocks"});
    assert_eq!(asked.json(), wanted);
    assert_eq!(asked.header("authorization"), Some("Bearer secret"));
    let stored = scene.identity.requests(STORE).remove(0).json();
    assert_eq!(stored["address"], "bob@example.com");
    assert_eq!(stored["room_id"], scene.room.as_str());
    assert_eq!(stored["sender"], scene.alice.id.as_str());
    assert_eq!(stored["room_name"], "Here");
    assert_eq!(stored["room_join_rules"], "invite");

    // The key was withdrawn: nobody comes in by it.
    let no = json!({"valid": false});
    scene
        .identity
        .on("GET", IS_VALID, move |_| PeerAnswer::ok(no.clone()));
    scene.bind(&bert.id);
    scene.member(&bert.id).error(404, "M_NOT_FOUND");
    scene
        .identity
        .on("GET", IS_VALID, |_| PeerAnswer::ok(json!({"valid": true})));
    scene.bind(&bert.id);
    let member = scene.member(&bert.id).ok();
    assert_eq!(member["membership"], "invite");
    assert_eq!(member["third_party_invite"]["signed"]["mxid"], bert.id);
    let checked = scene.identity.requests(IS_VALID).remove(1);
    assert_eq!(checked.query("public_key"), [key]);
    bert.join(&scene.room);
}

#[test]
fn a_user_of_another_server_who_proves_to_have_the_address_is_invited_by_exchange() {
    let scene = Scene::new();
    scene.invite(scene.address()).ok();
    let peer = Peer::start();
    sign_invitations(&peer);
    let bob = peer.user("bob");
    let event = json!({
        "type": "m.room.member", "room_id": scene.room, "sender": scene.alice.id, "state_key": bob,
        "content": {
            "membership": "invite",
            "third_party_invite": {"display_name": "", "signed": scene.proof(&bob)},
        },
    });
    let room = encode(&scene.room);
    let path = format!("/_matrix/federation/v1/exchange_third_party_invite/{room}");
    peer.put(&scene.server, &path, event).ok();
    assert_eq!(scene.member(&bob).ok()["membership"], "invite");
    PeerRoom::join(&peer, &scene.server, &scene.room, &bob);
}

/// The peer signs every invitation.
fn sign_invitations(peer: &Peer) {
    let key: SigningKey = peer.key().clone();
    peer.on("PUT", "/_matrix/federation/v2/invite/", move |request| {
        let body = request.json();
        let version: event::RoomVersion = body["room_version"].as_str().unwrap().parse().unwrap();
        let text = body["event"].to_string();
        let event = event::canonical::from_text(&text, version.rules().numbers).unwrap();
        let signed = add_signature(version.rules(), &event, &key).unwrap();
        let signed: Value = serde_json::from_str(&signed).unwrap();
        let described = &body["invite_room_state"];
        assert!(of_type(described, "m.room.create").is_object());
        PeerAnswer::ok(json!({"event": signed}))
    });
}

#[test]
fn whoever_has_the_address_is_invited_at_once() {
    let scene = Scene::new();
    let bert = scene.server.register("bert");
    scene.belongs_to(Some(&bert.id));
    scene.invite(scene.address()).ok();
    assert_eq!(scene.member(&bert.id).ok()["membership"], "invite");
    let peer = Peer::start();
    sign_invitations(&peer);
    let bob = peer.user("bob");
    scene.belongs_to(Some(&bob));
    let invite =
        json!({"preset": "private_chat", "is_direct": true, "invite_3pid": [scene.address()]});
    let room = scene.alice.create_room(invite);
    let member = scene.alice.state(&room, "m.room.member", &bob).ok();
    assert_eq!(member, json!({"membership": "invite", "is_direct": true}));
    assert!(scene.identity.requests(STORE).is_empty());
}

#[test]
fn a_pepper_that_has_changed_is_asked_for_once_more() {
    let scene = Scene::new();
    scene.identity.on("POST", LOOKUP, |_| {
        PeerAnswer::error(400, "M_INVALID_PEPPER")
    });
    scene.invite(scene.address()).error(502, "M_UNKNOWN");
    assert_eq!(scene.identity.requests(HASH_DETAILS).len(), 2);
    assert_eq!(scene.identity.requests(LOOKUP).len(), 2);
    // An address goes nowhere in clear to be looked up.
    let details = json!({"lookup_pepper": "matrixrocks", "algorithms": ["none"]});
    scene.identity.on("GET", HASH_DETAILS, move |_| {
        PeerAnswer::ok(details.clone())
    });
    scene.invite(scene.address()).error(502, "M_UNKNOWN");
    assert_eq!(scene.identity.requests(LOOKUP).len(), 2);
}

#[test]
fn only_identity_servers_that_are_allowed_are_asked_and_only_for_those_who_may_invite() {
    let scene = Scene::new();
    let mut elsewhere = scene.address();
    elsewhere["id_server"] = "identity.example".into();
    scene.invite(elsewhere).error(400, "M_SERVER_NOT_TRUSTED");
    let mut partial = scene.address();
    partial.as_object_mut().unwrap().remove("id_access_token");
    scene.invite(partial).error(400, "M_MISSING_PARAM");
    let bert = scene.server.register("bert");
    let path = format!("/v3/rooms/{}/invite", encode(&scene.room));
    bert.post(&path, scene.address()).error(403, "M_FORBIDDEN");
    assert!(scene.identity.requests("/").is_empty());

    let closed = crate::server();
    let carol = closed.register("carol");
    let room = carol.create_room(json!({}));
    let path = format!("/v3/rooms/{}/invite", encode(&room));
    carol
        .post(&path, scene.address())
        .error(403, "M_THREEPID_DENIED");
}
