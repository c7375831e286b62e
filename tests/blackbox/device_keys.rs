//! End-to-end encryption: device keys, one-time and fallback keys, device lists.
//!
//! The server keeps and hands out keys without knowing what they are for, so the keys and
//! signatures of these tests are words. Where a server checks signatures, it is over federation.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{SyncAnswer, User};

use crate::{pair, server, strings};

fn device_keys(user: &User) -> Value {
    json!({
        "user_id": user.id, "device_id": user.device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {
            format!("curve25519:{}", user.device): "curve",
            format!("ed25519:{}", user.device): "edward",
        },
        "signatures": {user.id.clone(): {format!("ed25519:{}", user.device): "signature"}},
    })
}

fn upload(user: &User, body: Value) -> Value {
    user.post("/v3/keys/upload", body).ok()
}

fn one_time_keys(names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| {
            let key = json!({"key": format!("key of {name}"), "signatures": {}});
            (format!("signed_curve25519:{name}"), key)
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Claims a key of a device and gives its id, if there was one.
fn claim(by: &User, of: &User) -> Option<String> {
    let body = json!({"one_time_keys": {of.id.clone(): {of.device.clone(): "signed_curve25519"}}});
    let answer = by.post("/v3/keys/claim", body).ok();
    assert_eq!(answer["failures"], json!({}), "{answer}");
    let keys = answer["one_time_keys"][&of.id][&of.device]
        .as_object()?
        .clone();
    assert_eq!(keys.len(), 1, "{answer}");
    keys.into_iter().next().map(|key| key.0)
}

fn query(by: &User, of: &User) -> Value {
    by.post(
        "/v3/keys/query",
        json!({"device_keys": {of.id.clone(): []}}),
    )
    .ok()
}

fn counts(answer: &SyncAnswer) -> &Value {
    &answer.0["device_one_time_keys_count"]["signed_curve25519"]
}

/// Whether the device list of a user is said to have changed, or to be followed no more.
fn listed(answer: &SyncAnswer, list: &str, user: &User) -> bool {
    strings(&answer.0["device_lists"][list]).contains(&user.id.as_str())
}

#[test]
fn device_keys_are_given_as_they_were_uploaded_with_the_devices_name() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    alice
        .put(
            &format!("/v3/devices/{}", alice.device),
            json!({"display_name": "phone"}),
        )
        .ok();
    upload(&alice, json!({"device_keys": device_keys(&alice)}));
    let answer = query(&bob, &alice);
    let mut keys = answer["device_keys"][&alice.id][&alice.device].clone();
    let unsigned = keys
        .as_object_mut()
        .and_then(|keys| keys.remove("unsigned"));
    assert_eq!(keys, device_keys(&alice));
    let name = unsigned.unwrap_or_default()["device_display_name"].clone();
    assert!(name.is_null() || name == "phone", "{answer}");
}

#[test]
fn a_query_can_name_devices_and_unknown_ones_are_left_out() {
    let server = server();
    let alice = server.register("alice");
    let second = alice.login_again();
    upload(&alice, json!({"device_keys": device_keys(&alice)}));
    upload(&second, json!({"device_keys": device_keys(&second)}));
    let ask = |devices: Value| {
        let body = json!({"device_keys": {alice.id.clone(): devices}});
        let answer = alice.post("/v3/keys/query", body).ok();
        let found = answer["device_keys"][&alice.id]
            .as_object()
            .cloned()
            .unwrap_or_default();
        found
            .into_iter()
            .map(|entry| entry.0)
            .collect::<BTreeSet<String>>()
    };
    assert_eq!(
        ask(json!([])),
        BTreeSet::from([alice.device.clone(), second.device.clone()])
    );
    assert_eq!(
        ask(json!([second.device])),
        BTreeSet::from([second.device.clone()])
    );
    assert_eq!(ask(json!(["NOSUCHDEVICE"])), BTreeSet::new());
}

#[test]
fn keys_under_the_name_of_another_device_are_refused() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let answer = alice.post("/v3/keys/upload", json!({"device_keys": device_keys(&bob)}));
    assert_eq!(answer.status, 400, "{answer}");
    assert!(query(&alice, &bob)["device_keys"][&bob.id][&bob.device].is_null());
}

