//! Login, logout, tokens and their refreshing.

use serde_json::{Value, json};
use testkit::{Response, User};

use crate::server;

fn login(user: &User, identifier: &Value, password: &str) -> Response {
    let body = json!({
        "type": "m.login.password", "identifier": identifier, "password": password,
    });
    user.without_token().post("/v3/login", body)
}

fn by_id(id: &str) -> Value {
    json!({"type": "m.id.user", "user": id})
}

#[test]
fn users_log_in_by_full_id_and_by_localpart() {
    let server = server();
    let user = server.register("alice");
    for name in [user.id.as_str(), user.localpart()] {
        let answer = login(&user, &by_id(name), &user.password).ok();
        assert_eq!(answer["user_id"], user.id);
        assert!(answer["access_token"].is_string() && answer["device_id"].is_string());
    }
}

#[test]
fn wrong_passwords_and_unknown_users_are_told_the_same() {
    let server = server();
    let user = server.register("alice");
    let wrong = login(&user, &by_id(&user.id), "wrong").error(403, "M_FORBIDDEN");
    let unknown = login(&user, &by_id("nobody-of-this-name"), "wrong").error(403, "M_FORBIDDEN");
    assert_eq!(wrong, unknown);
}

#[test]
fn logins_that_are_not_understood_are_refused() {
    let server = server();
    let client = server.client();
    let unknown = json!({"type": "org.example.unknown"});
    let answer = client.post("/v3/login", unknown);
    assert_eq!(answer.status, 400, "{answer}");
    let without_type = client.post("/v3/login", json!({"password": "x"}));
    assert_eq!(without_type.status, 400, "{without_type}");
    let without_user = client.post("/v3/login", json!({"type": "m.login.password"}));
    assert_eq!(without_user.status, 400, "{without_user}");
    client
        .exchange("POST", "/v3/login", &[], b"{".to_vec())
        .error(400, "M_NOT_JSON");
}

#[test]
fn a_new_login_makes_a_new_device_with_a_token_of_its_own() {
    let server = server();
    let user = server.register("alice");
    let second = user.login_again();
    assert_ne!(second.device, user.device);
    assert_ne!(second.token(), user.token());
    let who = second.get("/v3/account/whoami").ok();
    assert_eq!(
        (&who["user_id"], &who["device_id"]),
        (&json!(user.id), &json!(second.device))
    );
    user.get("/v3/account/whoami").ok();
}

#[test]
fn a_login_on_a_known_device_ends_its_old_token() {
    let server = server();
    let user = server.register("alice");
    let body = json!({
        "type": "m.login.password", "identifier": by_id(&user.id), "password": user.password,
        "device_id": user.device,
    });
    let answer = user.without_token().post("/v3/login", body).ok();
    assert_eq!(answer["device_id"], user.device);
    user.get("/v3/account/whoami").error(401, "M_UNKNOWN_TOKEN");
    let devices = user.with_token(answer["access_token"].as_str().expect("a token"));
    let count = devices.get("/v3/devices").ok()["devices"]
        .as_array()
        .map(Vec::len);
    assert_eq!(count, Some(1));
}

#[test]
fn logout_ends_the_token_and_removes_the_device() {
    let server = server();
    let user = server.register("alice");
    let second = user.login_again();
    second.post("/v3/logout", json!({})).ok();
    second
        .get("/v3/account/whoami")
        .error(401, "M_UNKNOWN_TOKEN");
    user.get(&format!("/v3/devices/{}", second.device))
        .error(404, "M_NOT_FOUND");
    user.get("/v3/account/whoami").ok();
}

#[test]
fn logout_all_ends_every_token() {
    let server = server();
    let user = server.register("alice");
    let second = user.login_again();
    second.post("/v3/logout/all", json!({})).ok();
    user.get("/v3/account/whoami").error(401, "M_UNKNOWN_TOKEN");
    second
        .get("/v3/account/whoami")
        .error(401, "M_UNKNOWN_TOKEN");
    assert_eq!(user.login_again().id, user.id);
}

#[test]
fn logout_takes_an_empty_body() {
    let server = server();
    let user = server.register("alice");
    assert_eq!(
        user.exchange("POST", "/v3/logout", &[], Vec::new()).status,
        200
    );
}

#[test]
fn refresh_tokens_are_given_only_to_who_asks() {
    let server = server();
    let user = server.register("alice");
    let plain = login(&user, &by_id(&user.id), &user.password).ok();
    assert_eq!(plain["refresh_token"], Value::Null);
    let body = json!({
        "type": "m.login.password", "identifier": by_id(&user.id), "password": user.password,
        "refresh_token": true,
    });
    let with = user.without_token().post("/v3/login", body).ok();
    assert!(with["refresh_token"].is_string(), "{with}");
}

#[test]
fn a_refresh_token_gives_new_tokens_and_ends_when_they_are_used() {
    let server = server();
    let user = server.register("alice");
    let body = json!({
        "type": "m.login.password", "identifier": by_id(&user.id), "password": user.password,
        "refresh_token": true,
    });
    let client = user.without_token();
    let first = client.post("/v3/login", body).ok();
    let token = |answer: &Value| answer["access_token"].as_str().expect("a token").to_owned();
    let second = client
        .post(
            "/v3/refresh",
            json!({"refresh_token": first["refresh_token"]}),
        )
        .ok();
    assert_ne!(token(&first), token(&second));
    let who = client
        .with_token(&token(&second))
        .get("/v3/account/whoami")
        .ok();
    assert_eq!(who["device_id"], first["device_id"]);
    // The old one ends, at the latest, when the new access token has been used.
    let again = client.post(
        "/v3/refresh",
        json!({"refresh_token": first["refresh_token"]}),
    );
    assert!(matches!(again.status, 401 | 403), "{again}");
}

#[test]
fn unknown_refresh_tokens_are_refused() {
    let server = server();
    let answer = server
        .client()
        .post("/v3/refresh", json!({"refresh_token": "nonsense"}));
    assert!(matches!(answer.status, 401 | 403), "{answer}");
}

#[test]
fn a_token_for_another_device_is_given_after_authentication_and_good_for_one_login() {
    let server = server();
    let user = server.register("alice");
    let path = "/v1/login/get_token";
    let asked = user.post(path, json!({}));
    assert_eq!(asked.status, 401, "{asked}");
    let auth = user.password_auth(&asked.value()["session"]);
    let token = user.post(path, json!({"auth": auth})).ok()["login_token"].clone();
    let body = json!({"type": "m.login.token", "token": token});
    let client = user.without_token();
    let login = client.post("/v3/login", body.clone()).ok();
    assert_eq!(login["user_id"], user.id);
    assert_ne!(login["device_id"], user.device);
    client.post("/v3/login", body).error(403, "M_FORBIDDEN");
}
