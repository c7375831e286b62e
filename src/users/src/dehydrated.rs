//! Dehydrated devices (MSC3814): a device of the user that nobody runs, which receives keys while the
//! user has no device, and which the user's next device takes the keys from.
//!
//! A user has at most one. It is a device like others in the eyes of everyone else: it has device keys
//! and one-time keys, and messages are sent to it; here is only the encrypted private half.

use names::UserSn;
use serde::{Deserialize, Serialize};
use store::{Read, Record, Txn};

use crate::keys::{self, Owner};
use crate::schema::DEHYDRATED_DEVICES;
use crate::{Error, Result};

/// The largest `device_data`, in bytes.
pub const MAX_DATA_BYTES: usize = 64 * 1024;

/// The private half, encrypted by the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DehydratedDevice {
    /// The device's id.
    pub device_id: String,
    /// `device_data`: a JSON object as it came.
    pub device_data: String,
}

impl Record for DehydratedDevice {}

/// The user's dehydrated device, if there is one.
pub fn get(from: &impl Read, user: UserSn) -> Result<Option<DehydratedDevice>> {
    Ok(DEHYDRATED_DEVICES.get(from, &user)?)
}

/// Makes a device the user's dehydrated one, in place of any other, whose keys and messages are
/// forgotten. Returns the id of the device it replaces, which the caller deletes as a device.
pub fn put(
    txn: &mut Txn,
    owner: Owner<'_>,
    device_id: &str,
    device_data: &str,
    device_keys: &str,
) -> Result<Option<String>> {
    if device_data.len() > MAX_DATA_BYTES {
        return Err(Error::TooLarge(
            format!("device_data may have at most {MAX_DATA_BYTES} bytes").into(),
        ));
    }
    let replaced = DEHYDRATED_DEVICES
        .get(txn, &owner.user)?
        .map(|device| device.device_id);
    if let Some(replaced) = &replaced {
        keys::remove_device(txn, owner.user, replaced)?;
    }
    keys::device_keys::upload(txn, owner, device_id, device_keys)?;
    let device = DehydratedDevice {
        device_id: device_id.to_owned(),
        device_data: device_data.to_owned(),
    };
    DEHYDRATED_DEVICES.put(txn, &owner.user, &device);
    Ok(replaced.filter(|replaced| replaced != device_id))
}

/// Forgets the user's dehydrated device with its keys and messages. Its id, if there was one; the
/// caller deletes it as a device.
pub fn remove(txn: &mut Txn, user: UserSn) -> Result<Option<String>> {
    let Some(device) = DEHYDRATED_DEVICES.get(txn, &user)? else {
        return Ok(None);
    };
    DEHYDRATED_DEVICES.delete(txn, &user);
    keys::remove_device(txn, user, &device.device_id)?;
    Ok(Some(device.device_id))
}
