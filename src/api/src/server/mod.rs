//! The listening server: sockets, TLS, connections, and the door every request passes.
//!
//! Owns the life of inbound connections from `bind` to the end of the drain. It knows no endpoint:
//! the routers come from the caller, one per API set, and each listener mounts the sets it is
//! configured with. Invariants: every response has CORS headers; every error is JSON; no peer can hold a connection
//! without moving (header, body, write and idle deadlines); the number of connections is bounded;
//! after the shutdown token fires nothing is accepted, and the server ends within the drain timeout.

mod body;
mod compress;
mod connection;
mod door;
mod forwarded;
mod idle;
mod listener;
mod observe;
mod options;
mod rewrite;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::OriginalUri;
use config::{Api, ApiSet, Bind};
use http::Method;
use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::ConnectionContext;
use self::door::Door;
use self::listener::{Bound, Listener};
use self::tls::Certificate;

use crate::error::ApiError;

pub use self::observe::{RequestMetrics, metrics_router};
pub use self::options::{ListenerOptions, ServerOptions, TlsFiles};
pub use self::tls::TlsError;

/// Why a listener could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No listener is configured.
    #[error("no listener is configured")]
    NoListener,
    /// The address can't be bound: in use, not ours, or not permitted.
    #[error("cannot listen on {bind}")]
    Bind {
        /// The address as configured.
        bind: Bind,
        #[source]
        source: io::Error,
    },
    /// The certificate or key can't be used.
    #[error("cannot use the certificate of the listener on {bind}")]
    Tls {
        /// The address as configured.
        bind: Bind,
        #[source]
        source: Box<TlsError>,
    },
    /// TLS on a unix socket.
    #[error("the listener on {bind} is a unix socket and can't have a certificate")]
    TlsOnUnix {
        /// The address as configured.
        bind: Bind,
    },
}

/// The endpoints, by API set, with their state already given (`Router::with_state`).
#[derive(Clone, Debug, Default)]
pub struct Routers {
    /// `/_matrix/client`, `/_matrix/media`, `/.well-known/matrix/client`, ...
    pub client: Router,
    /// `/_matrix/federation`, `/_matrix/key`, `/.well-known/matrix/server`.
    pub federation: Router,
    /// `/_synapse/admin` and our own administration.
    pub admin: Router,
    /// `/_synapse/metrics`, `/health`.
    pub metrics: Router,
}

/// Listeners that are bound and not yet served: what comes in waits in the kernel's queue, so readiness
/// may be announced as soon as this exists.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<BoundListener>,
    options: Arc<ServerOptions>,
    trusted_proxies: Arc<ArcSwap<Vec<IpNet>>>,
}

#[derive(Debug)]
struct BoundListener {
    listener: Listener,
    certificate: Option<Certificate>,
    door: Arc<Door>,
}

/// Changes what can be changed while the server runs; what it changes holds for new connections.
#[derive(Clone, Debug)]
pub struct ServerControl {
    certificates: Vec<Certificate>,
    trusted_proxies: Arc<ArcSwap<Vec<IpNet>>>,
}

impl ServerControl {
    /// Reads every certificate and key again. A listener whose files are bad keeps what it has; the last
    /// such error is returned.
    pub fn reload_certificates(&self) -> Result<(), TlsError> {
        let mut result = Ok(());
        for certificate in &self.certificates {
            if let Err(error) = certificate.reload() {
                result = Err(error);
            }
        }
        result
    }

    /// Replaces the peers whose `X-Forwarded-For` is believed.
    pub fn set_trusted_proxies(&self, networks: Vec<IpNet>) {
        self.trusted_proxies.store(Arc::new(networks));
    }
}

