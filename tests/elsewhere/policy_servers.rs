//! Rooms with a policy server: <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use event::{RoomVersion, SigningKey, add_signature};
use serde_json::{Value, json};
use testkit::{Peer, PeerAnswer, PeerRequest, PeerRoom, Server, User, encode, until};

use crate::server;

const SIGN: &str = "/_matrix/policy/v1/sign";
const KEY_ID: &str = "ed25519:policy_server";
const VERSION: &str = "11";

/// A room with a policy server, which signs whatever does not speak of spam.
struct Scene {
    server: Server,
    alice: User,
    room: String,
    policy: Peer,
    policy_room: PeerRoom,
}

impl Scene {
    fn new() -> Self {
        let server = server();
        let alice = server.register("alice");
        let room = alice.create_room(json!({"preset": "public_chat", "room_version": VERSION}));
        let policy = Peer::start();
        let policy_room = PeerRoom::join(&policy, &server, &room, &policy.user("policy"));
        let key = policy_key(&policy, 1);
        policy.on("POST", SIGN, move |request| judged(&key, request));
        let scene = Self {
            server,
            alice,
            room,
            policy,
            policy_room,
        };
        scene.set_policy(&policy_key(&scene.policy, 1));
        scene
    }

    fn set_policy(&self, key: &SigningKey) -> String {
        let content = json!({
            "via": self.policy.name(), "public_keys": {"ed25519": key.verify_key().to_base64()},
        });
        self.alice
            .set_state(&self.room, "m.room.policy", "", content)
    }

    /// How often the policy server was asked about an event.
    fn asked(&self, is_it: impl Fn(&Value) -> bool) -> usize {
        let requests = self.policy.requests(SIGN);
        let events = requests.iter().map(PeerRequest::json);
        events.filter(|event| is_it(event)).count()
    }

    fn asked_about(&self, text: &str) -> usize {
        self.asked(|event| event["content"]["body"] == text)
    }

    /// Another server, in the room with a user `bob`.
    fn other(&self) -> (Peer, PeerRoom, String) {
        let peer = Peer::start();
        let bob = peer.user("bob");
        let joined = PeerRoom::join(&peer, &self.server, &self.room, &bob);
        (peer, joined, bob)
    }

    fn texts(&self) -> Vec<String> {
        self.alice
            .messages_by_text(&self.room)
            .into_keys()
            .collect()
    }
}

fn policy_key(policy: &Peer, seed: u8) -> SigningKey {
    SigningKey::from_seed(policy.name(), "policy_server", [seed; 32]).unwrap()
}

/// The event with the signature of the policy server.
fn signed(key: &SigningKey, event: &Value) -> Value {
    let rules = VERSION.parse::<RoomVersion>().unwrap().rules();
    let text = event::canonical::from_text(&event.to_string(), rules.numbers)
        .unwrap()
        .into_owned();
    serde_json::from_str(&add_signature(rules, &text, key).unwrap()).unwrap()
}

fn judged(key: &SigningKey, request: &PeerRequest) -> PeerAnswer {
    let event = request.json();
    if event.to_string().contains("spam") {
        let refusal = json!({"errcode": "M_FORBIDDEN", "error": "That looks like spam"});
        return PeerAnswer::json(400, refusal);
    }
    let signature = signed(key, &event)["signatures"][key.server_name()][KEY_ID].clone();
    PeerAnswer::ok(json!({key.server_name(): {KEY_ID: signature}}))
}

#[test]
fn what_users_here_send_is_signed_by_the_policy_server_before_it_enters_the_room() {
    let scene = Scene::new();
    let (alice, room) = (&scene.alice, &scene.room);
    assert_eq!(
        scene.policy.requests(SIGN).len(),
        0,
        "the room's choice is its own"
    );
    let said = alice.say(room, "good");
    assert_eq!(scene.asked_about("good"), 1);
    let pdu = scene
        .policy
        .pdu("the message", |pdu| pdu["content"]["body"] == "good");
    assert_eq!(scene.policy_room.event_id(&pdu), said);
    assert!(pdu["signatures"][scene.server.name()].is_object());
    assert!(pdu["signatures"][scene.policy.name()][KEY_ID].is_string());

    // Whatever it is: state, redactions, memberships, and what is no state event that names a policy server.
    let bert = scene.server.register("bert");
    alice.set_state(room, "m.room.topic", "", json!({"topic": "Policy"}));
    alice.redact(room, &said);
    bert.join(room);
    alice.membership(room, "kick", &bert).ok();
    alice.set_state(room, "m.room.policy", "other", json!({"via": "x"}));
    let types = [
        "m.room.topic",
        "m.room.redaction",
        "m.room.member",
        "m.room.policy",
    ];
    for event_type in types {
        let asked = scene.asked(|event| event["type"] == event_type);
        assert_eq!(asked, if event_type == "m.room.member" { 2 } else { 1 });
    }
}

