//! The standard error responses: every refusal has its code, and changes nothing.

use serde_json::json;

use crate::server;

#[test]
fn unknown_paths_are_not_found_and_unrecognized() {
    let server = server();
    for path in [
        "/v3/there_is_no_such_thing",
        "/_matrix/nothing",
        "/v9/login",
    ] {
        server.client().get(path).error(404, "M_UNRECOGNIZED");
    }
}

#[test]
fn known_paths_with_the_wrong_method_are_405_and_unrecognized() {
    let server = server();
    let client = server.client();
    client.delete("/v3/login").error(405, "M_UNRECOGNIZED");
    client
        .put("/versions", json!({}))
        .error(405, "M_UNRECOGNIZED");
    client.delete("/v3/createRoom").error(405, "M_UNRECOGNIZED");
}

#[test]
fn requests_without_a_token_are_unauthorised() {
    let server = server();
    let client = server.client();
    client
        .get("/v3/account/whoami")
        .error(401, "M_MISSING_TOKEN");
    client.get("/v3/sync").error(401, "M_MISSING_TOKEN");
    client
        .post("/v3/createRoom", json!({}))
        .error(401, "M_MISSING_TOKEN");
    client.get("/v3/joined_rooms").error(401, "M_MISSING_TOKEN");
}

#[test]
fn requests_with_an_unknown_token_are_unauthorised() {
    let server = server();
    let client = server.client().with_token("nobody_ever_got_this");
    client
        .get("/v3/account/whoami")
        .error(401, "M_UNKNOWN_TOKEN");
    client
        .post("/v3/createRoom", json!({}))
        .error(401, "M_UNKNOWN_TOKEN");
}

#[test]
fn bodies_that_are_no_json_are_refused() {
    let server = server();
    let user = server.register("alice");
    for body in ["{", "no json", "{\"name\": }", ""] {
        let answer = user.exchange("POST", "/v3/createRoom", &[], body.as_bytes().to_vec());
        answer.error(400, "M_NOT_JSON");
    }
    let rooms = user.get("/v3/joined_rooms").ok();
    assert_eq!(rooms["joined_rooms"], json!([]), "nothing was changed");
}

#[test]
fn bodies_of_the_wrong_shape_are_refused() {
    let server = server();
    let user = server.register("alice");
    for body in [
        json!([]),
        json!("text"),
        json!({"preset": 7}),
        json!({"invite": "@a:b"}),
    ] {
        let answer = user.post("/v3/createRoom", body);
        assert_eq!(answer.status, 400, "{answer}");
        let code = answer.value()["errcode"].clone();
        assert!(
            code == "M_BAD_JSON" || code == "M_INVALID_PARAM",
            "{answer}"
        );
    }
    let rooms = user.get("/v3/joined_rooms").ok();
    assert_eq!(rooms["joined_rooms"], json!([]), "nothing was changed");
}

#[test]
fn events_over_the_size_limit_are_too_large() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    let content = json!({"msgtype": "m.text", "body": "a".repeat(66_000)});
    user.try_send(&room, "m.room.message", content)
        .error(413, "M_TOO_LARGE");
    let state = json!({"topic": "a".repeat(66_000)});
    user.try_set_state(&room, "m.room.topic", "", state)
        .error(413, "M_TOO_LARGE");
    user.state(&room, "m.room.topic", "")
        .error(404, "M_NOT_FOUND");
}

#[test]
fn numbers_that_canonical_json_cannot_hold_are_refused() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    for number in ["1.5", "9007199254740992", "-9007199254740992", "1e400"] {
        let body = format!("{{\"msgtype\":\"m.text\",\"body\":\"x\",\"number\":{number}}}");
        let path = format!(
            "/v3/rooms/{room}/send/m.room.message/number{}",
            number.len()
        );
        let answer = user.exchange("PUT", &path, &[], body.into_bytes());
        assert_eq!(answer.status, 400, "{number}: {answer}");
    }
}

#[test]
fn bodies_that_are_not_utf8_are_refused() {
    let server = server();
    let user = server.register("alice");
    let body = b"{\"name\": \"\xff\xfe\"}".to_vec();
    let answer = user.exchange("POST", "/v3/createRoom", &[], body);
    answer.error(400, "M_NOT_JSON");
}

#[test]
fn rooms_that_nobody_knows_are_refused_on_every_path() {
    let server = server();
    let user = server.register("alice");
    let room = format!("!nosuchroom:{}", user.server_name());
    for path in ["state", "members", "joined_members", "messages?dir=b"] {
        let answer = user.get(&format!("/v3/rooms/{room}/{path}"));
        assert!(answer.status == 403 || answer.status == 404, "{answer}");
    }
    user.try_send(&room, "m.room.message", json!({}))
        .error(403, "M_FORBIDDEN");
}
