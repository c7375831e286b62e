//! Devices' identity keys: uploaded by the device, signed by the owner's other keys, asked for by all.
//!
//! Invariant: a stored object names its own user and device, and carries signatures of its owner only.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#device-keys>.

use names::UserSn;
use serde_json::Value;
use store::{Read, Txn};

use super::signed::SignedObject;
use super::{Owner, device_lists};
use crate::schema::DEVICE_KEYS;
use crate::{Error, Result};

/// Stores the identity keys that a device uploads of itself. True if that changed anything; the same
/// keys again change nothing, and keep the signatures that others put under them meanwhile.
///
/// [`Error::Malformed`] if something the specification requires is missing or mistyped;
/// [`Error::Invalid`] if the keys are those of another user or device.
pub fn upload(txn: &mut Txn, owner: Owner<'_>, device: &str, json: &str) -> Result<bool> {
    let mut keys = SignedObject::from_upload(json)?;
    check(&keys, owner.user_id, device)?;
    keys.keep_signatures_of(owner.user_id);
    let row = (owner.user, device.to_owned());
    let present = DEVICE_KEYS.get(txn, &row)?;
    if let Some(present) = &present {
        let present = SignedObject::from_stored(present, DEVICE_KEYS.name())?;
        if present.says_the_same(&keys) {
            keys.merge_signatures(&present);
        }
    }
    let blob = keys.to_blob()?;
    if present.as_ref() == Some(&blob) {
        return Ok(false);
    }
    DEVICE_KEYS.put(txn, &row, &blob);
    device_lists::mark_device(txn, owner.user, device)?;
    Ok(true)
}

/// Checks the form of the keys of a device.
pub(super) fn check(keys: &SignedObject, owner_id: &str, device: &str) -> Result<()> {
    let text = |name: &'static str| {
        keys.text(name)
            .ok_or_else(|| Error::malformed(format!("device_keys has no text '{name}'")))
    };
    let (user_id, device_id) = (text("user_id")?, text("device_id")?);
    let algorithms = keys.member("algorithms").and_then(Value::as_array);
    if !algorithms.is_some_and(|algorithms| algorithms.iter().all(Value::is_string)) {
        return Err(Error::malformed("device_keys has no list 'algorithms'"));
    }
    let public = keys.member("keys").and_then(Value::as_object);
    if !public.is_some_and(|public| public.values().all(Value::is_string)) {
        return Err(Error::malformed("device_keys has no map 'keys'"));
    }
    if !keys.has_signatures() {
        return Err(Error::malformed("device_keys has no 'signatures'"));
    }
    if user_id != owner_id {
        return Err(Error::invalid("device_keys are those of another user"));
    }
    if device_id != device {
        return Err(Error::invalid("device_keys are those of another device"));
    }
    Ok(())
}

/// True if the device has identity keys.
pub fn exists(from: &impl Read, user: UserSn, device: &str) -> Result<bool> {
    Ok(DEVICE_KEYS.contains(from, &(user, device.to_owned()))?)
}

/// Removes a device's identity keys; true if there were any. The caller marks the user as changed.
pub(super) fn remove(txn: &mut Txn, user: UserSn, device: &str) -> Result<bool> {
    let row = (user, device.to_owned());
    let existed = DEVICE_KEYS.contains(txn, &row)?;
    DEVICE_KEYS.delete(txn, &row);
    Ok(existed)
}

/// A device's identity keys, to check and to sign.
pub(super) fn load(from: &impl Read, user: UserSn, device: &str) -> Result<Option<SignedObject>> {
    match DEVICE_KEYS.get(from, &(user, device.to_owned()))? {
        Some(blob) => Ok(Some(SignedObject::from_stored(&blob, DEVICE_KEYS.name())?)),
        None => Ok(None),
    }
}

/// Writes back what [`load`] gave, with more signatures.
pub(super) fn store_signed(
    txn: &mut Txn,
    user: UserSn,
    device: &str,
    keys: &SignedObject,
) -> Result<()> {
    DEVICE_KEYS.put(txn, &(user, device.to_owned()), &keys.to_blob()?);
    Ok(())
}
