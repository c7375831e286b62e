//! Backups of room keys: the keys are encrypted by the client, the server keeps versions of them.
//!
//! Invariants: version numbers grow and are never reused; only the newest version that is not deleted
//! can be written to; `count` is the number of its keys, and `etag` grows with every change of them.
//! Whoever writes holds the user's lock. What may be large is done in parts that each fit one change:
//! [`put_keys`] takes a part ([`parts`]), [`delete_keys`] and [`sweep`] say whether more is left.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>.

use event::json::write_string;
use names::UserSn;
use serde::{Deserialize, Serialize};
use store::{Direction, Read, Record, Txn};

use crate::schema::{BACKUP_KEYS, BACKUPS};
use crate::{Error, Result};

/// The largest `auth_data` and `session_data`, in bytes.
pub const MAX_DATA_BYTES: usize = 64 * 1024;

/// The longest room id, session id and algorithm, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// How many bytes of keys one change holds.
const MAX_PART_BYTES: usize = 256 * 1024;

/// How many keys one change deletes.
const MAX_DELETED: usize = 4000;

/// Where a version stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Life {
    Kept,
    /// Deleted for the user; some of its keys may still be there.
    Sweeping,
    /// Deleted, and all its keys.
    Gone,
}

/// A backup version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// How its keys are encrypted, such as `m.megolm_backup.v1.curve25519-aes-sha2`.
    pub algorithm: String,
    /// What the algorithm needs to know: a JSON object as it came.
    pub auth_data: String,
    /// How many keys there are.
    pub count: u64,
    /// Grows with every change of the keys.
    pub etag: u64,
    life: Life,
}

impl Record for Backup {}

impl Backup {
    /// How many keys there must be; nothing while they are being deleted.
    pub(crate) fn keys(&self) -> Option<u64> {
        match self.life {
            Life::Kept => Some(self.count),
            Life::Sweeping => None,
            Life::Gone => Some(0),
        }
    }
}

/// A key as it is backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUpKey {
    /// Whether the device that made the backup verified the device the key is from.
    pub is_verified: bool,
    /// The first message that the key can decrypt.
    pub first_message_index: u64,
    /// How often the key was passed on between devices.
    pub forwarded_count: u64,
    /// The encrypted key: a JSON object as it came.
    pub session_data: String,
}

impl Record for BackedUpKey {}

impl BackedUpKey {
    /// The replacement rule of the specification: a verified key before one that is not, then the lower
    /// first message index, then the lower forwarded count.
    fn replaces(&self, present: &Self) -> bool {
        let rank = |key: &Self| {
            (
                !key.is_verified,
                key.first_message_index,
                key.forwarded_count,
            )
        };
        rank(self) < rank(present)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            format!(
                r#"{{"first_message_index":{},"forwarded_count":{},"is_verified":{},"session_data":"#,
                self.first_message_index, self.forwarded_count, self.is_verified
            )
            .as_bytes(),
        );
        out.extend_from_slice(self.session_data.as_bytes());
        out.push(b'}');
    }
}

/// A key and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedKey {
    /// The room's id.
    pub room_id: String,
    /// The megolm session's id.
    pub session_id: String,
    /// The key.
    pub key: BackedUpKey,
}

/// Which keys of a backup are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// All.
    All,
    /// Those of a room.
    Room(&'a str),
    /// One.
    Session(&'a str, &'a str),
}

/// `count` and `etag` after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// How many keys there are in the backup.
    pub count: u64,
    /// The backup's etag.
    pub etag: u64,
}

const NO_BACKUP: Error = Error::NotFound("backup version");

/// Makes a new version, which is the current one from then on. Its number.
pub fn create(txn: &mut Txn, user: UserSn, algorithm: &str, auth_data: &str) -> Result<u64> {
    check_data(auth_data)?;
    if algorithm.len() > MAX_NAME_BYTES {
        return Err(Error::TooLarge("the algorithm's name is too long".into()));
    }
    let last = BACKUPS
        .scan(txn, &(user,), Direction::Backward)
        .next()
        .transpose()?;
    let version = last.map_or(1, |((_, last), _)| last + 1);
    let backup = Backup {
        algorithm: algorithm.to_owned(),
        auth_data: auth_data.to_owned(),
        count: 0,
        etag: 0,
        life: Life::Kept,
    };
    BACKUPS.put(txn, &(user, version), &backup);
    Ok(version)
}

fn check_data(data: &str) -> Result<()> {
    if data.len() > MAX_DATA_BYTES {
        return Err(Error::TooLarge(
            format!("data in a backup may have at most {MAX_DATA_BYTES} bytes").into(),
        ));
    }
    Ok(())
}

