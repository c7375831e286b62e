//! Cross-signing: the three keys of a user, the signatures that they make, and who sees what.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use testkit::{Response, SyncAnswer, User};

use crate::{pair, server, strings};

const UPLOAD: &str = "/v3/keys/device_signing/upload";

/// A user's cross-signing keys with their secrets.
struct Keys {
    user: String,
    master: SigningKey,
    self_signing: SigningKey,
    user_signing: SigningKey,
}

fn public(key: &SigningKey) -> String {
    BASE64.encode(key.verifying_key().as_bytes())
}

/// Signs an object whose keys are in canonical order already.
fn sign(object: &mut Value, user: &str, key_id: &str, key: &SigningKey) {
    let signature = BASE64.encode(key.sign(object.to_string().as_bytes()).to_bytes());
    object["signatures"] = json!({user: {key_id: signature}});
}

impl Keys {
    /// Keys made from a number, so that two numbers are two identities.
    fn new(user: &User, seed: u8) -> Self {
        let key = |part: u8| SigningKey::from_bytes(&[seed.wrapping_mul(3).wrapping_add(part); 32]);
        Self {
            user: user.id.clone(),
            master: key(1),
            self_signing: key(2),
            user_signing: key(3),
        }
    }

    fn key(&self, usage: &str, key: &SigningKey) -> Value {
        let public = public(key);
        json!({
            "keys": {format!("ed25519:{public}"): public}, "usage": [usage], "user_id": self.user,
        })
    }

    /// A key that the master key vouches for.
    fn signed(&self, usage: &str, key: &SigningKey) -> Value {
        let mut object = self.key(usage, key);
        let id = format!("ed25519:{}", public(&self.master));
        sign(&mut object, &self.user, &id, &self.master);
        object
    }

    fn body(&self) -> Value {
        json!({
            "master_key": self.key("master", &self.master),
            "self_signing_key": self.signed("self_signing", &self.self_signing),
            "user_signing_key": self.signed("user_signing", &self.user_signing),
        })
    }
}

/// Uploads with the password, where it is asked for.
fn upload(user: &User, mut body: Value) -> Response {
    let first = user.post(UPLOAD, body.clone());
    if first.status != 401 {
        return first;
    }
    body["auth"] = user.password_auth(&first.value()["session"]);
    user.post(UPLOAD, body)
}

fn query(by: &User, of: &User) -> Value {
    by.post(
        "/v3/keys/query",
        json!({"device_keys": {of.id.clone(): []}}),
    )
    .ok()
}

fn master(by: &User, of: &User) -> Value {
    query(by, of)["master_keys"][&of.id]["keys"].clone()
}

fn changed(answer: &SyncAnswer, user: &User) -> Option<()> {
    strings(&answer.0["device_lists"]["changed"])
        .contains(&user.id.as_str())
        .then_some(())
}

#[test]
fn the_first_keys_need_no_password_and_others_do() {
    let server = server();
    let alice = server.register("alice");
    let (first, second) = (Keys::new(&alice, 1), Keys::new(&alice, 2));
    alice.post(UPLOAD, first.body()).ok();
    assert_eq!(
        alice.post(UPLOAD, first.body()).status,
        200,
        "the same again is no change"
    );
    let asked = alice.post(UPLOAD, second.body());
    assert_eq!(asked.status, 401, "{asked}");
    assert!(asked.value()["session"].is_string(), "{asked}");
    assert_eq!(master(&alice, &alice), first.body()["master_key"]["keys"]);
    upload(&alice, second.body()).ok();
    assert_eq!(master(&alice, &alice), second.body()["master_key"]["keys"]);
}

#[test]
fn the_user_signing_key_is_for_its_user_alone() {
    let server = server();
    let (alice, bob, _) = pair(&server);
    upload(&alice, Keys::new(&alice, 1).body()).ok();
    let own = query(&alice, &alice);
    assert!(own["user_signing_keys"][&alice.id].is_object(), "{own}");
    let seen = query(&bob, &alice);
    assert!(seen["master_keys"][&alice.id].is_object(), "{seen}");
    assert!(seen["self_signing_keys"][&alice.id].is_object(), "{seen}");
    assert!(seen["user_signing_keys"][&alice.id].is_null(), "{seen}");
}

#[test]
fn new_keys_are_a_change_of_the_device_list() {
    let server = server();
    let (alice, bob, _) = pair(&server);
    let mut follower = bob.follow_from_now();
    upload(&alice, Keys::new(&alice, 1).body()).ok();
    follower.until("alice's keys", |answer| changed(answer, &alice));
}

