//! Pushers: where a user's notifications go (client-server API, "Push Notifications").
//!
//! Only their storage is here. Invariant: a pusher goes with the device that made it, and a pusher set
//! without `append` is the only one with its app id and pushkey on this server.

use names::UserSn;
use serde::{Deserialize, Serialize};
use store::{Direction, Read, Record, Txn};

use crate::schema::{PUSHERS, PUSHERS_BY_KEY};
use crate::{Error, Result};

/// The longest app id, in bytes.
pub const MAX_APP_ID_BYTES: usize = 64;
/// The longest pushkey, in bytes.
pub const MAX_PUSHKEY_BYTES: usize = 512;
/// Pushers that one user may have.
pub const MAX_PUSHERS: usize = 100;

/// A pusher, beside its app id and pushkey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pusher {
    /// `http` or `email`.
    pub kind: String,
    /// The application, for people.
    pub app_display_name: String,
    /// The device, for people.
    pub device_display_name: String,
    /// Which set of device-specific rules to use; unused since those are gone.
    pub profile_tag: Option<String>,
    /// The language of texts.
    pub lang: String,
    /// The `data` object as JSON.
    pub data: String,
    /// The device that made it.
    pub device: String,
    /// When it was made or replaced, in milliseconds since 1970.
    pub since_ms: u64,
}

impl Record for Pusher {}

/// Makes or replaces a pusher. Without `append`, other users lose theirs with the same app id and
/// pushkey; they are returned.
///
/// # Errors
/// [`Error::Invalid`] for an app id or pushkey that is too long, [`Error::TooLarge`] if the user has
/// too many.
pub fn set(
    txn: &mut Txn,
    user: UserSn,
    app_id: &str,
    pushkey: &str,
    pusher: &Pusher,
    append: bool,
) -> Result<Vec<UserSn>> {
    if app_id.len() > MAX_APP_ID_BYTES {
        return Err(Error::invalid("app_id has at most 64 bytes"));
    }
    if pushkey.is_empty() || pushkey.len() > MAX_PUSHKEY_BYTES {
        return Err(Error::invalid("pushkey has 1 to 512 bytes"));
    }
    let mut others = Vec::new();
    if !append {
        let prefix = (app_id.to_owned(), pushkey.to_owned());
        let rows = PUSHERS_BY_KEY
            .scan(txn, &prefix, Direction::Forward)
            .collect::<store::Result<Vec<_>>>()?;
        for ((_, _, other), ()) in rows.into_iter().filter(|row| row.0.2 != user) {
            delete(txn, other, app_id, pushkey);
            others.push(other);
        }
    }
    let key = (user, app_id.to_owned(), pushkey.to_owned());
    if !PUSHERS.contains(txn, &key)? && list(txn, user)?.len() >= MAX_PUSHERS {
        return Err(Error::TooLarge("A user has at most 100 pushers".into()));
    }
    PUSHERS.put(txn, &key, pusher);
    PUSHERS_BY_KEY.put(txn, &(key.1, key.2, user), &());
    Ok(others)
}

/// Removes a pusher, if it is there.
pub fn delete(txn: &mut Txn, user: UserSn, app_id: &str, pushkey: &str) {
    let (app_id, pushkey) = (app_id.to_owned(), pushkey.to_owned());
    PUSHERS.delete(txn, &(user, app_id.clone(), pushkey.clone()));
    PUSHERS_BY_KEY.delete(txn, &(app_id, pushkey, user));
}

/// The pushers of a user: app id, pushkey and the rest.
pub fn list(from: &impl Read, user: UserSn) -> Result<Vec<(String, String, Pusher)>> {
    let mut pushers = Vec::new();
    for row in PUSHERS.scan(from, &(user,), Direction::Forward) {
        let ((_, app_id, pushkey), pusher) = row?;
        pushers.push((app_id, pushkey, pusher));
    }
    Ok(pushers)
}

/// Removes the pushers that `device` made.
pub fn delete_of_device(txn: &mut Txn, user: UserSn, device: &str) -> Result<()> {
    delete_where(txn, user, |pusher| pusher.device == device)
}

/// Removes the pushers that other devices than `device` made.
pub fn delete_of_other_devices(txn: &mut Txn, user: UserSn, device: &str) -> Result<()> {
    delete_where(txn, user, |pusher| pusher.device != device)
}

fn delete_where(txn: &mut Txn, user: UserSn, matches: impl Fn(&Pusher) -> bool) -> Result<()> {
    for (app_id, pushkey, pusher) in list(txn, user)? {
        if matches(&pusher) {
            delete(txn, user, &app_id, &pushkey);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::store;

    fn pusher(device: &str) -> Pusher {
        Pusher {
            kind: "http".to_owned(),
            app_display_name: "App".to_owned(),
            device_display_name: "Phone".to_owned(),
            profile_tag: None,
            lang: "en".to_owned(),
            data: r#"{"url":"https://push.example.org/_matrix/push/v1/notify"}"#.to_owned(),
            device: device.to_owned(),
            since_ms: 1,
        }
    }

    #[test]
    fn without_append_a_pushkey_belongs_to_one_user() {
        let store = store();
        let mut txn = store.begin();
        let (alice, bob) = (UserSn(1), UserSn(2));
        set(&mut txn, alice, "app", "key", &pusher("A"), false).unwrap();
        set(&mut txn, bob, "app", "key", &pusher("B"), true).unwrap();
        assert_eq!(list(&txn, alice).unwrap().len(), 1);
        let others = set(&mut txn, bob, "app", "key", &pusher("B"), false).unwrap();
        assert_eq!(others, [alice]);
        assert!(list(&txn, alice).unwrap().is_empty());
        assert_eq!(list(&txn, bob).unwrap().len(), 1);
        assert_eq!(
            PUSHERS_BY_KEY.scan(&txn, &(), Direction::Forward).count(),
            1
        );
    }

    #[test]
    fn a_device_takes_its_pushers_along() {
        let store = store();
        let mut txn = store.begin();
        let alice = UserSn(1);
        for device in ["A", "B", "C"] {
            set(&mut txn, alice, "app", device, &pusher(device), false).unwrap();
        }
        delete_of_device(&mut txn, alice, "A").unwrap();
        delete_of_other_devices(&mut txn, alice, "B").unwrap();
        let left: Vec<_> = list(&txn, alice)
            .unwrap()
            .into_iter()
            .map(|p| p.1)
            .collect();
        assert_eq!(left, ["B"]);
        assert!(set(&mut txn, alice, "app", "", &pusher("A"), true).is_err());
        assert!(set(&mut txn, alice, &"x".repeat(65), "k", &pusher("A"), true).is_err());
    }
}
