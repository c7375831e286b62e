//! The server's signing key: where it comes from, how it is written down, how it signs JSON objects.
//!
//! The private half never leaves this type but through [`SigningKey::to_line`], which writes the key file.
//!
//! Source: <https://spec.matrix.org/v1.19/appendices/#signing-json>.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, Verifier as _, VerifyingKey};
use serde_json::{Value, json};

use crate::canonical::{self, CanonicalError};
use crate::hash::{base64_decode, base64_encode};
use crate::json::{self, ObjectWriter};
use crate::room_version::NumberRule;

/// Why there is no signing key in a text, or no object to sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    #[error("a signing key line reads \"ed25519 VERSION BASE64\"")]
    Line,
    #[error("the key version may contain only letters, digits and underscores")]
    Version,
    #[error("the key is not 32 bytes in base64")]
    Seed,
    #[error("only a JSON object can be signed")]
    NotAnObject,
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
}

/// A server's ed25519 key pair and the names it signs under.
#[derive(Clone)]
pub struct SigningKey {
    server_name: Box<str>,
    key_id: Box<str>,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// A new key from 32 random bytes. The version is taken from the public key, so that a key made anew on the same
    /// server gets a different name.
    pub fn generate(server_name: &str, random: [u8; 32]) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(&random);
        let public = base64_encode(key.verifying_key().as_bytes());
        let letters: String = public
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(6)
            .collect();
        SigningKey {
            server_name: server_name.into(),
            key_id: format!("ed25519:a_{letters}").into(),
            key,
        }
    }

    /// A key with a given version (the part of the key id after `ed25519:`).
    pub fn from_seed(
        server_name: &str,
        version: &str,
        seed: [u8; 32],
    ) -> Result<Self, SigningKeyError> {
        if version.is_empty()
            || !version
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return Err(SigningKeyError::Version);
        }
        Ok(SigningKey {
            server_name: server_name.into(),
            key_id: format!("ed25519:{version}").into(),
            key: ed25519_dalek::SigningKey::from_bytes(&seed),
        })
    }

    /// Reads the line `ed25519 a_xxxx BASE64` of a key file, the form Synapse writes.
    pub fn from_line(server_name: &str, line: &str) -> Result<Self, SigningKeyError> {
        let mut words = line.split_ascii_whitespace();
        let (Some("ed25519"), Some(version), Some(seed), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(SigningKeyError::Line);
        };
        let seed = base64_decode(seed).and_then(|seed| seed.try_into().ok());
        SigningKey::from_seed(server_name, version, seed.ok_or(SigningKeyError::Seed)?)
    }

    /// The line for a key file, without a line end. It contains the private key.
    pub fn to_line(&self) -> String {
        format!(
            "ed25519 {} {}",
            self.version(),
            base64_encode(&self.key.to_bytes())
        )
    }

    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// `ed25519:` and the version.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    fn version(&self) -> &str {
        self.key_id
            .split_once(':')
            .map_or("", |(_, version)| version)
    }

    pub fn verify_key(&self) -> VerifyKey {
        VerifyKey(self.key.verifying_key())
    }

    /// Signs bytes; the signature is in unpadded base64.
    pub fn sign_bytes(&self, bytes: &[u8]) -> String {
        base64_encode(&self.key.sign(bytes).to_bytes())
    }

    /// Signs a JSON object given as text and answers it in canonical form with the signature among its `signatures`.
    /// Signatures that are there already stay.
    pub fn sign_object(&self, object: &str) -> Result<Vec<u8>, SigningKeyError> {
        let canonical = canonical::from_text(object, NumberRule::Integers)?;
        if !json::is_object(&canonical) {
            return Err(SigningKeyError::NotAnObject);
        }
        let signature = self.sign_bytes(&signed_bytes(&canonical));
        let signatures = self.with_signature(json::member(&canonical, "signatures"), signature)?;
        Ok(json::with_member(&canonical, "signatures", &signatures))
    }

    /// The same for a `serde_json` tree.
    pub fn sign_value(&self, object: &mut Value) -> Result<(), SigningKeyError> {
        let bytes = canonical::to_bytes(object)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| CanonicalError::Encoding)?;
        if !json::is_object(text) {
            return Err(SigningKeyError::NotAnObject);
        }
        let signature = self.sign_bytes(&signed_bytes(text));
        if let Some(members) = object.as_object_mut() {
            let signatures = members.remove("signatures").unwrap_or_default();
            members.insert("signatures".to_owned(), self.merged(signatures, signature));
        }
        Ok(())
    }

    /// `signatures` with this key's signature put in, as canonical JSON.
    pub(crate) fn with_signature(
        &self,
        present: Option<&str>,
        signature: String,
    ) -> Result<String, CanonicalError> {
        let present = present
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let bytes = canonical::to_bytes(&self.merged(present, signature))?;
        String::from_utf8(bytes).map_err(|_| CanonicalError::Encoding)
    }

    /// Whatever is no object of objects is replaced: no signature could be found in it.
    fn merged(&self, present: Value, signature: String) -> Value {
        let Value::Object(mut servers) = present else {
            return self.merged(json!({}), signature);
        };
        let mut own = match servers.remove(&*self.server_name) {
            Some(Value::Object(own)) => own,
            _ => serde_json::Map::new(),
        };
        own.insert(self.key_id.to_string(), signature.into());
        servers.insert(self.server_name.to_string(), own.into());
        servers.into()
    }
}

impl fmt::Debug for SigningKey {
    /// Without the private key: it must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} {})", self.server_name, self.key_id)
    }
}

/// What a signature over a canonical JSON object covers: all but `signatures` and `unsigned`.
pub(crate) fn signed_bytes(object: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len());
    let mut writer = ObjectWriter::open(&mut out);
    for (key, value) in json::members(object) {
        if key != "signatures" && key != "unsigned" {
            writer.raw(key, value);
        }
    }
    writer.close();
    out
}

/// A server's (or an identity server's) public ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyKey(VerifyingKey);

impl VerifyKey {
    /// Reads a public key in base64, standard or URL-safe, padded or not; `None` if it is none. Identity servers and policy
    /// servers have theirs in both alphabets.
    pub fn from_any_base64(text: &str) -> Option<Self> {
        Self::from_base64(&text.replace('-', "+").replace('_', "/"))
    }

    /// Reads a public key in base64, padded or not; `None` if it is none.
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes: [u8; 32] = base64_decode(text)?.try_into().ok()?;
        VerifyingKey::from_bytes(&bytes).ok().map(VerifyKey)
    }

    /// Reads a public key's bytes; `None` if they are no point of the curve.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes).ok().map(VerifyKey)
    }

    pub fn to_base64(&self) -> String {
        base64_encode(self.0.as_bytes())
    }

    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Whether `signature` (base64) is this key's over `bytes`.
    pub fn verifies(&self, bytes: &[u8], signature: &str) -> bool {
        base64_decode(signature)
            .and_then(|signature| Signature::from_slice(&signature).ok())
            .is_some_and(|signature| self.0.verify(bytes, &signature).is_ok())
    }
}
