//! A homeserver that does what a test wants: with a name, a signing key and a TLS listener, but no rooms and no users.
//!
//! Its name is its address (`127.0.0.1:PORT`), its certificate is from the test's [`authority`], which
//! [`crate::ServerOptions`] makes every server trust. It answers `/_matrix/key/v2/server`,
//! `/_matrix/federation/v1/version` and transactions by itself, and everything else as [`Peer::on`] says. Requests
//! that it gets are kept ([`Peer::requests`]); those that it makes are signed.

mod listener;
mod room;

use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use event::{SigningKey, canonical};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::client::{Client, Response, encode};
use crate::server::{Server, free_socket};
use crate::user::unique;
use crate::wait::until;

use self::listener::Listener;

pub use self::room::PeerRoom;

/// A request that a peer got.
#[derive(Clone, Debug)]
pub struct PeerRequest {
    pub method: String,
    /// Path and query, as they were sent.
    pub path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl PeerRequest {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(of, _)| of == name);
        header.map(|(_, value)| value.as_str())
    }

    /// The path without the query.
    pub fn route(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// A segment of the path, decoded: of `/_matrix/federation/v1/event/$id` the fourth is the id.
    pub fn segment(&self, index: usize) -> String {
        let segment = self.route().split('/').nth(index + 1).unwrap_or_default();
        percent_decode_str(segment).decode_utf8_lossy().into_owned()
    }

    /// The values of a query parameter.
    pub fn query(&self, name: &str) -> Vec<String> {
        let (_, query) = self.path.split_once('?').unwrap_or_default();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(of, _)| *of == name)
            .map(|(_, value)| percent_decode_str(value).decode_utf8_lossy().into_owned())
            .collect()
    }

    /// The body; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a peer answers.
#[derive(Clone, Debug)]
pub struct PeerAnswer {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl PeerAnswer {
    /// 200 with JSON.
    pub fn ok(body: Value) -> Self {
        Self::json(200, body)
    }

    /// JSON with a status.
    pub fn json(status: u16, body: Value) -> Self {
        Self {
            status,
            content_type: "application/json".to_owned(),
            body: body.to_string().into_bytes(),
        }
    }

    /// An error with its code.
    pub fn error(status: u16, errcode: &str) -> Self {
        let error = json!({"errcode": errcode, "error": "The peer of a test says so"});
        Self::json(status, error)
    }
}

type Handler = Arc<dyn Fn(&PeerRequest) -> PeerAnswer + Send + Sync>;

/// What a peer knows and was asked.
struct Shared {
    name: String,
    key: SigningKey,
    /// Method, beginning of the path, and what answers there.
    handlers: Mutex<Vec<(String, String, Handler)>>,
    requests: Mutex<Vec<PeerRequest>>,
}

/// A homeserver under the test's control.
pub struct Peer {
    shared: Arc<Shared>,
    listener: Option<Listener>,
}

impl Default for Peer {
    fn default() -> Self {
        Self::start()
    }
}

impl Peer {
    /// A peer on a free port of loopback.
    pub fn start() -> Self {
        let socket = free_socket();
        let name = socket.local_addr().expect("an address").to_string();
        let seed = std::array::from_fn(|n| name.as_bytes()[n % name.len()]);
        let shared = Arc::new(Shared {
            key: SigningKey::generate(&name, seed),
            name,
            handlers: Mutex::default(),
            requests: Mutex::default(),
        });
        let mut peer = Self {
            shared,
            listener: None,
        };
        peer.listen(socket);
        peer
    }

    fn listen(&mut self, socket: TcpListener) {
        let shared = Arc::clone(&self.shared);
        let answerer = Arc::new(move |request| shared.answer(request));
        self.listener = Some(Listener::start(socket, answerer));
    }

    /// Ends every connection, and takes no more until [`Self::come_back`].
    pub fn go_away(&mut self) {
        self.listener = None;
    }

    /// Listens again, on the same port.
    #[track_caller]
    pub fn come_back(&mut self) {
        let socket = until("the port is free again", || {
            TcpListener::bind(self.name()).ok()
        });
        self.listen(socket);
    }

    /// The server name: its address.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it signs with.
    pub fn key(&self) -> &SigningKey {
        &self.shared.key
    }

    /// The id of a user of this server.
    pub fn user(&self, localpart: &str) -> String {
        format!("@{localpart}:{}", self.name())
    }

    /// Answers requests whose path begins so; what was said last counts.
    pub fn on(
        &self,
        method: &str,
        path: &str,
        handler: impl Fn(&PeerRequest) -> PeerAnswer + Send + Sync + 'static,
    ) {
        let handler = (method.to_owned(), path.to_owned(), Arc::new(handler) as _);
        held(&self.shared.handlers).push(handler);
    }

    /// The requests so far whose path begins so.
    pub fn requests(&self, path: &str) -> Vec<PeerRequest> {
        let requests = held(&self.shared.requests);
        let those = requests
            .iter()
            .filter(|request| request.path.starts_with(path));
        those.cloned().collect()
    }

