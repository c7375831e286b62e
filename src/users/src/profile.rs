//! Profiles: what a user shows of themselves (client-server API, "Profiles").
//!
//! A profile is one JSON object of all its fields, so that reading it is one lookup and its limit of
//! 64 KiB is its length. Profiles of remote users may be kept here, too.
//!
//! Deliberately not here: bringing a change into the member events of rooms, which the shell does.

use names::UserSn;
use serde_json::{Map, Value};
use store::{Blob, Read, StoreError, Txn};

use crate::schema::PROFILES;
use crate::{Error, Result, directory};

/// The largest profile as JSON, in bytes.
pub const MAX_PROFILE_BYTES: usize = 64 * 1024;
/// The longest name of a field, in bytes.
pub const MAX_KEY_BYTES: usize = 255;
/// The longest display name, in characters: it must fit into events with room to spare.
pub const MAX_DISPLAYNAME_CHARS: usize = 256;
/// The longest avatar address, in bytes.
pub const MAX_AVATAR_URL_BYTES: usize = 1000;

/// The field of the display name.
pub const DISPLAYNAME: &str = "displayname";
/// The field of the avatar's address.
pub const AVATAR_URL: &str = "avatar_url";

/// The fields of a profile by name.
pub type Profile = Map<String, Value>;

/// What a member event shows of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The display name.
    pub displayname: Option<String>,
    /// The avatar's address.
    pub avatar_url: Option<String>,
}

/// The profile of a user; none if no field was ever set.
pub fn get(from: &impl Read, user: UserSn) -> Result<Option<Profile>> {
    let Some(Blob(json)) = PROFILES.get(from, &user)? else {
        return Ok(None);
    };
    let profile = serde_json::from_slice(&json).map_err(|_| StoreError::Corrupt {
        table: PROFILES.name(),
        why: "not a JSON object",
    })?;
    Ok(Some(profile))
}

/// The profile as JSON text, `{}` if no field was ever set.
pub fn get_json(from: &impl Read, user: UserSn) -> Result<Vec<u8>> {
    Ok(PROFILES
        .get(from, &user)?
        .map_or_else(|| b"{}".to_vec(), |Blob(json)| json))
}

/// Display name and avatar of a user.
pub fn shown(from: &impl Read, user: UserSn) -> Result<Shown> {
    let Some(profile) = get(from, user)? else {
        return Ok(Shown::default());
    };
    let text = |field| profile.get(field)?.as_str().map(str::to_owned);
    Ok(Shown {
        displayname: text(DISPLAYNAME),
        avatar_url: text(AVATAR_URL),
    })
}

/// Checks the name of a field: `displayname`, `avatar_url`, or of the common namespaced identifier
/// grammar (appendices), which `m.tz` is as well.
///
/// # Errors
/// [`Error::KeyTooLarge`] above 255 bytes, else [`Error::Invalid`].
pub fn check_key(key: &str) -> Result<()> {
    if key.len() > MAX_KEY_BYTES {
        return Err(Error::KeyTooLarge);
    }
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
    let named = key.starts_with(|first: char| first.is_ascii_lowercase())
        && key.contains('.')
        && key.bytes().all(allowed);
    if named || key == DISPLAYNAME || key == AVATAR_URL {
        Ok(())
    } else {
        Err(Error::invalid("Invalid profile key"))
    }
}

/// Sets a field; returns false if it had this value already. For display name and avatar, null and the
/// empty text remove the field.
///
/// # Errors
/// [`Error::Invalid`] for a name or value that may not be, [`Error::KeyTooLarge`], and
/// [`Error::ProfileTooLarge`].
pub fn set(txn: &mut Txn, user: UserSn, key: &str, value: Value) -> Result<bool> {
    check_key(key)?;
    let shown = key == DISPLAYNAME || key == AVATAR_URL;
    if shown && (value.is_null() || value.as_str() == Some("")) {
        return remove(txn, user, key);
    }
    check_value(key, &value)?;
    let mut profile = get(txn, user)?.unwrap_or_default();
    if profile.get(key) == Some(&value) {
        return Ok(false);
    }
    profile.insert(key.to_owned(), value);
    put(txn, user, &profile)?;
    Ok(true)
}

