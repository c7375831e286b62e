//! Server administration: who is who, locking and suspending accounts.

use serde_json::json;
use testkit::{Client, Server, User};

use crate::configured::proof;
use crate::options;

/// A server, and an administrator made by its shared secret.
fn server_with_administrator() -> (Server, Client) {
    let mut options = options();
    options.shared_secret = Some("a secret".to_owned());
    let server = Server::start(options);
    let client = server.client();
    let path = "/_synapse/admin/v1/register";
    let nonce = client.get(path).ok()["nonce"].clone();
    let nonce = nonce.as_str().expect("a nonce");
    let fields = format!("{nonce}\0boss\0a long password\0admin");
    let body = json!({
        "nonce": nonce, "username": "boss", "password": "a long password", "admin": true,
        "mac": proof("a secret", &fields),
    });
    let account = client.post(path, body).ok();
    let token = account["access_token"].as_str().expect("a token");
    (server, client.with_token(token))
}

fn lock(of: &User) -> String {
    format!("/v1/admin/lock/{}", of.id)
}

fn suspend(of: &User) -> String {
    format!("/v1/admin/suspend/{}", of.id)
}

#[test]
fn a_locked_account_is_softly_logged_out_until_it_is_unlocked() {
    let (server, administrator) = server_with_administrator();
    let user = server.register("alice");
    let path = lock(&user);
    assert_eq!(administrator.get(&path).ok(), json!({"locked": false}));
    let answer = administrator.put(&path, json!({"locked": true})).ok();
    assert_eq!(answer, json!({"locked": true}));
    let refused = user.get("/v3/account/whoami").error(401, "M_USER_LOCKED");
    assert_eq!(refused["soft_logout"], true);
    administrator.put(&path, json!({"locked": false})).ok();
    user.get("/v3/account/whoami").ok();
    administrator.put(&path, json!({"locked": true})).ok();
    user.post("/v3/logout", json!({})).ok();
    user.get("/v3/account/whoami").error(401, "M_UNKNOWN_TOKEN");
}

#[test]
fn a_suspended_account_reads_but_does_not_write() {
    let (server, administrator) = server_with_administrator();
    let user = server.register("alice");
    let room = user.create_public_room();
    administrator
        .put(&suspend(&user), json!({"suspended": true}))
        .ok();
    assert_eq!(
        administrator.get(&suspend(&user)).ok(),
        json!({"suspended": true})
    );
    let content = json!({"msgtype": "m.text", "body": "let me speak"});
    user.try_send(&room, "m.room.message", content)
        .error(403, "M_USER_SUSPENDED");
    let name = format!("/v3/profile/{}/displayname", user.id);
    user.put(&name, json!({"displayname": "free"}))
        .error(403, "M_USER_SUSPENDED");
    assert!(!user.sync(None, "").joined(&room).is_null());
    administrator
        .put(&suspend(&user), json!({"suspended": false}))
        .ok();
    user.say(&room, "thank you");
}

#[test]
fn only_administrators_moderate_and_not_each_other() {
    let (server, administrator) = server_with_administrator();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    for path in [lock(&bob), suspend(&bob)] {
        alice.get(&path).error(403, "M_FORBIDDEN");
        let body = json!({"locked": true, "suspended": true});
        alice.put(&path, body).error(403, "M_FORBIDDEN");
    }
    bob.get("/v3/account/whoami").ok();
    let boss = format!("/v1/admin/lock/@boss:{}", server.name());
    administrator.get(&boss).error(403, "M_FORBIDDEN");
    let nobody = format!("/v1/admin/lock/@nobody:{}", server.name());
    administrator.get(&nobody).error(404, "M_NOT_FOUND");
    administrator
        .get("/v1/admin/lock/@far:elsewhere.example")
        .error(400, "M_INVALID_PARAM");
}

#[test]
fn administrators_and_oneself_see_the_devices_of_an_account() {
    let (server, administrator) = server_with_administrator();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let path = format!("/v3/admin/whois/{}", alice.id);
    for client in [&administrator, &*alice] {
        let told = client.get(&path).ok();
        assert_eq!(told["user_id"], alice.id);
        assert!(
            told["devices"][&alice.device]["sessions"].is_array(),
            "{told}"
        );
    }
    bob.get(&path).error(403, "M_FORBIDDEN");
}
