//! Keys of devices and users, and messages between devices, across servers.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use testkit::{Peer, PeerAnswer, SyncAnswer, encode};

use crate::Scene;

const QUERY: &str = "/_matrix/federation/v1/user/keys/query";
const CLAIM: &str = "/_matrix/federation/v1/user/keys/claim";

fn device(user: &str, device: &str) -> Value {
    json!({
        "user_id": user, "device_id": device,
        "algorithms": ["m.megolm.v1.aes-sha2"],
        "keys": {format!("ed25519:{device}"): "key"},
        "signatures": {user: {format!("ed25519:{device}"): "signature"}},
    })
}

fn scene() -> Scene {
    Scene::with(json!({"preset": "public_chat"}))
}

/// A peer's answers about its user bob: the devices that are put here.
fn answer_queries(peer: &Peer, devices: &[&str]) -> Arc<Mutex<Vec<String>>> {
    let devices: Vec<String> = devices.iter().map(|device| (*device).to_owned()).collect();
    let devices = Arc::new(Mutex::new(devices));
    let (bob, answered) = (peer.user("bob"), Arc::clone(&devices));
    peer.on("POST", QUERY, move |request| {
        assert!(
            request.json()["device_keys"][&bob].is_array(),
            "{}",
            request.json()
        );
        let devices: Vec<String> = answered.lock().unwrap().clone();
        let devices = devices.iter().map(|id| (id.clone(), device(&bob, id)));
        let devices: serde_json::Map<_, _> = devices.collect();
        PeerAnswer::ok(json!({"device_keys": {&bob: devices, "@strange:x": {}}}))
    });
    devices
}

/// What alice is told of bob's keys: the names of his devices.
fn queried(scene: &Scene) -> Vec<String> {
    let bob = scene.peer.user("bob");
    let answer = scene
        .alice
        .post("/v3/keys/query", json!({"device_keys": {&bob: []}}))
        .ok();
    assert_eq!(answer["failures"], json!({}));
    let devices = answer["device_keys"][&bob].as_object();
    devices
        .map(|devices| devices.keys().cloned().collect())
        .unwrap_or_default()
}

fn asked(scene: &Scene) -> usize {
    scene.peer.requests(QUERY).len()
}

fn is_listed(sync: &SyncAnswer, list: &str, user: &str) -> Option<()> {
    let users = sync.0["device_lists"][list].as_array()?;
    users.iter().any(|listed| listed == user).then_some(())
}

#[test]
fn keys_are_asked_for_once_and_carried_on_by_updates_until_one_is_missing() {
    let scene = scene();
    let bob = scene.peer.user("bob");
    let devices = answer_queries(&scene.peer, &["ONE"]);
    let mut follower = scene.alice.follow_from_now();
    assert_eq!(queried(&scene), ["ONE"]);
    assert_eq!(queried(&scene), ["ONE"]);
    assert_eq!(asked(&scene), 1);
    let mut update = |stream_id: u64, previous: &[u64], id: &str| {
        let content = json!({
            "user_id": bob, "device_id": id, "stream_id": stream_id, "prev_id": previous,
            "keys": device(&bob, id), "device_display_name": "Telephone",
        });
        scene
            .peer
            .send_edu(&scene.server, "m.device_list_update", content);
        follower.until("bob's devices changed", |sync| {
            is_listed(sync, "changed", &bob)
        });
    };
    // Nothing is known of an update before the first: everything is asked for, when somebody wants it.
    update(4, &[], "TWO");
    assert_eq!(asked(&scene), 1);
    devices.lock().unwrap().push("TWO".to_owned());
    assert_eq!(queried(&scene), ["ONE", "TWO"]);
    assert_eq!(asked(&scene), 2);
    update(5, &[4], "THREE");
    assert_eq!(queried(&scene), ["ONE", "THREE", "TWO"]);
    assert_eq!(asked(&scene), 2);
    // The sixth is missing.
    update(7, &[6], "FOUR");
    assert_eq!(queried(&scene), ["ONE", "TWO"]);
    assert_eq!(asked(&scene), 3);
    let key = scene.peer.key().verify_key().to_base64();
    let master =
        json!({"user_id": bob, "usage": ["master"], "keys": {format!("ed25519:{key}"): key}});
    let content = json!({"user_id": bob, "master_key": master});
    scene
        .peer
        .send_edu(&scene.server, "m.signing_key_update", content);
    let answer = scene
        .alice
        .post("/v3/keys/query", json!({"device_keys": {&bob: ["ONE"]}}))
        .ok();
    assert_eq!(answer["master_keys"][&bob], master);
    assert_eq!(
        answer["device_keys"][&bob]
            .as_object()
            .map(|devices| devices.len()),
        Some(1)
    );
    assert_eq!(asked(&scene), 3);
    // Another server does not speak for bob.
    let stranger = Peer::start();
    let content = json!({"user_id": bob, "device_id": "ONE", "stream_id": 8, "prev_id": [7], "deleted": true});
    stranger.send_edu(&scene.server, "m.device_list_update", content);
    assert_eq!(queried(&scene), ["ONE", "TWO"]);
    assert_eq!(asked(&scene), 3);
    // Of somebody with whom no room is shared, nothing is kept.
    scene.alice.leave(&scene.room);
    assert_eq!(queried(&scene), ["ONE", "TWO"]);
    assert_eq!(queried(&scene), ["ONE", "TWO"]);
    assert_eq!(asked(&scene), 5);
}

