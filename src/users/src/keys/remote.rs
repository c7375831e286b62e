//! Keys of users of other servers, as far as they are kept: what their servers answered to `/user/keys/query`, carried on
//! by the device list updates that they send.
//!
//! The rows are those of local users, so that a query reads both alike; a [`RemoteList`] says how far they can be
//! trusted. Its law: a list that [`is_current`] is what the user's server would answer, but for updates still on
//! their way. It rests on
//! - updates being taken in only where each update before was (`prev_id`); else the list is incomplete from then on,
//!   and asked for again when somebody wants it;
//! - answers being kept only if no update came while they were on their way;
//! - the list being as new as the time since which the user has been followed without a break (`followed`, which the
//!   caller knows): before that, their server had no reason to tell us.
//!
//! Everything that changes what viewers see, or may, marks the user in [`device_lists`], whether or not the list is kept.
//! What writes is called under the user's lock.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#device-management>.

use std::collections::BTreeMap;

use names::UserSn;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use store::{Direction, Position, Read, Record, Txn};

use super::cross_signing::{CrossSigningKey, Usage};
use super::query::{UserKeys, as_seen_by, with_display_name};
use super::signed::SignedObject;
use super::{Owner, cross_signing, device_keys, device_lists};
use crate::devices::{MAX_DEVICE_ID_BYTES, MAX_DISPLAY_NAME_BYTES};
use crate::schema::{CROSS_SIGNING_KEYS, DEVICE_KEYS, REMOTE_DEVICE_NAMES, REMOTE_LISTS};
use crate::{Error, Result};

/// The most devices of a user that are kept; the lists of users with more are asked for each time.
const MAX_KEPT_DEVICES: usize = 1000;

/// The most bytes of a user's keys that are kept: they are written in one change.
const MAX_KEPT_BYTES: usize = 512 * 1024;

/// The last updates that are remembered by their ids.
const MAX_SEEN: usize = 20;

/// How far the kept keys of a user can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteList {
    /// Not older than what was here at this position.
    as_of: Position,
    /// False if an update is missing.
    complete: bool,
    /// The ids of the last updates that came, oldest first.
    seen: Vec<u64>,
}

impl Record for RemoteList {}

impl Default for RemoteList {
    fn default() -> Self {
        Self {
            as_of: Position::ZERO,
            complete: false,
            seen: Vec::new(),
        }
    }
}

impl RemoteList {
    fn is_current(&self, followed: Position) -> bool {
        self.complete && self.as_of >= followed
    }

    fn has_seen(&self, stream_id: u64) -> bool {
        self.seen.contains(&stream_id)
    }

    fn note_seen(&mut self, stream_id: u64) {
        if self.seen.len() >= MAX_SEEN {
            self.seen.remove(0);
        }
        self.seen.push(stream_id);
    }
}

/// True if the kept keys are those that the user's server would answer. `followed` is since when the user has been
/// followed without a break.
pub fn is_current(from: &impl Read, user: UserSn, followed: Position) -> Result<bool> {
    let list = REMOTE_LISTS.get(from, &user)?;
    Ok(list.is_some_and(|list| list.is_current(followed)))
}

/// Where this server was when it asked for the kept keys of a user; none if nothing is kept that could be current.
pub fn kept_as_of(from: &impl Read, user: UserSn) -> Result<Option<Position>> {
    let list = REMOTE_LISTS.get(from, &user)?;
    Ok(list.filter(|list| list.complete).map(|list| list.as_of))
}

/// A device as its server shows it.
#[derive(Clone, Debug)]
struct RemoteDevice {
    keys: SignedObject,
    display_name: Option<String>,
}

#[derive(Deserialize)]
struct Unsigned {
    #[serde(default)]
    unsigned: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    device_display_name: Option<String>,
}

impl RemoteDevice {
    /// Reads device keys; none if they are not those of this device, or lack what the specification requires.
    fn read(user_id: &str, device: &str, json: &str, name: Option<String>) -> Option<Self> {
        if device.is_empty() || device.len() > MAX_DEVICE_ID_BYTES {
            return None;
        }
        let mut keys = SignedObject::from_upload(json).ok()?;
        device_keys::check(&keys, user_id, device).ok()?;
        keys.keep_signatures_of(user_id);
        let unsigned: Option<Unsigned> = serde_json::from_str(json).ok();
        let name = name.or_else(|| unsigned?.unsigned?.device_display_name);
        Some(Self {
            keys,
            display_name: name.filter(|name| name.len() <= MAX_DISPLAY_NAME_BYTES),
        })
    }