#[test]
fn what_the_policy_server_refuses_is_refused_in_its_words_and_does_not_enter_the_room() {
    let scene = Scene::new();
    let (alice, room) = (&scene.alice, &scene.room);
    let spam = json!({"msgtype": "m.text", "body": "spam"});
    let refused = alice
        .try_send(room, "m.room.message", spam.clone())
        .error(400, "M_FORBIDDEN");
    assert_eq!(refused["error"], "That looks like spam");
    alice
        .try_set_state(room, "m.room.topic", "", json!({"topic": "spam"}))
        .error(400, "M_FORBIDDEN");
    alice.say(room, "after");
    assert_eq!(scene.texts(), ["after"]);

    scene.policy.on("POST", SIGN, |_| {
        let wait = json!({"errcode": "M_LIMIT_EXCEEDED", "error": "Later", "retry_after_ms": 70});
        PeerAnswer::json(429, wait)
    });
    let refused = alice.try_send(room, "m.room.message", json!({"body": "x"}));
    assert_eq!(refused.error(429, "M_LIMIT_EXCEEDED")["retry_after_ms"], 70);
    // It has no say in who is logged in here.
    scene
        .policy
        .on("POST", SIGN, |_| PeerAnswer::error(403, "M_UNKNOWN_TOKEN"));
    alice
        .try_send(room, "m.room.message", json!({"body": "x"}))
        .error(502, "M_UNKNOWN");
    let other = policy_key(&scene.policy, 2);
    scene
        .policy
        .on("POST", SIGN, move |request| judged(&other, request));
    alice
        .try_send(room, "m.room.message", json!({"body": "x"}))
        .error(502, "M_UNKNOWN");
    assert_eq!(scene.texts(), ["after"]);
    // With the new key in the room its signatures hold.
    scene.set_policy(&policy_key(&scene.policy, 2));
    alice.say(room, "with the new key");
}

#[test]
fn a_policy_server_that_is_gone_can_be_done_without() {
    let mut scene = Scene::new();
    let (alice, room) = (scene.alice.clone(), scene.room.clone());
    scene.policy.go_away();
    alice
        .try_send(&room, "m.room.message", json!({"body": "x"}))
        .error(502, "M_UNKNOWN");
    alice.set_state(&room, "m.room.policy", "", json!({}));
    alice.say(&room, "without");
    scene.policy.come_back();
    scene.set_policy(&policy_key(&scene.policy, 1));
    alice.say(&room, "with");
    assert_eq!(scene.asked_about("with"), 1);
    // It leaves the room, and so the office.
    let user = scene.policy.user("policy");
    for event in scene.policy.pdus() {
        scene.policy_room.take(&event);
    }
    let leave = json!({"membership": "leave"});
    let leave = scene
        .policy_room
        .event(&user, "m.room.member", Some(&user), leave);
    let leave = signed(&policy_key(&scene.policy, 1), &leave);
    scene.policy.send(&scene.server, &[leave], &[]).ok();
    alice.say(&room, "alone");
    assert_eq!(scene.asked_about("alone"), 0);
}

