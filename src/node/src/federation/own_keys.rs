//! This server's own keys: the one that signs, those that did before, and what others are told of them.
//! <https://spec.matrix.org/v1.19/server-server-api/#publishing-keys>
//!
//! The key file holds them all, a line each: `ed25519 a_xxxx SEED` for the key that signs, the form that Synapse
//! writes, and `old ed25519 a_xxxx PUBLIC_KEY EXPIRED_MS` for each that signed until then. Old keys have no private
//! half: nothing is signed with them again.

use bytes::Bytes;
use event::signing_key::SigningKeyError;
use event::{SigningKey, VerifyKey};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::{Node, NodeError};

/// How long what is published is good for, in milliseconds.
const VALIDITY_MS: u64 = 24 * 3_600_000;

/// How long the same document is given out: it is always good for much longer than the hour that the specification asks
/// for.
const RENEW_AFTER_MS: u64 = 3_600_000;

/// A key that this server signed with before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OldKey {
    key_id: String,
    key: VerifyKey,
    expired_ms: u64,
}

/// All keys of this server.
#[derive(Clone, Debug)]
pub struct OwnKeys {
    current: SigningKey,
    old: Vec<OldKey>,
}

impl From<SigningKey> for OwnKeys {
    fn from(current: SigningKey) -> Self {
        let old = Vec::new();
        Self { current, old }
    }
}

impl OwnKeys {
    /// Reads a key file.
    ///
    /// # Errors
    /// If a line is none, or there is not exactly one key that signs.
    pub fn from_file(server_name: &str, text: &str) -> Result<Self, SigningKeyError> {
        let mut current = None;
        let mut old = Vec::new();
        for line in text.lines().map(str::trim) {
            if let Some(line) = line.strip_prefix("old ") {
                old.push(OldKey::from_line(line)?);
            } else if !line.is_empty() {
                let key = SigningKey::from_line(server_name, line)?;
                if current.replace(key).is_some() {
                    return Err(SigningKeyError::Line);
                }
            }
        }
        let current = current.ok_or(SigningKeyError::Line)?;
        Ok(Self { current, old })
    }

    /// Writes the key file. It contains the private key.
    pub fn to_file(&self) -> String {
        let mut text = self.current.to_line();
        text.push('\n');
        for old in &self.old {
            text.push_str(&old.to_line());
            text.push('\n');
        }
        text
    }

    /// A new key, made of random bytes, in the place of the current one, which was good until `now_ms`.
    pub fn rotated(&self, random: [u8; 32], now_ms: u64) -> Self {
        let current = SigningKey::generate(self.current.server_name(), random);
        let mut old = self.old.clone();
        old.push(OldKey {
            key_id: self.current.key_id().to_owned(),
            key: self.current.verify_key(),
            expired_ms: now_ms,
        });
        old.retain(|old| old.key_id != current.key_id());
        Self { current, old }
    }

    /// The key that signs.
    pub fn current(&self) -> &SigningKey {
        &self.current
    }

    /// A key of this id that was good at `at_ms`; without a time, one that is good now.
    pub fn key(&self, key_id: &str, at_ms: Option<u64>) -> Option<VerifyKey> {
        if key_id == self.current.key_id() {
            return Some(self.current.verify_key());
        }
        let at_ms = at_ms?;
        let counts = |old: &&OldKey| old.key_id == key_id && at_ms <= old.expired_ms;
        self.old.iter().find(counts).map(|old| old.key)
    }

    /// What others are told at `now_ms`.
    fn document(&self, now_ms: u64) -> Result<Bytes, SigningKeyError> {
        let mut old_verify_keys = Map::new();
        for old in &self.old {
            let told = json!({"key": old.key.to_base64(), "expired_ts": old.expired_ms});
            old_verify_keys.insert(old.key_id.clone(), told);
        }
        let mut verify_keys = Map::new();
        let public = self.current.verify_key().to_base64();
        verify_keys.insert(self.current.key_id().to_owned(), json!({"key": public}));
        let document: Value = json!({
            "server_name": self.current.server_name(),
            "valid_until_ts": now_ms + VALIDITY_MS,
            "verify_keys": verify_keys,
            "old_verify_keys": old_verify_keys,
        });
        Ok(self.current.sign_object(&document.to_string())?.into())
    }
}

