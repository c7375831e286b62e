//! Device management.

use serde_json::{Value, json};

use crate::{column, server};

#[test]
fn devices_are_listed_with_their_names() {
    let server = server();
    let user = server.register("alice");
    let second = user.login_again();
    user.put(
        &format!("/v3/devices/{}", second.device),
        json!({"display_name": "laptop"}),
    )
    .ok();
    let list = user.get("/v3/devices").ok();
    let mut ids = column(&list["devices"], "device_id");
    ids.sort_unstable();
    let mut expected = vec![user.device.as_str(), second.device.as_str()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    let one = user.get(&format!("/v3/devices/{}", second.device)).ok();
    assert_eq!(one["display_name"], "laptop");
    assert_eq!(one["device_id"], second.device);
}

#[test]
fn devices_of_others_and_unknown_devices_are_not_found() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    for device in [bob.device.as_str(), "NOSUCHDEVICE"] {
        let path = format!("/v3/devices/{device}");
        alice.get(&path).error(404, "M_NOT_FOUND");
        alice
            .put(&path, json!({"display_name": "mine now"}))
            .error(404, "M_NOT_FOUND");
    }
    let named = bob.get(&format!("/v3/devices/{}", bob.device)).ok();
    assert_ne!(named["display_name"], "mine now");
}

#[test]
fn a_device_is_deleted_after_authentication() {
    let server = server();
    let user = server.register("alice");
    let second = user.login_again();
    let path = format!("/v3/devices/{}", second.device);
    let first = user.json("DELETE", &path, &json!({}));
    assert_eq!(first.status, 401, "{first}");
    second.get("/v3/account/whoami").ok();
    let auth = user.password_auth(&first.value()["session"]);
    user.json("DELETE", &path, &json!({"auth": auth})).ok();
    second
        .get("/v3/account/whoami")
        .error(401, "M_UNKNOWN_TOKEN");
    user.get(&path).error(404, "M_NOT_FOUND");
}

#[test]
fn several_devices_are_deleted_at_once() {
    let server = server();
    let user = server.register("alice");
    let others = [user.login_again(), user.login_again()];
    let ids: Vec<&str> = others.iter().map(|other| other.device.as_str()).collect();
    let mut body = json!({"devices": ids});
    let first = user.post("/v3/delete_devices", body.clone());
    assert_eq!(first.status, 401, "{first}");
    body["auth"] = user.password_auth(&first.value()["session"]);
    user.post("/v3/delete_devices", body).ok();
    for other in &others {
        other
            .get("/v3/account/whoami")
            .error(401, "M_UNKNOWN_TOKEN");
    }
    let list = user.get("/v3/devices").ok();
    assert_eq!(
        column(&list["devices"], "device_id"),
        [user.device.as_str()]
    );
}

#[test]
fn authentication_for_one_request_does_not_serve_for_another() {
    let server = server();
    let user = server.register("alice");
    let (second, third) = (user.login_again(), user.login_again());
    let path = |device: &str| format!("/v3/devices/{device}");
    let session = user
        .json("DELETE", &path(&second.device), &json!({}))
        .value()["session"]
        .clone();
    let auth: Value = user.password_auth(&session);
    user.json("DELETE", &path(&second.device), &json!({"auth": auth}))
        .ok();
    let again = json!({"auth": {"session": session}});
    let answer = user.json("DELETE", &path(&third.device), &again);
    assert!(matches!(answer.status, 401 | 403), "{answer}");
    third.get("/v3/account/whoami").ok();
}

#[test]
fn a_device_was_last_seen_when_it_made_a_request() {
    let server = server();
    let user = server.register("alice");
    testkit::until("the device has been seen", || {
        let device = user.get(&format!("/v3/devices/{}", user.device)).ok();
        (device["last_seen_ts"].as_u64()? > 1_600_000_000_000).then_some(())
    });
}
