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
use crate::schema::{CROSS_SIGNING_KEYS, DEVICE_KEYS, DEVICES};

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

/// The keys of `user` as `viewer` may see them: of the given devices, or of all if none is given.
pub fn user_keys(
    from: &impl Read,
    viewer: Owner<'_>,
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
        let name = DEVICES
            .get(from, &row)?
            .and_then(|device| device.display_name);
        keys.devices.push((row.1, with_display_name(json, name)));
    }
    for row in CROSS_SIGNING_KEYS.scan(from, &(user,), Direction::Forward) {
        let ((_, usage), blob) = row?;
        if usage == Usage::Master.number() {
            let signature = match viewer.user == user {
                true => None,
                false => user_signatures::get(from, viewer.user, user)?,
            };
            keys.master = Some(match signature {
                Some(signature) => {
                    let mut master = SignedObject::from_stored(&blob, CROSS_SIGNING_KEYS.name())?;
                    let signed_id = format!("ed25519:{}", signature.master_key);
                    if master.public_key(&signed_id).is_some() {
                        master.add_signature(
                            viewer.user_id,
                            &signature.key_id,
                            &signature.signature,
                        );
                    }
                    master.to_json()?
                }
                None => stored_text(blob, CROSS_SIGNING_KEYS.name())?,
            });
        } else if usage == Usage::SelfSigning.number() {
            keys.self_signing = Some(stored_text(blob, CROSS_SIGNING_KEYS.name())?);
        } else if viewer.user == user {
            keys.user_signing = Some(stored_text(blob, CROSS_SIGNING_KEYS.name())?);
        }
    }
    Ok(keys)
}

/// Puts `unsigned` into an object that has none and is not empty.
fn with_display_name(mut json: String, name: Option<String>) -> String {
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