impl OldKey {
    fn from_line(line: &str) -> Result<Self, SigningKeyError> {
        let mut words = line.split_ascii_whitespace();
        let (Some("ed25519"), Some(version), Some(public), Some(expired), None) = (
            words.next(),
            words.next(),
            words.next(),
            words.next(),
            words.next(),
        ) else {
            return Err(SigningKeyError::Line);
        };
        Ok(Self {
            key_id: format!("ed25519:{version}"),
            key: VerifyKey::from_base64(public).ok_or(SigningKeyError::Seed)?,
            expired_ms: expired.parse().map_err(|_| SigningKeyError::Line)?,
        })
    }

    fn to_line(&self) -> String {
        let version = self.key_id.trim_start_matches("ed25519:");
        format!(
            "old ed25519 {version} {} {}",
            self.key.to_base64(),
            self.expired_ms
        )
    }
}

/// What was last published, and when.
#[derive(Default)]
pub(crate) struct Published(Mutex<Option<(u64, Bytes)>>);

impl Node {
    /// What this server publishes of its keys: canonical JSON, signed.
    ///
    /// # Errors
    /// If it can't be signed, which no key does.
    pub fn published_own_keys(&self) -> Result<Bytes, NodeError> {
        let now_ms = self.now_ms();
        let mut published = self.published.0.lock();
        if let Some((since_ms, document)) = &*published
            && (*since_ms..since_ms.saturating_add(RENEW_AFTER_MS)).contains(&now_ms)
        {
            return Ok(document.clone());
        }
        let document = self.own_keys.document(now_ms)?;
        *published = Some((now_ms, document.clone()));
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use servers::keys::KeyDocument;

    fn keys() -> OwnKeys {
        SigningKey::from_seed("a.example", "1", [1; 32])
            .expect("a key")
            .into()
    }

    #[test]
    fn the_file_of_rotated_keys_is_read_back_and_old_keys_count_for_what_they_signed() {
        let rotated = keys().rotated([2; 32], 1000).rotated([3; 32], 2000);
        let text = rotated.to_file();
        let read = OwnKeys::from_file("a.example", &text).expect("a key file");
        assert_eq!(read.to_file(), text);
        assert_eq!(read.old.len(), 2);
        assert!(read.key("ed25519:1", Some(1000)).is_some());
        assert!(read.key("ed25519:1", Some(1001)).is_none());
        assert!(read.key("ed25519:1", None).is_none());
        assert!(read.key(read.current().key_id(), None).is_some());
    }

    #[test]
    fn a_file_of_one_line_is_what_older_versions_wrote_and_one_without_a_key_is_refused() {
        let line = keys().current().to_line();
        assert!(OwnKeys::from_file("a.example", &line).is_ok());
        let two = format!("{line}\n{line}\n");
        for text in ["", "old ed25519 1 x 1", "ed25519 1", two.as_str()] {
            assert!(OwnKeys::from_file("a.example", text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_published_is_signed_and_names_old_keys_with_their_end() {
        let rotated = keys().rotated([2; 32], 1000);
        let document = rotated.document(5000).expect("signed");
        let read = KeyDocument::read(&document).expect("usable by others");
        assert_eq!(read.server_name(), "a.example");
        assert_eq!(read.valid_until_ms(), 5000 + VALIDITY_MS);
        let value: Value = serde_json::from_slice(&document).expect("JSON");
        assert_eq!(value["old_verify_keys"]["ed25519:1"]["expired_ts"], 1000);
        let current = rotated.current().key_id();
        assert!(value["verify_keys"][current]["key"].is_string());
    }
}
