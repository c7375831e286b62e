//! Templates of other servers, made into events of ours: what `make_join`, `make_leave` and `make_knock` answer is read,
//! and written anew with nothing in it but what an event of that kind needs. A stranger doesn't choose what is signed here.

use event::{EventIdFormat, Pdu, RoomRules, hash_and_sign};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{Node, NodeError};

/// What a server answers to `make_join`, `make_leave` or `make_knock`.
#[derive(Debug, Deserialize)]
pub(crate) struct Template {
    /// The room's version; 1 where there is nothing.
    #[serde(default = "first_version")]
    room_version: String,
    /// The event without hashes and signatures.
    event: Map<String, Value>,
}

fn first_version() -> String {
    "1".to_owned()
}

impl Template {
    /// The rules of the room's version.
    ///
    /// # Errors
    /// [`rooms::Error::UnsupportedVersion`].
    pub(crate) fn rules(&self) -> Result<&'static RoomRules, NodeError> {
        let version: event::RoomVersion = self
            .room_version
            .parse()
            .map_err(|_| rooms::Error::UnsupportedVersion(self.room_version.clone()))?;
        Ok(version.rules())
    }

    /// A text in the template's content.
    pub(crate) fn content_str(&self, key: &str) -> Option<&str> {
        self.event.get("content")?.get(key)?.as_str()
    }

    /// The event that this server makes of it: of the user's own membership, with the content that is given here.
    ///
    /// # Errors
    /// [`NodeError::Remote`] if the template is of another room, user or membership than was asked for.
    pub(crate) fn finish(
        &self,
        node: &Node,
        room_id: &str,
        user_id: &str,
        content: Map<String, Value>,
    ) -> Result<Pdu, NodeError> {
        let rules = self.rules()?;
        let asked = [
            ("type", "m.room.member"),
            ("room_id", room_id),
            ("sender", user_id),
            ("state_key", user_id),
        ];
        for (key, value) in asked {
            if self.event.get(key).and_then(Value::as_str) != Some(value) {
                return Err(bad(format!("a template with another {key}")));
            }
        }
        let membership = content.get("membership").and_then(Value::as_str);
        if self.content_str("membership") != membership {
            return Err(bad("a template of another membership".to_owned()));
        }
        let mut event = Map::new();
        for key in ["prev_events", "auth_events", "depth"] {
            let value = self.event.get(key).cloned();
            event.insert(
                key.to_owned(),
                value.ok_or_else(|| bad(format!("a template without {key}")))?,
            );
        }
        for (key, value) in asked {
            event.insert(key.to_owned(), value.into());
        }
        event.insert("content".to_owned(), content.into());
        event.insert("origin".to_owned(), node.server_name().into());
        event.insert("origin_server_ts".to_owned(), node.now_ms().into());
        if rules.event_id == EventIdFormat::Chosen {
            event.insert("event_id".to_owned(), node.new_event_id().into());
        }
        sealed(node, rules, &Value::Object(event).to_string())
    }
}

/// Hashes and signs an event.
pub(crate) fn sealed(node: &Node, rules: &RoomRules, event: &str) -> Result<Pdu, NodeError> {
    let signed = hash_and_sign(rules, event, node.signing_key())
        .map_err(|error| bad(format!("a template of no event: {error}")))?;
    Pdu::from_federation(rules, signed.as_bytes())
        .map_err(|error| bad(format!("a template of no event: {error}")))
}

/// The leaving of a user whom no server helps to leave: kept here, sent to nobody. It follows the event that it ends.
pub(crate) fn own_leave(
    node: &Node,
    rules: &RoomRules,
    before: &Pdu,
    user_id: &str,
    reason: Option<&str>,
) -> Result<Pdu, NodeError> {
    let reference = match rules.references {
        event::ReferenceFormat::Plain => json!([before.event_id().as_str()]),
        event::ReferenceFormat::WithHash => {
            let hash = event::hash::reference_hash(rules, before.json());
            let hash = event::hash::base64_encode(&hash);
            json!([[before.event_id().as_str(), { "sha256": hash }]])
        }
    };
    let mut content = json!({ "membership": "leave" });
    if let Some(reason) = reason {
        content["reason"] = reason.into();
    }
    let mut event = json!({
        "type": "m.room.member",
        "room_id": before.room_id(),
        "sender": user_id,
        "state_key": user_id,
        "content": content,
        "depth": before.depth().saturating_add(1).min(rules.max_depth),
        "prev_events": &reference,
        "auth_events": &reference,
        "origin_server_ts": node.now_ms(),
    });
    if rules.event_id == EventIdFormat::Chosen {
        event["event_id"] = node.new_event_id().into();
    }
    sealed(node, rules, &event.to_string())
}

impl Node {
    /// An event id for rooms whose versions have events with chosen ids.
    pub(crate) fn new_event_id(&self) -> String {
        let random = u128::from_be_bytes(self.random());
        format!("${random:032x}:{}", self.server_name())
    }
}

pub(crate) fn bad(what: String) -> NodeError {
    NodeError::Remote(remote::RemoteError::BadAnswer(what))
}
