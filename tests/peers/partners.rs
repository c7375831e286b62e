//! What is shared with a certain server (`[[federation.partner]]`), and the record of what crosses (`federation.audit`).

use std::fs;

use serde_json::{Value, json};
use testkit::{Peer, PeerRoom, Server, ServerOptions, User, encode, until};

use crate::server;

/// A peer in two rooms, of which the rules of the house share the `open` one, and the user `guide` alone.
struct Scene {
    server: Server,
    peer: Peer,
    bob: String,
    guide: User,
    alice: User,
    open: String,
    shut: String,
    in_open: PeerRoom,
    in_shut: PeerRoom,
    /// EDUs that the peer was sent before the rules came into force.
    edus_before: usize,
}

/// Ids of rooms of version 11 have a server's name in them, those of version 12 don't.
const RULES: &str = "\n[[federation.partner]]\nservers = [\"127.0.0.1\"]\nrooms = [\"!*:*\"]\n\
    users = [\"@guide*\"]\n";

impl Scene {
    /// The rules come into force once the peer is in both rooms.
    fn new() -> Self {
        let (mut server, peer) = (server(), Peer::start());
        let (guide, alice) = (server.register("guide"), server.register("alice"));
        let bob = peer.user("bob");
        let room = |version: &str| {
            let options = json!({"preset": "public_chat", "room_version": version});
            let room = guide.create_room(options);
            alice.join(&room);
            let joined = PeerRoom::join(&peer, &server, &room, &bob);
            (room, joined)
        };
        let ((open, in_open), (shut, in_shut)) = (room("11"), room("12"));
        // What was on its way is there before the rules are.
        for (room, text) in [(&open, "first"), (&shut, "second")] {
            guide.say(room, text);
            peer.pdu(text, |pdu| pdu["content"]["body"] == text);
        }
        server.terminate();
        let file = server.configuration();
        let configuration = fs::read_to_string(&file).unwrap() + RULES;
        fs::write(&file, configuration).unwrap();
        let edus_before = peer.edus().len();
        server.start_again();
        Self {
            server,
            peer,
            edus_before,
            bob,
            guide,
            alice,
            open,
            shut,
            in_open,
            in_shut,
        }
    }

    fn typing(&self, room: &str) -> Value {
        let content = json!({"room_id": room, "user_id": self.bob, "typing": true});
        json!({"edu_type": "m.typing", "content": content})
    }

    fn types(&self, user: &User, room: &str) {
        let path = format!("/v3/rooms/{}/typing/{}", encode(room), encode(&user.id));
        user.put(&path, json!({"typing": true, "timeout": 30_000}))
            .ok();
    }
}

#[test]
fn of_what_comes_in_only_what_is_shared_counts() {
    let scene = Scene::new();
    let (open, shut) = (&scene.open, &scene.shut);
    let hidden = scene.in_shut.say(&scene.bob, "hidden");
    let hidden_id = scene.in_shut.event_id(&hidden);
    let shown = scene.in_open.say(&scene.bob, "shown");
    let receipts =
        |event: &str| json!({"m.read": {&scene.bob: {"data": {"ts": 1}, "event_ids": [event]}}});
    let first = scene.guide.say(open, "a");
    let second = scene.guide.say(shut, "b");
    let receipts = json!({shut: receipts(&second), open: receipts(&first)});
    let to_device = |user: &User| {
        let messages = json!({&user.id: {"*": {"for": user.id}}});
        let content = json!({
            "sender": scene.bob, "type": "org.example.note", "messages": messages,
            "message_id": format!("for {}", user.id),
        });
        json!({"edu_type": "m.direct_to_device", "content": content})
    };
    let edus = [
        scene.typing(shut),
        to_device(&scene.alice),
        to_device(&scene.guide),
        json!({"edu_type": "m.receipt", "content": receipts}),
        scene.typing(open),
    ];
    let answer = scene.peer.send(&scene.server, &[hidden, shown], &edus).ok();
    assert!(answer["pdus"][&hidden_id]["error"].is_string(), "{answer}");

    let synced = scene.guide.sync(None, "");
    let ephemeral = |room: &str, of: &str| {
        let events = synced.ephemeral(room).iter();
        events.filter(|event| event["type"] == of).count()
    };
    for of in ["m.typing", "m.receipt"] {
        assert_eq!((ephemeral(open, of), ephemeral(shut, of)), (1, 0), "{of}");
    }
    assert_eq!(synced.to_device().len(), 1);
    assert!(scene.alice.sync(None, "").to_device().is_empty());
    assert!(scene.guide.messages_by_text(open).contains_key("shown"));
    assert!(!scene.guide.messages_by_text(shut).contains_key("hidden"));
}

