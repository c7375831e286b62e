//! Messages to devices, and changes of devices and keys.

use serde_json::{Value, json};
use testkit::until;

use crate::shared;

#[test]
fn messages_to_devices_come_once_each_and_in_order() {
    let all = shared();
    for n in 0..40 {
        let messages = json!({"messages": {all.other.clone(): {"*": {"n": n}}}});
        let path = format!("/v3/sendToDevice/org.example.note/{n}");
        all.user.put(&path, messages.clone()).ok();
        // The same transaction sends nothing more.
        all.user.put(&path, messages).ok();
    }
    all.peer.edu("m.direct_to_device", |content| {
        content["messages"][&all.other]["*"]["n"] == 39
    });
    let edus = all.peer.edus().into_iter();
    let edus: Vec<Value> = edus
        .filter(|edu| edu["edu_type"] == "m.direct_to_device")
        .map(|edu| edu["content"].clone())
        .collect();
    let numbers: Vec<_> = edus
        .iter()
        .map(|content| content["messages"][&all.other]["*"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>());
    for content in &edus {
        assert_eq!(content["type"], "org.example.note");
        assert_eq!(content["message_id"].as_str().unwrap().len(), 32);
    }
}

#[test]
fn a_changed_device_is_told_with_the_change_before_it() {
    let all = shared();
    let keys = |n: u32| {
        let (user, device) = (&all.user.id, &all.user.device);
        json!({"device_keys": {
            "user_id": user, "device_id": device, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": {format!("ed25519:{device}"): format!("key{n}")},
            "signatures": {user: {format!("ed25519:{device}"): "signature"}},
        }})
    };
    all.user.post("/v3/keys/upload", keys(1)).ok();
    let first = update(&all, 1);
    all.user.post("/v3/keys/upload", keys(2)).ok();
    let second = update(&all, 2);
    assert_eq!(second["prev_id"], json!([first["stream_id"]]));
    assert_eq!(second["user_id"], all.user.id);

    let third = all.user.login_again();
    let (user, device) = (&third.id, &third.device);
    let keys = json!({"device_keys": {
        "user_id": user, "device_id": device, "algorithms": [],
        "keys": {format!("ed25519:{device}"): "key3"},
        "signatures": {user: {format!("ed25519:{device}"): "signature"}},
    }});
    third.post("/v3/keys/upload", keys).ok();
    third.post("/v3/logout", json!({})).ok();
    all.peer.edu("m.device_list_update", |content| {
        content["device_id"] == device.as_str() && content["deleted"] == true
    });
}

#[track_caller]
fn update(all: &crate::Shared, n: u32) -> Value {
    let device = &all.user.device;
    until("a device list update", || {
        let edus = all.peer.edus().into_iter();
        let mut edus = edus.filter(|edu| edu["edu_type"] == "m.device_list_update");
        let key = json!(format!("key{n}"));
        edus.find(|edu| edu["content"]["keys"]["keys"][format!("ed25519:{device}")] == key)
            .map(|edu| edu["content"].clone())
    })
}

#[test]
fn who_comes_to_share_a_room_is_told_of_the_devices() {
    let all = shared();
    let bob = all.server.register("bob");
    let device = &bob.device;
    let keys = json!({"device_keys": {
        "user_id": bob.id, "device_id": device, "algorithms": [],
        "keys": {format!("ed25519:{device}"): "key"},
        "signatures": {bob.id.clone(): {format!("ed25519:{device}"): "signature"}},
    }});
    bob.post("/v3/keys/upload", keys).ok();
    bob.join(&all.room);
    let edu = all.peer.edu("m.device_list_update", |content| {
        content["user_id"] == bob.id
    });
    assert_eq!(edu["content"]["device_id"], device.as_str());
}

#[test]
fn who_comes_to_share_a_room_is_told_of_devices_without_keys_too() {
    let all = shared();
    let bob = all.server.register("bob");
    bob.join(&all.room);
    let edu = all.peer.edu("m.device_list_update", |content| {
        content["user_id"] == bob.id
    });
    assert_eq!(edu["content"]["device_id"], bob.device.as_str());
    assert!(edu["content"]["keys"].is_null(), "{edu}");
}
