//! What other parts of federation are asked for and do not give yet: each goes away with the part that gives it.

use bytes::Bytes;
use event::RoomRules;
use rooms::ingest::{self, Refusal, Verified};
use serde_json::value::RawValue;

use crate::{Node, NodeError};

impl Node {
    /// Checks 1 to 3 of events, with the keys of their servers.
    ///
    /// # Errors
    /// If the work could not be done; what is wrong with one event is its own answer.
    pub async fn verify_events(
        &self,
        rules: &'static RoomRules,
        events: Vec<Bytes>,
    ) -> Result<Vec<Result<Verified, Refusal>>, NodeError> {
        let no_keys = |_: &str, _: &str| None;
        let events = events.iter();
        Ok(events
            .map(|event| ingest::verify(rules, event, &no_keys))
            .collect())
    }

    /// Takes in an ephemeral message of another server.
    pub async fn receive_edu(&self, origin: &str, edu_type: &str, _content: &RawValue) {
        tracing::debug!(%origin, edu_type, "passed over");
    }

    /// Takes in events of a room that this server is not in: an invitation may be withdrawn by one.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn receive_from_outside(
        &self,
        _origin: &str,
        _room_id: &str,
        _events: Vec<Bytes>,
    ) -> Result<(), NodeError> {
        Ok(())
    }
}

impl Node {
    /// The room of an alias, and servers that are in it.
    ///
    /// # Errors
    /// [`rooms::Error::UnknownRoom`] if there is no such alias.
    pub async fn resolve_alias(&self, alias: &str) -> Result<(String, Vec<String>), NodeError> {
        let view = self.store().head();
        let found = rooms::aliases::get(&view, alias)?.ok_or(rooms::Error::UnknownRoom)?;
        Ok((names::room_id(&view, found.room)?, Vec::new()))
    }
}
