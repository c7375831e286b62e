//! What the server is told: where to listen, what to offer there, and how long to wait for whom.
//!
//! Plain values, taken from the configuration or written out by a test.

use std::path::PathBuf;
use std::time::Duration;

use config::{Api, ApiSet, Bind};
use ipnet::IpNet;

/// Everything the server needs to know.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen, and what to offer there.
    pub listeners: Vec<ListenerOptions>,
    /// Peers whose `X-Forwarded-For` is believed. A unix socket's peer always is.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections open at once, over all listeners; one more is refused with 503.
    pub max_connections: usize,
    /// How long a request's head (and before it the TLS handshake) may take.
    pub header_timeout: Duration,
    /// How long a connection may be kept open between requests.
    pub idle_timeout: Duration,
    /// How long a JSON body may take in whole.
    pub json_timeout: Duration,
    /// How long any request body may stand still (uploads have no other deadline).
    pub body_stall_timeout: Duration,
    /// How long a peer may take no byte of a response that waits for it.
    pub write_stall_timeout: Duration,
    /// How long requests in flight get to finish once the server shuts down.
    pub drain_timeout: Duration,
    /// The largest JSON body.
    pub json_limit_bytes: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            trusted_proxies: Vec::new(),
            max_connections: 40_000,
            header_timeout: Duration::from_secs(15),
            // Longer than the 60 s for which proxies commonly keep theirs, so that it is the proxy who
            // closes and no request meets a closing connection.
            idle_timeout: Duration::from_secs(90),
            json_timeout: Duration::from_secs(60),
            body_stall_timeout: Duration::from_secs(30),
            write_stall_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
            json_limit_bytes: 10 * 1024 * 1024,
        }
    }
}

impl From<&config::Config> for ServerOptions {
    fn from(config: &config::Config) -> Self {
        let http = &config.http;
        Self {
            listeners: config.listen.iter().map(ListenerOptions::from).collect(),
            trusted_proxies: http.trusted_proxies.clone(),
            max_connections: usize::try_from(http.max_connections).unwrap_or(usize::MAX),
            header_timeout: http.header_timeout,
            body_stall_timeout: http.body_timeout,
            json_timeout: http.body_timeout * 2,
            drain_timeout: http.drain_timeout,
            json_limit_bytes: usize::try_from(http.max_body_size.bytes()).unwrap_or(usize::MAX),
            ..Self::default()
        }
    }
}

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// The address; port 0 lets the system choose.
    pub bind: Bind,
    /// With a certificate the listener speaks TLS only.
    pub tls: Option<TlsFiles>,
    /// What is offered.
    pub apis: ApiSet,
    /// The permissions of a unix socket.
    pub socket_mode: u32,
}

impl ListenerOptions {
    /// A listener for clients and servers, without TLS.
    pub fn plain(bind: Bind) -> Self {
        let apis = ApiSet::of(&[Api::Client, Api::Federation]);
        Self {
            bind,
            tls: None,
            apis,
            socket_mode: 0o660,
        }
    }
}

impl From<&config::Listen> for ListenerOptions {
    fn from(listen: &config::Listen) -> Self {
        // The configuration refuses one without the other.
        let tls = match (&listen.tls_cert, &listen.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ => None,
        };
        Self {
            bind: listen.bind.clone(),
            tls,
            apis: listen.apis,
            socket_mode: listen.socket_mode.0,
        }
    }
}

/// PEM files of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}
