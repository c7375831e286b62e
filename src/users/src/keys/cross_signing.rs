//! A user's three cross-signing keys: master, self-signing and user-signing.
//!
//! Invariants: a stored key names its own user and usage and has one ed25519 public key; self-signing and
//! user-signing keys are signed by the stored master key, so a new master key takes the old ones with
//! it; stored objects carry signatures of their owner only.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#cross-signing>.

use event::VerifyKey;
use names::UserSn;
use serde_json::Value;
use store::{Read, Txn};

use super::signed::{Signature, SignedObject};
use super::{Owner, device_keys, device_lists};
use crate::schema::CROSS_SIGNING_KEYS;
use crate::{Error, Result};

/// What a cross-signing key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    /// Identifies the user and signs the other two.
    Master,
    /// Signs the user's own devices.
    SelfSigning,
    /// Signs other users' master keys; only its owner may see it.
    UserSigning,
}

impl Usage {
    const ALL: [Usage; 3] = [Usage::Master, Usage::SelfSigning, Usage::UserSigning];

    /// The word in a key's `usage`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Usage::Master => "master",
            Usage::SelfSigning => "self_signing",
            Usage::UserSigning => "user_signing",
        }
    }

    pub(crate) const fn number(self) -> u8 {
        match self {
            Usage::Master => 1,
            Usage::SelfSigning => 2,
            Usage::UserSigning => 3,
        }
    }
}

/// A key that was read and has the right form.
#[derive(Clone, Debug)]
pub(super) struct CrossSigningKey {
    pub(super) object: SignedObject,
    /// Unpadded base64, as the client wrote it.
    pub(super) public_key: String,
}

impl CrossSigningKey {
    /// `ed25519:` and the public key: how signatures by this key are named.
    pub(super) fn key_id(&self) -> String {
        format!("ed25519:{}", self.public_key)
    }

    /// Checks the form of a key (the specification's `CrossSigningKey`).
    pub(super) fn new(object: SignedObject, owner_id: &str, usage: Usage) -> Result<Self> {
        let name = usage.as_str();
        if object.text("user_id") != Some(owner_id) {
            return Err(Error::invalid(format!(
                "the {name} key is not one of {owner_id}"
            )));
        }
        let usages = object.member("usage").and_then(Value::as_array);
        if !usages.is_some_and(|usages| usages.iter().any(|usage| usage == name)) {
            return Err(Error::invalid(format!(
                "the {name} key does not have that usage"
            )));
        }
        let public_key = sole_public_key(&object).ok_or_else(|| {
            Error::invalid(format!(
                "the {name} key does not have exactly one ed25519 key named after itself"
            ))
        })?;
        Ok(Self { object, public_key })
    }
}

fn sole_public_key(object: &SignedObject) -> Option<String> {
    let keys = object.member("keys")?.as_object()?;
    if keys.len() != 1 {
        return None;
    }
    let (key_id, public_key) = keys.iter().next()?;
    let public_key = public_key.as_str()?;
    VerifyKey::from_base64(public_key)?;
    (key_id.strip_prefix("ed25519:") == Some(public_key)).then(|| public_key.to_owned())
}

/// The keys in one `/keys/device_signing/upload`, of the right form.
#[derive(Debug)]
pub struct Upload {
    keys: [Option<CrossSigningKey>; 3],
}

impl Upload {
    /// Reads the three optional members `master_key`, `self_signing_key` and `user_signing_key`.
    ///
    /// [`Error::Malformed`] for what is no such object; [`Error::Invalid`] for a key of another user or
    /// usage, or without exactly one public key.
    pub fn new(
        owner: Owner<'_>,
        master: Option<&str>,
        self_signing: Option<&str>,
        user_signing: Option<&str>,
    ) -> Result<Self> {
        let read = |json: Option<&str>, usage| match json {
            Some(json) => {
                let mut object = SignedObject::from_upload(json)?;
                object.keep_signatures_of(owner.user_id);
                CrossSigningKey::new(object, owner.user_id, usage).map(Some)
            }
            None => Ok(None),
        };
        Ok(Self {
            keys: [
                read(master, Usage::Master)?,
                read(self_signing, Usage::SelfSigning)?,
                read(user_signing, Usage::UserSigning)?,
            ],
        })
    }

    fn with_usage(&self) -> impl Iterator<Item = (Usage, &CrossSigningKey)> {
        Usage::ALL
            .into_iter()
            .zip(&self.keys)
            .filter_map(|(usage, key)| Some((usage, key.as_ref()?)))
    }
}

