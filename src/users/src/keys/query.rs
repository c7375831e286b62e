//! `/keys/query`: what a viewer may see of a user's keys.
//!
//! Everything that is stored with a key is by its owner and may be seen by all, but for the
//! user-signing key, which only its owner sees. A viewer also sees their own signature over another's
//! master key. Pure reads; the JSON is what was uploaded, spliced, never parsed unless a signature is
//! added.

use std::collections::BTreeSet;

use names::UserSn;
use serde_json::Value;
use store::{Direction, Read};

use super::cross_signing::Usage;
use super::signed::{SignedObject, stored_text};
use super::{Owner, user_signatures};
use crate::Result;
use crate::schema::{CROSS_SIGNING_KEYS, DEVICE_KEYS, DEVICES, REMOTE_DEVICE_NAMES};

/// What the answer says of one user, as JSON texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserKeys {
    /// Device id and device keys, in the order of the ids.
    pub devices: Vec<(String, String)>,
    /// The master key.
    pub master: Option<String>,
    /// The self-signing key.
    pub self_signing: Option<String>,
    /// The user-signing key, if the viewer asks of themselves.
    pub user_signing: Option<String>,
}

/// The identity keys of a device, as it uploaded them and the owner signed them.
pub fn device_keys(from: &impl Read, user: UserSn, device: &str) -> Result<Option<String>> {
    let keys = DEVICE_KEYS.get(from, &(user, device.to_owned()))?;
    keys.map(|keys| stored_text(keys, DEVICE_KEYS.name()))
        .transpose()
}

/// Who looks at keys.
#[derive(Clone, Copy, Debug)]
pub enum Viewer<'a> {
    /// A user of this server.
    User(Owner<'a>),
    /// Another server.
    Server {
        /// Whether it may see the names of devices.
        sees_names: bool,
    },
}

impl Viewer<'_> {
    fn is(self, user: UserSn) -> bool {
        matches!(self, Self::User(viewer) if viewer.user == user)
    }

    fn sees_names(self) -> bool {
        !matches!(self, Self::Server { sees_names: false })
    }
}

/// The keys of `user` as `viewer` may see them: of the given devices, or of all if none is given. Of a user of another
/// server, what is kept of them.
pub fn user_keys(
    from: &impl Read,
    viewer: Viewer<'_>,
    user: UserSn,
    devices: &[String],
) -> Result<UserKeys> {
    let mut keys = UserKeys::default();
    let rows: Vec<_> = if devices.is_empty() {
        DEVICE_KEYS
            .scan(from, &(user,), Direction::Forward)
            .collect::<store::Result<_>>()?
    } else {
        let devices: BTreeSet<&String> = devices.iter().collect();
        let rows: Vec<_> = devices
            .into_iter()
            .map(|device| (user, device.clone()))
            .collect();
        let found = DEVICE_KEYS.multi_get(from, &rows)?;
        rows.into_iter()
            .zip(found)
            .filter_map(|(row, found)| Some((row, found?)))
            .collect()
    };
    for (row, blob) in rows {
        let json = stored_text(blob, DEVICE_KEYS.name())?;
        let name = match viewer.sees_names() {
            true => display_name(from, &row)?,
            false => None,
        };
        keys.devices.push((row.1, with_display_name(json, name)));
    }
    for row in CROSS_SIGNING_KEYS.scan(from, &(user,), Direction::Forward) {
        let ((_, usage), blob) = row?;
        if usage == Usage::Master.number() {
            keys.master = Some(match viewer {
                Viewer::User(viewer) if viewer.user != user => {
                    let master = SignedObject::from_stored(&blob, CROSS_SIGNING_KEYS.name())?;
                    as_seen_by(from, viewer, user, master)?
                }
                _ => stored_text(blob, CROSS_SIGNING_KEYS.name())?,
            });
        } else if usage == Usage::SelfSigning.number() {
            keys.self_signing = Some(stored_text(blob, CROSS_SIGNING_KEYS.name())?);
        } else if viewer.is(user) {
            keys.user_signing = Some(stored_text(blob, CROSS_SIGNING_KEYS.name())?);
        }
    }
    Ok(keys)
}

fn display_name(from: &impl Read, device: &(UserSn, String)) -> Result<Option<String>> {
    if !device.0.is_local() {
        return Ok(REMOTE_DEVICE_NAMES.get(from, device)?);
    }
    Ok(DEVICES
        .get(from, device)?
        .and_then(|device| device.display_name))
}

/// Another user's master key with the signature that the viewer put under it, if any.
pub(super) fn as_seen_by(
    from: &impl Read,
    viewer: Owner<'_>,
    user: UserSn,
    mut master: SignedObject,
) -> Result<String> {
    if let Some(signature) = user_signatures::get(from, viewer.user, user)? {
        let signed_id = format!("ed25519:{}", signature.master_key);
        if master.public_key(&signed_id).is_some() {
            master.add_signature(viewer.user_id, &signature.key_id, &signature.signature);
        }
    }
    master.to_json()
}

/// Puts `unsigned` into an object that has none and is not empty.
pub(super) fn with_display_name(mut json: String, name: Option<String>) -> String {
    if let Some(name) = name
        && json.pop() == Some('}')
    {
        let name = Value::String(name);
        json.push_str(&format!(
            r#","unsigned":{{"device_display_name":{name}}}}}"#
        ));
    }
    json
}
