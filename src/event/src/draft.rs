//! An event this server is about to send, from its parts to the signed [`Pdu`].
//!
//! The members are written once, in canonical order; hashes and signatures are put in between. Whether the event is
//! *allowed* is not decided here: [`crate::auth::check`] takes the sealed event.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#adding-hashes-and-signatures-to-outgoing-events>.

use serde_json::{Map, Value, json as value};
use sha2::{Digest, Sha256};

use crate::canonical::{self, CanonicalError};
use crate::event_id::EventId;
use crate::hash;
use crate::json::{self, ObjectWriter, write_string};
use crate::pdu::{FormatError, Pdu};
use crate::redaction;
use crate::room_version::{EventIdFormat, NumberRule, ReferenceFormat, RoomIdFormat, RoomRules};
use crate::signing_key::SigningKey;

/// Why a draft can't become an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// `content` is no JSON, no canonical JSON, or no object (`M_NOT_JSON`, `M_BAD_JSON`).
    #[error("bad content: {0}")]
    Content(CanonicalError),
    #[error("content is not an object")]
    ContentNotAnObject,
    /// A size limit is exceeded (`M_TOO_LARGE`).
    #[error("{0} is too large")]
    TooLarge(&'static str),
    /// A field is not what the event format wants; the caller made a mistake.
    #[error(transparent)]
    Format(FormatError),
    /// The draft lacks, or has, something that this room version has, or lacks; the caller made a mistake.
    #[error("{0:?} does not fit the room version")]
    Field(&'static str),
}

impl From<FormatError> for DraftError {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::TooLarge(what) => DraftError::TooLarge(what),
            error => DraftError::Format(error),
        }
    }
}

/// What only events of room versions 1 and 2 contain.
#[derive(Clone, Copy, Debug)]
pub struct FirstFormat<'a> {
    /// `$opaque:domain`, unique on this server.
    pub event_id: &'a str,
    /// The reference hashes of `prev_events`, in the same order.
    pub prev_hashes: &'a [[u8; 32]],
    /// The reference hashes of `auth_events`, in the same order.
    pub auth_hashes: &'a [[u8; 32]],
}

/// The parts of an event. All but hashes, signatures and (from room version 3 on) the event id, which follow.
#[derive(Clone, Debug)]
pub struct EventDraft<'a> {
    /// `None` exactly for the create event of room versions whose room id is its hash.
    pub room_id: Option<&'a str>,
    pub sender: &'a str,
    pub event_type: &'a str,
    /// `None` for a message event.
    pub state_key: Option<&'a str>,
    /// A JSON object in any spelling. From room version 11 on, redactions have `redacts` in here.
    pub content: &'a str,
    /// The target of an `m.room.redaction`; it is written where the room version wants it. `None` otherwise.
    pub redacts: Option<&'a str>,
    /// Milliseconds since 1970.
    pub origin_server_ts: i64,
    pub prev_events: &'a [&'a str],
    pub auth_events: &'a [&'a str],
    /// One more than the greatest depth of `prev_events`; what exceeds the room version's limit is set to it.
    pub depth: u64,
    /// Needed in room versions 1 and 2, unused later.
    pub first_format: Option<FirstFormat<'a>>,
}

