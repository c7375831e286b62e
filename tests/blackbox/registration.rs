//! Account registration.

use serde_json::{Value, json};
use testkit::User;

use crate::server;

#[test]
fn registration_offers_its_flows_first() {
    let server = server();
    let answer = server
        .client()
        .post("/v3/register", json!({"password": "a long password"}));
    assert_eq!(answer.status, 401, "{answer}");
    let offered = answer.value();
    assert!(offered["session"].is_string(), "{offered}");
    let dummy = json!(["m.login.dummy"]);
    let flows = offered["flows"].as_array().cloned().unwrap_or_default();
    assert!(
        flows.iter().any(|flow| flow["stages"] == dummy),
        "{offered}"
    );
    assert!(
        offered["errcode"].is_null(),
        "the first answer is no failure: {offered}"
    );
}

#[test]
fn a_session_completes_with_the_dummy_stage() {
    let server = server();
    let client = server.client();
    let body = json!({"password": "a long password", "initial_device_display_name": "phone"});
    let session = client.post("/v3/register", body.clone()).value()["session"].clone();
    let mut body = body;
    body["auth"] = json!({"type": "m.login.dummy", "session": session});
    let account = client.post("/v3/register", body).ok();
    let token = account["access_token"].as_str().expect("an access token");
    let device = account["device_id"].as_str().expect("a device id");
    let devices = client
        .with_token(token)
        .get(&format!("/v3/devices/{device}"))
        .ok();
    assert_eq!(devices["display_name"], "phone");
}

#[test]
fn registration_gives_a_token_that_says_who_one_is() {
    let server = server();
    let user = server.register("alice");
    let who = user.get("/v3/account/whoami").ok();
    assert_eq!(who["user_id"], user.id);
    assert_eq!(who["device_id"], user.device);
    assert!(
        who["is_guest"].is_null() || who["is_guest"] == false,
        "{who}"
    );
}

#[test]
fn the_device_id_asked_for_is_given() {
    let server = server();
    let other = server.register("other");
    let body = json!({
        "username": format!("{}x", other.localpart()), "password": "a long password",
        "device_id": "TESTDEVICE", "auth": {"type": "m.login.dummy"},
    });
    let account = server.client().post("/v3/register", body).ok();
    assert_eq!(account["device_id"], "TESTDEVICE");
}

#[test]
fn inhibit_login_makes_an_account_without_a_device() {
    let server = server();
    let name = format!("{}y", server.register("other").localpart());
    let body = json!({
        "username": name, "password": "a long password", "inhibit_login": true,
        "auth": {"type": "m.login.dummy"},
    });
    let account = server.client().post("/v3/register", body).ok();
    assert!(
        account["user_id"]
            .as_str()
            .is_some_and(|id| id.contains(&name)),
        "{account}"
    );
    assert_eq!(account["access_token"], Value::Null);
    assert_eq!(account["device_id"], Value::Null);
}

#[test]
fn names_in_use_are_refused_before_and_after_authentication() {
    let server = server();
    let user = server.register("alice");
    let body = json!({"username": user.localpart(), "password": "another password"});
    server
        .client()
        .post("/v3/register", body.clone())
        .error(400, "M_USER_IN_USE");
    let mut body = body;
    body["auth"] = json!({"type": "m.login.dummy"});
    server
        .client()
        .post("/v3/register", body)
        .error(400, "M_USER_IN_USE");
    let path = format!("/v3/register/available?username={}", user.localpart());
    server.client().get(&path).error(400, "M_USER_IN_USE");
}

#[test]
fn names_outside_the_grammar_are_refused() {
    let server = server();
    for name in [
        "with space",
        "h\u{e9}l\u{e8}ne",
        "a:b",
        "semi;colon",
        "@sign",
        "#hash",
    ] {
        let body = json!({
            "username": name, "password": "a long password", "auth": {"type": "m.login.dummy"},
        });
        server
            .client()
            .post("/v3/register", body)
            .error(400, "M_INVALID_USERNAME");
        let path = format!("/v3/register/available?username={}", testkit::encode(name));
        server.client().get(&path).error(400, "M_INVALID_USERNAME");
    }
}

#[test]
fn upper_case_names_become_lower_case() {
    let server = server();
    let name = server.register("other").localpart().to_uppercase();
    let body = json!({
        "username": format!("{name}-B"), "password": "a long password",
        "auth": {"type": "m.login.dummy"},
    });
    let account = server.client().post("/v3/register", body).ok();
    let id = account["user_id"].as_str().expect("a user id");
    assert!(
        id.starts_with(&format!("@{}-b:", name.to_lowercase())),
        "{id}"
    );
}

#[test]
fn names_that_are_too_long_are_refused() {
    let server = server();
    let body = json!({
        "username": "a".repeat(256), "password": "a long password",
        "auth": {"type": "m.login.dummy"},
    });
    server
        .client()
        .post("/v3/register", body)
        .error(400, "M_INVALID_USERNAME");
}

#[test]
fn free_names_are_available() {
    let server = server();
    let name = format!("{}z", server.register("other").localpart());
    let answer = server
        .client()
        .get(&format!("/v3/register/available?username={name}"))
        .ok();
    assert_eq!(answer["available"], true);
}

#[test]
fn stages_that_are_unknown_or_of_another_session_do_not_register() {
    let server = server();
    let body = json!({
        "password": "a long password", "auth": {"type": "m.login.dummy", "session": "no such"},
    });
    let answer = server.client().post("/v3/register", body);
    assert!(matches!(answer.status, 400 | 401 | 403), "{answer}");
    let body = json!({"password": "a long password", "auth": {"type": "org.example.unknown"}});
    let answer = server.client().post("/v3/register", body);
    assert!(matches!(answer.status, 400 | 401), "{answer}");
}

#[test]
fn an_authenticated_session_registers_only_once() {
    let server = server();
    let client = server.client();
    let name = format!("{}s", server.register("other").localpart());
    let session = client.post("/v3/register", json!({})).value()["session"].clone();
    let body = |name: &str| {
        json!({
            "username": name, "password": "a long password",
            "auth": {"type": "m.login.dummy", "session": session},
        })
    };
    let first = client.post("/v3/register", body(&name));
    assert_eq!(first.status, 200, "{first}");
    let second = client.post("/v3/register", body(&format!("{name}2")));
    let two = second.status == 200
        && second.value()["user_id"].as_str() != first.value()["user_id"].as_str();
    assert!(!two, "one session made two accounts: {second}");
}

#[test]
fn users_of_one_server_have_accounts_of_their_own() {
    let server = server();
    let users: Vec<User> = (0..3).map(|_| server.register("same")).collect();
    for user in &users {
        assert_eq!(user.get("/v3/account/whoami").ok()["user_id"], user.id);
    }
}
