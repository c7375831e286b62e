//! This server as a notary: it looks up the keys of other servers for those who trust it, and signs what it found.
//! <https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server>
//!
//! It asks the servers themselves and no other notary. What a server last said is given out while it is silent.

use std::sync::Arc;

use servers::keys::{self, ServerKeys};
use tokio::task::JoinSet;

use super::key_ring::{AskError, Behalf, WantedKeys, is_satisfied};
use crate::{Node, NodeError};

impl Node {
    /// The key documents of servers, each with this server's signature beside its own; of servers of which nothing is
    /// known, none. The caller bounds how many are asked for.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn notarised_keys(
        self: &Arc<Self>,
        wanted: Vec<WantedKeys>,
    ) -> Result<Vec<String>, NodeError> {
        let mut asked = JoinSet::new();
        for wanted in wanted.iter().cloned() {
            let node = Arc::clone(self);
            if wanted.server_name == self.server_name() {
                continue;
            }
            asked.spawn(async move {
                let now_ms = node.now_ms();
                let worth_it = |keys: &ServerKeys| {
                    keys.refresh_at_ms() <= now_ms || !is_satisfied(keys, &wanted)
                };
                node.ask_directly(&wanted.server_name, Behalf::Stranger, worth_it)
                    .await
            });
        }
        while let Some(ended) = asked.join_next().await {
            match ended.map_err(|_| NodeError::Panicked)? {
                Err(AskError::Node(error)) => return Err(error),
                Err(error) => tracing::debug!(%error, "no keys for one who asked"),
                Ok(()) => {}
            }
        }
        let view = self.view();
        let mut documents = Vec::new();
        for wanted in &wanted {
            let signed = if wanted.server_name == self.server_name() {
                self.published_own_keys()?.to_vec()
            } else {
                match keys::answer_of(&view, &wanted.server_name)? {
                    Some(answer) => self.signing_key().sign_object(&answer.json)?,
                    None => continue,
                }
            };
            documents.extend(String::from_utf8(signed));
        }
        Ok(documents)
    }
}
