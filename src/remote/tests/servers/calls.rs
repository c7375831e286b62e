//! Signed requests, as the server at the other end sees them, and what becomes of its answers.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request as HttpRequest, Version};
use remote::authorization::{Authorization, signed_bytes};
use remote::{RemoteError, Request, path};

use crate::server::{Authority, CALLER, Names, json, key};

/// Whether a request is signed by the caller's key for `destination`, over the path as it came.
fn is_signed(request: &HttpRequest<Bytes>, destination: &str) -> bool {
    let header = request.headers()["authorization"].to_str();
    let Some(said) = header.ok().and_then(Authorization::parse) else {
        return false;
    };
    let uri = request
        .uri()
        .path_and_query()
        .map_or("", |path| path.as_str());
    let body = std::str::from_utf8(request.body()).expect("UTF-8");
    let content = (!body.is_empty()).then_some(body);
    let bytes = signed_bytes(request.method().as_str(), uri, CALLER, destination, content);
    said.origin == CALLER
        && said.destination.as_deref() == Some(destination)
        && said.key == key().key_id()
        && key()
            .verify_key()
            .verifies(&bytes.expect("JSON"), &said.sig)
}

#[tokio::test]
async fn requests_are_signed_over_what_is_sent_by_both_protocols() {
    let authority = Authority::new();
    for (protocol, version) in [
        (b"h2".as_slice(), Version::HTTP_2),
        (b"http/1.1".as_slice(), Version::HTTP_11),
    ] {
        let port = authority
            .serve(&["a.example"], protocol, move |request| {
                let destination = request.headers()["host"].to_str().expect("a host");
                let good = request.version() == version
                    && destination.starts_with("a.example:")
                    && is_signed(&request, destination);
                json(if good { 200 } else { 401 }, r#"{"good":true}"#)
            })
            .await;
        let remote = authority.remote(Names::local(&["a.example"]), |_| {});
        let name = format!("a.example:{port}");
        let get = Request::get(path("/v1/event", &["$a/b"], &[("x", "1 2")]));
        let answer = remote.call(&name, get).await.expect("an answer");
        assert_eq!(answer, r#"{"good":true}"#);
        let put = Request::put("/send/1".to_owned(), r#"{ "z": 1.5, "a": [] }"#);
        remote.call(&name, put).await.expect("an answer");
    }
}

#[tokio::test]
async fn a_connection_is_used_again_and_shared_by_requests_at_once() {
    let authority = Authority::new();
    let port = authority
        .serve(&["a.example"], b"h2", |_| json(200, "{}"))
        .await;
    let connections = Arc::new(AtomicUsize::new(0));
    let counting = counting_relay(port, Arc::clone(&connections)).await;
    let remote = authority.remote(Names::local(&["a.example"]), |_| {});
    let name = format!("a.example:{counting}");
    let call = || remote.call(&name, Request::get("/x".to_owned()));
    call().await.expect("an answer");
    let (a, b, c) = tokio::join!(call(), call(), call());
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// Passes connections on to `port`, and counts them.
async fn counting_relay(port: u16, count: Arc<AtomicUsize>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let own = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut onward = tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .expect("the server");
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    own
}

#[tokio::test]
async fn refusals_tell_their_code_and_answers_keep_to_their_limit() {
    let authority = Authority::new();
    let port = authority
        .serve(&["a.example"], b"h2", |request| {
            match request.uri().path() {
                "/long" => json(200, &"x".repeat(2000)),
                _ => json(404, r#"{"errcode":"M_NOT_FOUND","error":"not here"}"#),
            }
        })
        .await;
    let remote = authority.remote(Names::local(&["a.example"]), |_| {});
    let name = format!("a.example:{port}");
    let refused = remote.call(&name, Request::get("/x".to_owned())).await;
    assert!(
        matches!(&refused, Err(RemoteError::Refused { status: 404, errcode, .. }) if errcode == "M_NOT_FOUND")
    );
    let long = || Request::get("/long".to_owned());
    let cut = remote.call(&name, long().max_answer(1999)).await;
    assert!(
        matches!(cut, Err(RemoteError::TooLarge { limit: 1999 })),
        "{cut:?}"
    );
    assert!(remote.call(&name, long().max_answer(2000)).await.is_ok());
}

#[tokio::test]
async fn a_certificate_for_another_name_or_of_an_unknown_authority_is_not_believed() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let other = authority
        .serve(&["b.example"], b"h2", |_| json(200, "{}"))
        .await;
    let unknown = stranger
        .serve(&["a.example"], b"h2", |_| json(200, "{}"))
        .await;
    let remote = authority.remote(Names::local(&["a.example"]), |_| {});
    for port in [other, unknown] {
        let name = format!("a.example:{port}");
        let failed = remote.call(&name, Request::get("/x".to_owned())).await;
        assert!(
            matches!(failed, Err(RemoteError::Unreachable(_))),
            "{failed:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_costs_no_more_than_the_time_limit() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let authority = Authority::new();
    let remote = authority.remote(Names::local(&["a.example"]), |_| {});
    let request = Request::get("/x".to_owned()).timeout(Duration::from_millis(50));
    let failed = remote.call(&format!("a.example:{port}"), request).await;
    assert!(matches!(failed, Err(RemoteError::TimedOut)), "{failed:?}");
}

#[tokio::test]
async fn addresses_of_the_house_are_refused_whatever_name_or_service_leads_there() {
    let authority = Authority::new();
    let port = authority
        .serve(&["a.example"], b"h2", |_| json(200, "{}"))
        .await;
    let mut names = Names::local(&["a.example", "mixed.example"]).service(
        "_matrix-fed._tcp.srv.example",
        "a.example",
        port,
    );
    let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("an address");
    names
        .addresses
        .insert("mapped.example".to_owned(), vec![mapped]);
    let remote = authority.remote(names, |options| options.allow_private_networks = false);
    for name in [
        format!("a.example:{port}"),
        "srv.example".to_owned(),
        "mapped.example:443".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
    ] {
        let refused = remote.call(&name, Request::get("/x".to_owned())).await;
        assert!(
            matches!(refused, Err(RemoteError::NotAllowed(_))),
            "{name}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_server_does_not_call_itself_or_what_is_no_server_and_nobody_when_switched_off() {
    let authority = Authority::new();
    let get = || Request::get("/x".to_owned());
    let remote = authority.remote(Names::default(), |_| {});
    let own = remote.call(CALLER, get()).await;
    assert!(matches!(own, Err(RemoteError::NotAllowed(_))), "{own:?}");
    let none = remote.call("a b@c", get()).await;
    assert!(matches!(none, Err(RemoteError::Unreachable(_))), "{none:?}");
    let off = authority.remote(Names::default(), |options| options.enabled = false);
    let refused = off.call("a.example", get()).await;
    assert!(
        matches!(refused, Err(RemoteError::NotAllowed(_))),
        "{refused:?}"
    );
}
