//! Account management: the password, deactivation, third-party identifiers.

use serde_json::{Value, json};
use testkit::{Response, User};

use crate::server;

/// Makes a request that asks for interactive authentication, then again with the password.
fn with_password(user: &User, path: &str, body: &Value) -> Response {
    let first = user.post(path, body.clone());
    assert_eq!(first.status, 401, "{first}");
    let asked = first.value();
    let stage = |flow: &Value| flow["stages"] == json!(["m.login.password"]);
    let flows = asked["flows"].as_array().cloned().unwrap_or_default();
    assert!(flows.iter().any(stage), "{asked}");
    let mut body = body.clone();
    body["auth"] = user.password_auth(&asked["session"]);
    user.post(path, body)
}

fn can_log_in(user: &User, password: &str) -> bool {
    let body = json!({
        "type": "m.login.password", "password": password,
        "identifier": {"type": "m.id.user", "user": user.id},
    });
    user.without_token().post("/v3/login", body).status == 200
}

#[test]
fn the_password_is_changed_after_authentication() {
    let server = server();
    let user = server.register("alice");
    let body = json!({"new_password": "the new password"});
    with_password(&user, "/v3/account/password", &body).ok();
    assert!(can_log_in(&user, "the new password"));
    assert!(!can_log_in(&user, &user.password));
}

#[test]
fn a_password_change_ends_the_other_devices_but_not_this_one() {
    let server = server();
    let user = server.register("alice");
    let other = user.login_again();
    with_password(
        &user,
        "/v3/account/password",
        &json!({"new_password": "the new password"}),
    )
    .ok();
    user.get("/v3/account/whoami").ok();
    other
        .get("/v3/account/whoami")
        .error(401, "M_UNKNOWN_TOKEN");
}

#[test]
fn a_password_change_can_leave_the_other_devices() {
    let server = server();
    let user = server.register("alice");
    let other = user.login_again();
    let body = json!({"new_password": "the new password", "logout_devices": false});
    with_password(&user, "/v3/account/password", &body).ok();
    other.get("/v3/account/whoami").ok();
}

#[test]
fn a_wrong_password_changes_no_password() {
    let server = server();
    let user = server.register("alice");
    let mut body = json!({"new_password": "the new password"});
    let session = user.post("/v3/account/password", body.clone()).value()["session"].clone();
    body["auth"] = user.password_auth(&session);
    body["auth"]["password"] = json!("wrong");
    let answer = user.post("/v3/account/password", body);
    assert!(matches!(answer.status, 401 | 403), "{answer}");
    assert_eq!(answer.value()["errcode"], "M_FORBIDDEN", "{answer}");
    assert!(can_log_in(&user, &user.password));
}

#[test]
fn somebody_elses_password_authorises_nothing() {
    let server = server();
    let (user, other) = (server.register("alice"), server.register("bob"));
    let mut body = json!({"new_password": "the new password"});
    let session = user.post("/v3/account/password", body.clone()).value()["session"].clone();
    body["auth"] = other.password_auth(&session);
    let answer = user.post("/v3/account/password", body);
    assert!(matches!(answer.status, 401 | 403), "{answer}");
    assert!(can_log_in(&user, &user.password));
}

#[test]
fn a_deactivated_account_is_out_of_its_rooms_and_cannot_come_back() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    bob.join(&room);
    let answer = with_password(&bob, "/v3/account/deactivate", &json!({})).ok();
    assert!(answer["id_server_unbind_result"].is_string(), "{answer}");
    bob.get("/v3/account/whoami").error(401, "M_UNKNOWN_TOKEN");
    assert!(!can_log_in(&bob, &bob.password));
    testkit::until("the deactivated user leaves the room", || {
        let members = alice.get(&format!("/v3/rooms/{room}/joined_members")).ok();
        members["joined"][&bob.id].is_null().then_some(())
    });
    let body = json!({
        "username": bob.localpart(), "password": "again", "auth": {"type": "m.login.dummy"},
    });
    server
        .client()
        .post("/v3/register", body)
        .error(400, "M_USER_IN_USE");
}

#[test]
fn a_new_account_has_no_third_party_identifiers() {
    let server = server();
    let user = server.register("alice");
    assert_eq!(user.get("/v3/account/3pid").ok()["threepids"], json!([]));
}
