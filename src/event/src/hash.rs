//! The two hashes of an event.
//!
//! The content hash covers the whole event and stands in it; if it does not match, someone redacted the event. The
//! reference hash covers what redaction leaves and names the event.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#signing-events>.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{
    GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD, URL_SAFE_NO_PAD,
};
use sha2::{Digest, Sha256};

use crate::event_id::EventId;
use crate::json;
use crate::redaction;
use crate::room_version::{EventIdFormat, RoomRules};

/// "Implementations SHOULD accept input with or without padding."
const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Unpadded standard base64, as hashes, keys and signatures are written.
pub fn base64_encode(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// Standard base64 with or without padding.
pub fn base64_decode(text: &str) -> Option<Vec<u8>> {
    TOLERANT.decode(text).ok()
}

/// The content hash of an event in canonical JSON: all of it but `unsigned`, `signatures` and `hashes`.
pub fn content_hash(event: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"{");
    let mut first = true;
    for (key, value) in json::members(event) {
        if matches!(key, "unsigned" | "signatures" | "hashes") {
            continue;
        }
        hasher.update(if first { "\"" } else { ",\"" });
        hasher.update(key);
        hasher.update("\":");
        hasher.update(value);
        first = false;
    }
    hasher.update(b"}");
    hasher.finalize().into()
}

/// Whether `hashes.sha256` of an event in canonical JSON is its content hash. If not, only the redacted form may be used.
pub fn content_hash_matches(event: &str) -> bool {
    json::member(event, "hashes")
        .and_then(|hashes| json::member(hashes, "sha256"))
        .and_then(json::string)
        .and_then(|hash| base64_decode(&hash))
        .is_some_and(|hash| hash == content_hash(event))
}

/// The reference hash of an event in canonical JSON.
pub fn reference_hash(rules: &RoomRules, event: &str) -> [u8; 32] {
    sha256(&redaction::signed_part(rules, event))
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The event id made of a reference hash. Room versions 1 and 2 choose their ids; there it is the URL-safe form.
pub fn event_id(rules: &RoomRules, reference_hash: &[u8; 32]) -> EventId {
    let hash = match rules.event_id {
        EventIdFormat::HashStandard => STANDARD_NO_PAD.encode(reference_hash),
        EventIdFormat::HashUrlSafe | EventIdFormat::Chosen => {
            URL_SAFE_NO_PAD.encode(reference_hash)
        }
    };
    EventId::from(format!("${hash}"))
}