/// The current version and its number, if there is one.
pub fn current(from: &impl Read, user: UserSn) -> Result<Option<(u64, Backup)>> {
    for row in BACKUPS.scan(from, &(user,), Direction::Backward) {
        let ((_, version), backup) = row?;
        if backup.life == Life::Kept {
            return Ok(Some((version, backup)));
        }
    }
    Ok(None)
}

/// A version. [`Error::NotFound`] if it never was or is deleted.
pub fn get(from: &impl Read, user: UserSn, version: u64) -> Result<Backup> {
    BACKUPS
        .get(from, &(user, version))?
        .filter(|backup| backup.life == Life::Kept)
        .ok_or(NO_BACKUP)
}

/// Replaces a version's `auth_data`. [`Error::Invalid`] if the algorithm is not its own.
pub fn update(
    txn: &mut Txn,
    user: UserSn,
    version: u64,
    algorithm: &str,
    auth_data: &str,
) -> Result<()> {
    check_data(auth_data)?;
    let mut backup = get(txn, user, version)?;
    if backup.algorithm != algorithm {
        return Err(Error::invalid("the algorithm is not that of the backup"));
    }
    backup.auth_data = auth_data.to_owned();
    BACKUPS.put(txn, &(user, version), &backup);
    Ok(())
}

/// Deletes a version; its keys are no longer to be had, and [`sweep`] removes them. Deleting it again
/// is fine; [`Error::NotFound`] if it never was.
pub fn delete(txn: &mut Txn, user: UserSn, version: u64) -> Result<()> {
    let mut backup = BACKUPS.get(txn, &(user, version))?.ok_or(NO_BACKUP)?;
    if backup.life == Life::Kept {
        backup.life = Life::Sweeping;
        backup.auth_data.clear();
        BACKUPS.put(txn, &(user, version), &backup);
    }
    Ok(())
}

/// Removes a part of the keys of the user's deleted versions; true if more is left.
pub fn sweep(txn: &mut Txn, user: UserSn) -> Result<bool> {
    let mut sweeping = Vec::new();
    for row in BACKUPS.scan(txn, &(user,), Direction::Forward) {
        let ((_, version), backup) = row?;
        if backup.life == Life::Sweeping {
            sweeping.push((version, backup));
        }
    }
    for (version, mut backup) in sweeping {
        let rows = rows_of(txn, user, version, Scope::All, MAX_DELETED)?;
        for row in &rows {
            BACKUP_KEYS.delete(txn, row);
        }
        if rows.len() == MAX_DELETED {
            return Ok(true);
        }
        backup.life = Life::Gone;
        BACKUPS.put(txn, &(user, version), &backup);
    }
    Ok(false)
}

type KeyRow = (UserSn, u64, String, String);

fn rows_of(
    from: &impl Read,
    user: UserSn,
    version: u64,
    scope: Scope<'_>,
    limit: usize,
) -> Result<Vec<KeyRow>> {
    let scan = match scope {
        Scope::All => BACKUP_KEYS.scan(from, &(user, version), Direction::Forward),
        Scope::Room(room_id) => BACKUP_KEYS.scan(
            from,
            &(user, version, room_id.to_owned()),
            Direction::Forward,
        ),
        Scope::Session(room_id, session_id) => {
            let row = (user, version, room_id.to_owned(), session_id.to_owned());
            return Ok(match BACKUP_KEYS.contains(from, &row)? {
                true => vec![row],
                false => Vec::new(),
            });
        }
    };
    let mut rows = Vec::new();
    for row in scan.take(limit) {
        rows.push(row?.0);
    }
    Ok(rows)
}

/// The version if it can be written to.
fn writable(from: &impl Read, user: UserSn, version: u64) -> Result<Backup> {
    let (current, backup) = current(from, user)?.ok_or(NO_BACKUP)?;
    if current == version {
        return Ok(backup);
    }
    get(from, user, version)?;
    Err(Error::WrongBackupVersion { current })
}

/// Cuts an upload into parts that each fit one change. An upload of nothing is one empty part.
pub fn parts(keys: &[PlacedKey]) -> Vec<&[PlacedKey]> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (index, placed) in keys.iter().enumerate() {
        let size = placed.key.session_data.len() + 2 * MAX_NAME_BYTES;
        if index > start && bytes + size > MAX_PART_BYTES {
            parts.push(&keys[start..index]);
            start = index;
            bytes = 0;
        }
        bytes += size;
    }
    parts.push(&keys[start..]);
    parts
}