    /// The PDUs of all transactions so far.
    pub fn pdus(&self) -> Vec<Value> {
        self.transactions_part("pdus")
    }

    /// The EDUs of all transactions so far.
    pub fn edus(&self) -> Vec<Value> {
        self.transactions_part("edus")
    }

    fn transactions_part(&self, part: &str) -> Vec<Value> {
        let mut found = Vec::new();
        for request in self.requests("/_matrix/federation/v1/send/") {
            found.extend(request.json()[part].as_array().cloned().unwrap_or_default());
        }
        found
    }

    /// Waits for an EDU of a type for which `matches` is true.
    #[track_caller]
    pub fn edu(&self, edu_type: &str, matches: impl Fn(&Value) -> bool) -> Value {
        until(&format!("an EDU {edu_type} comes"), || {
            let edus = self.edus().into_iter();
            let mut those = edus.filter(|edu| edu["edu_type"] == edu_type);
            those.find(|edu| matches(&edu["content"]))
        })
    }

    /// Waits for a PDU for which `matches` is true.
    #[track_caller]
    pub fn pdu(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        until(&format!("a PDU comes: {what}"), || {
            self.pdus().into_iter().find(|pdu| matches(pdu))
        })
    }

    /// A signed request to a server; the path as it goes over the wire.
    #[track_caller]
    pub fn request(
        &self,
        server: &Server,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Response {
        let authorization = self.authorization(server.name(), method, path, body.as_ref());
        self.request_as(&server.client(), method, path, body, &authorization)
    }

    /// A request with an `Authorization` of the test's choice.
    #[track_caller]
    pub fn request_as(
        &self,
        to: &Client,
        method: &str,
        path: &str,
        body: Option<Value>,
        authorization: &str,
    ) -> Response {
        let headers = [
            ("Authorization", authorization),
            ("Content-Type", "application/json"),
        ];
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        to.exchange(method, path, &headers, body)
    }

    /// The header that signs a request to `destination`.
    pub fn authorization(
        &self,
        destination: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> String {
        let mut signed = json!({
            "method": method, "uri": path, "origin": self.name(), "destination": destination,
        });
        if let Some(body) = body {
            signed["content"] = body.clone();
        }
        let bytes = canonical::to_bytes(&signed).expect("a canonical request");
        let (origin, key) = (self.name(), self.key().key_id());
        let signature = self.key().sign_bytes(&bytes);
        format!(
            r#"X-Matrix origin="{origin}",destination="{destination}",key="{key}",sig="{signature}""#
        )
    }

    #[track_caller]
    pub fn get(&self, server: &Server, path: &str) -> Response {
        self.request(server, "GET", path, None)
    }

    #[track_caller]
    pub fn put(&self, server: &Server, path: &str, body: Value) -> Response {
        self.request(server, "PUT", path, Some(body))
    }

    #[track_caller]
    pub fn post(&self, server: &Server, path: &str, body: Value) -> Response {
        self.request(server, "POST", path, Some(body))
    }

    /// Sends a transaction.
    #[track_caller]
    pub fn send(&self, server: &Server, pdus: &[Value], edus: &[Value]) -> Response {
        let path = format!("/_matrix/federation/v1/send/{}", encode(&unique("txn")));
        let body = json!({
            "origin": self.name(), "origin_server_ts": now_ms(), "pdus": pdus, "edus": edus,
        });
        self.put(server, &path, body)
    }

    /// Sends one EDU.
    #[track_caller]
    pub fn send_edu(&self, server: &Server, edu_type: &str, content: Value) {
        let edu = json!({"edu_type": edu_type, "content": content});
        self.send(server, &[], &[edu]).ok();
    }
}

impl Shared {
    fn answer(&self, request: PeerRequest) -> PeerAnswer {
        held(&self.requests).push(request.clone());
        let handlers = held(&self.handlers);
        let handler = handlers.iter().rev().find(|(method, path, _)| {
            *method == request.method && request.path.starts_with(path.as_str())
        });
        let handler = handler.map(|(_, _, handler)| Arc::clone(handler));
        drop(handlers);
        if let Some(handler) = handler {
            return handler(&request);
        }
        match (request.method.as_str(), request.route()) {
            ("GET", "/_matrix/key/v2/server") => PeerAnswer::ok(self.keys()),
            ("GET", "/_matrix/federation/v1/version") => {
                PeerAnswer::ok(json!({"server": {"name": "testkit", "version": "1"}}))
            }
            ("PUT", route) if route.starts_with("/_matrix/federation/v1/send/") => {
                PeerAnswer::ok(json!({"pdus": {}}))
            }
            _ => PeerAnswer::error(404, "M_UNRECOGNIZED"),
        }
    }

    fn keys(&self) -> Value {
        let mut keys = json!({
            "server_name": self.name,
            "valid_until_ts": now_ms() + 24 * 60 * 60 * 1000,
            "verify_keys": {self.key.key_id(): {"key": self.key.verify_key().to_base64()}},
            "old_verify_keys": {},
        });
        self.key.sign_value(&mut keys).expect("an object");
        keys
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no handler has panicked")
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
