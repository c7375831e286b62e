//! Where server names lead, step by step, through a proxy that knows what is at each place.
//! <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request as HttpRequest, Response};
use http_body_util::Full;
use remote::{Remote, RemoteError, Request};

use crate::proxy::{self, Heads, places};
use crate::server::{Authority, Names, json};

/// Tells its Host header.
fn host(request: HttpRequest<Bytes>) -> Response<Full<Bytes>> {
    let host = request.headers()["host"].to_str().expect("a host");
    json(200, &format!("\"{host}\""))
}

/// A web server with a well-known file.
async fn web(authority: &Authority, names: &[&str], file: &'static str) -> u16 {
    let answer = move |request: HttpRequest<Bytes>| match request.uri().path() {
        "/.well-known/matrix/server" => json(200, file),
        _ => json(404, "{}"),
    };
    authority.serve(names, b"http/1.1", answer).await
}

async fn remote(
    authority: &Authority,
    names: Names,
    places: &[(&str, u16)],
) -> (Arc<Remote>, Heads) {
    let (proxy, heads) = proxy::start(places).await;
    let remote = authority.remote(names, |options| options.proxy = Some(proxy));
    (remote, heads)
}

/// The Host header with which a server was called, in quotes.
async fn called(remote: &Remote, name: &str) -> Result<Bytes, RemoteError> {
    remote.call(name, Request::get("/x".to_owned())).await
}

