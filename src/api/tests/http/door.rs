//! What every request meets, whatever its endpoint.

use std::io::Read;

use crate::house::{ask, exchange, options, post_named, start};

fn assert_cors(answer: &crate::house::Answer) {
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("*"),
        "{}",
        answer.head
    );
    let methods = answer
        .header("access-control-allow-methods")
        .expect("methods");
    assert_eq!(methods, "get, post, put, delete, options");
    let headers = answer
        .header("access-control-allow-headers")
        .expect("headers");
    assert_eq!(
        headers,
        "x-requested-with, content-type, authorization, date"
    );
}

#[tokio::test]
async fn every_response_can_be_read_by_a_web_client() {
    let house = start(options());
    for (path, status) in [
        ("/_matrix/client/v3/ping", 200),
        ("/_matrix/client/v3/nothing", 404),
        ("/", 404),
        ("/_matrix/client/v3/named", 405),
        ("/_matrix/client/v3/panic", 500),
        ("/_matrix/client/v3/limited", 429),
    ] {
        let answer = ask(
            house.address,
            "GET",
            path,
            "Origin: https://app.example\r\n",
        )
        .await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{path}"
        );
        assert_cors(&answer);
    }
}

#[tokio::test]
async fn a_preflight_is_answered_on_any_path_without_reaching_the_endpoint() {
    let house = start(options());
    for path in [
        "/_matrix/client/v3/ping",
        "/_matrix/client/v3/panic",
        "/_matrix/client/v3/never",
        "/no/such/path",
    ] {
        let headers = "Origin: https://app.example\r\nAccess-Control-Request-Method: PUT\r\n";
        let answer = ask(house.address, "OPTIONS", path, headers).await;
        assert_eq!(answer.status, 204, "{path}");
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("access-control-max-age"), Some("86400"));
        assert_cors(&answer);
    }
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_unrecognized() {
    let house = start(options());
    let unknown = ask(house.address, "GET", "/_matrix/client/v3/nothing", "").await;
    assert_eq!(
        (unknown.status, unknown.errcode().as_str()),
        (404, "M_UNRECOGNIZED")
    );
    let wrong = ask(house.address, "DELETE", "/_matrix/client/v3/ping", "").await;
    assert_eq!(
        (wrong.status, wrong.errcode().as_str()),
        (405, "M_UNRECOGNIZED")
    );
    assert_eq!(wrong.header("allow"), Some("get,head"));
    let odd = ask(house.address, "BREW", "/_matrix/client/v3/ping", "").await;
    assert_eq!(
        (odd.status, odd.errcode().as_str()),
        (405, "M_UNRECOGNIZED")
    );
}

