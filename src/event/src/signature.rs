//! Checking signatures: of any JSON object, and of events as the room version demands.
//!
//! Keys are looked up by the caller, who alone knows which are known, and which were valid when the event was made
//! (`enforce_key_validity`): a key that must not count is simply not answered.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events>.

use crate::hash;
use crate::identifier;
use crate::json;
use crate::pdu::Pdu;
use crate::redaction;
use crate::room_version::{EventIdFormat, RoomRules};
use crate::signing_key::{VerifyKey, signed_bytes};

/// Why a signature does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no ed25519 signature of this server at all.
    #[error("not signed by {server_name}")]
    Missing { server_name: String },
    /// None of the keys that signed is known; fetch them and try again.
    #[error("no key of {server_name} among {key_ids:?} is known")]
    UnknownKeys {
        server_name: String,
        key_ids: Vec<String>,
    },
    /// A known key says that the signature is wrong.
    #[error("the signature of {server_name} by {key_id} is wrong")]
    Wrong { server_name: String, key_id: String },
}

/// Where public keys are found. Implemented by closures `Fn(server_name, key_id) -> Option<VerifyKey>`.
pub trait VerifyKeys {
    fn key(&self, server_name: &str, key_id: &str) -> Option<VerifyKey>;
}

impl<F: Fn(&str, &str) -> Option<VerifyKey>> VerifyKeys for F {
    fn key(&self, server_name: &str, key_id: &str) -> Option<VerifyKey> {
        self(server_name, key_id)
    }
}

/// Whether an event is as its sender made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// Signatures and content hash hold.
    Whole,
    /// The signatures hold, the content hash does not: only [`Pdu::redacted`] may be used.
    Redacted,
}

/// Whether a canonical JSON object is signed by `server_name`: at least one known key, and no known key disagrees.
pub fn verify_object(
    object: &str,
    server_name: &str,
    keys: &impl VerifyKeys,
) -> Result<(), SignatureError> {
    verify_bytes(
        &signed_bytes(object),
        json::member(object, "signatures"),
        server_name,
        keys,
    )
}

/// The servers whose signature an event needs, each once.
pub fn required_servers<'a>(rules: &RoomRules, pdu: &'a Pdu) -> Vec<&'a str> {
    let mut servers = Vec::with_capacity(1);
    let mut need = |id: &'a str| {
        if let Some(server_name) = identifier::domain(id)
            && !servers.contains(&server_name)
        {
            servers.push(server_name);
        }
    };
    let membership = if pdu.event_type() == "m.room.member" {
        pdu.content_str("membership")
    } else {
        None
    };
    // A third-party invite is sent by whichever server the identity server told, in the inviter's name.
    let third_party = membership.as_deref() == Some("invite")
        && json::member(pdu.content(), "third_party_invite").is_some();
    if !third_party {
        need(pdu.sender());
    }
    if rules.event_id == EventIdFormat::Chosen {
        need(pdu.event_id());
    }
    if rules.auth.restricted
        && membership.is_some()
        && let Some(value) = json::member(pdu.content(), "join_authorised_via_users_server")
    {
        let authoriser = value
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
            .and_then(identifier::domain);
        // What names no user is asked for as it stands: nobody can have signed it.
        let server_name = authoriser.unwrap_or(value);
        if !servers.contains(&server_name) {
            servers.push(server_name);
        }
    }
    servers
}

/// Checks 2 and 3 on receipt of a PDU: the signatures of all [`required_servers`], then the content hash.
pub fn verify_event(
    rules: &RoomRules,
    pdu: &Pdu,
    keys: &impl VerifyKeys,
) -> Result<Integrity, SignatureError> {
    let signed = redaction::signed_part(rules, pdu.json());
    let signatures = json::member(pdu.json(), "signatures");
    for server_name in required_servers(rules, pdu) {
        verify_bytes(&signed, signatures, server_name, keys)?;
    }
    Ok(match hash::content_hash_matches(pdu.json()) {
        true => Integrity::Whole,
        false => Integrity::Redacted,
    })
}

/// Whether an event has a signature of `server_name` under `key_id` that `key` made, whatever other keys and servers say.
pub fn is_signed_with(
    rules: &RoomRules,
    pdu: &Pdu,
    server_name: &str,
    key_id: &str,
    key: &VerifyKey,
) -> bool {
    let signature = json::member(pdu.json(), "signatures")
        .and_then(|signatures| json::member(signatures, server_name))
        .and_then(|of_server| json::member(of_server, key_id))
        .and_then(json::string);
    signature.is_some_and(|signature| {
        key.verifies(&redaction::signed_part(rules, pdu.json()), &signature)
    })
}

fn verify_bytes(
    signed: &[u8],
    signatures: Option<&str>,
    server_name: &str,
    keys: &impl VerifyKeys,
) -> Result<(), SignatureError> {
    let of_server = signatures.and_then(|signatures| json::member(signatures, server_name));
    let mut unknown = Vec::new();
    let mut verified = false;
    for (key_id, signature) in of_server.into_iter().flat_map(json::members) {
        if !key_id.starts_with("ed25519:") {
            continue;
        }
        let Some(key) = keys.key(server_name, key_id) else {
            unknown.push(key_id.to_owned());
            continue;
        };
        if !json::string(signature).is_some_and(|signature| key.verifies(signed, &signature)) {
            let (server_name, key_id) = (server_name.to_owned(), key_id.to_owned());
            return Err(SignatureError::Wrong {
                server_name,
                key_id,
            });
        }
        verified = true;
    }
    if verified {
        return Ok(());
    }
    let server_name = server_name.to_owned();
    if unknown.is_empty() {
        return Err(SignatureError::Missing { server_name });
    }
    Err(SignatureError::UnknownKeys {
        server_name,
        key_ids: unknown,
    })
}