impl EventDraft<'_> {
    /// Hashes and signs the event.
    pub fn seal(&self, rules: &RoomRules, key: &SigningKey) -> Result<Pdu, DraftError> {
        let is_create = self.event_type == "m.room.create";
        let hashed_room = is_create && rules.room_id == RoomIdFormat::CreateHash;
        if self.room_id.is_none() != hashed_room {
            return Err(DraftError::Field("room_id"));
        }
        let content = self.canonical_content(rules)?;
        let parts = Parts::write(self, rules, &content)?;
        let content_hash: [u8; 32] = {
            let mut hasher = Sha256::new();
            hasher.update(&parts.before_hashes);
            hasher.update(&parts.before_signatures);
            hasher.update(&parts.after_signatures);
            hasher.finalize().into()
        };
        let hashes = format!(
            r#","hashes":{{"sha256":"{}"}}"#,
            hash::base64_encode(&content_hash)
        );
        let unsigned_event = parts.joined(&hashes, "")?;
        let signed = redaction::signed_part(rules, &unsigned_event);
        let mut signatures = Vec::with_capacity(192);
        signatures.extend_from_slice(b",\"signatures\":{");
        write_string(&mut signatures, key.server_name());
        signatures.extend_from_slice(b":{");
        write_string(&mut signatures, key.key_id());
        signatures.push(b':');
        write_string(&mut signatures, &key.sign_bytes(&signed));
        signatures.extend_from_slice(b"}}");
        let signatures = utf8(signatures)?;
        let event = parts.joined(&hashes, &signatures)?;
        let event_id = match (rules.event_id, self.first_format) {
            (EventIdFormat::Chosen, Some(first)) => EventId::from(first.event_id),
            (EventIdFormat::Chosen, None) => return Err(DraftError::Field("event_id")),
            _ => hash::event_id(rules, &hash::sha256(&signed)),
        };
        let pdu = Pdu::read(rules, Some(event_id), event.into())?;
        pdu.check_limits(rules)?;
        Ok(pdu)
    }

    /// Content in canonical form. Events made here are strict in every room version: "a homeserver should take
    /// reasonable precautions to prevent users from sending malformed events".
    fn canonical_content(&self, rules: &RoomRules) -> Result<String, DraftError> {
        let content = canonical::from_text(self.content, NumberRule::Integers)
            .map_err(DraftError::Content)?;
        if !json::is_object(&content) {
            return Err(DraftError::ContentNotAnObject);
        }
        let Some(redacts) = self.redacts.filter(|_| rules.redaction.redacts_in_content) else {
            return Ok(content.into_owned());
        };
        let mut target = Vec::with_capacity(redacts.len() + 2);
        write_string(&mut target, redacts);
        utf8(json::with_member(&content, "redacts", &utf8(target)?))
    }

    fn first_format(&self, rules: &RoomRules) -> Result<Option<FirstFormat<'_>>, DraftError> {
        if rules.references == ReferenceFormat::Plain {
            return Ok(None);
        }
        let first = self.first_format.ok_or(DraftError::Field("event_id"))?;
        if first.prev_hashes.len() != self.prev_events.len() {
            return Err(DraftError::Field("prev_events"));
        }
        if first.auth_hashes.len() != self.auth_events.len() {
            return Err(DraftError::Field("auth_events"));
        }
        Ok(Some(first))
    }
}

