//! Ephemeral data units of other servers: which kind goes where.
//!
//! An EDU that can't be read, is not its sender's to send, or is of a kind that is not known here is passed over: the
//! transaction goes on, as the specification wants it. Only a failure of this server is an error, after which the
//! other server sends the transaction again; so taking one in twice changes nothing.
//!
//! What an EDU writes is ordered at once and durable when [`Node::receive_edus`] returns: the EDUs of a transaction
//! share one sync.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#edus>.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use store::Ticket;

use crate::{Node, NodeError, Touched};

/// An EDU as it stands in a transaction.
#[derive(Deserialize)]
pub(crate) struct Edu<'a> {
    /// Its kind.
    #[serde(borrow)]
    pub edu_type: Cow<'a, str>,
    /// What it says.
    #[serde(borrow)]
    pub content: &'a RawValue,
}

/// What an EDU wrote last; none if nothing.
pub(super) type Written = Option<Ticket>;

impl Node {
    /// Takes in the EDUs of a transaction of `origin` in their order.
    ///
    /// # Errors
    /// [`NodeError`] if this server failed; EDUs before the one that failed are taken in.
    pub(crate) async fn receive_edus(
        &self,
        origin: &str,
        edus: &[Edu<'_>],
    ) -> Result<(), NodeError> {
        let mut last = None;
        for edu in edus {
            let written = self.receive_edu(origin, &edu.edu_type, edu.content);
            last = written.await?.or(last);
        }
        if let Some(ticket) = last {
            self.durable(ticket, Touched::nobody()).await?;
        }
        Ok(())
    }

    async fn receive_edu(
        &self,
        origin: &str,
        edu_type: &str,
        content: &RawValue,
    ) -> Result<Written, NodeError> {
        let content = content.get();
        match edu_type {
            "m.direct_to_device" => self.receive_to_device(origin, content).await,
            "m.device_list_update" => self.receive_device_list_update(origin, content).await,
            "m.signing_key_update" | "org.matrix.signing_key_update" => {
                self.receive_signing_key_update(origin, content).await
            }
            "m.typing" => self.receive_typing(origin, content).await,
            "m.receipt" => self.receive_receipts(origin, content).await,
            "m.presence" => self.receive_presence(origin, content).await,
            _ => {
                tracing::debug!(origin, edu_type, "an EDU of unknown type");
                Ok(None)
            }
        }
    }
}

/// Says in the log why an EDU was passed over.
pub(super) fn pass_over(origin: &str, edu_type: &str, why: &dyn std::fmt::Display) -> Written {
    tracing::debug!(origin, edu_type, %why, "an EDU was passed over");
    None
}
