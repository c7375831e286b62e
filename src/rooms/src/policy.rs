//! The policy server of a room: which one the room uses, which events it has to sign, and whether it did.
//! <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>
//!
//! Events of this server are made, signed by the policy server and only then inserted, so a change that makes events is
//! made more than once: each time up to the first event that is not signed yet, which is left in [`SignedEvents`] for
//! the shell to have signed. What was signed is used when the change is made again, if it makes the same event.
//!
//! Deliberately not here: asking. What nobody has asked about yet is answered as [`crate::ingest::Need`].

use std::sync::Arc;

use event::{MAX_EVENT_BYTES, Pdu, RoomRules, VerifyKey, json, signature};
use names::RoomSn;
use store::Read;

use crate::ingest::Verified;
use crate::{Error, Outline, Result, RoomWriter, event_log, servers, state};

/// The type of the state event that names the policy server.
pub const POLICY: &str = "m.room.policy";

/// "The Key ID for the `ed25519` key in `m.room.policy` is *always* `ed25519:policy_server`."
pub const KEY_ID: &str = "ed25519:policy_server";

/// A policy server, with the key that a room has for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyServer {
    name: Arc<str>,
    /// As the room has it. It may be none, and then nothing is signed with it.
    public_key: Arc<str>,
}

impl PolicyServer {
    /// The one that a content of `m.room.policy` names; nothing if it is not valid.
    pub fn of_content(content: &str) -> Option<Self> {
        let via = json::member(content, "via").and_then(json::string)?;
        let keys = json::member(content, "public_keys").filter(|keys| json::is_object(keys))?;
        let public_key = json::member(keys, "ed25519").and_then(json::string)?;
        Some(Self {
            name: via.into(),
            public_key: public_key.into(),
        })
    }

    /// The one that a room uses now. It has to have joined users there. This server is none, so events of rooms that say
    /// otherwise are signed by nobody.
    ///
    /// # Errors
    /// If the store fails.
    pub fn in_use(from: &impl Read, room: RoomSn, own_name: &str) -> Result<Option<Self>> {
        let Some(no) = state::current(from, room, POLICY, "")? else {
            return Ok(None);
        };
        let event = event_log::get(from, room, no)?;
        let named = event
            .as_ref()
            .and_then(|event| json::member(&event.json, "content"))
            .and_then(Self::of_content);
        match named {
            Some(server) if *server.name != *own_name => {
                let is_joined = servers::is_joined(from, room, &server.name)?;
                Ok(is_joined.then_some(server))
            }
            _ => Ok(None),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the event has its signature.
    pub fn has_signed(&self, rules: &RoomRules, pdu: &Pdu) -> bool {
        VerifyKey::from_any_base64(&self.public_key)
            .is_some_and(|key| signature::is_signed_with(rules, pdu, &self.name, KEY_ID, &key))
    }

    /// The event with its signature, which it gave in unpadded base64.
    ///
    /// # Errors
    /// [`Error::NotRecommended`] if the signature does not hold; [`Error::TooLarge`] if the event is by it.
    pub fn sign(&self, rules: &RoomRules, pdu: &Pdu, signature: &str) -> Result<Pdu> {
        let signed = event::with_signature(pdu, &self.name, KEY_ID, signature)
            .map_err(|error| Error::BadEvent(error.to_string()))?;
        if signed.len() > MAX_EVENT_BYTES {
            return Err(Error::TooLarge(
                "with the policy server's signature".to_owned(),
            ));
        }
        let signed = Pdu::from_stored(rules, pdu.event_id().clone(), signed.as_bytes())
            .map_err(|error| Error::BadEvent(error.to_string()))?;
        match self.has_signed(rules, &signed) {
            true => Ok(signed),
            false => Err(Error::NotRecommended),
        }
    }
}

/// Whether an event is in no need of the policy server's signature, so that a room can always be given another: "*all*
/// events except for the `m.room.policy` state event itself are checked".
pub fn is_exempt(event_type: &str, state_key: Option<&str>) -> bool {
    event_type == POLICY && state_key == Some("")
}

/// What a policy server was found to say of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// The policy server.
    pub server: PolicyServer,
    /// Whether it has signed the event.
    pub recommends: bool,
}

/// An event that was made here and may enter the room once the policy server has signed it.
#[derive(Clone, Debug)]
pub struct Unsigned {
    server: PolicyServer,
    rules: &'static RoomRules,
    pdu: Pdu,
    said: Said,
}

impl Unsigned {
    /// An event that was made for this alone.
    pub fn new(server: PolicyServer, rules: &'static RoomRules, pdu: Pdu) -> Self {
        let said = Said::default();
        Self {
            server,
            rules,
            pdu,
            said,
        }
    }

