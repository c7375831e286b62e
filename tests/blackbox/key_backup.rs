//! Server-side key backups.

use serde_json::{Value, json};
use testkit::User;

use crate::server;

fn auth(name: &str) -> Value {
    json!({"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {"public_key": name}})
}

fn create(user: &User, name: &str) -> String {
    let answer = user.post("/v3/room_keys/version", auth(name)).ok();
    answer["version"].as_str().expect("a version").to_owned()
}

fn key(index: u64, verified: bool, forwarded: u64, data: &str) -> Value {
    json!({
        "first_message_index": index, "is_verified": verified, "forwarded_count": forwarded,
        "session_data": {"ciphertext": data},
    })
}

fn keys_path(version: &str, rest: &str) -> String {
    format!("/v3/room_keys/keys{rest}?version={version}")
}

#[test]
fn a_backup_has_a_version_an_etag_and_a_count() {
    let server = server();
    let user = server.register("alice");
    user.get("/v3/room_keys/version").error(404, "M_NOT_FOUND");
    let version = create(&user, "first");
    let latest = user.get("/v3/room_keys/version").ok();
    assert_eq!(latest["version"], version);
    assert_eq!(latest["auth_data"], json!({"public_key": "first"}));
    assert_eq!(latest["count"], 0);
    assert!(latest["etag"].is_string(), "{latest}");
    assert_eq!(
        user.get(&format!("/v3/room_keys/version/{version}")).ok(),
        latest
    );
}

#[test]
fn keys_are_kept_by_room_and_session() {
    let server = server();
    let user = server.register("alice");
    let version = create(&user, "first");
    let one = key(0, false, 0, "one");
    let path = keys_path(&version, "/!r:x/session1");
    let answer = user.put(&path, one.clone()).ok();
    assert_eq!(answer["count"], 1);
    let before = answer["etag"].clone();
    let rooms = json!({"rooms": {
        "!r:x": {"sessions": {"session2": key(0, false, 0, "two")}},
        "!q:x": {"sessions": {"session3": key(0, false, 0, "three")}},
    }});
    let answer = user.put(&keys_path(&version, ""), rooms).ok();
    assert_eq!(answer["count"], 3);
    assert_ne!(answer["etag"], before, "the etag changes with the content");
    assert_eq!(user.get(&path).ok(), one);
    let room = user.get(&keys_path(&version, "/!r:x")).ok();
    assert_eq!(
        room["sessions"].as_object().map(|sessions| sessions.len()),
        Some(2)
    );
    let all = user.get(&keys_path(&version, "")).ok();
    assert_eq!(
        all["rooms"]["!q:x"]["sessions"]["session3"],
        key(0, false, 0, "three")
    );
}

#[test]
fn a_better_key_replaces_a_worse_one_and_never_the_other_way() {
    let server = server();
    let user = server.register("alice");
    let version = create(&user, "first");
    let path = keys_path(&version, "/!r:x/session");
    let kept = |offered: Value| {
        user.put(&path, offered).ok();
        user.get(&path).ok()["session_data"]["ciphertext"].clone()
    };
    assert_eq!(kept(key(5, false, 5, "a")), "a");
    assert_eq!(kept(key(6, false, 0, "b")), "a", "a higher index is worse");
    assert_eq!(kept(key(5, false, 6, "c")), "a", "more forwarding is worse");
    assert_eq!(
        kept(key(5, false, 4, "d")),
        "d",
        "less forwarding is better"
    );
    assert_eq!(kept(key(4, false, 9, "e")), "e", "a lower index is better");
    assert_eq!(kept(key(9, true, 9, "f")), "f", "a verified key is better");
    assert_eq!(
        kept(key(0, false, 0, "g")),
        "f",
        "an unverified one is worse"
    );
}

#[test]
fn only_the_latest_version_takes_keys() {
    let server = server();
    let user = server.register("alice");
    let old = create(&user, "first");
    let new = create(&user, "second");
    assert_ne!(old, new);
    let answer = user.put(&keys_path(&old, "/!r:x/session"), key(0, false, 0, "x"));
    let body = answer.error(403, "M_WRONG_ROOM_KEYS_VERSION");
    assert_eq!(body["current_version"], new);
    user.put(&keys_path(&new, "/!r:x/session"), key(0, false, 0, "x"))
        .ok();
}

#[test]
fn a_deleted_backup_is_gone_and_the_one_before_it_is_the_latest() {
    let server = server();
    let user = server.register("alice");
    let old = create(&user, "first");
    let new = create(&user, "second");
    user.delete(&format!("/v3/room_keys/version/{new}")).ok();
    user.get(&format!("/v3/room_keys/version/{new}"))
        .error(404, "M_NOT_FOUND");
    assert_eq!(user.get("/v3/room_keys/version").ok()["version"], old);
    let answer = user.put(&keys_path(&new, "/!r:x/session"), key(0, false, 0, "x"));
    assert!(matches!(answer.status, 403 | 404), "{answer}");
    assert_ne!(create(&user, "third"), new, "versions are not used again");
}

#[test]
fn the_auth_data_can_be_changed_but_not_the_algorithm() {
    let server = server();
    let user = server.register("alice");
    let version = create(&user, "first");
    let path = format!("/v3/room_keys/version/{version}");
    user.put(&path, auth("changed")).ok();
    assert_eq!(
        user.get(&path).ok()["auth_data"],
        json!({"public_key": "changed"})
    );
    let other = json!({"algorithm": "org.example.other", "auth_data": {}});
    let answer = user.put(&path, other);
    assert_eq!(answer.status, 400, "{answer}");
    let mut mismatch = auth("again");
    mismatch["version"] = json!("9999");
    let answer = user.put(&path, mismatch);
    assert_eq!(answer.status, 400, "{answer}");
}

#[test]
fn keys_are_deleted_one_by_one_by_room_and_all() {
    let server = server();
    let user = server.register("alice");
    let version = create(&user, "first");
    let fill = || {
        let sessions = json!({"sessions": {
            "s1": key(0, false, 0, "1"), "s2": key(0, false, 0, "2"),
        }});
        let rooms = json!({"rooms": {"!r:x": sessions, "!q:x": sessions}});
        user.put(&keys_path(&version, ""), rooms).ok();
    };
    for (rest, left) in [("/!r:x/s1", 3), ("/!r:x", 2), ("", 0)] {
        fill();
        assert_eq!(
            user.delete(&keys_path(&version, rest)).ok()["count"],
            left,
            "{rest}"
        );
    }
    user.get(&keys_path(&version, "/!r:x/s1"))
        .error(404, "M_NOT_FOUND");
    assert_eq!(user.get(&keys_path(&version, "")).ok()["rooms"], json!({}));
}

#[test]
fn backups_of_others_are_not_seen() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let version = create(&alice, "first");
    bob.get("/v3/room_keys/version").error(404, "M_NOT_FOUND");
    bob.get(&keys_path(&version, "")).error(404, "M_NOT_FOUND");
}

#[test]
fn keys_of_the_wrong_shape_are_refused() {
    let server = server();
    let user = server.register("alice");
    let version = create(&user, "first");
    for body in [json!({}), json!({"first_message_index": "zero"}), json!([])] {
        let answer = user.put(&keys_path(&version, "/!r:x/session"), body);
        assert_eq!(answer.status, 400, "{answer}");
    }
    assert_eq!(user.get("/v3/room_keys/version").ok()["count"], 0);
}
