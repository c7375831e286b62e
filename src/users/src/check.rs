//! The invariants between this crate's tables, for `meyrin db check`: every derived row is what its source
//! says, nothing is missing, and what hangs on an account, a device or a backup hangs on one that is there.
//!
//! Each direction is a walk with one look-up a row, so that memory does not grow with the database.
//! Reports name tables and users, never tokens or contents.

use std::collections::BTreeMap;

use names::UserSn;
use store::{Direction, Key, Position, Read, StoreError, Table, Value};

use crate::Result;
use crate::account_data::{GLOBAL, PUSH_RULES as PUSH_RULES_TYPE};
use crate::keys::one_time::Counts;
use crate::schema::{
    ACCESS_TOKENS, ACCOUNT_DATA, ACCOUNT_DATA_LOG, ACCOUNTS, BACKUP_KEYS, BACKUPS,
    DEHYDRATED_DEVICES, DEVICE_KEYS, DEVICE_LIST_LOG, DEVICE_LISTS, DEVICE_TOKENS, DEVICES,
    DIRECTORY_ENTRIES, DIRECTORY_WORDS, FALLBACK_KEYS, KEY_COUNTS, LOGIN_TOKENS, ONE_TIME_KEY_IDS,
    ONE_TIME_KEYS, OPENID_TOKENS, PUSH_RULES, PUSHERS, PUSHERS_BY_KEY, REFRESH_TOKENS,
    REMOTE_DEVICE_NAMES, REMOTE_LISTS, ROOM_ACCOUNT_DATA, TO_DEVICE, TOKEN_EXPIRIES,
    USER_SIGNATURE_LOG, USER_SIGNATURES,
};
use crate::tokens::{DeviceToken, LOGIN, OPENID};

/// Checks everything in this crate's tables; `report` hears of all that is not as it must be.
///
/// # Errors
/// If a row can't be read; what comes after it in its table was not checked then.
pub fn all(from: &impl Read, report: &mut dyn FnMut(String)) -> Result<()> {
    let mut check = Check { from, report };
    check.accounts_and_devices()?;
    check.device_tokens()?;
    check.token_expiries()?;
    check.account_data_log()?;
    check.pushers()?;
    check.directory()?;
    check.one_time_keys()?;
    check.key_counts()?;
    check.logs_of_keys()?;
    check.backups()?;
    check.messages()
}

struct Check<'a, R: Read> {
    from: &'a R,
    report: &'a mut dyn FnMut(String),
}

