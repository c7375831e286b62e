//! Hashing and signing events of any shape. Signatures take most of the time of a run, so that only those targets
//! ask for them that look at them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use event::{
    FormatError, Pdu, RoomRules, SigningKey, VerifyKey, add_signature, canonical, hash, signature,
};

use crate::pieces;

/// The servers whose keys are known; all have the same.
static KEYS: LazyLock<[SigningKey; 3]> =
    LazyLock::new(|| ["here", "there", "else"].map(|name| SigningKey::generate(name, [7; 32])));

/// The key of a server, if it is one of those that are known.
pub fn key_of(server_name: &str) -> Option<&'static SigningKey> {
    KEYS.iter().find(|key| key.server_name() == server_name)
}

/// As [`signature::VerifyKeys`] wants it.
pub fn known_keys(server_name: &str, key_id: &str) -> Option<VerifyKey> {
    let key = key_of(server_name)?;
    (key.key_id() == key_id).then(|| key.verify_key())
}

/// Signs an event by all the servers that have to, as far as they are known. `None` if it is no event.
pub fn signed(rules: &RoomRules, event: &Pdu) -> Option<String> {
    let mut signed = event.json().to_owned();
    for server_name in signature::required_servers(rules, event) {
        if let Some(key) = key_of(server_name) {
            signed = add_signature(rules, &signed, key).ok()?;
        }
    }
    Some(signed)
}

/// Gives an event its content hash, if it has none yet, and reads it. `None` if it has no canonical form.
pub fn hashed(
    rules: &RoomRules,
    event: &BTreeMap<&'static str, String>,
) -> Option<Result<Pdu, FormatError>> {
    let mut text = pieces::object(event);
    if event.get("hashes").is_some_and(|hashes| hashes == "{}") {
        let canonical = canonical::from_text(&text, rules.numbers).ok()?;
        let hash = hash::base64_encode(&hash::content_hash(&canonical));
        let mut event = event.clone();
        event.insert("hashes", format!(r#"{{"sha256":"{hash}"}}"#));
        text = pieces::object(&event);
    }
    Some(Pdu::from_federation(rules, text.as_bytes()))
}
