//! The wiring: what a running server is made of, in the order in which it starts and stops.

use std::io;
use std::sync::Arc;

use api::App;
use api::server::{
    RequestMetrics, Routers, Server as Http, ServerControl, ServerError as HttpError,
    ServerOptions, metrics_router,
};
use config::{Api, Config};
use node::{Node, NodeError};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use store::StoreError;
use tokio::task::JoinHandle;

use crate::data_folder::{self, DataFolderError};
use crate::federation_metrics::FederationMetrics;
use crate::{database, operator};

/// Why a server does not start, or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{error}{}", causes(error))]
    Http { error: HttpError },
    #[error("cannot listen for the operator on {path}: {source}")]
    OperatorSocket { path: String, source: io::Error },
    #[error("the listeners have ended")]
    ListenersEnded,
}

/// Why the data can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// `: ` and each cause of `error`, down to the first one's own.
fn causes(error: &HttpError) -> String {
    let mut text = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Opens the data of a server, for it to run or for the operator to look into.
pub fn open_node(config: &Config) -> Result<Arc<Node>, OpenError> {
    data_folder::prepare(config)?;
    // The database first: its lock keeps a second process from writing a second key.
    let store = database::open(config)?;
    let keys = data_folder::signing_keys(config, rand::random())?;
    Ok(Node::new(config.clone(), store, keys)?)
}

/// Counts requests, when a listener offers the counts.
fn metrics(config: &Config, node: &Arc<Node>, routers: &mut Routers) -> Option<RequestMetrics> {
    if !config
        .listen
        .iter()
        .any(|listen| listen.apis.contains(Api::Metrics))
    {
        return None;
    }
    let mut registry = Registry::default();
    let metrics = RequestMetrics::register(&mut registry);
    registry.register_collector(Box::new(FederationMetrics(Arc::clone(node))));
    routers.metrics = metrics_router(Arc::new(Mutex::new(registry)));
    Some(metrics)
}

/// A running server.
pub struct Server {
    app: App,
    control: ServerControl,
    listeners: JoinHandle<()>,
    upkeep: JoinHandle<()>,
}

impl Server {
    /// Opens the data and starts to listen.
    pub fn start(config: &Config) -> Result<Self, ServerError> {
        let node = open_node(config)?;
        let app = App::new(Arc::clone(&node));
        let mut routers = Routers {
            client: api::client::routes().with_state(app.clone()),
            ..Routers::default()
        };
        if config.federation.enabled {
            routers.federation = api::federation::router(&app);
        }
        let metrics = metrics(config, &node, &mut routers);
        let http = Http::bind(ServerOptions::from(config), &routers, metrics)
            .map_err(|error| ServerError::Http { error })?;
        let path = config.admin_socket();
        let socket =
            operator::listener::bind(&path).map_err(|source| ServerError::OperatorSocket {
                path: path.display().to_string(),
                source,
            })?;
        let control = http.control();
        let listeners = tokio::spawn(http.run(node.shutdown().clone()));
        tokio::spawn(operator::listener::serve(socket, app.clone()));
        let for_upkeep = app.clone();
        let upkeep = tokio::spawn(async move {
            let node = for_upkeep.node();
            tokio::join!(
                for_upkeep.run_upkeep(),
                node.run_media_upkeep(),
                node.run_jobs(),
                node.run_completions(),
                node.run_ephemeral(),
                node.run_outgoing()
            );
        });
        Ok(Server {
            app,
            control,
            listeners,
            upkeep,
        })
    }

    /// Puts the keys into effect that a reload can change, and reads certificates again.
    pub fn reload(&self, config: &Config) {
        self.control
            .set_trusted_proxies(config.http.trusted_proxies.clone());
        if let Err(error) = self.control.reload_certificates() {
            tracing::error!(%error, "a certificate can't be used; the listener keeps the one it has");
        }
        self.app.node().reload(config.clone());
        self.app.reload();
    }

    /// Returns when the server can't go on.
    pub async fn failure(&mut self) -> ServerError {
        // A panic there was reported where it happened.
        let _ = (&mut self.listeners).await;
        ServerError::ListenersEnded
    }

    /// Finishes what was begun: nothing more is accepted, waiting requests are answered, and the others
    /// have `http.drain_timeout`.
    pub async fn stop(&mut self) {
        self.app.node().shutdown().cancel();
        for task in [&mut self.listeners, &mut self.upkeep] {
            if !task.is_finished() {
                // As above.
                let _ = task.await;
            }
        }
    }
}