#[test]
fn what_is_not_shared_does_not_go_out() {
    let scene = Scene::new();
    let (open, shut) = (&scene.open, &scene.shut);
    let note = |user: &User| {
        let messages = json!({"messages": {&scene.bob: {"*": {"from": user.id}}}});
        user.put("/v3/sendToDevice/org.example.note/1", messages)
            .ok();
    };
    scene.types(&scene.guide, shut);
    scene.types(&scene.alice, open);
    note(&scene.alice);
    scene.guide.say(shut, "inside");
    upload_keys(&scene.alice);
    upload_keys(&scene.guide);
    scene.types(&scene.guide, open);
    note(&scene.guide);
    scene.guide.say(open, "outside");
    scene
        .peer
        .pdu("the message", |pdu| pdu["content"]["body"] == "outside");
    for edu_type in ["m.typing", "m.direct_to_device", "m.device_list_update"] {
        let guide = scene.guide.id.as_str();
        scene.peer.edu(edu_type, |content| {
            content["user_id"] == guide || content["sender"] == guide
        });
    }
    let pdus = scene.peer.pdus();
    assert!(!pdus.iter().any(|pdu| pdu["content"]["body"] == "inside"));
    for edu in scene.peer.edus().into_iter().skip(scene.edus_before) {
        let text = edu.to_string();
        let is_shared = !text.contains(shut.as_str()) && !text.contains(&scene.alice.id);
        assert!(is_shared, "{edu}");
    }
}

fn upload_keys(user: &User) {
    let (id, device) = (&user.id, &user.device);
    let keys = json!({"device_keys": {
        "user_id": id, "device_id": device, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": {format!("ed25519:{device}"): "key"},
        "signatures": {id: {format!("ed25519:{device}"): "signature"}},
    }});
    user.post("/v3/keys/upload", keys).ok();
}

#[test]
fn requests_for_what_is_not_shared_are_refused() {
    let scene = Scene::new();
    let said = scene.guide.say(&scene.shut, "inside");
    let event = format!("/_matrix/federation/v1/event/{}", encode(&said));
    scene
        .peer
        .get(&scene.server, &event)
        .error(403, "M_FORBIDDEN");
    let wanted = json!({"device_keys": {&scene.alice.id: [], &scene.guide.id: []}});
    let keys = "/_matrix/federation/v1/user/keys/query";
    let keys = scene.peer.post(&scene.server, keys, wanted).ok();
    assert!(keys["device_keys"].get(&scene.alice.id).is_none(), "{keys}");

    let hosted = PeerRoom::create(&scene.peer, event::RoomVersion::V11, &scene.bob);
    let invite = |user: &User| {
        let content = json!({"membership": "invite"});
        let event = hosted.draft(&scene.bob, "m.room.member", Some(&user.id), content);
        let (room, id) = (encode(&hosted.id()), encode(&hosted.event_id(&event)));
        let path = format!("/_matrix/federation/v2/invite/{room}/{id}");
        let body = json!({"room_version": "11", "event": event, "invite_room_state": []});
        scene.peer.put(&scene.server, &path, body)
    };
    invite(&scene.alice).error(403, "M_FORBIDDEN");
    invite(&scene.guide).ok();
    // Nor do those whom it does not see invite its users.
    let path = format!("/v3/rooms/{}/invite", encode(&scene.open));
    let whom = json!({"user_id": scene.peer.user("carol")});
    scene.alice.post(&path, whom).error(403, "M_FORBIDDEN");
}

#[test]
fn what_crosses_is_on_record_in_a_file_that_may_be_moved_away() {
    let mut options = ServerOptions::new(env!("CARGO_BIN_EXE_meyrin")).federated();
    options.federation = "audit = true\naudit_file = \"audit.jsonl\"".to_owned();
    let (server, peer) = (Server::start(options), Peer::start());
    let alice = server.register("alice");
    let room = alice.create_room(json!({"preset": "public_chat"}));
    let bob = peer.user("bob");
    let joined = PeerRoom::join(&peer, &server, &room, &bob);
    let file = server.configuration().with_file_name("audit.jsonl");
    let lines = || -> Vec<Value> {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines.collect()
    };
    let line = |what: &str, is_it: &dyn Fn(&Value) -> bool| {
        until(what, || lines().into_iter().find(|line| is_it(line)))
    };
    let join = line("the join", &|line| line["request"] == "send_join");
    assert_eq!(join["direction"], "in");
    assert_eq!(join["server"], peer.name());
    assert_eq!(join["pdus"], json!({&room: 1}));
    assert_eq!(join["status"], 200);
    assert!(join["bytes_out"].as_u64() > join["bytes_in"].as_u64());

    let typing = json!({"room_id": room, "user_id": bob, "typing": true});
    let typing = json!({"edu_type": "m.typing", "content": typing});
    let said = joined.say(&bob, "hello");
    peer.send(&server, &[said], &[typing]).ok();
    let came = line("what came", &|line| {
        line["request"] == "send" && line["direction"] == "in"
    });
    assert_eq!(came["pdus"], json!({&room: 1}));
    assert_eq!(came["edus"], json!({"m.typing": 1}));

    alice.say(&room, "hello, you");
    let went = line("what went", &|line| {
        line["direction"] == "out" && line["pdus"] == json!({&room: 1})
    });
    assert_eq!(
        (&went["server"], &went["status"]),
        (&json!(peer.name()), &json!(200))
    );

    fs::rename(&file, file.with_extension("old")).unwrap();
    let wrong = peer.authorization(server.name(), "GET", "/somewhere/else", None);
    let path = "/_matrix/federation/v1/publicRooms";
    peer.request_as(&server.client(), "GET", path, None, &wrong)
        .error(401, "M_UNAUTHORIZED");
    let refused = line("the refusal", &|line| line["status"] == 401);
    assert_eq!(refused["unproved"], true);
    assert_eq!(refused["request"], "publicRooms");
}