/// Hashes and signs an event that is there as a JSON object, such as the template another server made for a join.
/// Hashes and this key's signature are replaced, other signatures stay. The answer is canonical JSON, for
/// [`Pdu::from_federation`].
pub fn hash_and_sign(
    rules: &RoomRules,
    event: &str,
    key: &SigningKey,
) -> Result<String, DraftError> {
    let event = canonical::from_text(event, rules.numbers).map_err(DraftError::Content)?;
    if !json::is_object(&event) {
        return Err(DraftError::ContentNotAnObject);
    }
    let content_hash = hash::base64_encode(&hash::content_hash(&event));
    let hashes = format!(r#"{{"sha256":"{content_hash}"}}"#);
    let hashed = utf8(json::with_member(&event, "hashes", &hashes))?;
    add_signature(rules, &hashed, key)
}

/// Adds this key's signature to an event, leaving the others: what a resident server does to a restricted join.
pub fn add_signature(
    rules: &RoomRules,
    event: &str,
    key: &SigningKey,
) -> Result<String, DraftError> {
    let signature = key.sign_bytes(&redaction::signed_part(rules, event));
    let signatures = key.with_signature(json::member(event, "signatures"), signature);
    let signatures = signatures.map_err(DraftError::Content)?;
    utf8(json::with_member(event, "signatures", &signatures))
}

/// An event with the signatures of another server, beside those of its that are there: `signatures` is that server's
/// object in `signatures`.
pub fn with_signatures(
    pdu: &Pdu,
    server_name: &str,
    signatures: &str,
) -> Result<String, DraftError> {
    let mut servers: Map<String, Value> = json::member(pdu.json(), "signatures")
        .and_then(|present| serde_json::from_str(present).ok())
        .unwrap_or_default();
    let mut of_server = match servers.remove(server_name) {
        Some(Value::Object(present)) => present,
        _ => Map::new(),
    };
    let added: Map<String, Value> = serde_json::from_str(signatures).unwrap_or_default();
    of_server.extend(added);
    servers.insert(server_name.to_owned(), of_server.into());
    let servers = canonical::to_bytes(&servers.into()).map_err(DraftError::Content)?;
    utf8(json::with_member(pdu.json(), "signatures", &utf8(servers)?))
}

/// An event with one more signature of another server, whose others stay.
pub fn with_signature(
    pdu: &Pdu,
    server_name: &str,
    key_id: &str,
    signature: &str,
) -> Result<String, DraftError> {
    with_signatures(pdu, server_name, &value!({ key_id: signature }).to_string())
}

/// An event without hashes and signatures, for another server to finish and sign, with the name of the server that made
/// it as `origin`. Where whoever signs an event chooses its id, it has none.
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid>
pub fn template(pdu: &Pdu, origin: &str) -> Result<String, DraftError> {
    let mut out = Vec::with_capacity(pdu.json().len());
    let mut members = ObjectWriter::open(&mut out);
    for (key, value) in json::members(pdu.json()) {
        match key {
            "event_id" | "hashes" | "signatures" => continue,
            "origin_server_ts" => write_string(members.key("origin"), origin),
            _ => {}
        }
        members.raw(key, value);
    }
    members.close();
    utf8(out)
}

/// The event's text, cut where hashes and signatures go.
struct Parts {
    before_hashes: Vec<u8>,
    before_signatures: Vec<u8>,
    after_signatures: Vec<u8>,
}

impl Parts {
    fn write(
        draft: &EventDraft<'_>,
        rules: &RoomRules,
        content: &str,
    ) -> Result<Parts, DraftError> {
        let first = draft.first_format(rules)?;
        let mut a = Vec::with_capacity(content.len() + 512);
        a.extend_from_slice(b"{\"auth_events\":");
        write_references(
            &mut a,
            draft.auth_events,
            first.map(|first| first.auth_hashes),
        );
        a.extend_from_slice(b",\"content\":");
        a.extend_from_slice(content.as_bytes());
        a.extend_from_slice(b",\"depth\":");
        a.extend_from_slice(draft.depth.min(rules.max_depth).to_string().as_bytes());
        if let Some(first) = first {
            a.extend_from_slice(b",\"event_id\":");
            write_string(&mut a, first.event_id);
        }
        let mut b = Vec::with_capacity(512);
        b.extend_from_slice(b",\"origin_server_ts\":");
        b.extend_from_slice(draft.origin_server_ts.to_string().as_bytes());
        b.extend_from_slice(b",\"prev_events\":");
        write_references(
            &mut b,
            draft.prev_events,
            first.map(|first| first.prev_hashes),
        );
        if let Some(redacts) = draft
            .redacts
            .filter(|_| !rules.redaction.redacts_in_content)
        {
            b.extend_from_slice(b",\"redacts\":");
            write_string(&mut b, redacts);
        }
        if let Some(room_id) = draft.room_id {
            b.extend_from_slice(b",\"room_id\":");
            write_string(&mut b, room_id);
        }
        b.extend_from_slice(b",\"sender\":");
        write_string(&mut b, draft.sender);
        let mut c = Vec::with_capacity(128);
        if let Some(state_key) = draft.state_key {
            c.extend_from_slice(b",\"state_key\":");
            write_string(&mut c, state_key);
        }
        c.extend_from_slice(b",\"type\":");
        write_string(&mut c, draft.event_type);
        c.push(b'}');
        Ok(Parts {
            before_hashes: a,
            before_signatures: b,
            after_signatures: c,
        })
    }

    fn joined(&self, hashes: &str, signatures: &str) -> Result<String, DraftError> {
        let parts: [&[u8]; 5] = [
            &self.before_hashes,
            hashes.as_bytes(),
            &self.before_signatures,
            signatures.as_bytes(),
            &self.after_signatures,
        ];
        utf8(parts.concat())
    }
}

/// Every piece was a `str`, so this does not fail.
fn utf8(bytes: Vec<u8>) -> Result<String, DraftError> {
    String::from_utf8(bytes).map_err(|_| DraftError::Content(CanonicalError::Encoding))
}

fn write_references(out: &mut Vec<u8>, ids: &[&str], hashes: Option<&[[u8; 32]]>) {
    out.push(b'[');
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match hashes.and_then(|hashes| hashes.get(index)) {
            Some(hash) => {
                out.push(b'[');
                write_string(out, id);
                out.extend_from_slice(b",{\"sha256\":\"");
                out.extend_from_slice(hash::base64_encode(hash).as_bytes());
                out.extend_from_slice(b"\"}]");
            }
            None => write_string(out, id),
        }
    }
    out.push(b']');
}
