//! Server administration: versions, capabilities, `.well-known`, and CORS.

use serde_json::Value;

use crate::{server, strings};

#[test]
fn versions_are_told_without_a_token() {
    let server = server();
    let versions = server.client().get("/versions").ok();
    let supported = strings(&versions["versions"]);
    for wanted in ["v1.1", "v1.11", "v1.12"] {
        assert!(supported.contains(&wanted), "{versions}");
    }
}

#[test]
fn capabilities_name_the_room_versions_and_need_a_token() {
    let server = server();
    server
        .client()
        .get("/v3/capabilities")
        .error(401, "M_MISSING_TOKEN");
    let user = server.register("alice");
    let capabilities = user.get("/v3/capabilities").ok();
    let room_versions = &capabilities["capabilities"]["m.room_versions"];
    let default = room_versions["default"]
        .as_str()
        .expect("a default room version");
    let available = &room_versions["available"];
    assert_eq!(available[default], "stable", "{capabilities}");
    for version in ["10", "11", "12"] {
        assert_eq!(available[version], "stable", "{capabilities}");
    }
    assert_eq!(
        capabilities["capabilities"]["m.change_password"]["enabled"],
        true
    );
}

#[test]
fn every_answer_may_be_read_by_a_web_page_of_any_origin() {
    let server = server();
    let client = server.client();
    for path in [
        "/versions",
        "/v3/account/whoami",
        "/v3/there_is_no_such_thing",
    ] {
        let answer = client.get(path);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("*"),
            "{answer}"
        );
    }
}

#[test]
fn preflight_requests_are_answered_without_a_token() {
    let server = server();
    let headers = [
        ("Origin", "https://client.example"),
        ("Access-Control-Request-Method", "PUT"),
        (
            "Access-Control-Request-Headers",
            "authorization, content-type",
        ),
    ];
    let path = "/v3/rooms/!a:b/send/m.room.message/1";
    let answer = server
        .client()
        .exchange("OPTIONS", path, &headers, Vec::new());
    assert!(answer.status == 200 || answer.status == 204, "{answer}");
    let list = |name: &str| answer.header(name).unwrap_or_default().to_ascii_lowercase();
    assert_eq!(list("access-control-allow-origin"), "*");
    for method in ["get", "post", "put", "delete", "options"] {
        assert!(
            list("access-control-allow-methods").contains(method),
            "{method}"
        );
    }
    for header in ["x-requested-with", "content-type", "authorization"] {
        assert!(
            list("access-control-allow-headers").contains(header),
            "{header}"
        );
    }
}

#[test]
fn old_path_prefixes_reach_the_same_endpoints() {
    let server = server();
    let user = server.register("alice");
    let of_now = user.get("/v3/account/whoami").ok();
    let of_old = user.get("/r0/account/whoami").ok();
    assert_eq!(of_now, of_old);
}

#[test]
fn a_get_of_the_login_flows_offers_passwords() {
    let server = server();
    let flows = server.client().get("/v3/login").ok();
    let offered = flows["flows"].as_array().cloned().unwrap_or_default();
    let has = |flow: &Value| flow["type"] == "m.login.password";
    assert!(offered.iter().any(has), "{flows}");
}
