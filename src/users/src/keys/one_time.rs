//! One-time and fallback keys: uploaded by a device, given out to whoever wants to write to it first.
//!
//! Invariants: a one-time key is given out at most once, also if its upload is repeated afterwards; keys
//! are given out in the order of their upload; the counts that /sync shows are those of the rows. Claims
//! and uploads of one user are made under that user's lock.
//!
//! That a repeated upload does not bring a claimed key back rests on `CLAIMED_KEYS`: the claimed keys
//! are remembered until the device uploads something new, which it does only once its last upload has
//! been answered. So they are never more than the unclaimed ones were.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#one-time-and-fallback-keys>.

use std::collections::BTreeMap;

use names::UserSn;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{At, Blob, Direction, Position, Read, Record, Txn};

use super::canonical_text;
use super::signed::stored_text;
use crate::schema::{CLAIMED_KEYS, FALLBACK_KEYS, KEY_COUNTS, ONE_TIME_KEY_IDS, ONE_TIME_KEYS};
use crate::{Error, Result};

/// The most one-time keys that are kept for a device. Clients keep 50 to 100 there.
pub const MAX_ONE_TIME_KEYS: u32 = 1000;

/// The largest key, in bytes of canonical JSON.
pub const MAX_KEY_BYTES: usize = 8 * 1024;

/// The longest algorithm name or key id, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The most algorithms that a device may have fallback keys for.
const MAX_FALLBACK_KEYS: usize = 20;

/// The algorithm whose count is always shown, be it zero: clients upload keys when they see it.
const MAIN_ALGORITHM: &str = "signed_curve25519";

/// A device's fallback key for one algorithm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackKey {
    /// The id, without the algorithm.
    pub key_id: String,
    /// Canonical JSON.
    pub json: String,
    /// True once it was given out.
    pub used: bool,
}

impl Record for FallbackKey {}

/// What /sync tells a device about its own keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Unclaimed one-time keys by algorithm; `signed_curve25519` is always there.
    pub one_time: BTreeMap<String, u32>,
    /// The algorithms with a fallback key that was not given out yet, sorted.
    pub unused_fallback: Vec<String>,
}

impl Record for Counts {}

impl Default for Counts {
    fn default() -> Self {
        Self {
            one_time: BTreeMap::from([(MAIN_ALGORITHM.to_owned(), 0)]),
            unused_fallback: Vec::new(),
        }
    }
}

/// A key as a client names it: `algorithm:id`, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedKey {
    algorithm: String,
    key_id: String,
    json: String,
}

impl NamedKey {
    /// Reads a key. [`Error::Malformed`] if the name has no colon, or the content is neither an object
    /// nor text.
    pub fn new(name: &str, content: &Value) -> Result<Self> {
        let Some((algorithm, key_id)) = name.split_once(':') else {
            return Err(Error::malformed("a key's name is not algorithm:id"));
        };
        if algorithm.is_empty() || algorithm.len() > MAX_NAME_BYTES || key_id.len() > MAX_NAME_BYTES
        {
            return Err(Error::malformed("a key's name is empty or too long"));
        }
        if !content.is_object() && !content.is_string() {
            return Err(Error::malformed("a key is neither an object nor text"));
        }
        let json = canonical_text(content)?;
        if json.len() > MAX_KEY_BYTES {
            return Err(Error::TooLarge(
                format!("a one-time key may have at most {MAX_KEY_BYTES} bytes").into(),
            ));
        }
        Ok(Self {
            algorithm: algorithm.to_owned(),
            key_id: key_id.to_owned(),
            json,
        })
    }

    /// `algorithm:id`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.algorithm, self.key_id)
    }

    /// The content, canonical JSON.
    pub fn json(&self) -> &str {
        &self.json
    }
}

/// What the device has, for /sync and for the answer to an upload, and where it changed last.
pub fn counts(from: &impl Read, user: UserSn, device: &str) -> Result<At<Counts>> {
    let counts = KEY_COUNTS.get(from, &(user, device.to_owned()))?;
    Ok(counts.unwrap_or(At {
        position: Position::ZERO,
        value: Counts::default(),
    }))
}