#[tokio::test]
async fn a_name_with_a_port_and_an_address_are_asked_as_they_are() {
    let authority = Authority::new();
    let port = authority
        .serve(&["a.example", "192.0.2.1", "2001:db8::1"], b"h2", host)
        .await;
    let known = [
        ("a.example:1234", port),
        ("192.0.2.1:8448", port),
        ("192.0.2.1:80", port),
        ("[2001:db8::1]:8448", port),
    ];
    let (remote, heads) = remote(&authority, Names::default(), &known).await;
    for name in [
        "a.example:1234",
        "192.0.2.1",
        "192.0.2.1:80",
        "[2001:db8::1]",
    ] {
        let answer = called(&remote, name).await.expect("an answer");
        assert_eq!(answer, format!("\"{name}\""));
    }
    assert_eq!(places(&heads), known.map(|(place, _)| place));
    assert!(heads.lock()[0].contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"));
}

#[tokio::test]
async fn the_well_known_file_names_a_host_with_a_port_and_is_asked_for_once() {
    let authority = Authority::new();
    let port = authority.serve(&["b.example"], b"h2", host).await;
    let web = web(
        &authority,
        &["a.example"],
        r#"{"m.server":"b.example:1234"}"#,
    )
    .await;
    let known = [("a.example:443", web), ("b.example:1234", port)];
    let (remote, heads) = remote(&authority, Names::default(), &known).await;
    for _ in 0..2 {
        let answer = called(&remote, "a.example").await.expect("an answer");
        assert_eq!(answer, "\"b.example:1234\"");
    }
    assert_eq!(places(&heads), ["a.example:443", "b.example:1234"]);
}

#[tokio::test]
async fn the_host_that_the_file_names_is_looked_for_by_services_and_then_at_8448() {
    let authority = Authority::new();
    let port = authority
        .serve(&["b.example", "c.example"], b"h2", host)
        .await;
    let web_a = web(&authority, &["a.example"], r#"{"m.server":"b.example"}"#).await;
    let web_d = web(&authority, &["d.example"], r#"{"m.server":"c.example"}"#).await;
    let names = Names::default()
        .service("_matrix-fed._tcp.b.example", "t.example", 99)
        .service("_matrix._tcp.b.example", "old.example", 98);
    let known = [
        ("a.example:443", web_a),
        ("t.example:99", port),
        ("d.example:443", web_d),
        ("c.example:8448", port),
    ];
    let (remote, heads) = remote(&authority, names, &known).await;
    assert_eq!(
        called(&remote, "a.example").await.expect("an answer"),
        "\"b.example\""
    );
    assert_eq!(
        called(&remote, "d.example").await.expect("an answer"),
        "\"c.example\""
    );
    assert_eq!(places(&heads), known.map(|(place, _)| place));
}

#[tokio::test]
async fn without_a_file_services_are_tried_new_before_old_and_then_8448() {
    let authority = Authority::new();
    let port = authority
        .serve(&["a.example", "b.example", "c.example"], b"h2", host)
        .await;
    let names = Names::default()
        .service("_matrix-fed._tcp.a.example", "t.example", 99)
        .service("_matrix._tcp.a.example", "never.example", 98)
        .service("_matrix._tcp.b.example", "old.example", 98);
    let known = [
        ("t.example:99", port),
        ("old.example:98", port),
        ("c.example:8448", port),
    ];
    let (remote, heads) = remote(&authority, names, &known).await;
    for name in ["a.example", "b.example", "c.example"] {
        let answer = called(&remote, name).await.expect("an answer");
        assert_eq!(answer, format!("\"{name}\""));
    }
    let asked = places(&heads);
    let direct: Vec<&String> = asked
        .iter()
        .filter(|place| !place.ends_with(":443"))
        .collect();
    assert_eq!(direct, ["t.example:99", "old.example:98", "c.example:8448"]);
    assert_eq!(asked.len(), 6);
}

#[tokio::test]
async fn the_next_service_is_tried_when_one_is_away_and_a_dot_says_that_there_is_none() {
    let authority = Authority::new();
    let port = authority.serve(&["a.example"], b"h2", host).await;
    let mut names = Names::default()
        .service("_matrix-fed._tcp.a.example", "away.example", 1)
        .service("_matrix-fed._tcp.a.example", "here.example", 2)
        .service("_matrix-fed._tcp.b.example", "", 0);
    for (index, service) in names
        .services
        .get_mut("_matrix-fed._tcp.a.example")
        .expect("services")
        .iter_mut()
        .enumerate()
    {
        service.priority = u16::try_from(index).expect("few");
    }
    let (remote, _) = remote(&authority, names, &[("here.example:2", port)]).await;
    assert!(called(&remote, "a.example").await.is_ok());
    let none = called(&remote, "b.example").await;
    assert!(matches!(none, Err(RemoteError::Unreachable(_))), "{none:?}");
}

#[tokio::test]
async fn redirects_of_the_file_are_followed_to_an_end() {
    let authority = Authority::new();
    let port = authority.serve(&["b.example"], b"h2", host).await;
    let redirecting = authority
        .serve(
            &["a.example", "loop.example", "plain.example"],
            b"h2",
            |request| {
                let to = match request.uri().host() {
                    Some("a.example") => "https://files.example/server",
                    Some("plain.example") => "http://files.example/server",
                    _ => "/.well-known/matrix/server",
                };
                let mut response = json(302, "{}");
                let to = to.parse().expect("a header");
                response.headers_mut().insert("location", to);
                response
            },
        )
        .await;
    let files = authority
        .serve(&["files.example"], b"h2", |_| {
            json(200, r#"{"m.server":"b.example:1"}"#)
        })
        .await;
    let known = [
        ("a.example:443", redirecting),
        ("loop.example:443", redirecting),
        ("plain.example:443", redirecting),
        ("files.example:443", files),
        ("b.example:1", port),
    ];
    let (remote, heads) = remote(&authority, Names::default(), &known).await;
    assert!(called(&remote, "a.example").await.is_ok());
    for name in ["loop.example", "plain.example"] {
        assert!(called(&remote, name).await.is_err());
        let last = places(&heads).pop();
        assert_eq!(
            last,
            Some(format!("{name}:8448")),
            "as if there were no file"
        );
    }
}

#[tokio::test]
async fn a_file_elsewhere_is_got_unsigned_and_addresses_are_checked_behind_a_proxy_too() {
    let authority = Authority::new();
    let port = authority
        .serve(&["files.example"], b"h2", |request| {
            let signed = request.headers().contains_key("authorization");
            json(200, if signed { "signed" } else { "unsigned" })
        })
        .await;
    let (proxy, heads) = proxy::start(&[("files.example:443", port)]).await;
    let remote = authority.remote(Names::default(), |options| {
        options.proxy = Some(proxy);
        options.allow_private_networks = false;
    });
    let second = Duration::from_secs(10);
    let answer = remote
        .download_from("https://files.example/f", second, 100)
        .await;
    let piece = answer.expect("an answer").next().await;
    assert_eq!(piece.expect("a body").as_deref(), Some(&b"unsigned"[..]));
    for url in [
        "http://files.example/f",
        "https://127.0.0.1/f",
        "https://[::1]:1/f",
    ] {
        let answer = remote.download_from(url, second, 100).await;
        assert!(answer.is_err(), "{url}");
    }
    assert_eq!(places(&heads), ["files.example:443"]);
}
