//! Binding, what each listener offers, TLS and its reload, and the end.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::server::{
    ListenerOptions, RequestMetrics, Routers, Server, ServerError, ServerOptions, TlsFiles,
    metrics_router,
};
use config::{Api, ApiSet, Bind};
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_util::sync::CancellationToken;

use crate::house::{Answer, PATIENCE, ask, options, read_to_close, routers, start, tcp};

const PING: &str = "GET /_matrix/client/v3/ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn the_end_answers_long_polls_closes_idle_connections_and_accepts_nothing_more() {
    let house = start(options());
    let mut idle = TcpStream::connect(house.address)
        .await
        .expect("the server listens");
    idle.write_all(b"GET /_matrix/client/v3/ping HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .expect("sent");
    idle.read_u8().await.expect("it was served");
    let mut unused = TcpStream::connect(house.address)
        .await
        .expect("the server listens");
    let mut polling = TcpStream::connect(house.address)
        .await
        .expect("the server listens");
    let wait = b"GET /_matrix/client/v3/wait HTTP/1.1\r\nHost: h\r\n\r\n";
    polling.write_all(wait).await.expect("sent");
    // Answered after the poll was sent on an older connection: the server has it by now.
    assert_eq!(
        ask(house.address, "GET", "/_matrix/client/v3/ping", "")
            .await
            .status,
        200
    );

    house.shutdown.cancel();
    let answer = Answer::parse(&read_to_close(&mut polling).await);
    assert_eq!(answer.status, 200);
    read_to_close(&mut idle).await;
    assert!(read_to_close(&mut unused).await.is_empty());
    tokio::time::timeout(PATIENCE, house.running)
        .await
        .expect("it ends")
        .expect("without panic");
    TcpStream::connect(house.address)
        .await
        .expect_err("nobody listens any more");
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_at_the_drain_deadline() {
    let house = start(ServerOptions {
        drain_timeout: Duration::from_millis(200),
        ..options()
    });
    let mut stuck = TcpStream::connect(house.address)
        .await
        .expect("the server listens");
    let never = b"GET /_matrix/client/v3/never HTTP/1.1\r\nHost: h\r\n\r\n";
    stuck.write_all(never).await.expect("sent");
    assert_eq!(
        ask(house.address, "GET", "/_matrix/client/v3/ping", "")
            .await
            .status,
        200
    );
    let began = Instant::now();
    house.shutdown.cancel();
    tokio::time::timeout(PATIENCE, house.running)
        .await
        .expect("it ends")
        .expect("without panic");
    assert!(began.elapsed() < PATIENCE / 2);
    assert!(read_to_close(&mut stuck).await.is_empty());
}

#[tokio::test]
async fn each_listener_offers_its_own_sets_of_endpoints() {
    let only = |api| ListenerOptions {
        apis: ApiSet::of(&[api]),
        ..tcp()
    };
    let house = start(ServerOptions {
        listeners: vec![only(Api::Client), only(Api::Federation)],
        ..options()
    });
    let (client, federation) = ("/_matrix/client/v3/ping", "/_matrix/federation/v1/version");
    for (index, path, status) in [
        (0, client, 200),
        (0, federation, 404),
        (1, client, 404),
        (1, federation, 200),
    ] {
        assert_eq!(
            ask(house.addresses[index], "GET", path, "").await.status,
            status,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_unix_socket_serves_names_its_client_by_header_and_is_removed_at_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("client.sock");
    let listener = || ListenerOptions {
        socket_mode: 0o600,
        ..ListenerOptions::plain(Bind::Unix(path.clone()))
    };
    // A socket that a dead process left behind is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    let with = || ServerOptions {
        listeners: vec![listener()],
        ..options()
    };
    let house = start(with());
    let mode = std::fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut stream = UnixStream::connect(&path)
        .await
        .expect("the server listens");
    let request = "GET /_matrix/client/v3/address HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
                   X-Forwarded-For: 192.0.2.7\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let answer = Answer::parse(&read_to_close(&mut stream).await);
    assert_eq!(answer.body, b"Some(192.0.2.7)");

    let second = Server::bind(with(), &Routers::default(), None).expect_err("it is in use");
    assert!(matches!(second, ServerError::Bind { .. }), "{second}");
    house.shutdown.cancel();
    house.running.await.expect("without panic");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_never_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").expect("written");
    let options = ServerOptions {
        listeners: vec![ListenerOptions::plain(Bind::Unix(path.clone()))],
        ..options()
    };
    Server::bind(options, &Routers::default(), None).expect_err("refused");
    assert_eq!(std::fs::read(&path).expect("still there"), b"data");
}

#[tokio::test]
async fn requests_are_counted_by_declared_path_and_status_and_never_by_what_a_client_wrote() {
    let mut registry = Registry::default();
    let metrics = RequestMetrics::register(&mut registry);
    let shutdown = CancellationToken::new();
    let routers = Routers {
        metrics: metrics_router(Arc::new(Mutex::new(registry))),
        ..routers(&shutdown)
    };
    let options = ServerOptions {
        listeners: vec![ListenerOptions {
            apis: ApiSet::of(&[Api::Client, Api::Metrics]),
            ..tcp()
        }],
        ..options()
    };
    let server = Server::bind(options, &routers, Some(metrics)).expect("bound");
    let address = server.tcp_addresses()[0];
    tokio::spawn(server.run(shutdown));
    for path in [
        "directory/room/secret",
        "directory/room/other",
        "limited",
        "secret/nonsense",
    ] {
        ask(address, "GET", &format!("/_matrix/client/v3/{path}"), "").await;
    }
    let answer = ask(address, "GET", "/_synapse/metrics", "").await;
    let text = String::from_utf8(answer.body).expect("text");
    for line in [
        r#"meyrin_http_requests_total{method="GET",path="/_matrix/client/v3/directory/room/{alias}",status="200"} 2"#,
        r#"meyrin_http_requests_total{method="GET",path="/_matrix/client/v3/limited",status="429"} 1"#,
        r#"meyrin_http_request_seconds_count{method="GET",path="/_matrix/client/v3/directory/room/{alias}"} 2"#,
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(!text.contains("secret"));
}

/// Writes a fresh self-signed certificate over the listener's files and returns it.
fn write_certificate(files: &TlsFiles) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    std::fs::write(&files.certificate, made.cert.pem()).expect("written");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    made.cert.der().clone()
}

fn tls_files(folder: &Path) -> TlsFiles {
    TlsFiles {
        certificate: folder.join("cert.pem"),
        key: folder.join("key.pem"),
    }
}

async fn connect_tls(
    address: std::net::SocketAddr,
    trusted: &CertificateDer<'static>,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

#[tokio::test]
async fn tls_speaks_both_versions_of_http_and_changes_its_certificate_while_it_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = tls_files(folder.path());
    let old = write_certificate(&files);
    let house = start(ServerOptions {
        listeners: vec![ListenerOptions {
            tls: Some(files.clone()),
            ..tcp()
        }],
        ..options()
    });

    let mut stream = connect_tls(house.address, &old, b"http/1.1")
        .await
        .expect("trusted");
    stream.write_all(PING.as_bytes()).await.expect("sent");
    assert_eq!(Answer::parse(&read_to_close(&mut stream).await).status, 200);

    let stream = connect_tls(house.address, &old, b"h2")
        .await
        .expect("trusted");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let request = || {
        Request::get("https://localhost/_matrix/client/v3/ping")
            .body(Empty::<bytes::Bytes>::new())
            .expect("a request")
    };
    let response = sender.send_request(request()).await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, Version::HTTP_2)
    );
    assert_eq!(
        response
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes(),
        "{}"
    );

    // Files that do not belong together change nothing.
    std::fs::write(&files.key, "nonsense").expect("written");
    house
        .control
        .reload_certificates()
        .expect_err("the key is no key");
    connect_tls(house.address, &old, b"http/1.1")
        .await
        .expect("the old one is still in use");

    let new = write_certificate(&files);
    house
        .control
        .reload_certificates()
        .expect("the new pair is good");
    connect_tls(house.address, &old, b"http/1.1")
        .await
        .expect_err("the old one is gone");
    connect_tls(house.address, &new, b"http/1.1")
        .await
        .expect("the new one is in use");
    // An open connection goes on.
    assert_eq!(
        sender
            .send_request(request())
            .await
            .expect("an answer")
            .status(),
        200
    );

    house.shutdown.cancel();
    connection
        .await
        .expect("no panic")
        .expect("HTTP/2 says goodbye properly");
    tokio::time::timeout(PATIENCE, house.running)
        .await
        .expect("it ends")
        .expect("without panic");
}

#[tokio::test]
async fn http2_without_tls_is_understood_too() {
    let house = start(options());
    let stream = TcpStream::connect(house.address)
        .await
        .expect("the server listens");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::get("http://localhost/_matrix/client/v3/text")
        .header("accept-encoding", "zstd")
        .body(Empty::<bytes::Bytes>::new())
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.headers()["content-encoding"], "zstd");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn bad_certificates_and_addresses_are_refused_at_once_with_the_listener_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let shutdown = CancellationToken::new();
    let bind = |listener| {
        let options = ServerOptions {
            listeners: vec![listener],
            ..options()
        };
        Server::bind(options, &routers(&shutdown), None)
    };
    let error = bind(ListenerOptions {
        tls: Some(tls_files(folder.path())),
        ..tcp()
    })
    .expect_err("there are no files");
    assert_eq!(
        error.to_string(),
        "cannot use the certificate of the listener on 127.0.0.1:0"
    );
    let house = start(options());
    let error = bind(ListenerOptions::plain(Bind::Tcp(house.address))).expect_err("in use");
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {}", house.address)
    );
}