#[tokio::test]
async fn a_panic_costs_one_request_only() {
    let house = start(options());
    let request = "GET /_matrix/client/v3/panic HTTP/1.1\r\nHost: h\r\n\r\n\
                   GET /_matrix/client/v3/ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let first = exchange(house.address, request).await;
    assert_eq!(first.status, 500);
    let both = String::from_utf8(first.body).expect("text");
    assert!(
        both.starts_with(r#"{"errcode":"M_UNKNOWN","error":"Internal server error"}"#),
        "{both}"
    );
    assert!(
        both.contains("HTTP/1.1 200 OK"),
        "the connection serves on: {both}"
    );
}

#[tokio::test]
async fn bad_bodies_get_the_code_that_names_their_fault() {
    let house = start(options());
    let cases: [(&[u8], u16, &str); 7] = [
        (b"", 400, "M_NOT_JSON"),
        (b"{\"name\":", 400, "M_NOT_JSON"),
        (b"{\"name\":\"\xc3\x28\"}", 400, "M_NOT_JSON"),
        (b"[]", 400, "M_BAD_JSON"),
        (b"{\"name\":7}", 400, "M_BAD_JSON"),
        (b"{}", 400, "M_MISSING_PARAM"),
        (&[b' '; (10 << 20) + 1], 413, "M_TOO_LARGE"),
    ];
    for (body, status, errcode) in cases {
        let answer = post_named(house.address, body).await;
        assert_eq!(
            (answer.status, answer.errcode().as_str()),
            (status, errcode)
        );
    }
    let good = post_named(house.address, b"{\"name\":\"a\"}").await;
    assert_eq!(
        (good.status, good.body.as_slice()),
        (200, b"{\"name\":\"a\"}".as_slice())
    );
}

#[tokio::test]
async fn a_body_that_hides_its_size_is_cut_at_the_limit() {
    let house = start(api::server::ServerOptions {
        json_limit_bytes: 1000,
        ..options()
    });
    let mut request = "POST /_matrix/client/v3/named HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
                       Transfer-Encoding: chunked\r\n\r\n"
        .to_owned();
    for _ in 0..11 {
        request.push_str(&format!("64\r\n{}\r\n", " ".repeat(100)));
    }
    let answer = exchange(house.address, request).await;
    assert_eq!(
        (answer.status, answer.errcode().as_str()),
        (413, "M_TOO_LARGE")
    );
}

#[tokio::test]
async fn a_path_parameter_may_hold_any_encoded_character_and_must_be_utf8() {
    let house = start(options());
    let path = "/_matrix/client/v3/directory/room/%23a%2Fb%21%3Aexample.org%3A8448";
    let answer = ask(house.address, "GET", path, "").await;
    assert_eq!(answer.body, b"#a/b!:example.org:8448");
    let answer = ask(
        house.address,
        "GET",
        "/_matrix/client/v3/directory/room/%ff",
        "",
    )
    .await;
    assert_eq!(
        (answer.status, answer.errcode().as_str()),
        (400, "M_INVALID_PARAM")
    );
}

#[tokio::test]
async fn old_prefixes_reach_the_same_endpoint() {
    let house = start(options());
    for path in [
        "/_matrix/client/r0/ping",
        "/_matrix/client/unstable/ping",
        "/_matrix/client/r0/ping?a=b",
    ] {
        assert_eq!(
            ask(house.address, "GET", path, "").await.status,
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_large_text_is_compressed_for_who_asks_and_for_nobody_else() {
    let house = start(options());
    let path = "/_matrix/client/v3/text";
    let plain = ask(house.address, "GET", path, "").await;
    assert_eq!(plain.header("content-encoding"), None);
    let packed = ask(
        house.address,
        "GET",
        path,
        "Accept-Encoding: gzip, deflate\r\n",
    )
    .await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.header("vary"), Some("accept-encoding"));
    assert_eq!(
        packed.header("content-length"),
        Some(packed.body.len().to_string().as_str())
    );
    assert!(packed.body.len() < plain.body.len() / 4);
    let mut unpacked = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(packed.body.as_slice());
    decoder.read_to_end(&mut unpacked).expect("gzip");
    assert_eq!(unpacked, plain.body);
    let small = ask(
        house.address,
        "GET",
        "/_matrix/client/v3/ping",
        "Accept-Encoding: gzip\r\n",
    );
    assert_eq!(small.await.body, b"{}");
}

#[tokio::test]
async fn a_refused_rate_names_the_time_to_wait() {
    let house = start(options());
    let answer = ask(house.address, "GET", "/_matrix/client/v3/limited", "").await;
    assert_eq!(
        (answer.status, answer.errcode().as_str()),
        (429, "M_LIMIT_EXCEEDED")
    );
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert_eq!(
        answer.header("access-control-expose-headers"),
        Some("retry-after")
    );
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body["retry_after_ms"], 1500);
}

#[tokio::test]
async fn a_forwarded_address_counts_only_from_a_trusted_proxy() {
    let path = "/_matrix/client/v3/address";
    let forwarded = "X-Forwarded-For: 198.51.100.1, 192.0.2.7\r\n";
    let house = start(options());
    let answer = ask(house.address, "GET", path, forwarded).await;
    assert_eq!(answer.body, b"Some(127.0.0.1)");
    house
        .control
        .set_trusted_proxies(vec!["127.0.0.0/8".parse().expect("a network")]);
    let answer = ask(house.address, "GET", path, forwarded).await;
    assert_eq!(answer.body, b"Some(192.0.2.7)");
}