/// Stores one-time keys. A key that is there already, or was given out since the last upload, is passed
/// over if its content is the same; [`Error::Invalid`] if its content differs.
pub fn upload(txn: &mut Txn, user: UserSn, device: &str, keys: &[NamedKey]) -> Result<()> {
    let mut counts = counts(txn, user, device)?.value;
    let mut claimed: Vec<&NamedKey> = Vec::new();
    let mut added = false;
    for key in keys {
        let row = (
            user,
            device.to_owned(),
            key.algorithm.clone(),
            key.key_id.clone(),
        );
        if let Some(At { position, .. }) = ONE_TIME_KEY_IDS.get(txn, &row)? {
            let (user, device, algorithm, key_id) = row;
            let present = ONE_TIME_KEYS.get(txn, &(user, device, algorithm, position, key_id))?;
            if present.is_none_or(|present| present.0 != key.json.as_bytes()) {
                return Err(Error::invalid(format!(
                    "One time key {} already exists with another content",
                    key.name()
                )));
            }
            continue;
        }
        if CLAIMED_KEYS
            .get(txn, &row)?
            .is_some_and(|claimed| claimed.0 == key.json.as_bytes())
        {
            claimed.push(key);
            continue;
        }
        let count = counts.one_time.entry(key.algorithm.clone()).or_default();
        *count += 1;
        if counts.one_time.values().sum::<u32>() > MAX_ONE_TIME_KEYS {
            return Err(Error::TooLarge(
                format!("a device may have at most {MAX_ONE_TIME_KEYS} one-time keys").into(),
            ));
        }
        ONE_TIME_KEY_IDS.put(txn, &row, &At::now(()));
        let (user, device, algorithm, key_id) = row;
        ONE_TIME_KEYS.put(
            txn,
            &(user, device, algorithm, Position::PENDING, key_id),
            &Blob(key.json.clone().into_bytes()),
        );
        added = true;
    }
    if added {
        forget_claimed(txn, user, device, &claimed)?;
        KEY_COUNTS.put(txn, &(user, device.to_owned()), &At::now(counts));
    }
    Ok(())
}

/// Something new came from the device: its earlier uploads will not be repeated, this one may be.
fn forget_claimed(
    txn: &mut Txn,
    user: UserSn,
    device: &str,
    in_this_upload: &[&NamedKey],
) -> Result<()> {
    let mut rows = Vec::new();
    for row in CLAIMED_KEYS.scan(txn, &(user, device.to_owned()), Direction::Forward) {
        rows.push(row?.0);
    }
    for row in rows {
        let keep = in_this_upload
            .iter()
            .any(|key| key.algorithm == row.2 && key.key_id == row.3);
        if !keep {
            CLAIMED_KEYS.delete(txn, &row);
        }
    }
    Ok(())
}

/// Stores fallback keys, one per algorithm. The same key again stays used if it was.
pub fn upload_fallback(txn: &mut Txn, user: UserSn, device: &str, keys: &[NamedKey]) -> Result<()> {
    let mut unused = counts(txn, user, device)?.value.unused_fallback;
    let mut changed = false;
    for key in keys {
        let row = (user, device.to_owned(), key.algorithm.clone());
        let present = FALLBACK_KEYS.get(txn, &row)?;
        if present.is_none() && fallback_keys(txn, user, device)? >= MAX_FALLBACK_KEYS {
            return Err(Error::TooLarge(
                format!("a device may have at most {MAX_FALLBACK_KEYS} fallback keys").into(),
            ));
        }
        if present.is_some_and(|present| present.key_id == key.key_id && present.json == key.json) {
            continue;
        }
        let fallback = FallbackKey {
            key_id: key.key_id.clone(),
            json: key.json.clone(),
            used: false,
        };
        FALLBACK_KEYS.put(txn, &row, &fallback);
        if let Err(place) = unused.binary_search(&key.algorithm) {
            unused.insert(place, key.algorithm.clone());
        }
        changed = true;
    }
    if changed {
        put_unused(txn, user, device, unused)?;
    }
    Ok(())
}

fn fallback_keys(from: &impl Read, user: UserSn, device: &str) -> Result<usize> {
    let mut number = 0;
    for row in FALLBACK_KEYS.scan(from, &(user, device.to_owned()), Direction::Forward) {
        row?;
        number += 1;
    }
    Ok(number)
}

fn put_unused(txn: &mut Txn, user: UserSn, device: &str, unused: Vec<String>) -> Result<()> {
    let mut counts = counts(txn, user, device)?.value;
    counts.unused_fallback = unused;
    KEY_COUNTS.put(txn, &(user, device.to_owned()), &At::now(counts));
    Ok(())
}