#[test]
fn one_time_keys_are_counted_claimed_once_and_then_gone() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let answer = upload(
        &alice,
        json!({"one_time_keys": one_time_keys(&["AAAA", "BBBB"])}),
    );
    assert_eq!(answer["one_time_key_counts"]["signed_curve25519"], 2);
    let claimed: BTreeSet<_> = [claim(&bob, &alice), claim(&bob, &alice)].into();
    assert_eq!(claimed.len(), 2, "{claimed:?}");
    assert!(!claimed.contains(&None));
    assert_eq!(claim(&bob, &alice), None);
    assert_eq!(
        counts(&alice.sync(None, "")).as_u64().unwrap_or_default(),
        0
    );
}

#[test]
fn one_time_keys_are_given_in_the_order_of_their_upload() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    for name in ["ZZZZ", "MMMM", "AAAA"] {
        upload(&alice, json!({"one_time_keys": one_time_keys(&[name])}));
    }
    let claimed: Vec<_> = (0..3).filter_map(|_| claim(&bob, &alice)).collect();
    let expected = ["ZZZZ", "MMMM", "AAAA"].map(|name| format!("signed_curve25519:{name}"));
    assert_eq!(claimed, expected);
}

#[test]
fn concurrent_claims_never_get_the_same_key() {
    let server = server();
    let alice = server.register("alice");
    let names: Vec<String> = (0..40).map(|number| format!("KEY{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    upload(&alice, json!({"one_time_keys": one_time_keys(&names)}));
    let claimers: Vec<User> = (0..8).map(|_| server.register("claimer")).collect();
    let claimed: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = claimers
            .iter()
            .map(|claimer| scope.spawn(|| (0..5).filter_map(|_| claim(claimer, &alice)).collect()))
            .collect();
        let lists = threads
            .into_iter()
            .map(|thread| thread.join().expect("claims"));
        lists.flat_map(|list: Vec<String>| list).collect()
    });
    let distinct: BTreeSet<&String> = claimed.iter().collect();
    assert_eq!((claimed.len(), distinct.len()), (40, 40));
}

#[test]
fn the_same_one_time_key_again_is_nothing_new_and_another_under_its_name_is_refused() {
    let server = server();
    let alice = server.register("alice");
    upload(&alice, json!({"one_time_keys": one_time_keys(&["AAAA"])}));
    let again = upload(&alice, json!({"one_time_keys": one_time_keys(&["AAAA"])}));
    assert_eq!(again["one_time_key_counts"]["signed_curve25519"], 1);
    let other = json!({"signed_curve25519:AAAA": {"key": "another", "signatures": {}}});
    let answer = alice.post("/v3/keys/upload", json!({"one_time_keys": other}));
    assert_eq!(answer.status, 400, "{answer}");
}

#[test]
fn a_fallback_key_is_given_again_and_again_and_said_to_be_used() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let fallback = json!({"signed_curve25519:FALL": {
        "key": "fallback", "fallback": true, "signatures": {},
    }});
    let unused = |user: &User| {
        let answer = user.sync(None, "");
        strings(&answer.0["device_unused_fallback_key_types"]).contains(&"signed_curve25519")
    };
    upload(
        &alice,
        json!({"one_time_keys": one_time_keys(&["ONCE"]), "fallback_keys": fallback}),
    );
    assert!(unused(&alice));
    assert_eq!(
        claim(&bob, &alice).as_deref(),
        Some("signed_curve25519:ONCE")
    );
    assert!(unused(&alice));
    for _ in 0..2 {
        assert_eq!(
            claim(&bob, &alice).as_deref(),
            Some("signed_curve25519:FALL")
        );
    }
    assert!(!unused(&alice));
    let next = json!({"signed_curve25519:NEXT": {"key": "x", "fallback": true, "signatures": {}}});
    upload(&alice, json!({"fallback_keys": next}));
    assert!(unused(&alice));
    assert_eq!(
        claim(&bob, &alice).as_deref(),
        Some("signed_curve25519:NEXT")
    );
}

#[test]
fn new_device_keys_are_told_to_who_shares_a_room() {
    let server = server();
    let (alice, bob, _) = pair(&server);
    let stranger = server.register("stranger");
    let since = [bob.sync(None, ""), stranger.sync(None, "")];
    upload(&alice, json!({"device_keys": device_keys(&alice)}));
    testkit::until("the change of alice's devices", || {
        listed(
            &bob.sync(Some(since[0].next_batch()), ""),
            "changed",
            &alice,
        )
        .then_some(())
    });
    assert!(!listed(
        &stranger.sync(Some(since[1].next_batch()), ""),
        "changed",
        &alice
    ));
}

