//! A server with a few endpoints on free ports, and the plainest client there is.

use std::net::SocketAddr;
use std::time::Duration;

use api::error::ApiError;
use api::json::{JsonBody, JsonBytes};
use api::request::{Arrival, Params};
use api::server::{ListenerOptions, Routers, Server, ServerControl, ServerOptions};
use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use config::Bind;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; a wait that lasts this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub struct House {
    pub address: SocketAddr,
    pub addresses: Vec<SocketAddr>,
    pub control: ServerControl,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<()>,
}

pub fn tcp() -> ListenerOptions {
    ListenerOptions::plain(Bind::Tcp(([127, 0, 0, 1], 0).into()))
}

/// Short deadlines all around, and one TCP listener.
pub fn options() -> ServerOptions {
    ServerOptions {
        listeners: vec![tcp()],
        ..ServerOptions::default()
    }
}

pub fn start(options: ServerOptions) -> House {
    let shutdown = CancellationToken::new();
    start_with(options, &routers(&shutdown), shutdown)
}

pub fn start_with(options: ServerOptions, routers: &Routers, shutdown: CancellationToken) -> House {
    let server = Server::bind(options, routers, None).expect("the listeners can be bound");
    let addresses = server.tcp_addresses();
    House {
        address: addresses
            .first()
            .copied()
            .unwrap_or(([0, 0, 0, 0], 0).into()),
        addresses,
        control: server.control(),
        running: tokio::spawn(server.run(shutdown.clone())),
        shutdown,
    }
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Endpoints that do what the tests need.
pub fn routers(shutdown: &CancellationToken) -> Routers {
    let waiting = shutdown.clone();
    let client = Router::new()
        .route(
            "/_matrix/client/v3/ping",
            get(|| async { JsonBytes::EMPTY }),
        )
        .route(
            "/_matrix/client/v3/named",
            post(|JsonBody(named): JsonBody<Named>| async move {
                JsonBytes(Bytes::from(format!("{{\"name\":\"{}\"}}", named.name)))
            }),
        )
        .route(
            "/_matrix/client/v3/directory/room/{alias}",
            get(|Params(alias): Params<String>| async move { alias }),
        )
        .route("/_matrix/client/v3/panic", get(panics))
        .route(
            "/_matrix/client/v3/limited",
            get(|| async { ApiError::limit_exceeded(Duration::from_millis(1_500)) }),
        )
        .route(
            "/_matrix/client/v3/address",
            get(|arrival: Arrival| async move { format!("{:?}", arrival.address) }),
        )
        .route(
            "/_matrix/client/v3/wait",
            get(move || async move {
                waiting.cancelled().await;
                JsonBytes::EMPTY
            }),
        )
        .route(
            "/_matrix/client/v3/never",
            get(std::future::pending::<JsonBytes>),
        )
        .route(
            "/_matrix/client/v3/large",
            get(|| async { JsonBytes(Bytes::from(vec![b' '; 64 << 20])) }),
        )
        .route(
            "/_matrix/client/v3/text",
            get(|| async { JsonBytes(Bytes::from(format!("[{}1]", "1,".repeat(2_000)))) }),
        );
    let federation = Router::new().route(
        "/_matrix/federation/v1/version",
        get(|| async { JsonBytes::EMPTY }),
    );
    Routers {
        client,
        federation,
        ..Routers::default()
    }
}

async fn panics() -> JsonBytes {
    panic!("as it was told to");
}

/// A response, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let status = head[9..12].parse().expect("a status");
        Self {
            status,
            head,
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn errcode(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).expect("a JSON body");
        assert!(body["error"].is_string());
        body["errcode"].as_str().expect("an errcode").to_owned()
    }
}

/// Reads until the peer closes or resets.
pub async fn read_to_close(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = async {
        let mut piece = [0; 16 * 1024];
        while let Ok(length @ 1..) = stream.read(&mut piece).await {
            bytes.extend_from_slice(&piece[..length]);
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the server closes the connection");
    bytes
}

/// Sends bytes on a fresh connection while it reads what comes, until the server closes.
pub async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let stream = TcpStream::connect(address)
        .await
        .expect("the server listens");
    let (mut reader, mut writer) = stream.into_split();
    // The server may answer and close before it has all: the answer is what counts.
    let (_, bytes) = tokio::join!(
        writer.write_all(request.as_ref()),
        read_to_close(&mut reader)
    );
    Answer::parse(&bytes)
}

/// One request without a body; `path` may be followed by header lines after a line end.
pub async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
    exchange(address, request).await
}

/// A POST to `/named`.
pub async fn post_named(address: SocketAddr, body: &[u8]) -> Answer {
    let mut request = format!(
        "POST /_matrix/client/v3/named HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    exchange(address, request).await
}
