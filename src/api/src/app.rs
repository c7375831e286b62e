//! What every handler is given: the node, and what inbound HTTP keeps in memory beside it.

use std::sync::Arc;
use std::time::Duration;

use config::Config;
use node::{Node, Touched};
use rooms::send::{TRANSACTION_LIFETIME_MS, forget_transactions};

use crate::auth::Sessions;
use crate::client::registration::Nonces;
use crate::error::ApiError;
use crate::interactive_auth::InteractiveAuth;
use crate::limits::Limiter;
use crate::passwords::Passwords;

/// The state of the routers; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    node: Arc<Node>,
    limiter: Limiter,
    sessions: Sessions,
    interactive_auth: InteractiveAuth,
    nonces: Nonces,
    passwords: Passwords,
}

/// Between two rounds of [`App::run_upkeep`].
const UPKEEP_EVERY: Duration = Duration::from_secs(30);

/// Expired rows of a kind removed in one change.
const MOST_EXPIRED: usize = 1000;

impl App {
    /// The state around a node.
    pub fn new(node: Arc<Node>) -> Self {
        let config = node.config();
        Self(Arc::new(Shared {
            limiter: Limiter::new(config.limits.clone()),
            passwords: Passwords::new(&config.password),
            sessions: Sessions::default(),
            interactive_auth: InteractiveAuth::default(),
            nonces: Nonces::default(),
            node,
        }))
    }

    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.0.node
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.0.node.config()
    }

    /// The rate limits.
    pub fn limiter(&self) -> &Limiter {
        &self.0.limiter
    }

    /// Who is logged in, as far as it is known without reading.
    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// Interactive authentications under way.
    pub fn interactive_auth(&self) -> &InteractiveAuth {
        &self.0.interactive_auth
    }

    /// Nonces of the registration by shared secret.
    pub(crate) fn nonces(&self) -> &Nonces {
        &self.0.nonces
    }

    /// Hashing and checking of passwords.
    pub fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    /// Takes changed configuration into use; the node has it already.
    pub fn reload(&self) {
        self.0.limiter.reload(self.config().limits.clone());
    }

    /// Writes now and then when devices were seen, and removes what has expired; returns when the server
    /// drains, after a last round.
    pub async fn run_upkeep(&self) {
        loop {
            let stopped = tokio::select! {
                () = self.node().shutdown().cancelled() => true,
                () = tokio::time::sleep(UPKEEP_EVERY) => false,
            };
            if let Err(error) = self.upkeep().await {
                tracing::warn!(?error, "upkeep of sessions failed and will be tried again");
            }
            if stopped {
                return;
            }
        }
    }

    async fn upkeep(&self) -> Result<(), ApiError> {
        self.sessions().write_seen(self.node()).await?;
        let mut txn = self.node().begin();
        let now_ms = self.node().now_ms();
        users::tokens::remove_expired(&mut txn, now_ms, MOST_EXPIRED)?;
        self.node().commit((), txn, Touched::nobody()).await?;
        self.forget_transactions(now_ms).await
    }

    async fn forget_transactions(&self, now_ms: u64) -> Result<(), ApiError> {
        let before_ms = now_ms.saturating_sub(TRANSACTION_LIFETIME_MS);
        loop {
            let mut txn = self.node().begin();
            let more = forget_transactions(&mut txn, before_ms, MOST_EXPIRED)?
                | users::to_device::forget_done(&mut txn, now_ms, MOST_EXPIRED)?;
            self.node().commit((), txn, Touched::nobody()).await?;
            if !more {
                return Ok(());
            }
        }
    }
}