/// Takes the oldest one-time key of an algorithm, or the fallback key if there is none left.
pub fn claim(
    txn: &mut Txn,
    user: UserSn,
    device: &str,
    algorithm: &str,
) -> Result<Option<NamedKey>> {
    let prefix = (user, device.to_owned(), algorithm.to_owned());
    let oldest = ONE_TIME_KEYS
        .scan(txn, &prefix, Direction::Forward)
        .next()
        .transpose()?;
    let Some((row, content)) = oldest else {
        return claim_fallback(txn, user, device, algorithm);
    };
    ONE_TIME_KEYS.delete(txn, &row);
    let (_, device, algorithm, _, key_id) = row;
    let id_row = (user, device, algorithm, key_id);
    ONE_TIME_KEY_IDS.delete(txn, &id_row);
    CLAIMED_KEYS.put(txn, &id_row, &content);
    let (_, device, algorithm, key_id) = id_row;
    let mut counts = counts(txn, user, &device)?.value;
    if let Some(count) = counts.one_time.get_mut(&algorithm) {
        *count = count.saturating_sub(1);
        if *count == 0 && algorithm != MAIN_ALGORITHM {
            counts.one_time.remove(&algorithm);
        }
    }
    KEY_COUNTS.put(txn, &(user, device), &At::now(counts));
    Ok(Some(NamedKey {
        algorithm,
        key_id,
        json: stored_text(content, ONE_TIME_KEYS.name())?,
    }))
}

fn claim_fallback(
    txn: &mut Txn,
    user: UserSn,
    device: &str,
    algorithm: &str,
) -> Result<Option<NamedKey>> {
    let row = (user, device.to_owned(), algorithm.to_owned());
    let Some(mut fallback) = FALLBACK_KEYS.get(txn, &row)? else {
        return Ok(None);
    };
    if !fallback.used {
        fallback.used = true;
        FALLBACK_KEYS.put(txn, &row, &fallback);
        let mut unused = counts(txn, user, device)?.value.unused_fallback;
        unused.retain(|unused| unused != algorithm);
        put_unused(txn, user, device, unused)?;
    }
    Ok(Some(NamedKey {
        algorithm: row.2,
        key_id: fallback.key_id,
        json: fallback.json,
    }))
}

