//! Devices: the sessions of a user, each with a name and when it was last seen.
//!
//! Invariant: whatever belongs to a device (tokens, end-to-end keys, pushers, waiting messages) goes
//! with it. When a device was last seen is kept in its own rows, written now and then by the shell, so
//! that it never competes with changes of the device itself.

use names::UserSn;
use serde::{Deserialize, Serialize};
use store::{Direction, Read, Record, Txn};

use crate::keys::{self, device_keys, device_lists};
use crate::schema::{DEVICES, DEVICES_SEEN};
use crate::{Error, Result, pushers, tokens};

/// The longest device id that a client may choose, in bytes.
pub const MAX_DEVICE_ID_BYTES: usize = 255;
/// The longest display name of a device, in bytes.
pub const MAX_DISPLAY_NAME_BYTES: usize = 1024;

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name, for people.
    pub display_name: Option<String>,
    /// When it logged in first, in milliseconds since 1970.
    pub created_ms: u64,
}

impl Record for Device {}

/// When and from where a device was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// In milliseconds since 1970.
    pub at_ms: u64,
    /// The address, as text.
    pub ip: Option<String>,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
}

impl Record for Seen {}

/// The text of a new device id.
pub fn device_id(random: [u8; 10]) -> String {
    random
        .iter()
        .map(|byte| char::from(b'A' + byte % 26))
        .collect()
}

/// One device of a user.
pub fn get(from: &impl Read, user: UserSn, device: &str) -> Result<Option<Device>> {
    Ok(DEVICES.get(from, &(user, device.to_owned()))?)
}

/// True if the user has this device.
pub fn exists(from: &impl Read, user: UserSn, device: &str) -> Result<bool> {
    Ok(DEVICES.contains(from, &(user, device.to_owned()))?)
}

/// All devices of a user, by id.
pub fn list(from: &impl Read, user: UserSn) -> Result<Vec<(String, Device)>> {
    let mut devices = Vec::new();
    for row in DEVICES.scan(from, &(user,), Direction::Forward) {
        let ((_, id), device) = row?;
        devices.push((id, device));
    }
    Ok(devices)
}

/// When a device was last seen, as far as it was written.
pub fn seen(from: &impl Read, user: UserSn, device: &str) -> Result<Option<Seen>> {
    Ok(DEVICES_SEEN.get(from, &(user, device.to_owned()))?)
}

/// Writes when a device was last seen.
pub fn put_seen(txn: &mut Txn, user: UserSn, device: &str, seen: &Seen) {
    DEVICES_SEEN.put(txn, &(user, device.to_owned()), seen);
}

/// Logs a device in: makes it, or revokes the tokens it had ("Relationship between access tokens and
/// devices"); a device that exists keeps its name and its keys. Returns true if the device is new.
///
/// # Errors
/// [`Error::Invalid`] for an id that is empty or too long, [`Error::TooLarge`] for the name.
pub fn log_in(
    txn: &mut Txn,
    user: UserSn,
    device: &str,
    display_name: Option<&str>,
    now_ms: u64,
) -> Result<bool> {
    if device.is_empty() || device.len() > MAX_DEVICE_ID_BYTES {
        return Err(Error::invalid("A device id has 1 to 255 bytes"));
    }
    if exists(txn, user, device)? {
        tokens::revoke_device(txn, user, device)?;
        return Ok(false);
    }
    if let Some(name) = display_name {
        check_display_name(name)?;
    }
    let row = Device {
        display_name: display_name.map(str::to_owned),
        created_ms: now_ms,
    };
    DEVICES.put(txn, &(user, device.to_owned()), &row);
    Ok(true)
}

/// Names a device.
///
/// # Errors
/// [`Error::NotFound`], and [`Error::TooLarge`] for the name.
pub fn set_display_name(txn: &mut Txn, user: UserSn, device: &str, name: &str) -> Result<()> {
    check_display_name(name)?;
    let key = (user, device.to_owned());
    let mut row = DEVICES.get(txn, &key)?.ok_or(Error::NotFound("device"))?;
    row.display_name = Some(name.to_owned());
    DEVICES.put(txn, &key, &row);
    // The name is shown with the device's keys.
    if device_keys::exists(txn, user, device)? {
        device_lists::mark_device(txn, user, device)?;
    }
    Ok(())
}

fn check_display_name(name: &str) -> Result<()> {
    if name.len() > MAX_DISPLAY_NAME_BYTES {
        return Err(Error::TooLarge(
            "A device's display name has at most 1024 bytes".into(),
        ));
    }
    Ok(())
}

/// Removes a device with all that belongs to it; returns false if there was none.
pub fn delete(txn: &mut Txn, user: UserSn, device: &str) -> Result<bool> {
    if !exists(txn, user, device)? {
        return Ok(false);
    }
    tokens::revoke_device(txn, user, device)?;
    pushers::delete_of_device(txn, user, device)?;
    let key = (user, device.to_owned());
    DEVICES.delete(txn, &key);
    DEVICES_SEEN.delete(txn, &key);
    keys::remove_device(txn, user, device)?;
    Ok(true)
}

/// Removes all devices of a user but `keep`; returns the ids of those removed.
pub fn delete_all(txn: &mut Txn, user: UserSn, keep: Option<&str>) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for (id, _) in list(txn, user)? {
        if keep != Some(id.as_str()) && delete(txn, user, &id)? {
            removed.push(id);
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::store;

    const ALICE: UserSn = UserSn(1);

    #[test]
    fn logging_in_again_keeps_the_name_and_revokes_the_tokens() {
        let store = store();
        let mut txn = store.begin();
        assert!(log_in(&mut txn, ALICE, "D", Some("phone"), 1).unwrap());
        tokens::issue(&mut txn, ALICE, "D", [1; 32], None, None);
        assert!(!log_in(&mut txn, ALICE, "D", Some("other"), 2).unwrap());
        assert!(tokens::access(&txn, &[1; 32]).unwrap().is_none());
        let device = get(&txn, ALICE, "D").unwrap().unwrap();
        assert_eq!(device.display_name.as_deref(), Some("phone"));
        assert_eq!(device.created_ms, 1);
    }

    #[test]
    fn a_deleted_device_takes_its_tokens_along_and_leaves_others() {
        let store = store();
        let mut txn = store.begin();
        for device in ["A", "B", "C"] {
            log_in(&mut txn, ALICE, device, None, 1).unwrap();
        }
        tokens::issue(&mut txn, ALICE, "A", [1; 32], None, None);
        assert!(delete(&mut txn, ALICE, "A").unwrap());
        assert!(!delete(&mut txn, ALICE, "A").unwrap());
        assert!(tokens::access(&txn, &[1; 32]).unwrap().is_none());
        assert_eq!(delete_all(&mut txn, ALICE, Some("B")).unwrap(), ["C"]);
        let left: Vec<_> = list(&txn, ALICE)
            .unwrap()
            .into_iter()
            .map(|d| d.0)
            .collect();
        assert_eq!(left, ["B"]);
    }

    #[test]
    fn ids_and_names_have_bounds() {
        let store = store();
        let mut txn = store.begin();
        assert!(log_in(&mut txn, ALICE, "", None, 1).is_err());
        assert!(log_in(&mut txn, ALICE, &"x".repeat(256), None, 1).is_err());
        let long = "x".repeat(MAX_DISPLAY_NAME_BYTES + 1);
        assert!(log_in(&mut txn, ALICE, "D", Some(&long), 1).is_err());
        assert!(set_display_name(&mut txn, ALICE, "D", "name").is_err());
    }
}