fn check_value(key: &str, value: &Value) -> Result<()> {
    match (key, value.as_str()) {
        (DISPLAYNAME, Some(name)) if name.chars().count() > MAX_DISPLAYNAME_CHARS => Err(
            Error::invalid("The display name has more than 256 characters"),
        ),
        (AVATAR_URL, Some(url)) if url.len() > MAX_AVATAR_URL_BYTES => Err(Error::invalid(
            "The avatar's address has more than 1000 bytes",
        )),
        (DISPLAYNAME | AVATAR_URL | "m.tz", None) => {
            Err(Error::invalid("The value of this field is a text"))
        }
        _ => Ok(()),
    }
}

/// Removes a field; returns false if it was not there.
///
/// # Errors
/// As [`check_key`].
pub fn remove(txn: &mut Txn, user: UserSn, key: &str) -> Result<bool> {
    check_key(key)?;
    let mut profile = get(txn, user)?.unwrap_or_default();
    if profile.remove(key).is_none() {
        return Ok(false);
    }
    put(txn, user, &profile)?;
    Ok(true)
}

/// Removes the whole profile.
pub fn clear(txn: &mut Txn, user: UserSn) -> Result<()> {
    PROFILES.delete(txn, &user);
    directory::update_displayname(txn, user, None)
}

fn put(txn: &mut Txn, user: UserSn, profile: &Profile) -> Result<()> {
    let json = Value::Object(profile.clone()).to_string().into_bytes();
    if json.len() > MAX_PROFILE_BYTES {
        return Err(Error::ProfileTooLarge);
    }
    let displayname = profile.get(DISPLAYNAME).and_then(Value::as_str);
    directory::update_displayname(txn, user, displayname)?;
    PROFILES.put(txn, &user, &Blob(json));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::store;

    const ALICE: UserSn = UserSn(1);

    #[test]
    fn fields_are_set_changed_and_removed() {
        let store = store();
        let mut txn = store.begin();
        assert!(set(&mut txn, ALICE, DISPLAYNAME, json!("Alice")).unwrap());
        assert!(!set(&mut txn, ALICE, DISPLAYNAME, json!("Alice")).unwrap());
        assert!(set(&mut txn, ALICE, "org.example.job", json!({"title": null})).unwrap());
        assert!(set(&mut txn, ALICE, "org.example.null", Value::Null).unwrap());
        let profile = Value::Object(get(&txn, ALICE).unwrap().unwrap());
        let expected = json!({
            "displayname": "Alice", "org.example.job": {"title": null}, "org.example.null": null,
        });
        assert_eq!(profile, expected);
        assert!(set(&mut txn, ALICE, DISPLAYNAME, json!("")).unwrap());
        assert!(remove(&mut txn, ALICE, "org.example.job").unwrap());
        assert!(!remove(&mut txn, ALICE, "org.example.job").unwrap());
        assert_eq!(
            get_json(&txn, ALICE).unwrap(),
            br#"{"org.example.null":null}"#
        );
        assert_eq!(shown(&txn, ALICE).unwrap(), Shown::default());
    }

    #[test]
    fn names_and_values_that_may_not_be_are_refused() {
        let store = store();
        let mut txn = store.begin();
        for key in ["", "nodots", "Upper.case", ".dot", "m.sp ace", "1.number"] {
            let refused = set(&mut txn, ALICE, key, json!("x"));
            assert!(matches!(refused, Err(Error::Invalid(_))), "{key}");
        }
        let long = format!("a.{}", "x".repeat(254));
        assert!(matches!(check_key(&long), Err(Error::KeyTooLarge)));
        assert!(check_key(&long[..255]).is_ok());
        for (key, value) in [
            (DISPLAYNAME, json!(1)),
            (DISPLAYNAME, json!("x".repeat(257))),
            (AVATAR_URL, json!(["mxc://a/b"])),
            ("m.tz", json!({})),
        ] {
            assert!(set(&mut txn, ALICE, key, value).is_err());
        }
    }

    #[test]
    fn a_profile_holds_64_kib_and_not_a_byte_more() {
        let store = store();
        let mut txn = store.begin();
        let around = r#"{"a.b":""}"#.len();
        let fits = "x".repeat(MAX_PROFILE_BYTES - around);
        let too_large = set(&mut txn, ALICE, "a.b", json!(format!("{fits}x")));
        assert!(matches!(too_large, Err(Error::ProfileTooLarge)));
        assert!(set(&mut txn, ALICE, "a.b", json!(fits)).unwrap());
        let more = set(&mut txn, ALICE, DISPLAYNAME, json!("A"));
        assert!(matches!(more, Err(Error::ProfileTooLarge)));
    }
}
