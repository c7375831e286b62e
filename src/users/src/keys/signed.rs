//! JSON objects that carry signatures: device keys and cross-signing keys.
//!
//! Owns: reading what a client uploaded into canonical form, checking one signature in it, and taking
//! signatures in and out. Invariant: a [`SignedObject`] has no `unsigned`, and its `signatures`, if
//! any, are a map of user id to a map of key id to text.
//!
//! Source: <https://spec.matrix.org/v1.19/appendices/#signing-json>.

use event::{VerifyKey, canonical, signature};
use serde_json::{Map, Value};
use store::Blob;

use crate::{Error, Result};

/// The largest object that is taken, in bytes of canonical JSON. Real ones have under 2 kB; a thousand
/// verified devices sign a master key in under 64.
pub const MAX_OBJECT_BYTES: usize = 64 * 1024;

/// What one signature in an object is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signature {
    Missing,
    Wrong,
    Right,
}

/// An uploaded object, apart from `unsigned`.
#[derive(Clone, Debug)]
pub(crate) struct SignedObject {
    /// Everything but `signatures`.
    body: Map<String, Value>,
    /// User id to key id to signature; none if the object has no such member.
    signatures: Option<Map<String, Value>>,
}

impl SignedObject {
    /// Reads an object as a client uploaded it. [`Error::Malformed`] if it is none.
    pub(crate) fn from_upload(text: &str) -> Result<Self> {
        let object = Self::read(text)
            .ok_or_else(|| Error::malformed("a key is not an object with signatures"))?;
        if object.to_json()?.len() > MAX_OBJECT_BYTES {
            return Err(Error::TooLarge(
                format!("a key may have at most {MAX_OBJECT_BYTES} bytes").into(),
            ));
        }
        Ok(object)
    }

    /// Reads an object that this module wrote.
    pub(crate) fn from_stored(blob: &Blob, table: &'static str) -> Result<Self> {
        std::str::from_utf8(&blob.0)
            .ok()
            .and_then(Self::read)
            .ok_or(Error::Store(store::StoreError::Corrupt {
                table,
                why: "not a signed object",
            }))
    }

    fn read(text: &str) -> Option<Self> {
        let mut body: Map<String, Value> = serde_json::from_str(text).ok()?;
        body.remove("unsigned");
        let signatures = match body.remove("signatures") {
            None => None,
            Some(Value::Object(signatures)) => Some(signatures),
            Some(_) => return None,
        };
        let well_formed = signatures.iter().flat_map(Map::values).all(|keys| {
            keys.as_object()
                .is_some_and(|keys| keys.values().all(Value::is_string))
        });
        well_formed.then_some(Self { body, signatures })
    }

    /// A member of the object.
    pub(crate) fn member(&self, name: &str) -> Option<&Value> {
        self.body.get(name)
    }

    /// A member of the object that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.body.get(name)?.as_str()
    }

    /// The public key under `key_id` in `keys`.
    pub(crate) fn public_key(&self, key_id: &str) -> Option<&str> {
        self.body.get("keys")?.get(key_id)?.as_str()
    }

    /// True if the two objects are the same apart from who signed them.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        self.body == other.body
    }

    /// True if the object has a member `signatures`.
    pub(crate) fn has_signatures(&self) -> bool {
        self.signatures.is_some()
    }

    /// The signatures of `user_id`, as key id and signature.
    pub(crate) fn signatures_of<'a>(
        &'a self,
        user_id: &str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.signatures
            .as_ref()
            .and_then(|signatures| signatures.get(user_id))
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(key_id, signature)| Some((key_id.as_str(), signature.as_str()?)))
    }

    /// Checks the signature of `user_id` by the key `key_id`, whose public half is `public_key`.
    pub(crate) fn check(&self, user_id: &str, key_id: &str, public_key: &str) -> Result<Signature> {
        if !self.signatures_of(user_id).any(|(id, _)| id == key_id) {
            return Ok(Signature::Missing);
        }
        let Some(verify_key) = VerifyKey::from_base64(public_key) else {
            return Ok(Signature::Wrong);
        };
        let json = self.to_json()?;
        let keys = |_: &str, id: &str| (id == key_id).then_some(verify_key);
        Ok(match signature::verify_object(&json, user_id, &keys) {
            Ok(()) => Signature::Right,
            Err(_) => Signature::Wrong,
        })
    }

    /// Drops every signature that is not by `user_id`.
    pub(crate) fn keep_signatures_of(&mut self, user_id: &str) {
        if let Some(signatures) = &mut self.signatures {
            signatures.retain(|signer, _| signer == user_id);
        }
    }

    /// Drops the signatures of `user_id` by keys that `keep` does not know.
    pub(crate) fn retain_signatures_of(
        &mut self,
        user_id: &str,
        mut keep: impl FnMut(&str) -> Result<bool>,
    ) -> Result<()> {
        let of_user = self
            .signatures
            .as_mut()
            .and_then(|signatures| signatures.get_mut(user_id))
            .and_then(Value::as_object_mut);
        let Some(of_user) = of_user else {
            return Ok(());
        };
        let mut dropped = Vec::new();
        for key_id in of_user.keys() {
            if !keep(key_id)? {
                dropped.push(key_id.clone());
            }
        }
        for key_id in dropped {
            of_user.remove(&key_id);
        }
        Ok(())
    }

    /// Takes in one signature; true if it was not there in these bytes.
    pub(crate) fn add_signature(&mut self, user_id: &str, key_id: &str, signature: &str) -> bool {
        let of_user = self
            .signatures
            .get_or_insert_default()
            .entry(user_id)
            .or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(of_user) = of_user else {
            return false;
        };
        let before = of_user.insert(key_id.to_owned(), signature.into());
        before.as_ref().and_then(Value::as_str) != Some(signature)
    }

    /// Takes in the signatures that `other` has and this has not.
    pub(crate) fn merge_signatures(&mut self, other: &Self) {
        for signer in other.signatures.iter().flat_map(Map::keys) {
            for (key_id, signature) in other.signatures_of(signer) {
                if !self.signatures_of(signer).any(|(id, _)| id == key_id) {
                    self.add_signature(signer, key_id, signature);
                }
            }
        }
    }

    /// Canonical JSON.
    pub(crate) fn to_json(&self) -> Result<String> {
        let mut whole = self.body.clone();
        if let Some(signatures) = &self.signatures {
            whole.insert("signatures".to_owned(), Value::Object(signatures.clone()));
        }
        canonical_text(&Value::Object(whole))
    }

    /// The form that is stored.
    pub(crate) fn to_blob(&self) -> Result<Blob> {
        Ok(Blob(self.to_json()?.into_bytes()))
    }
}

/// Canonical JSON of a value that came from a client.
pub(crate) fn canonical_text(value: &Value) -> Result<String> {
    let bytes =
        canonical::to_bytes(value).map_err(|error| Error::Malformed(error.to_string().into()))?;
    String::from_utf8(bytes).map_err(|_| Error::malformed("not UTF-8"))
}

/// The text of a stored JSON row.
pub(crate) fn stored_text(blob: Blob, table: &'static str) -> Result<String> {
    String::from_utf8(blob.0).map_err(|_| {
        Error::Store(store::StoreError::Corrupt {
            table,
            why: "not UTF-8",
        })
    })
}
