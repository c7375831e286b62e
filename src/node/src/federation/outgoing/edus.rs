//! Ephemeral data units as they are sent. <https://spec.matrix.org/v1.19/server-server-api/#edus>

use std::collections::BTreeMap;

use event::json::write_string;
use names::{RoomSn, UserSn};
use serde_json::{Map, Value, json};
use servers::News;
use store::{Position, View};
use users::keys::device_lists::{self, DeviceChange, Part};
use users::keys::query::{self, Viewer};

use super::state::{ReceiptKey, SentReceipt};
use crate::{Node, NodeError};

/// Appends an EDU whose content is JSON text already.
pub(super) fn write_edu(out: &mut Vec<u8>, edu_type: &str, content: &[u8]) {
    out.extend_from_slice(b"{\"content\":");
    out.extend_from_slice(content);
    out.extend_from_slice(b",\"edu_type\":");
    write_string(out, edu_type);
    out.push(b'}');
}

fn edu(edu_type: &str, content: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_edu(&mut out, edu_type, content.to_string().as_bytes());
    out
}

impl Node {
    pub(super) fn typing_edu(
        &self,
        view: &View,
        (room, user): (RoomSn, UserSn),
        is_typing: bool,
    ) -> Result<Vec<u8>, NodeError> {
        let content = json!({
            "room_id": names::room_id(view, room)?,
            "user_id": *self.names.user_id(view, user)?,
            "typing": is_typing,
        });
        Ok(edu("m.typing", &content))
    }

    /// As few EDUs as will do: a user has one receipt for a room in each.
    pub(super) fn receipt_edus(
        &self,
        view: &View,
        receipts: Vec<(ReceiptKey, SentReceipt)>,
    ) -> Result<Vec<Vec<u8>>, NodeError> {
        let mut edus: Vec<BTreeMap<RoomSn, BTreeMap<UserSn, Value>>> = Vec::new();
        for ((room, user, thread), (event_id, ts_ms)) in receipts {
            let mut data = json!({ "ts": ts_ms });
            if let Some(thread) = thread {
                data["thread_id"] = thread.into();
            }
            let receipt = json!({ "data": data, "event_ids": [event_id] });
            let has_it = |edu: &BTreeMap<RoomSn, BTreeMap<UserSn, Value>>| {
                edu.get(&room)
                    .is_some_and(|users| users.contains_key(&user))
            };
            let at = match edus.iter().position(|edu| !has_it(edu)) {
                Some(at) => at,
                None => {
                    edus.push(BTreeMap::new());
                    edus.len() - 1
                }
            };
            edus[at].entry(room).or_default().insert(user, receipt);
        }
        let mut out = Vec::with_capacity(edus.len());
        for rooms in edus {
            let mut content = Map::new();
            for (room, users) in rooms {
                let mut read = Map::new();
                for (user, receipt) in users {
                    read.insert(self.names.user_id(view, user)?.to_string(), receipt);
                }
                content.insert(names::room_id(view, room)?, json!({ "m.read": read }));
            }
            out.push(edu("m.receipt", &Value::Object(content)));
        }
        Ok(out)
    }

    /// The presences of users, as they are now; nothing if there are none.
    pub(super) fn presence_edu(
        &self,
        view: &View,
        users: &[UserSn],
    ) -> Result<Option<Vec<u8>>, NodeError> {
        let now_ms = self.now_ms();
        let mut content = b"{\"push\":[".to_vec();
        let empty = content.len();
        for user in users {
            let Some(state) = self.memory.presence.get(*user) else {
                continue;
            };
            if content.len() > empty {
                content.push(b',');
            }
            content.extend_from_slice(b"{\"user_id\":");
            write_string(&mut content, &self.names.user_id(view, *user)?);
            content.push(b',');
            let mut presence = Vec::new();
            sync::presence_content(&mut presence, &state, now_ms);
            // Without the brace that opens it.
            content.extend_from_slice(presence.get(1..).unwrap_or_default());
        }
        if content.len() == empty {
            return Ok(None);
        }
        content.extend_from_slice(b"]}");
        let mut out = Vec::new();
        write_edu(&mut out, "m.presence", &content);
        Ok(Some(out))
    }