#[test]
fn events_of_others_are_shown_if_the_policy_server_recommends_them() {
    let scene = Scene::new();
    let (peer, joined, bob) = scene.other();
    assert_eq!(
        scene.asked(|event| event["sender"] == bob.as_str()),
        1,
        "the join"
    );
    let key = policy_key(&scene.policy, 1);
    let unsigned = joined.say(&bob, "unsigned");
    let spam = joined.say(&bob, "spam");
    let sealed = signed(&key, &joined.say(&bob, "signed"));
    let wrong = signed(
        &policy_key(&scene.policy, 2),
        &joined.say(&bob, "wrong key"),
    );
    let events = [unsigned, spam.clone(), sealed, wrong];
    let answer = peer.send(&scene.server, &events, &[]).ok();
    for result in answer["pdus"].as_object().unwrap().values() {
        assert_eq!(*result, json!({}));
    }
    assert_eq!(scene.texts(), ["signed", "unsigned", "wrong key"]);
    scene
        .alice
        .event(&scene.room, &joined.event_id(&spam))
        .error(404, "M_NOT_FOUND");
    for (text, asked) in [
        ("unsigned", 1),
        ("spam", 1),
        ("signed", 0),
        ("wrong key", 1),
    ] {
        assert_eq!(scene.asked_about(text), asked, "{text}");
    }
    // They are known when they come again.
    peer.send(&scene.server, &events, &[]).ok();
    assert_eq!(scene.asked_about("spam"), 1);
    // What follows a hidden event is judged by itself.
    let next = joined.say(&bob, "next");
    peer.send(&scene.server, &[next], &[]).ok();
    assert!(scene.texts().contains(&"next".to_owned()));
}

#[test]
fn events_of_others_are_hidden_while_the_policy_server_is_gone_unless_they_are_signed() {
    let mut scene = Scene::new();
    let (peer, joined, bob) = scene.other();
    let key = policy_key(&scene.policy, 1);
    scene.policy.go_away();
    let events = [
        joined.say(&bob, "unsigned"),
        signed(&key, &joined.say(&bob, "signed")),
    ];
    peer.send(&scene.server, &events, &[]).ok();
    assert_eq!(scene.texts(), ["signed"]);
}

#[test]
fn nobody_else_waits_while_the_policy_server_thinks() {
    let scene = Scene::new();
    let (peer, joined, bob) = scene.other();
    let key = policy_key(&scene.policy, 1);
    let (release, held) = channel();
    let held = Mutex::new(held);
    scene.policy.on("POST", SIGN, move |request| {
        held.lock().unwrap().recv().unwrap();
        judged(&key, request)
    });
    let slow = joined.say(&bob, "slow");
    std::thread::scope(|scope| {
        scope.spawn(|| peer.send(&scene.server, &[slow], &[]).ok());
        let local = scene.alice.clone();
        let room = scene.room.clone();
        scope.spawn(move || local.say(&room, "mine"));
        until("both are asked about", || {
            (scene.asked_about("slow") == 1 && scene.asked_about("mine") == 1).then_some(())
        });
        // The room is nobody's meanwhile.
        let (alice, room) = (&scene.alice, &scene.room);
        alice.set_state(room, "m.room.policy", "", json!({}));
        alice.say(room, "meanwhile");
        assert_eq!(scene.texts(), ["meanwhile"]);
        for _ in 0..2 {
            release.send(()).unwrap();
        }
    });
    let mut texts = scene.texts();
    texts.sort_unstable();
    assert_eq!(texts, ["meanwhile", "mine", "slow"]);
}

#[test]
fn rooms_with_a_policy_server_are_upgraded_and_lose_aliases_and_members_change_names() {
    let scene = Scene::new();
    let (alice, room) = (&scene.alice, &scene.room);
    let alias = format!("#policy:{}", scene.server.name());
    let path = format!("/v3/directory/room/{}", encode(&alias));
    alice.put(&path, json!({"room_id": room})).ok();
    alice.set_state(room, "m.room.canonical_alias", "", json!({"alias": alias}));
    alice.delete(&path).ok();
    assert_eq!(
        scene.asked(|event| event["type"] == "m.room.canonical_alias"),
        2
    );
    let name = format!("/v3/profile/{}/displayname", encode(&alice.id));
    alice.put(&name, json!({"displayname": "Alice"})).ok();
    until("the new name is in the room", || {
        let member = alice.state(room, "m.room.member", &alice.id).ok();
        (member["displayname"] == "Alice").then_some(())
    });
    let upgrade = format!("/v3/rooms/{}/upgrade", encode(room));
    for version in ["11", "12"] {
        let answer = alice.post(&upgrade, json!({"new_version": version})).ok();
        let tombstone = alice.state(room, "m.room.tombstone", "").ok();
        assert_eq!(tombstone["replacement_room"], answer["replacement_room"]);
    }
    let asked = scene.asked(|event| event["type"] == "m.room.tombstone");
    assert_eq!(asked, 2);
}

#[test]
fn this_server_is_no_policy_server() {
    let (server, peer) = (server(), Peer::start());
    peer.post(&server, SIGN, json!({}))
        .error(404, "M_UNRECOGNIZED");
}