impl Server {
    /// Binds every listener and reads every certificate; nothing is accepted before [`Server::run`].
    pub fn bind(
        options: ServerOptions,
        routers: &Routers,
        metrics: Option<RequestMetrics>,
    ) -> Result<Self, ServerError> {
        if options.listeners.is_empty() {
            return Err(ServerError::NoListener);
        }
        let options = Arc::new(options);
        let trusted_proxies = Arc::new(ArcSwap::from_pointee(options.trusted_proxies.clone()));
        let mut listeners = Vec::with_capacity(options.listeners.len());
        for configured in &options.listeners {
            let bind = &configured.bind;
            if configured.tls.is_some() && matches!(bind, Bind::Unix(_)) {
                return Err(ServerError::TlsOnUnix { bind: bind.clone() });
            }
            let certificate =
                match &configured.tls {
                    Some(files) => Some(Certificate::load(files.clone()).map_err(|source| {
                        ServerError::Tls {
                            bind: bind.clone(),
                            source: Box::new(source),
                        }
                    })?),
                    None => None,
                };
            let listener = Listener::bind(bind, configured.socket_mode).map_err(|source| {
                ServerError::Bind {
                    bind: bind.clone(),
                    source,
                }
            })?;
            let router = mount(routers, configured.apis, metrics.as_ref());
            let door = Arc::new(Door::new(
                router,
                Arc::clone(&options),
                Arc::clone(&trusted_proxies),
            ));
            listeners.push(BoundListener {
                listener,
                certificate,
                door,
            });
        }
        Ok(Self {
            listeners,
            options,
            trusted_proxies,
        })
    }

    /// The TCP addresses in use, in the order of the configuration (port 0 is resolved).
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|bound| bound.listener.tcp_address())
            .collect()
    }

    /// The unix sockets in use, in the order of the configuration.
    pub fn unix_paths(&self) -> Vec<PathBuf> {
        self.listeners
            .iter()
            .filter_map(|bound| bound.listener.unix_path())
            .collect()
    }

    /// A handle for what can be changed while the server runs (on SIGHUP).
    pub fn control(&self) -> ServerControl {
        let certificates = self
            .listeners
            .iter()
            .filter_map(|bound| bound.certificate.clone())
            .collect();
        ServerControl {
            certificates,
            trusted_proxies: Arc::clone(&self.trusted_proxies),
        }
    }

    /// Serves until `shutdown` fires, then drains: accepts nothing more, lets requests in flight
    /// finish (long-polls hold the same token and answer at once), and cuts what is left after the
    /// drain timeout.
    pub async fn run(self, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        let slots = Arc::new(Semaphore::new(self.options.max_connections));
        let mut accepting = Vec::with_capacity(self.listeners.len());
        for bound in self.listeners {
            if let Some(certificate) = bound.certificate.clone() {
                tokio::spawn(certificate.follow_files(shutdown.clone()));
            }
            let tls = bound.certificate.as_ref().map(Certificate::acceptor);
            let context = ConnectionContext {
                door: bound.door,
                options: Arc::clone(&self.options),
                tls,
                shutdown: shutdown.clone(),
            };
            accepting.push(tokio::spawn(accept(
                bound.listener,
                context,
                Arc::clone(&slots),
                connections.clone(),
            )));
        }
        for task in accepting {
            if let Err(error) = task.await {
                tracing::error!(%error, "a listener ended unexpectedly");
            }
        }
        connections.close();
        // Each connection ends itself at the drain deadline; the wait is bounded by theirs.
        connections.wait().await;
    }
}

/// Puts together what one listener offers; unknown paths and wrong methods answer JSON.
fn mount(routers: &Routers, apis: ApiSet, metrics: Option<&RequestMetrics>) -> Router {
    let mut router = Router::new();
    let sets = [
        (Api::Client, &routers.client),
        (Api::Federation, &routers.federation),
        (Api::Admin, &routers.admin),
        (Api::Metrics, &routers.metrics),
    ];
    for (_, set) in sets.into_iter().filter(|(api, _)| apis.contains(*api)) {
        router = router.merge(set.clone());
    }
    router = router.method_not_allowed_fallback(wrong_method);
    if router.has_routes() {
        router = router.route_layer(observe::ObserveLayer::new(metrics.cloned()));
    }
    // Giving the state now, once, spares axum from doing it for every request.
    router.fallback(unrecognized).with_state(())
}

async fn unrecognized(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    tracing::debug!(%method, path = uri.path(), "no such endpoint");
    ApiError::unrecognized()
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    tracing::debug!(%method, path = uri.path(), "no such method");
    ApiError::wrong_method()
}

async fn accept(
    listener: Listener,
    context: ConnectionContext,
    slots: Arc<Semaphore>,
    connections: TaskTracker,
) {
    loop {
        let bound = tokio::select! {
            biased;
            () = context.shutdown.cancelled() => return,
            bound = listener.accept() => bound,
        };
        let Bound { stream, peer } = bound;
        match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => {
                let context = context.clone();
                connections.spawn(async move {
                    context.serve(stream, peer).await;
                    drop(slot);
                });
            }
            Err(_full) => listener::refuse(stream, context.tls.is_some()),
        }
    }
}