/// Refuses keys that can't be kept. Called for a whole upload before its first part is written, so
/// that a refused one changes nothing.
pub fn check_keys(keys: &[PlacedKey]) -> Result<()> {
    for placed in keys {
        check_data(&placed.key.session_data)?;
        if placed.room_id.len() > MAX_NAME_BYTES || placed.session_id.len() > MAX_NAME_BYTES {
            return Err(Error::TooLarge(
                format!("a room or session id may have at most {MAX_NAME_BYTES} bytes").into(),
            ));
        }
    }
    Ok(())
}

/// Stores keys, each if there is none in its place or the rule says that it replaces the one there.
///
/// [`Error::NotFound`] if there is no such version; [`Error::WrongBackupVersion`] if it is not the
/// current one; the errors of [`check_keys`].
pub fn put_keys(txn: &mut Txn, user: UserSn, version: u64, keys: &[PlacedKey]) -> Result<Totals> {
    check_keys(keys)?;
    let mut backup = writable(txn, user, version)?;
    let rows: Vec<KeyRow> = keys
        .iter()
        .map(|placed| {
            (
                user,
                version,
                placed.room_id.clone(),
                placed.session_id.clone(),
            )
        })
        .collect();
    let present = BACKUP_KEYS.multi_get(txn, &rows)?;
    let mut changed = false;
    for ((row, placed), present) in rows.iter().zip(keys).zip(present) {
        match present {
            Some(present) if !placed.key.replaces(&present) => continue,
            Some(_) => {}
            None => backup.count += 1,
        }
        BACKUP_KEYS.put(txn, row, &placed.key);
        changed = true;
    }
    if changed {
        backup.etag += 1;
        BACKUPS.put(txn, &(user, version), &backup);
    }
    Ok(Totals {
        count: backup.count,
        etag: backup.etag,
    })
}

/// Deletes a part of the keys in a scope; the totals, and true if more is left.
pub fn delete_keys(
    txn: &mut Txn,
    user: UserSn,
    version: u64,
    scope: Scope<'_>,
) -> Result<(Totals, bool)> {
    let mut backup = get(txn, user, version)?;
    let rows = rows_of(txn, user, version, scope, MAX_DELETED)?;
    for row in &rows {
        BACKUP_KEYS.delete(txn, row);
    }
    if !rows.is_empty() {
        backup.count = backup.count.saturating_sub(rows.len() as u64);
        backup.etag += 1;
        BACKUPS.put(txn, &(user, version), &backup);
    }
    let totals = Totals {
        count: backup.count,
        etag: backup.etag,
    };
    Ok((totals, rows.len() == MAX_DELETED))
}

/// The keys in a scope as the JSON of the answer. [`Error::NotFound`] if there is no such version, or
/// one key is asked for and not there.
pub fn render_keys(
    from: &impl Read,
    user: UserSn,
    version: u64,
    scope: Scope<'_>,
) -> Result<Vec<u8>> {
    get(from, user, version)?;
    let mut out = Vec::new();
    match scope {
        Scope::Session(room_id, session_id) => {
            let row = (user, version, room_id.to_owned(), session_id.to_owned());
            let key = BACKUP_KEYS.get(from, &row)?.ok_or(Error::NotFound("key"))?;
            key.write(&mut out);
        }
        Scope::Room(room_id) => {
            out.extend_from_slice(b"{\"sessions\":{");
            let prefix = (user, version, room_id.to_owned());
            for row in BACKUP_KEYS.scan(from, &prefix, Direction::Forward) {
                let ((_, _, _, session_id), key) = row?;
                write_member(&mut out, &session_id);
                key.write(&mut out);
            }
            out.extend_from_slice(b"}}");
        }
        Scope::All => {
            out.extend_from_slice(b"{\"rooms\":{");
            let mut room: Option<String> = None;
            for row in BACKUP_KEYS.scan(from, &(user, version), Direction::Forward) {
                let ((_, _, room_id, session_id), key) = row?;
                if room.as_ref() != Some(&room_id) {
                    if room.is_some() {
                        out.extend_from_slice(b"}}");
                    }
                    write_member(&mut out, &room_id);
                    out.extend_from_slice(b"{\"sessions\":{");
                    room = Some(room_id);
                }
                write_member(&mut out, &session_id);
                key.write(&mut out);
            }
            if room.is_some() {
                out.extend_from_slice(b"}}");
            }
            out.extend_from_slice(b"}}");
        }
    }
    Ok(out)
}

/// Writes a member's name, and the comma before it unless it is the first.
fn write_member(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_string(out, name);
    out.push(b':');
}

#[cfg(test)]
mod tests;