#[test]
fn a_new_device_and_its_logout_are_changes() {
    let server = server();
    let (alice, bob, _) = pair(&server);
    upload(&alice, json!({"device_keys": device_keys(&alice)}));
    let mut follower = bob.follow_from_now();
    let second = alice.login_again();
    upload(&second, json!({"device_keys": device_keys(&second)}));
    follower.until("the new device", |answer| {
        listed(answer, "changed", &alice).then_some(())
    });
    second.post("/v3/logout", json!({})).ok();
    follower.until("the logout", |answer| {
        listed(answer, "changed", &alice).then_some(())
    });
    let known = query(&bob, &alice)["device_keys"][&alice.id].clone();
    assert!(
        known[&second.device].is_null() && known[&alice.device].is_object(),
        "{known}"
    );
}

#[test]
fn joining_a_room_shows_its_members_devices_and_leaving_it_ends_that() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    upload(&alice, json!({"device_keys": device_keys(&alice)}));
    upload(&bob, json!({"device_keys": device_keys(&bob)}));
    let room = alice.create_public_room();
    let (mut of_alice, mut of_bob) = (alice.follow_from_now(), bob.follow_from_now());
    bob.join(&room);
    of_alice.until("bob's devices", |answer| {
        listed(answer, "changed", &bob).then_some(())
    });
    of_bob.until("alice's devices", |answer| {
        listed(answer, "changed", &alice).then_some(())
    });
    bob.leave(&room);
    of_alice.until("the end of bob's", |answer| {
        listed(answer, "left", &bob).then_some(())
    });
    of_bob.until("the end of alice's", |answer| {
        listed(answer, "left", &alice).then_some(())
    });
}

#[test]
fn leaving_one_of_two_shared_rooms_is_no_leaving() {
    let server = server();
    let (alice, bob, first) = pair(&server);
    let second = alice.create_public_room();
    bob.join(&second);
    let since = alice.sync(None, "").next_batch().to_owned();
    bob.leave(&first);
    let answer = alice.sync(Some(&since), "");
    assert!(!answer.joined(&first).is_null());
    assert!(!listed(&answer, "left", &bob), "{answer:?}");
    bob.leave(&second);
    let answer = alice.sync(Some(answer.next_batch()), "");
    assert!(listed(&answer, "left", &bob), "{answer:?}");
}

#[test]
fn the_changes_between_two_tokens_can_be_asked_for() {
    let server = server();
    let (alice, bob, _) = pair(&server);
    let from = bob.sync(None, "").next_batch().to_owned();
    upload(&alice, json!({"device_keys": device_keys(&alice)}));
    let to = bob.sync(Some(&from), "").next_batch().to_owned();
    let path = |from: &str, to: &str| {
        format!(
            "/v3/keys/changes?from={}&to={}",
            testkit::encode(from),
            testkit::encode(to)
        )
    };
    let changes = bob.get(&path(&from, &to)).ok();
    assert!(
        strings(&changes["changed"]).contains(&alice.id.as_str()),
        "{changes}"
    );
    assert!(changes["left"].is_array(), "{changes}");
    let none = bob.get(&path(&to, &to)).ok();
    assert!(
        !strings(&none["changed"]).contains(&alice.id.as_str()),
        "{none}"
    );
}

#[test]
fn queries_and_claims_of_the_wrong_shape_are_refused() {
    let server = server();
    let alice = server.register("alice");
    for body in [
        json!({"device_keys": {alice.id.clone(): "no list"}}),
        json!({}),
        json!([]),
    ] {
        let answer = alice.post("/v3/keys/query", body);
        assert_eq!(answer.status, 400, "{answer}");
    }
    for body in [
        json!({"one_time_keys": []}),
        json!({"one_time_keys": {alice.id.clone(): 7}}),
    ] {
        let answer = alice.post("/v3/keys/claim", body);
        assert_eq!(answer.status, 400, "{answer}");
    }
}

#[test]
fn the_key_count_comes_with_a_sync() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    upload(
        &alice,
        json!({"one_time_keys": one_time_keys(&["AAAA", "BBBB", "CCCC"])}),
    );
    let first = alice.sync(None, "");
    assert_eq!(counts(&first), 3);
    claim(&bob, &alice).expect("a key");
    let second = alice.sync(Some(first.next_batch()), "");
    assert_eq!(counts(&second), 2, "{second:?}");
}
