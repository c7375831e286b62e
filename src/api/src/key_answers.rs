//! Answers about keys, to clients and to other servers: the JSON of device and cross-signing keys, and the claim of
//! one-time keys.

use std::collections::BTreeMap;

use event::json::write_string;
use names::UserSn;
use node::{Lock, Touched};
use serde_json::{Map, Value, json};
use users::keys::one_time;
use users::keys::query::UserKeys;

use crate::app::App;
use crate::error::ApiError;

/// Writes `device_keys`, `master_keys` and `self_signing_keys` of users, each with a comma before it unless it is the
/// first.
pub(crate) fn write_keys(out: &mut Vec<u8>, users: &[(&str, UserKeys)]) {
    write_name(out, "device_keys");
    out.push(b'{');
    for (user_id, keys) in users {
        write_name(out, user_id);
        out.push(b'{');
        for (device, json) in &keys.devices {
            write_name(out, device);
            out.extend_from_slice(json.as_bytes());
        }
        out.push(b'}');
    }
    out.push(b'}');
    write_cross_signing(out, "master_keys", users, |keys| keys.master.as_deref());
    write_cross_signing(out, "self_signing_keys", users, |keys| {
        keys.self_signing.as_deref()
    });
}

/// Writes one kind of cross-signing key, of those users who have it.
pub(crate) fn write_cross_signing(
    out: &mut Vec<u8>,
    name: &str,
    users: &[(&str, UserKeys)],
    key_of: impl Fn(&UserKeys) -> Option<&str>,
) {
    write_name(out, name);
    out.push(b'{');
    for (user_id, keys) in users {
        if let Some(json) = key_of(keys) {
            write_name(out, user_id);
            out.extend_from_slice(json.as_bytes());
        }
    }
    out.push(b'}');
}

/// Writes a member's name, and the comma before it unless it is the first.
pub(crate) fn write_name(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_string(out, name);
    out.push(b':');
}

/// Claims a key of each device of a user, by its algorithm: device id to the key under its name.
pub(crate) async fn claim_of_user(
    app: &App,
    user: UserSn,
    wanted: &BTreeMap<String, String>,
) -> Result<Map<String, Value>, ApiError> {
    let node = app.node();
    let guard = node.lock(Lock::User(user)).await;
    let mut txn = node.begin();
    let mut by_device = Map::new();
    for (device, algorithm) in wanted {
        if let Some(key) = one_time::claim(&mut txn, user, device, algorithm)? {
            let content: Value = serde_json::from_str(key.json()).map_err(ApiError::internal)?;
            by_device.insert(device.clone(), json!({ key.name(): content }));
        }
    }
    node.commit(guard, txn, Touched::user(user)).await?;
    Ok(by_device)
}