#[test]
fn keys_of_another_user_and_keys_without_a_master_are_refused() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let of_bob = upload(&alice, Keys::new(&bob, 1).body());
    assert_eq!(of_bob.status, 400, "{of_bob}");
    let mut without_master = Keys::new(&alice, 1).body();
    without_master
        .as_object_mut()
        .expect("an object")
        .remove("master_key");
    let without_master = upload(&alice, without_master);
    assert_eq!(without_master.status, 400, "{without_master}");
    assert!(master(&alice, &alice).is_null());
}

#[test]
fn a_key_that_the_master_did_not_sign_is_refused() {
    let server = server();
    let alice = server.register("alice");
    let (keys, others) = (Keys::new(&alice, 1), Keys::new(&alice, 2));
    let mut body = keys.body();
    body["self_signing_key"] = others.body()["self_signing_key"].clone();
    let answer = upload(&alice, body);
    answer.error(400, "M_INVALID_SIGNATURE");
    assert!(master(&alice, &alice).is_null(), "nothing was changed");
}

#[test]
fn signatures_on_ones_own_device_are_seen_by_others() {
    let server = server();
    let (alice, bob, _) = pair(&server);
    let device_key = format!("ed25519:{}", alice.device);
    let own = SigningKey::from_bytes(&[9; 32]);
    let mut device = json!({
        "algorithms": ["m.olm.v1.curve25519-aes-sha2"], "device_id": alice.device,
        "keys": {device_key.clone(): public(&own)}, "user_id": alice.id,
    });
    let unsigned = device.clone();
    sign(&mut device, &alice.id, &device_key, &own);
    alice
        .post("/v3/keys/upload", json!({"device_keys": device}))
        .ok();
    let keys = Keys::new(&alice, 1);
    upload(&alice, keys.body()).ok();
    let mut follower = bob.follow_from_now();

    let mut signed = unsigned;
    let key_id = format!("ed25519:{}", public(&keys.self_signing));
    sign(&mut signed, &alice.id, &key_id, &keys.self_signing);
    let body = json!({alice.id.clone(): {alice.device.clone(): signed}});
    let answer = alice.post("/v3/keys/signatures/upload", body).ok();
    assert!(
        answer["failures"].is_null() || answer["failures"] == json!({}),
        "{answer}"
    );

    follower.until("the signature", |answer| changed(answer, &alice));
    let seen = query(&bob, &alice)["device_keys"][&alice.id][&alice.device].clone();
    let signatures = &seen["signatures"][&alice.id];
    assert_eq!(
        signatures[&key_id], signed["signatures"][&alice.id][&key_id],
        "{seen}"
    );
    assert_eq!(
        signatures[&device_key], device["signatures"][&alice.id][&device_key],
        "{seen}"
    );
}

#[test]
fn signatures_on_other_users_are_seen_only_by_who_made_them() {
    let server = server();
    let (alice, bob, _) = pair(&server);
    let (of_alice, of_bob) = (Keys::new(&alice, 1), Keys::new(&bob, 2));
    upload(&alice, of_alice.body()).ok();
    upload(&bob, of_bob.body()).ok();
    let key_id = format!("ed25519:{}", public(&of_alice.user_signing));
    let mut signed = of_bob.key("master", &of_bob.master);
    sign(&mut signed, &alice.id, &key_id, &of_alice.user_signing);
    let body = json!({bob.id.clone(): {public(&of_bob.master): signed}});
    alice.post("/v3/keys/signatures/upload", body).ok();
    let signature = |by: &User| {
        query(by, &bob)["master_keys"][&bob.id]["signatures"][&alice.id][&key_id].clone()
    };
    assert!(signature(&alice).is_string());
    assert!(signature(&bob).is_null());
}

#[test]
fn signatures_that_are_wrong_are_told_one_by_one() {
    let server = server();
    let alice = server.register("alice");
    let keys = Keys::new(&alice, 1);
    upload(&alice, keys.body()).ok();
    let key_id = format!("ed25519:{}", public(&keys.self_signing));
    let unknown = json!({
        "algorithms": [], "device_id": "NOSUCHDEVICE", "keys": {},
        "signatures": {alice.id.clone(): {key_id: "AAAA"}}, "user_id": alice.id,
    });
    let body = json!({alice.id.clone(): {"NOSUCHDEVICE": unknown}});
    let answer = alice.post("/v3/keys/signatures/upload", body).ok();
    let failure = &answer["failures"][&alice.id]["NOSUCHDEVICE"];
    assert!(failure["errcode"].is_string(), "{answer}");
}