#[test]
fn a_server_that_does_not_answer_is_a_failure_and_others_are_answered() {
    let mut scene = scene();
    let (alice, bob) = (scene.alice.id.clone(), scene.peer.user("bob"));
    let peer = scene.peer.name().to_owned();
    let keys = json!({"device_keys": device(&alice, &scene.alice.device), "one_time_keys": {
        "signed_curve25519:A": {"key": "one", "signatures": {}},
    }});
    scene.alice.post("/v3/keys/upload", keys).ok();
    let wanted = json!({
        "timeout": 5000,
        "device_keys": {&alice: [], &bob: []},
        "one_time_keys": {&alice: {&scene.alice.device: "signed_curve25519"}, &bob: {"ONE": "signed_curve25519"}},
    });
    scene.peer.on("POST", CLAIM, |request| {
        let mut claimed = request.json()["one_time_keys"].clone();
        for devices in claimed.as_object_mut().unwrap().values_mut() {
            *devices =
                json!({"ONE": {"signed_curve25519:B": {"key": "two"}}, "STRANGE": {"x:y": {}}});
        }
        claimed["@strange:x"] = json!({"ONE": {"signed_curve25519:C": {"key": "three"}}});
        PeerAnswer::ok(json!({"one_time_keys": claimed}))
    });
    let claimed = scene.alice.post("/v3/keys/claim", wanted.clone()).ok();
    assert_eq!(claimed["failures"], json!({}));
    let expected = json!({
        &alice: {&scene.alice.device: {"signed_curve25519:A": {"key": "one", "signatures": {}}}},
        &bob: {"ONE": {"signed_curve25519:B": {"key": "two"}}},
    });
    assert_eq!(claimed["one_time_keys"], expected);
    scene.peer.go_away();
    for endpoint in ["query", "claim"] {
        let answer = scene
            .alice
            .post(&format!("/v3/keys/{endpoint}"), wanted.clone())
            .ok();
        assert!(answer["failures"][&peer].is_object(), "{answer}");
        if endpoint == "query" {
            assert!(answer["device_keys"][&alice][&scene.alice.device].is_object());
        }
        assert_eq!(answer["device_keys"].get(&bob), None);
    }
}