    fn put(&self, txn: &mut Txn, user: UserSn, device: &str) -> Result<bool> {
        let row = (user, device.to_owned());
        let blob = self.keys.to_blob()?;
        let name = REMOTE_DEVICE_NAMES.get(txn, &row)?;
        if DEVICE_KEYS.get(txn, &row)?.as_ref() == Some(&blob) && name == self.display_name {
            return Ok(false);
        }
        DEVICE_KEYS.put(txn, &row, &blob);
        match &self.display_name {
            Some(name) => REMOTE_DEVICE_NAMES.put(txn, &row, name),
            None => REMOTE_DEVICE_NAMES.delete(txn, &row),
        }
        Ok(true)
    }
}

fn remove_device(txn: &mut Txn, user: UserSn, device: &str) {
    let row = (user, device.to_owned());
    DEVICE_KEYS.delete(txn, &row);
    REMOTE_DEVICE_NAMES.delete(txn, &row);
}

/// The keys of a user as their server answered. What is not well-formed in the answer is not in here.
#[derive(Clone, Debug, Default)]
pub struct RemoteKeys {
    devices: BTreeMap<String, RemoteDevice>,
    master: Option<CrossSigningKey>,
    self_signing: Option<CrossSigningKey>,
}

#[derive(Deserialize)]
struct Answer {
    device_keys: BTreeMap<String, BTreeMap<String, Box<RawValue>>>,
    #[serde(default)]
    master_keys: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    self_signing_keys: BTreeMap<String, Box<RawValue>>,
}

impl RemoteKeys {
    /// Reads an answer to `POST /_matrix/federation/v1/user/keys/query`: of those who were asked for, by user id. Who
    /// is not in the answer is not in the result.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is no such answer.
    pub fn read_answer(json: &[u8], asked: &[String]) -> Result<BTreeMap<String, Self>> {
        let answer: Answer =
            serde_json::from_slice(json).map_err(|error| Error::malformed(error.to_string()))?;
        let mut users = BTreeMap::new();
        for user_id in asked {
            let devices = answer.device_keys.get(user_id);
            let key_of = |of: &BTreeMap<String, Box<RawValue>>| of.get(user_id).cloned();
            let master = key_of(&answer.master_keys);
            let self_signing = key_of(&answer.self_signing_keys);
            if devices.is_none() && master.is_none() {
                continue;
            }
            let mut keys = Self {
                master: master.and_then(|json| read_key(user_id, Usage::Master, json.get())),
                ..Self::default()
            };
            keys.self_signing = self_signing
                .and_then(|json| read_key(user_id, Usage::SelfSigning, json.get()))
                .filter(|key| is_signed(key, user_id, keys.master.as_ref()));
            for (device, json) in devices.into_iter().flatten() {
                if let Some(read) = RemoteDevice::read(user_id, device, json.get(), None) {
                    keys.devices.insert(device.clone(), read);
                }
            }
            users.insert(user_id.clone(), keys);
        }
        Ok(users)
    }

    /// What `viewer` may see of these keys: of the given devices, or of all if none is given. `user` is the owner's
    /// number, if there is one.
    pub fn as_seen_by(
        &self,
        from: &impl Read,
        viewer: Owner<'_>,
        user: Option<UserSn>,
        devices: &[String],
    ) -> Result<UserKeys> {
        let mut keys = UserKeys::default();
        for (device, read) in &self.devices {
            if devices.is_empty() || devices.contains(device) {
                let json = with_display_name(read.keys.to_json()?, read.display_name.clone());
                keys.devices.push((device.clone(), json));
            }
        }
        if let Some(master) = &self.master {
            keys.master = Some(match user {
                Some(user) => as_seen_by(from, viewer, user, master.object.clone())?,
                None => master.object.to_json()?,
            });
        }
        if let Some(self_signing) = &self.self_signing {
            keys.self_signing = Some(self_signing.object.to_json()?);
        }
        Ok(keys)
    }

    fn is_too_large(&self) -> Result<bool> {
        let mut bytes = 0;
        for device in self.devices.values() {
            bytes += device.keys.to_json()?.len();
        }
        for key in [&self.master, &self.self_signing].into_iter().flatten() {
            bytes += key.object.to_json()?.len();
        }
        Ok(self.devices.len() > MAX_KEPT_DEVICES || bytes > MAX_KEPT_BYTES)
    }

    /// Makes the rows those of this answer; true if that changed any.
    fn put(&self, txn: &mut Txn, user: UserSn) -> Result<bool> {
        let mut changed = false;
        for device in kept_devices(txn, user)? {
            if !self.devices.contains_key(&device) {
                remove_device(txn, user, &device);
                changed = true;
            }
        }
        for (device, keys) in &self.devices {
            changed |= keys.put(txn, user, device)?;
        }
        changed |= put_key(txn, user, Usage::Master, self.master.as_ref())?;
        changed |= put_key(txn, user, Usage::SelfSigning, self.self_signing.as_ref())?;
        Ok(changed)
    }
}