    /// What a server is told of changed devices and keys.
    pub(super) fn device_edus(
        &self,
        view: &View,
        position: Position,
        news: &News,
    ) -> Result<Vec<Vec<u8>>, NodeError> {
        let user = match news {
            News::Event { .. } => return Ok(Vec::new()),
            News::Device { user, .. } | News::CrossSigning(user) | News::Devices(user) => *user,
        };
        let user_id = self.names.user_id(view, user)?;
        let mut edus = Vec::new();
        match news {
            News::Event { .. } => {}
            News::CrossSigning(_) => edus.extend(signing_key_update(view, user, &user_id)?),
            News::Device { device, .. } => {
                let change = DeviceChange {
                    position,
                    user,
                    part: Part::Device(device.to_string()),
                };
                let previous = device_lists::previous(view, &change)?;
                let mut update = device_update(view, &change, device, &user_id, previous)?;
                self.name_device(view, user, device, &mut update)?;
                edus.push(edu("m.device_list_update", &update));
            }
            News::Devices(_) => {
                // A device is told of before it has keys, too.
                let position = device_lists::last_changed(view, user)?.unwrap_or(position);
                // One device will do: who does not know the change that it names asks for all of them.
                let devices = users::devices::list(view, user)?;
                if let Some((device, _)) = devices.first() {
                    let change = DeviceChange {
                        position,
                        user,
                        part: Part::Device(device.clone()),
                    };
                    let previous = Some(position);
                    let mut update = device_update(view, &change, device, &user_id, previous)?;
                    self.name_device(view, user, device, &mut update)?;
                    edus.push(edu("m.device_list_update", &update));
                }
                edus.extend(signing_key_update(view, user, &user_id)?);
            }
        }
        Ok(edus)
    }

    /// Says the device's name, if other servers may know it.
    fn name_device(
        &self,
        view: &View,
        user: UserSn,
        device: &str,
        update: &mut Value,
    ) -> Result<(), NodeError> {
        if self.config().federation.share_device_names
            && let Some(device) = users::devices::get(view, user, device)?
            && let Some(name) = device.display_name
        {
            update["device_display_name"] = name.into();
        }
        Ok(())
    }
}

/// The content of an `m.device_list_update`.
fn device_update(
    view: &View,
    change: &DeviceChange,
    device: &str,
    user_id: &str,
    previous: Option<Position>,
) -> Result<Value, NodeError> {
    let mut content = json!({
        "user_id": user_id,
        "device_id": device,
        "stream_id": change.position.0,
        "prev_id": previous.map(|position| position.0).as_slice(),
    });
    if !users::devices::exists(view, change.user, device)? {
        content["deleted"] = true.into();
    } else if let Some(keys) = query::device_keys(view, change.user, device)? {
        content["keys"] = serde_json::from_str(&keys).unwrap_or_default();
    }
    Ok(content)
}

/// The user's cross-signing keys, if there are any.
fn signing_key_update(
    view: &View,
    user: UserSn,
    user_id: &str,
) -> Result<Option<Vec<u8>>, NodeError> {
    let viewer = Viewer::Server { sees_names: false };
    let keys = query::user_keys(view, viewer, user, &[])?;
    let mut content = json!({ "user_id": user_id });
    for (name, key) in [
        ("master_key", &keys.master),
        ("self_signing_key", &keys.self_signing),
    ] {
        if let Some(key) = key {
            content[name] = serde_json::from_str(key).unwrap_or_default();
        }
    }
    Ok(keys
        .master
        .is_some()
        .then(|| edu("m.signing_key_update", &content)))
}