/// True if the upload must be confirmed by interactive authentication: not the first upload of a master
/// key, and something in it is new. (Since v1.11: "the request contains no new keys".)
pub fn needs_authentication(from: &impl Read, user: UserSn, upload: &Upload) -> Result<bool> {
    if load(from, user, Usage::Master)?.is_none() {
        return Ok(false);
    }
    for (usage, key) in upload.with_usage() {
        let same = load(from, user, usage)?
            .is_some_and(|present| present.object.says_the_same(&key.object));
        if !same {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Stores uploaded keys; true if that changed anything.
///
/// [`Error::Missing`] if there is no master key to go by; [`Error::InvalidSignature`] if a key is not
/// signed by it; [`Error::Forbidden`] if a public key is the id of one of the user's devices.
pub fn upload(txn: &mut Txn, owner: Owner<'_>, upload: Upload) -> Result<bool> {
    for (_, key) in upload.with_usage() {
        if device_keys::exists(txn, owner.user, &key.public_key)? {
            return Err(Error::Forbidden("a public key is a device's id"));
        }
    }
    let present_master = load(txn, owner.user, Usage::Master)?;
    let [new_master, self_signing, user_signing] = upload.keys;
    let master_changes = new_master.as_ref().is_some_and(|new| {
        present_master
            .as_ref()
            .is_none_or(|present| present.public_key != new.public_key)
    });
    let mut changed = false;
    if let Some(new) = &new_master {
        check_device_signatures(txn, owner, new)?;
        changed |= put(txn, owner.user, Usage::Master, new)?;
    }
    let others = [
        (Usage::SelfSigning, self_signing),
        (Usage::UserSigning, user_signing),
    ];
    let master = new_master.or(present_master);
    for (usage, key) in others {
        match key {
            Some(key) => {
                let master = master
                    .as_ref()
                    .ok_or_else(|| Error::Missing("no master signing key is available".into()))?;
                check_signed_by(&key, usage, owner.user_id, master)?;
                changed |= put(txn, owner.user, usage, &key)?;
            }
            None if master_changes => {
                CROSS_SIGNING_KEYS.delete(txn, &(owner.user, usage.number()));
            }
            None => {}
        }
    }
    if changed {
        device_lists::mark_cross_signing(txn, owner.user)?;
    }
    Ok(changed)
}

/// Checks that a key is signed by its owner's master key.
pub(super) fn check_signed_by(
    key: &CrossSigningKey,
    usage: Usage,
    owner_id: &str,
    master: &CrossSigningKey,
) -> Result<()> {
    match key
        .object
        .check(owner_id, &master.key_id(), &master.public_key)?
    {
        Signature::Right => Ok(()),
        Signature::Wrong | Signature::Missing => Err(Error::InvalidSignature(
            format!("the {} key is not signed by the master key", usage.as_str()).into(),
        )),
    }
}

/// A master key need not be signed; what signatures of known devices it has must hold.
fn check_device_signatures(
    from: &impl Read,
    owner: Owner<'_>,
    master: &CrossSigningKey,
) -> Result<()> {
    for (key_id, _) in master.object.signatures_of(owner.user_id) {
        let Some(device) = key_id.strip_prefix("ed25519:") else {
            continue;
        };
        let Some(keys) = device_keys::load(from, owner.user, device)? else {
            continue;
        };
        let public_key = keys.public_key(key_id).unwrap_or_default();
        if master.object.check(owner.user_id, key_id, public_key)? != Signature::Right {
            return Err(Error::InvalidSignature(
                format!("the signature of device {device} over the master key is wrong").into(),
            ));
        }
    }
    Ok(())
}

/// Writes a key; the same key again keeps the signatures that were put under it meanwhile.
fn put(txn: &mut Txn, user: UserSn, usage: Usage, key: &CrossSigningKey) -> Result<bool> {
    let mut object = key.object.clone();
    let present = CROSS_SIGNING_KEYS.get(txn, &(user, usage.number()))?;
    if let Some(blob) = &present {
        let present = SignedObject::from_stored(blob, CROSS_SIGNING_KEYS.name())?;
        if present.says_the_same(&object) {
            object.merge_signatures(&present);
        }
    }
    let blob = object.to_blob()?;
    if present.as_ref() == Some(&blob) {
        return Ok(false);
    }
    CROSS_SIGNING_KEYS.put(txn, &(user, usage.number()), &blob);
    Ok(true)
}

/// A stored key, to check and to sign with.
pub(super) fn load(
    from: &impl Read,
    user: UserSn,
    usage: Usage,
) -> Result<Option<CrossSigningKey>> {
    let Some(blob) = CROSS_SIGNING_KEYS.get(from, &(user, usage.number()))? else {
        return Ok(None);
    };
    let object = SignedObject::from_stored(&blob, CROSS_SIGNING_KEYS.name())?;
    let public_key = sole_public_key(&object).ok_or(store::StoreError::Corrupt {
        table: CROSS_SIGNING_KEYS.name(),
        why: "no public key",
    })?;
    Ok(Some(CrossSigningKey { object, public_key }))
}

/// Writes back a master key that [`load`] gave, with more signatures.
pub(super) fn store_signed_master(
    txn: &mut Txn,
    user: UserSn,
    key: &CrossSigningKey,
) -> Result<()> {
    let row = (user, Usage::Master.number());
    CROSS_SIGNING_KEYS.put(txn, &row, &key.object.to_blob()?);
    Ok(())
}

/// True if the user has published a master key.
pub fn has_master(from: &impl Read, user: UserSn) -> Result<bool> {
    Ok(CROSS_SIGNING_KEYS.contains(from, &(user, Usage::Master.number()))?)
}