    /// Who is to sign it.
    pub fn server(&self) -> &PolicyServer {
        &self.server
    }

    /// The event.
    pub fn pdu(&self) -> &Pdu {
        &self.pdu
    }

    /// The event with the signature that the policy server gave.
    ///
    /// # Errors
    /// As [`PolicyServer::sign`].
    pub fn signed(self, signature: &str) -> Result<Signed> {
        let pdu = self.server.sign(self.rules, &self.pdu, signature)?;
        Ok(Signed {
            said: self.said,
            event: Verified::recommended(pdu, self.server),
        })
    }
}

/// An event that was made here and signed by the policy server.
#[derive(Clone, Debug)]
pub struct Signed {
    said: Said,
    event: Verified,
}

impl Signed {
    /// The event.
    pub fn event(&self) -> &Verified {
        &self.event
    }
}

/// What somebody wanted to say with an event: the same when a change is made again, while the event's time and what it
/// follows are others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    sender: String,
    event_type: String,
    state_key: Option<String>,
    content: String,
    redacts: Option<String>,
    origin_server_ts: Option<u64>,
}

impl Said {
    fn by(outline: &Outline<'_>) -> Self {
        Self {
            sender: outline.sender.to_owned(),
            event_type: outline.event_type.to_owned(),
            state_key: outline.state_key.map(str::to_owned),
            content: outline.content.to_owned(),
            redacts: outline.redacts.map(str::to_owned),
            origin_server_ts: outline.origin_server_ts,
        }
    }
}

/// The events of one change that the policy server has signed, in the order in which the change makes them.
#[derive(Debug, Default)]
pub struct SignedEvents {
    events: Vec<Signed>,
    /// How many of them this making of the change has come to.
    used: usize,
    wanted: Option<Box<Unsigned>>,
}

impl SignedEvents {
    /// The change is made once more: the event that it could not insert the last time is taken out, to be signed.
    pub fn next_wanted(&mut self) -> Option<Unsigned> {
        self.used = 0;
        self.wanted.take().map(|wanted| *wanted)
    }

    /// The event that the change could not insert is signed now.
    pub fn add(&mut self, signed: Signed) {
        self.events.push(signed);
    }

    /// How many were signed for this change.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing was signed yet.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The event that was signed when the change came to this place before; if it was another one, what came after it
    /// follows an event that there is not, and is forgotten with it.
    pub(crate) fn come_to(&mut self, outline: &Outline<'_>) -> Option<Verified> {
        let signed = self.events.get(self.used)?;
        if signed.said != Said::by(outline) {
            self.events.truncate(self.used);
            return None;
        }
        self.used += 1;
        Some(signed.event.clone())
    }

    /// The event that was come to last can't be used, nor what follows it.
    pub(crate) fn forget_last(&mut self) {
        self.used = self.used.saturating_sub(1);
        self.events.truncate(self.used);
    }

    pub(crate) fn want(
        &mut self,
        server: PolicyServer,
        rules: &'static RoomRules,
        outline: &Outline<'_>,
        pdu: Pdu,
    ) {
        let said = Said::by(outline);
        self.wanted = Some(Box::new(Unsigned {
            server,
            rules,
            pdu,
            said,
        }));
    }
}

impl RoomWriter<'_> {
    /// The policy server that has to sign an event.
    ///
    /// # Errors
    /// If the store fails.
    pub fn policy_server_for(
        &self,
        event_type: &str,
        state_key: Option<&str>,
    ) -> Result<Option<PolicyServer>> {
        if is_exempt(event_type, state_key) {
            return Ok(None);
        }
        PolicyServer::in_use(self.read(), self.room(), self.server_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_without_a_name_or_a_key_names_no_policy_server() {
        let good = r#"{"public_keys":{"ed25519":"abc"},"via":"policy.example"}"#;
        let server = PolicyServer::of_content(good).expect("a policy server");
        assert_eq!(&**server.name(), "policy.example");
        for bad in [
            "{}",
            r#"{"via":"policy.example"}"#,
            r#"{"public_keys":{"ed25519":"abc"}}"#,
            r#"{"public_keys":{"ed25519":1},"via":"policy.example"}"#,
            r#"{"public_keys":{"curve25519":"abc"},"via":"policy.example"}"#,
            r#"{"public_keys":"abc","via":"policy.example"}"#,
            r#"{"public_keys":{"ed25519":"abc"},"via":7}"#,
        ] {
            assert_eq!(PolicyServer::of_content(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_state_event_that_names_the_policy_server_needs_no_signature() {
        assert!(is_exempt(POLICY, Some("")));
        assert!(!is_exempt(POLICY, Some("x")));
        assert!(!is_exempt(POLICY, None));
        assert!(!is_exempt("m.room.power_levels", Some("")));
    }
}