#[test]
fn a_server_reads_and_claims_keys_of_users_here_and_of_nobody_else() {
    let scene = scene();
    let alice = &scene.alice;
    let keys = json!({
        "device_keys": device(&alice.id, &alice.device),
        "one_time_keys": {"signed_curve25519:A": {"key": "one", "signatures": {}}},
        "fallback_keys": {"signed_curve25519:F": {"key": "fall", "fallback": true, "signatures": {}}},
    });
    alice.post("/v3/keys/upload", keys).ok();
    let path = format!("/v3/devices/{}", encode(&alice.device));
    alice.put(&path, json!({"display_name": "Laptop"})).ok();
    let bob = scene.peer.user("bob");
    let wanted = json!({"device_keys": {&alice.id: [], &bob: []}});
    let answer = scene.peer.post(&scene.server, QUERY, wanted).ok();
    let mut expected = device(&alice.id, &alice.device);
    expected["unsigned"] = json!({"device_display_name": "Laptop"});
    assert_eq!(
        answer["device_keys"],
        json!({&alice.id: {&alice.device: expected}})
    );

    let path = format!("/_matrix/federation/v1/user/devices/{}", encode(&alice.id));
    let list = scene.peer.get(&scene.server, &path).ok();
    assert_eq!(list["user_id"], json!(alice.id));
    assert!(
        list["stream_id"].as_u64().is_some_and(|id| id > 0),
        "{list}"
    );
    let shown = &list["devices"][0];
    assert_eq!(
        (&shown["device_id"], &shown["keys"]),
        (&json!(alice.device), &expected)
    );
    assert_eq!(shown["device_display_name"], "Laptop");
    let path = format!("/_matrix/federation/v1/user/devices/{}", encode(&bob));
    scene
        .peer
        .get(&scene.server, &path)
        .error(404, "M_NOT_FOUND");

    let claim = json!({"one_time_keys": {&alice.id: {&alice.device: "signed_curve25519"}, &bob: {"X": "y"}}});
    for name in ["A", "F", "F"] {
        let answer = scene.peer.post(&scene.server, CLAIM, claim.clone()).ok();
        let users = answer["one_time_keys"].as_object().unwrap();
        assert_eq!(users.len(), 1);
        let key = &users[&alice.id][&alice.device][format!("signed_curve25519:{name}")];
        assert!(key["key"].is_string(), "{answer}");
    }
}

#[test]
fn messages_from_devices_elsewhere_come_once_to_the_devices_that_they_are_for() {
    let scene = scene();
    let second = scene.alice.login_again();
    let mut followers = [scene.alice.follow_from_now(), second.follow_from_now()];
    let (bob, alice) = (scene.peer.user("bob"), &scene.alice.id);
    let message = |sender: &str, id: &str, to: &str, text: &str| {
        let messages =
            json!({alice: {to: {"text": text}}, &bob: {"*": {}}, "@nobody:x": {"*": {}}});
        let content =
            json!({"sender": sender, "type": "m.test", "message_id": id, "messages": messages});
        json!({"edu_type": "m.direct_to_device", "content": content})
    };
    let edus = [
        message(&bob, "1", "*", "to both"),
        message("@other:elsewhere", "2", "*", "of a stranger"),
        json!({"edu_type": "m.direct_to_device", "content": {"sender": bob}}),
        json!({"edu_type": "m.unheard_of", "content": {}}),
        message(&bob, "3", &second.device, "to the second"),
    ];
    for _ in 0..2 {
        // Under another transaction id, it is the messages' own ids that tell.
        scene.peer.send(&scene.server, &[], &edus).ok();
    }
    scene
        .peer
        .send(&scene.server, &[], &[message(&bob, "4", "*", "the last")])
        .ok();
    let expected = [
        vec!["to both", "the last"],
        vec!["to both", "to the second", "the last"],
    ];
    for (follower, expected) in followers.iter_mut().zip(expected) {
        let heard = Mutex::new(Vec::new());
        follower.until("the last message", |sync| {
            let mut heard = heard.lock().unwrap();
            for event in sync.to_device() {
                assert_eq!(
                    (&event["sender"], &event["type"]),
                    (&json!(bob), &json!("m.test"))
                );
                heard.push(event["content"]["text"].as_str().unwrap().to_owned());
            }
            heard.iter().any(|text| text == "the last").then_some(())
        });
        assert_eq!(*heard.lock().unwrap(), expected);
    }
}