fn kept_devices(from: &impl Read, user: UserSn) -> Result<Vec<String>> {
    let mut devices = Vec::new();
    for row in DEVICE_KEYS.scan(from, &(user,), Direction::Forward) {
        devices.push(row?.0.1);
    }
    Ok(devices)
}

fn read_key(user_id: &str, usage: Usage, json: &str) -> Option<CrossSigningKey> {
    let mut object = SignedObject::from_upload(json).ok()?;
    object.keep_signatures_of(user_id);
    CrossSigningKey::new(object, user_id, usage).ok()
}

fn is_signed(key: &CrossSigningKey, user_id: &str, master: Option<&CrossSigningKey>) -> bool {
    master.is_some_and(|master| {
        cross_signing::check_signed_by(key, Usage::SelfSigning, user_id, master).is_ok()
    })
}

fn put_key(
    txn: &mut Txn,
    user: UserSn,
    usage: Usage,
    key: Option<&CrossSigningKey>,
) -> Result<bool> {
    let row = (user, usage.number());
    let blob = key.map(|key| key.object.to_blob()).transpose()?;
    if CROSS_SIGNING_KEYS.get(txn, &row)? == blob {
        return Ok(false);
    }
    match &blob {
        Some(blob) => CROSS_SIGNING_KEYS.put(txn, &row, blob),
        None => CROSS_SIGNING_KEYS.delete(txn, &row),
    }
    Ok(true)
}

/// Keeps what a user's server answered, if it can be kept true; true if viewers have to be told.
///
/// `as_of` is where this server was when it asked. `followed` is as with [`is_current`], none if the user is not followed.
pub fn keep(
    txn: &mut Txn,
    user: UserSn,
    keys: &RemoteKeys,
    as_of: Position,
    followed: Option<Position>,
) -> Result<bool> {
    let may_be_kept = followed.is_some_and(|followed| as_of >= followed) && !keys.is_too_large()?;
    if !may_be_kept {
        forget(txn, user)?;
        return Ok(false);
    }
    if device_lists::last_changed(txn, user)?.is_some_and(|last| last > as_of) {
        // An update came meanwhile: which of the two is newer can't be told.
        return Ok(false);
    }
    let before = REMOTE_LISTS.get(txn, &user)?.unwrap_or_default();
    let news = keys.put(txn, user)?;
    let list = RemoteList {
        as_of,
        complete: true,
        // They came before the answer, so that it holds what they said.
        seen: before.seen,
    };
    REMOTE_LISTS.put(txn, &user, &list);
    // Of a list that was incomplete or not there, viewers know that they have to ask.
    let untold = news && before.complete;
    if untold {
        device_lists::mark_changed(txn, user)?;
    }
    Ok(untold)
}

/// Removes all that is kept of a user's keys: for users who are not followed any longer.
pub fn forget(txn: &mut Txn, user: UserSn) -> Result<()> {
    for device in kept_devices(txn, user)? {
        remove_device(txn, user, &device);
    }
    put_key(txn, user, Usage::Master, None)?;
    put_key(txn, user, Usage::SelfSigning, None)?;
    if REMOTE_LISTS.contains(txn, &user)? {
        REMOTE_LISTS.delete(txn, &user);
    }
    Ok(())
}

/// What happened to the device of a [`DeviceUpdate`].
#[derive(Clone, Debug)]
enum Change {
    Replaced(Box<RemoteDevice>),
    /// It is deleted.
    Deleted,
    /// It has no keys: an answer with all devices does not have it, before or after this.
    WithoutKeys,
    /// It can't be told.
    Unreadable,
}

/// The content of an `m.device_list_update`.
#[derive(Clone, Debug)]
pub struct DeviceUpdate {
    /// Whose device changed.
    pub user_id: String,
    device_id: String,
    stream_id: u64,
    previous: Vec<u64>,
    change: Change,
}