impl<R: Read> Check<'_, R> {
    /// A user as a person knows them, as far as they are known.
    fn who(&self, user: UserSn) -> String {
        names::user_id(self.from, user).unwrap_or_else(|_| format!("user number {}", user.0))
    }

    fn say(&mut self, table: &str, user: UserSn, what: &str) {
        let who = self.who(user);
        (self.report)(format!("{table}: {what} ({who})"));
    }

    /// The derived row that a source row makes must be there.
    fn follows<K: Key, V: Value + PartialEq>(
        &mut self,
        derived: &Table<K, V>,
        key: &K,
        value: &V,
        user: UserSn,
    ) -> Result<()> {
        match derived.get(self.from, key)? {
            Some(found) if found == *value => {}
            Some(_) => self.say(derived.name(), user, "a row is not what its source says"),
            None => self.say(derived.name(), user, "a row is missing"),
        }
        Ok(())
    }

    /// A derived row must have a source.
    fn stems(&mut self, derived: &str, has_source: bool, user: UserSn) {
        if !has_source {
            self.say(derived, user, "a row has no source");
        }
    }

    fn device_exists(&mut self, table: &str, user: UserSn, device: &str) -> Result<()> {
        if !DEVICES.contains(self.from, &(user, device.to_owned()))? {
            self.say(table, user, "a row of a device that does not exist");
        }
        Ok(())
    }

    fn account_exists(&mut self, table: &str, user: UserSn) -> Result<()> {
        if !ACCOUNTS.contains(self.from, &user)? {
            self.say(table, user, "a row of an account that does not exist");
        }
        Ok(())
    }

    fn accounts_and_devices(&mut self) -> Result<()> {
        for row in ACCOUNTS.scan(self.from, &(), Direction::Forward) {
            let (user, _) = row?;
            match names::user_id(self.from, user) {
                Ok(_) => {}
                Err(StoreError::Corrupt { .. }) => {
                    self.say(ACCOUNTS.name(), user, "an account without a name");
                }
                Err(error) => return Err(error.into()),
            }
        }
        for row in DEVICES.scan(self.from, &(), Direction::Forward) {
            let ((user, _), _) = row?;
            self.account_exists(DEVICES.name(), user)?;
        }
        for row in DEVICE_KEYS.scan(self.from, &(), Direction::Forward) {
            let ((user, device), _) = row?;
            if user.is_local() {
                self.device_exists(DEVICE_KEYS.name(), user, &device)?;
            } else if !REMOTE_LISTS.contains(self.from, &user)? {
                self.say(DEVICE_KEYS.name(), user, "keys that nothing is known of");
            }
        }
        for row in REMOTE_DEVICE_NAMES.scan(self.from, &(), Direction::Forward) {
            let (device, _) = row?;
            if !DEVICE_KEYS.contains(self.from, &device)? {
                let what = "a name of a device without keys";
                self.say(REMOTE_DEVICE_NAMES.name(), device.0, what);
            }
        }
        for row in DEHYDRATED_DEVICES.scan(self.from, &(), Direction::Forward) {
            let (user, dehydrated) = row?;
            self.device_exists(DEHYDRATED_DEVICES.name(), user, &dehydrated.device_id)?;
        }
        Ok(())
    }

    fn device_tokens(&mut self) -> Result<()> {
        for row in ACCESS_TOKENS.scan(self.from, &(), Direction::Forward) {
            let (hash, token) = row?;
            self.device_exists(ACCESS_TOKENS.name(), token.user, &token.device)?;
            let key = (token.user, token.device, hash);
            self.follows(&DEVICE_TOKENS, &key, &DeviceToken::Access, token.user)?;
        }
        for row in REFRESH_TOKENS.scan(self.from, &(), Direction::Forward) {
            let (hash, token) = row?;
            self.device_exists(REFRESH_TOKENS.name(), token.user, &token.device)?;
            let key = (token.user, token.device, hash);
            self.follows(&DEVICE_TOKENS, &key, &DeviceToken::Refresh, token.user)?;
        }
        for row in DEVICE_TOKENS.scan(self.from, &(), Direction::Forward) {
            let ((user, device, hash), kind) = row?;
            let owner = match kind {
                DeviceToken::Access => ACCESS_TOKENS
                    .get(self.from, &hash)?
                    .map(|token| (token.user, token.device)),
                DeviceToken::Refresh => REFRESH_TOKENS
                    .get(self.from, &hash)?
                    .map(|token| (token.user, token.device)),
            };
            self.stems(DEVICE_TOKENS.name(), owner == Some((user, device)), user);
        }
        Ok(())
    }

    fn token_expiries(&mut self) -> Result<()> {
        for (table, kind) in [(&LOGIN_TOKENS, LOGIN), (&OPENID_TOKENS, OPENID)] {
            for row in table.scan(self.from, &(), Direction::Forward) {
                let (hash, token) = row?;
                let key = (token.expires_ms, kind, hash);
                self.follows(&TOKEN_EXPIRIES, &key, &(), token.user)?;
            }
        }
        for row in TOKEN_EXPIRIES.scan(self.from, &(), Direction::Forward) {
            let ((expires_ms, kind, hash), ()) = row?;
            let token = match kind {
                LOGIN => LOGIN_TOKENS.get(self.from, &hash)?,
                OPENID => OPENID_TOKENS.get(self.from, &hash)?,
                _ => None,
            };
            if token.is_none_or(|token| token.expires_ms != expires_ms) {
                (self.report)(format!("{}: a row has no source", TOKEN_EXPIRIES.name()));
            }
        }
        Ok(())
    }

    fn account_data_log(&mut self) -> Result<()> {
        for row in ACCOUNT_DATA.scan(self.from, &(), Direction::Forward) {
            let ((user, kind), item) = row?;
            self.account_exists(ACCOUNT_DATA.name(), user)?;
            let key = (user, item.position, GLOBAL, kind);
            self.follows(&ACCOUNT_DATA_LOG, &key, &(), user)?;
        }
        for row in ROOM_ACCOUNT_DATA.scan(self.from, &(), Direction::Forward) {
            let ((user, room, kind), item) = row?;
            self.account_exists(ROOM_ACCOUNT_DATA.name(), user)?;
            let key = (user, item.position, room, kind);
            self.follows(&ACCOUNT_DATA_LOG, &key, &(), user)?;
        }
        for row in PUSH_RULES.scan(self.from, &(), Direction::Forward) {
            let (user, rules) = row?;
            let key = (user, rules.position, GLOBAL, PUSH_RULES_TYPE.to_owned());
            self.follows(&ACCOUNT_DATA_LOG, &key, &(), user)?;
        }
        for row in ACCOUNT_DATA_LOG.scan(self.from, &(), Direction::Forward) {
            let ((user, position, room, kind), ()) = row?;
            let last = if room != GLOBAL {
                let item = ROOM_ACCOUNT_DATA.get(self.from, &(user, room, kind))?;
                item.map(|item| item.position)
            } else if kind == PUSH_RULES_TYPE {
                let rules = PUSH_RULES.get(self.from, &user)?;
                rules.map(|rules| rules.position)
            } else {
                let item = ACCOUNT_DATA.get(self.from, &(user, kind))?;
                item.map(|item| item.position)
            };
            self.stems(ACCOUNT_DATA_LOG.name(), last == Some(position), user);
            self.has_been(ACCOUNT_DATA_LOG.name(), position, user);
        }
        Ok(())
    }

    /// No row lies after what has happened.
    fn has_been(&mut self, table: &str, position: Position, user: UserSn) {
        if position > self.from.position() {
            self.say(table, user, "a row of a position that has not been yet");
        }
    }

    fn pushers(&mut self) -> Result<()> {
        for row in PUSHERS.scan(self.from, &(), Direction::Forward) {
            let ((user, app_id, pushkey), _) = row?;
            self.account_exists(PUSHERS.name(), user)?;
            self.follows(&PUSHERS_BY_KEY, &(app_id, pushkey, user), &(), user)?;
        }
        for row in PUSHERS_BY_KEY.scan(self.from, &(), Direction::Forward) {
            let ((app_id, pushkey, user), ()) = row?;
            let there = PUSHERS.contains(self.from, &(user, app_id, pushkey))?;
            self.stems(PUSHERS_BY_KEY.name(), there, user);
        }
        Ok(())
    }

    fn directory(&mut self) -> Result<()> {
        for row in DIRECTORY_ENTRIES.scan(self.from, &(), Direction::Forward) {
            let (user, entry) = row?;
            for word in entry.words() {
                self.follows(&DIRECTORY_WORDS, &(word.clone(), user), &(), user)?;
            }
        }
        for row in DIRECTORY_WORDS.scan(self.from, &(), Direction::Forward) {
            let ((word, user), ()) = row?;
            let entry = DIRECTORY_ENTRIES.get(self.from, &user)?;
            let there = entry.is_some_and(|entry| entry.words().contains(&word));
            self.stems(DIRECTORY_WORDS.name(), there, user);
        }
        Ok(())
    }

    fn one_time_keys(&mut self) -> Result<()> {
        for row in ONE_TIME_KEYS.scan(self.from, &(), Direction::Forward) {
            let ((user, device, algorithm, position, key_id), _) = row?;
            self.device_exists(ONE_TIME_KEYS.name(), user, &device)?;
            self.has_been(ONE_TIME_KEYS.name(), position, user);
            let id = ONE_TIME_KEY_IDS.get(self.from, &(user, device, algorithm, key_id))?;
            if id.is_none_or(|id| id.position != position) {
                self.say(ONE_TIME_KEY_IDS.name(), user, "a row is missing");
            }
        }
        for row in ONE_TIME_KEY_IDS.scan(self.from, &(), Direction::Forward) {
            let ((user, device, algorithm, key_id), at) = row?;
            let key = (user, device, algorithm, at.position, key_id);
            let there = ONE_TIME_KEYS.contains(self.from, &key)?;
            self.stems(ONE_TIME_KEY_IDS.name(), there, user);
        }
        Ok(())
    }

    fn key_counts(&mut self) -> Result<()> {
        let mut last = None;
        let one_time = ONE_TIME_KEYS.scan(self.from, &(), Direction::Forward);
        let one_time = one_time.map(|row| row.map(|((user, device, ..), _)| (user, device)));
        let fallback = FALLBACK_KEYS.scan(self.from, &(), Direction::Forward);
        let fallback = fallback.map(|row| row.map(|((user, device, _), _)| (user, device)));
        for owner in one_time.chain(fallback) {
            let owner = owner?;
            if last.as_ref() == Some(&owner) {
                continue;
            }
            if !KEY_COUNTS.contains(self.from, &owner)? {
                self.say(KEY_COUNTS.name(), owner.0, "a row is missing");
            }
            last = Some(owner);
        }
        for row in KEY_COUNTS.scan(self.from, &(), Direction::Forward) {
            let (owner, counts) = row?;
            if counts.value != self.count(&owner)? {
                let what = "a row does not count the keys that there are";
                self.say(KEY_COUNTS.name(), owner.0, what);
            }
        }
        Ok(())
    }

    fn count(&self, owner: &(UserSn, String)) -> Result<Counts> {
        let mut counts = Counts::default();
        for row in ONE_TIME_KEYS.scan(self.from, owner, Direction::Forward) {
            let ((_, _, algorithm, ..), _) = row?;
            *counts.one_time.entry(algorithm).or_default() += 1;
        }
        for row in FALLBACK_KEYS.scan(self.from, owner, Direction::Forward) {
            let ((_, _, algorithm), key) = row?;
            if !key.used {
                counts.unused_fallback.push(algorithm);
            }
        }
        Ok(counts)
    }

    fn logs_of_keys(&mut self) -> Result<()> {
        for row in USER_SIGNATURES.scan(self.from, &(), Direction::Forward) {
            let ((signer, owner), signature) = row?;
            let key = (signer, signature.position, owner);
            self.follows(&USER_SIGNATURE_LOG, &key, &(), signer)?;
        }
        for row in USER_SIGNATURE_LOG.scan(self.from, &(), Direction::Forward) {
            let ((signer, position, owner), ()) = row?;
            let signature = USER_SIGNATURES.get(self.from, &(signer, owner))?;
            let there = signature.is_some_and(|signature| signature.position == position);
            self.stems(USER_SIGNATURE_LOG.name(), there, signer);
            self.has_been(USER_SIGNATURE_LOG.name(), position, signer);
        }
        for row in DEVICE_LISTS.scan(self.from, &(), Direction::Forward) {
            let (user, last) = row?;
            self.follows(&DEVICE_LIST_LOG, &(last.position, user), &(), user)?;
        }
        for row in DEVICE_LIST_LOG.scan(self.from, &(), Direction::Forward) {
            let ((position, user), ()) = row?;
            let last = DEVICE_LISTS.get(self.from, &user)?;
            let there = last.is_some_and(|last| last.position == position);
            self.stems(DEVICE_LIST_LOG.name(), there, user);
            self.has_been(DEVICE_LIST_LOG.name(), position, user);
        }
        Ok(())
    }

    fn backups(&mut self) -> Result<()> {
        let mut kept: BTreeMap<u64, u64> = BTreeMap::new();
        let mut of = None;
        for row in BACKUP_KEYS.scan(self.from, &(), Direction::Forward) {
            let ((user, version, ..), _) = row?;
            if of != Some(user) {
                self.compare_backups(of, &kept)?;
                kept.clear();
                of = Some(user);
            }
            *kept.entry(version).or_default() += 1;
        }
        self.compare_backups(of, &kept)?;
        for row in BACKUPS.scan(self.from, &(), Direction::Forward) {
            let ((user, version), backup) = row?;
            self.account_exists(BACKUPS.name(), user)?;
            let first = BACKUP_KEYS.scan(self.from, &(user, version), Direction::Forward);
            let is_empty = first.take(1).next().transpose()?.is_none();
            if is_empty && backup.keys().is_some_and(|keys| keys > 0) {
                self.say(BACKUPS.name(), user, "a backup lacks all its keys");
            }
        }
        Ok(())
    }

    /// Compares the keys of a user's backups, by version, with what the backups say.
    fn compare_backups(&mut self, user: Option<UserSn>, kept: &BTreeMap<u64, u64>) -> Result<()> {
        let Some(user) = user else { return Ok(()) };
        for (version, keys) in kept {
            match BACKUPS.get(self.from, &(user, *version))? {
                None => self.say(
                    BACKUP_KEYS.name(),
                    user,
                    "keys of a backup that is not there",
                ),
                Some(backup) if backup.keys().is_some_and(|said| said != *keys) => {
                    self.say(BACKUPS.name(), user, "a backup counts its keys wrongly");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn messages(&mut self) -> Result<()> {
        for row in TO_DEVICE.scan(self.from, &(), Direction::Forward) {
            let ((user, _, position, _), _) = row?;
            self.has_been(TO_DEVICE.name(), position, user);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
