//! Dehydrated devices (MSC3814): a device of the user that nobody runs, which receives keys while the
//! user has no device, and which the user's next device takes the keys from.
//!
//! A user has at most one. It is a device like others in the eyes of everyone else: it has device keys
//! and one-time keys, and messages are sent to it; here is only the encrypted private half.

use names::UserSn;
use serde::{Deserialize, Serialize};
use store::{Read, Record, Txn};

use crate::keys::{Owner, device_keys};
use crate::schema::DEHYDRATED_DEVICES;
use crate::{Error, Result, devices};

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

/// Makes a device the user's dehydrated one, in place of any other, which is deleted as [`remove`]
/// does.
///
/// [`Error::Invalid`] if the id is that of a device in use; else the errors of
/// [`device_keys::upload`].
pub fn put(
    txn: &mut Txn,
    owner: Owner<'_>,
    device: &DehydratedDevice,
    display_name: Option<&str>,
    keys: &str,
    now_ms: u64,
) -> Result<()> {
    if device.device_data.len() > MAX_DATA_BYTES {
        return Err(Error::TooLarge(
            format!("device_data may have at most {MAX_DATA_BYTES} bytes").into(),
        ));
    }
    remove(txn, owner.user)?;
    if devices::exists(txn, owner.user, &device.device_id)? {
        return Err(Error::invalid("the device is in use"));
    }
    devices::log_in(txn, owner.user, &device.device_id, display_name, now_ms)?;
    device_keys::upload(txn, owner, &device.device_id, keys)?;
    DEHYDRATED_DEVICES.put(txn, &owner.user, device);
    Ok(())
}

/// Deletes the user's dehydrated device with its keys and messages; its id, if there was one.
pub fn remove(txn: &mut Txn, user: UserSn) -> Result<Option<String>> {
    let Some(device) = DEHYDRATED_DEVICES.get(txn, &user)? else {
        return Ok(None);
    };
    devices::delete(txn, user, &device.device_id)?;
    DEHYDRATED_DEVICES.delete(txn, &user);
    Ok(Some(device.device_id))
}

/// Called when a device is deleted, which may be the dehydrated one.
pub(crate) fn forget(txn: &mut Txn, user: UserSn, device: &str) -> Result<()> {
    if get(txn, user)?.is_some_and(|dehydrated| dehydrated.device_id == device) {
        DEHYDRATED_DEVICES.delete(txn, &user);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{commit, store};
    use crate::to_device;
    use store::{Position, Store};

    const ALICE: Owner<'static> = Owner {
        user: UserSn(1),
        user_id: "@alice:x",
    };

    fn put_device(store: &Store, id: &str) -> Result<()> {
        let keys = serde_json::json!({
            "user_id": ALICE.user_id, "device_id": id, "algorithms": [], "keys": {}, "signatures": {},
        });
        let device = DehydratedDevice {
            device_id: id.to_owned(),
            device_data: "{}".to_owned(),
        };
        let mut txn = store.begin();
        put(
            &mut txn,
            ALICE,
            &device,
            Some("Dehydrated"),
            &keys.to_string(),
            0,
        )?;
        store.wait(store.commit(txn)?)?;
        Ok(())
    }

    fn send(store: &Store, device: &str) {
        let message = to_device::Message::new("@bob:x", "t", "{}").unwrap();
        commit(store, |txn| {
            let addressed = to_device::Addressed {
                user: ALICE.user,
                device: device.to_owned(),
                message: &message,
            };
            to_device::deliver(txn, &[addressed]);
            Ok(())
        });
    }

    #[test]
    fn a_new_dehydrated_device_takes_the_place_of_the_old_one() {
        let store = store();
        put_device(&store, "D1").unwrap();
        send(&store, "D1");
        put_device(&store, "D2").unwrap();
        let view = store.view();
        assert_eq!(get(&view, ALICE.user).unwrap().unwrap().device_id, "D2");
        let devices = devices::list(&view, ALICE.user).unwrap();
        assert_eq!(devices.len(), 1);
        let waiting = to_device::since(&view, ALICE.user, "D1", Position::ZERO, 10).unwrap();
        assert!(waiting.messages.is_empty());
        assert!(!device_keys::exists(&view, ALICE.user, "D1").unwrap());
    }

    #[test]
    fn a_device_in_use_does_not_become_dehydrated_and_a_deleted_one_is_forgotten() {
        let store = store();
        commit(&store, |txn| {
            devices::log_in(txn, ALICE.user, "used", None, 0).map(drop)
        });
        assert!(matches!(put_device(&store, "used"), Err(Error::Invalid(_))));
        put_device(&store, "D").unwrap();
        commit(&store, |txn| {
            devices::delete(txn, ALICE.user, "D").map(drop)
        });
        assert_eq!(get(&store.view(), ALICE.user).unwrap(), None);
        put_device(&store, "D").unwrap();
        commit(&store, |txn| {
            assert_eq!(remove(txn, ALICE.user)?.as_deref(), Some("D"));
            assert_eq!(remove(txn, ALICE.user)?, None);
            Ok(())
        });
        assert!(!devices::exists(&store.view(), ALICE.user, "D").unwrap());
    }
}