#[derive(Deserialize)]
struct DeviceUpdateContent {
    user_id: String,
    device_id: String,
    device_display_name: Option<String>,
    #[serde(deserialize_with = "stream_id")]
    stream_id: u64,
    prev_id: Option<Vec<StreamId>>,
    deleted: Option<bool>,
    keys: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct StreamId(#[serde(deserialize_with = "stream_id")] u64);

/// Numbers; some servers send them as text.
fn stream_id<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(from)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

impl DeviceUpdate {
    /// Reads the content of the EDU.
    ///
    /// # Errors
    /// [`Error::Malformed`] if something that is required is missing or mistyped.
    pub fn read(content: &str) -> Result<Self> {
        let content: DeviceUpdateContent =
            serde_json::from_str(content).map_err(|error| Error::malformed(error.to_string()))?;
        let (user_id, device_id) = (content.user_id, content.device_id);
        let change = match content.keys {
            _ if content.deleted == Some(true) => Change::Deleted,
            Some(keys) => {
                let name = content.device_display_name;
                match RemoteDevice::read(&user_id, &device_id, keys.get(), name) {
                    Some(device) => Change::Replaced(Box::new(device)),
                    None => Change::Unreadable,
                }
            }
            None => Change::WithoutKeys,
        };
        let previous = content.prev_id.unwrap_or_default();
        Ok(Self {
            user_id,
            device_id,
            stream_id: content.stream_id,
            previous: previous.into_iter().map(|id| id.0).collect(),
            change,
        })
    }

    /// True if the kept list plus this update is the list after it.
    fn continues(&self, list: &RemoteList, followed: Position) -> bool {
        list.is_current(followed)
            && !self.previous.is_empty()
            && self.previous.iter().all(|id| list.has_seen(*id))
    }
}

/// Takes in a device list update of a user who is followed since `followed`. False if viewers need not be told: it came
/// before, or tells of a device without keys while nothing is known of the user that somebody could rely on.
pub fn apply_update(
    txn: &mut Txn,
    user: UserSn,
    followed: Position,
    update: &DeviceUpdate,
) -> Result<bool> {
    let mut list = REMOTE_LISTS.get(txn, &user)?.unwrap_or_default();
    // Ids that lead nowhere are not relied upon: some servers send the same one always.
    if !update.previous.is_empty() && list.has_seen(update.stream_id) {
        return Ok(false);
    }
    let is_news = list.complete || !matches!(update.change, Change::WithoutKeys);
    match &update.change {
        Change::Replaced(device) if update.continues(&list, followed) => {
            device.put(txn, user, &update.device_id)?;
        }
        Change::Deleted | Change::WithoutKeys if update.continues(&list, followed) => {
            remove_device(txn, user, &update.device_id);
        }
        _ => list.complete = false,
    }
    list.note_seen(update.stream_id);
    REMOTE_LISTS.put(txn, &user, &list);
    if is_news {
        device_lists::mark_changed(txn, user)?;
    }
    Ok(is_news)
}

/// The content of an `m.signing_key_update`.
#[derive(Clone, Debug, Deserialize)]
pub struct SigningKeyUpdate {
    /// Whose keys changed.
    pub user_id: String,
    master_key: Option<Box<RawValue>>,
    self_signing_key: Option<Box<RawValue>>,
}

impl SigningKeyUpdate {
    /// Reads the content of the EDU.
    ///
    /// # Errors
    /// [`Error::Malformed`] if something that is required is missing or mistyped.
    pub fn read(content: &str) -> Result<Self> {
        serde_json::from_str(content).map_err(|error| Error::malformed(error.to_string()))
    }

    /// Puts the new keys in; none if they can't be read.
    fn put(&self, txn: &mut Txn, user: UserSn) -> Result<Option<bool>> {
        let user_id = &self.user_id;
        let mut master = cross_signing::load(txn, user, Usage::Master)?;
        let mut self_signing = cross_signing::load(txn, user, Usage::SelfSigning)?;
        if let Some(json) = &self.master_key {
            let Some(new) = read_key(user_id, Usage::Master, json.get()) else {
                return Ok(None);
            };
            master = Some(new);
            // One of the master key before is worth nothing any longer.
            self_signing = self_signing.filter(|key| is_signed(key, user_id, master.as_ref()));
        }
        if let Some(json) = &self.self_signing_key {
            let new = read_key(user_id, Usage::SelfSigning, json.get());
            let Some(new) = new.filter(|key| is_signed(key, user_id, master.as_ref())) else {
                return Ok(None);
            };
            self_signing = Some(new);
        }
        let changed = put_key(txn, user, Usage::Master, master.as_ref())?
            | put_key(txn, user, Usage::SelfSigning, self_signing.as_ref())?;
        Ok(Some(changed))
    }
}

/// Takes in a change of the cross-signing keys of a user who is followed since `followed`. False if it is no news.
pub fn apply_signing_keys(
    txn: &mut Txn,
    user: UserSn,
    followed: Position,
    update: &SigningKeyUpdate,
) -> Result<bool> {
    let mut list = REMOTE_LISTS.get(txn, &user)?.unwrap_or_default();
    if list.is_current(followed) {
        match update.put(txn, user)? {
            Some(false) => return Ok(false),
            Some(true) => {}
            None => {
                list.complete = false;
                REMOTE_LISTS.put(txn, &user, &list);
            }
        }
    }
    device_lists::mark_changed(txn, user)?;
    Ok(true)
}