/// Removes all keys of a device.
pub(super) fn remove(txn: &mut Txn, user: UserSn, device: &str) -> Result<()> {
    let prefix = (user, device.to_owned());
    let mut keys = Vec::new();
    for row in ONE_TIME_KEYS.scan(txn, &prefix, Direction::Forward) {
        keys.push(row?.0);
    }
    for row in keys {
        ONE_TIME_KEYS.delete(txn, &row);
        ONE_TIME_KEY_IDS.delete(txn, &(row.0, row.1, row.2, row.4));
    }
    let mut fallback = Vec::new();
    for row in FALLBACK_KEYS.scan(txn, &prefix, Direction::Forward) {
        fallback.push(row?.0);
    }
    for row in fallback {
        FALLBACK_KEYS.delete(txn, &row);
    }
    forget_claimed(txn, user, device, &[])?;
    KEY_COUNTS.delete(txn, &prefix);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{commit, store};
    use proptest::prelude::*;
    use serde_json::json;
    use store::Store;

    const ALICE: UserSn = UserSn(1);
    const SIGNED: &str = "signed_curve25519";

    fn key(id: &str, content: &str) -> NamedKey {
        NamedKey::new(&format!("{SIGNED}:{id}"), &json!({ "key": content })).unwrap()
    }

    fn upload_ids(store: &Store, ids: &[&str]) {
        let keys: Vec<_> = ids.iter().map(|id| key(id, id)).collect();
        commit(store, |txn| upload(txn, ALICE, "D", &keys));
    }

    fn claim_id(store: &Store) -> Option<String> {
        let mut claimed = None;
        commit(store, |txn| {
            claimed = claim(txn, ALICE, "D", SIGNED)?;
            Ok(())
        });
        claimed.map(|key| key.key_id)
    }

    fn count(store: &Store) -> u32 {
        counts(&store.view(), ALICE, "D").unwrap().value.one_time[SIGNED]
    }

    #[test]
    fn keys_are_given_out_in_the_order_of_their_uploads_and_then_no_more() {
        let store = store();
        assert_eq!(count(&store), 0);
        upload_ids(&store, &["b"]);
        upload_ids(&store, &["a", "c"]);
        assert_eq!(count(&store), 3);
        let order: Vec<_> = std::iter::from_fn(|| claim_id(&store)).collect();
        assert_eq!(order, ["b", "a", "c"]);
        assert_eq!(count(&store), 0);
    }

    #[test]
    fn the_same_key_again_is_passed_over_and_another_under_its_name_refused() {
        let store = store();
        upload_ids(&store, &["a", "b", "c"]);
        upload_ids(&store, &["b", "c", "d"]);
        assert_eq!(count(&store), 4);
        let other = upload(&mut store.begin(), ALICE, "D", &[key("a", "other")]);
        assert!(
            matches!(other, Err(Error::Invalid(why)) if why.starts_with("One time key signed_curve25519:a already exists"))
        );
    }

    #[test]
    fn a_repeated_upload_does_not_bring_a_claimed_key_back() {
        let store = store();
        upload_ids(&store, &["a", "b"]);
        assert_eq!(claim_id(&store).as_deref(), Some("a"));
        upload_ids(&store, &["a", "b"]);
        assert_eq!(count(&store), 1);
        // Something new, with an old one that was claimed among it.
        upload_ids(&store, &["a", "c"]);
        upload_ids(&store, &["a", "c"]);
        assert_eq!(count(&store), 2);
        // The next upload ends the memory of what is not in it.
        upload_ids(&store, &["d"]);
        let remembered = CLAIMED_KEYS
            .scan(&store.view(), &(ALICE,), Direction::Forward)
            .count();
        assert_eq!(remembered, 0);
    }

    #[test]
    fn a_fallback_key_is_given_out_when_no_other_is_left_and_is_used_then() {
        let store = store();
        upload_ids(&store, &["a"]);
        let fallback = |content| {
            commit(&store, |txn| {
                upload_fallback(txn, ALICE, "D", &[key("f", content)])
            });
        };
        let unused = || {
            counts(&store.view(), ALICE, "D")
                .unwrap()
                .value
                .unused_fallback
        };
        fallback("1");
        assert_eq!(unused(), [SIGNED]);
        assert_eq!(claim_id(&store).as_deref(), Some("a"));
        assert_eq!(unused(), [SIGNED]);
        assert_eq!(claim_id(&store).as_deref(), Some("f"));
        assert_eq!(claim_id(&store).as_deref(), Some("f"));
        assert!(unused().is_empty());
        // The same key is as used as before; a new one is not.
        fallback("1");
        assert!(unused().is_empty());
        fallback("2");
        assert_eq!(unused(), [SIGNED]);
    }

    #[test]
    fn a_key_without_algorithm_or_content_is_refused_and_so_is_one_too_large() {
        let malformed = |name: &str, content: Value| {
            matches!(NamedKey::new(name, &content), Err(Error::Malformed(_)))
        };
        assert!(malformed("nocolon", json!({})));
        assert!(malformed(":id", json!({})));
        assert!(malformed("a:b", json!(1)));
        assert!(malformed(&format!("a:{}", "x".repeat(300)), json!({})));
        let large = json!("x".repeat(MAX_KEY_BYTES));
        assert!(matches!(
            NamedKey::new("a:b", &large),
            Err(Error::TooLarge(_))
        ));
        let many: Vec<_> = (0..=MAX_ONE_TIME_KEYS)
            .map(|n| key(&n.to_string(), "x"))
            .collect();
        let store = store();
        assert!(matches!(
            upload(&mut store.begin(), ALICE, "D", &many),
            Err(Error::TooLarge(_))
        ));
    }

    #[test]
    fn a_removed_device_leaves_nothing() {
        let store = store();
        upload_ids(&store, &["a", "b"]);
        claim_id(&store);
        commit(&store, |txn| {
            upload_fallback(txn, ALICE, "D", &[key("f", "1")])
        });
        commit(&store, |txn| remove(txn, ALICE, "D"));
        assert_eq!(
            counts(&store.view(), ALICE, "D").unwrap().value,
            Counts::default()
        );
        assert_eq!(claim_id(&store), None);
        let view = store.view();
        let forward = Direction::Forward;
        let rows = ONE_TIME_KEYS.scan(&view, &(ALICE,), forward).count()
            + ONE_TIME_KEY_IDS.scan(&view, &(ALICE,), forward).count()
            + CLAIMED_KEYS.scan(&view, &(ALICE,), forward).count()
            + FALLBACK_KEYS.scan(&view, &(ALICE,), forward).count()
            + KEY_COUNTS.scan(&view, &(ALICE,), forward).count();
        assert_eq!(rows, 0);
    }

    proptest! {
        /// The rows and the counts never part, whatever the order of uploads and claims.
        #[test]
        fn counts_are_those_of_the_rows(steps in proptest::collection::vec((0u8..3, 0u8..12), 1..40)) {
            let store = store();
            for (step, id) in steps {
                match step {
                    0 => { claim_id(&store); }
                    _ => upload_ids(&store, &[&id.to_string(), &(id / 2).to_string()]),
                }
                let rows = ONE_TIME_KEYS
                    .scan(&store.view(), &(ALICE,), Direction::Forward)
                    .count();
                prop_assert_eq!(count(&store) as usize, rows);
                let ids = ONE_TIME_KEY_IDS
                    .scan(&store.view(), &(ALICE,), Direction::Forward)
                    .count();
                prop_assert_eq!(ids, rows);
            }
        }
    }
}
