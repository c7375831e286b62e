//! The signing keys of other servers: reading what a server publishes, keeping it, and which key counts when.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>
//!
//! Invariants: nothing is kept that its server has not signed itself; a key that came from the server itself is never
//! replaced by one that somebody else told; the number of keys kept for a server is bounded. A key that a server
//! does not publish any more stays: it made events.

use std::collections::BTreeMap;

use event::signature::{VerifyKeys, verify_object};
use event::{NumberRule, VerifyKey, canonical};
use serde::{Deserialize, Serialize};
use store::{Direction, Read, Record, Txn};

use crate::Result;
use crate::schema::{KEY_ANSWERS, SERVER_KEYS};

/// No key counts for longer than this after it was told, whatever its server says.
pub const LONGEST_VALIDITY_MS: u64 = 7 * 24 * 3_600_000;

/// The longest document that is read, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 256 << 10;

/// The most keys of a document.
const MOST_PUBLISHED: usize = 512;

/// The most keys kept for a server.
const MOST_KEPT: usize = 1024;

/// That is no document of a server's keys; says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no usable keys: {0}")]
pub struct BadKeys(pub &'static str);

/// What a server publishes about its keys, signed by itself.
#[derive(Clone, Debug)]
pub struct KeyDocument {
    server_name: String,
    valid_until_ms: u64,
    current: BTreeMap<String, VerifyKey>,
    old: BTreeMap<String, (VerifyKey, u64)>,
    json: String,
}

#[derive(Deserialize)]
struct Published {
    server_name: String,
    valid_until_ts: u64,
    verify_keys: BTreeMap<String, PublishedKey>,
    #[serde(default)]
    old_verify_keys: BTreeMap<String, PublishedKey>,
}

#[derive(Deserialize)]
struct PublishedKey {
    key: String,
    #[serde(default)]
    expired_ts: u64,
}

impl KeyDocument {
    /// Reads a document and checks that one of the keys in it signed it, and that none of them disagrees.
    ///
    /// Keys of unknown algorithms, and those that are none, are left out.
    ///
    /// # Errors
    /// [`BadKeys`].
    pub fn read(bytes: &[u8]) -> Result<Self, BadKeys> {
        let bad = |why| move |_| BadKeys(why);
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(BadKeys("too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(bad("not UTF-8"))?;
        let json = canonical::from_text(text, NumberRule::Any).map_err(|_| BadKeys("not JSON"))?;
        let published: Published =
            serde_json::from_str(&json).map_err(|_| BadKeys("of another shape"))?;
        if !event::identifier::is_server_name(&published.server_name) {
            return Err(BadKeys("of no server"));
        }
        if published.verify_keys.len() + published.old_verify_keys.len() > MOST_PUBLISHED {
            return Err(BadKeys("too many keys"));
        }
        let mut document = Self {
            server_name: published.server_name,
            valid_until_ms: published.valid_until_ts,
            current: BTreeMap::new(),
            old: BTreeMap::new(),
            json: json.into_owned(),
        };
        for (key_id, key) in published.verify_keys {
            if let Some(verify_key) = usable(&key_id, &key) {
                document.current.insert(key_id, verify_key);
            }
        }
        for (key_id, key) in published.old_verify_keys {
            if let Some(verify_key) = usable(&key_id, &key) {
                document.old.insert(key_id, (verify_key, key.expired_ts));
            }
        }
        let own = |_: &str, key_id: &str| document.current.get(key_id).copied();
        if !document.is_signed_by(&document.server_name, &own) {
            return Err(BadKeys("not signed by its server"));
        }
        Ok(document)
    }

    /// Whose keys they are.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Until when its server says that the keys are good.
    pub fn valid_until_ms(&self) -> u64 {
        self.valid_until_ms
    }

    /// The document as canonical JSON, with its signatures.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Whether a server signed the document, by its `keys`.
    pub fn is_signed_by(&self, server_name: &str, keys: &impl VerifyKeys) -> bool {
        verify_object(&self.json, server_name, keys).is_ok()
    }
}

fn usable(key_id: &str, key: &PublishedKey) -> Option<VerifyKey> {
    let version = key_id.strip_prefix("ed25519:")?;
    let fits = (1..=255).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| VerifyKey::from_base64(&key.key)).flatten()
}

/// From whom a document came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The server itself.
    Direct,
    /// Another one that is trusted to have looked.
    Notary,
}

/// A key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptKey {
    public: [u8; 32],
    valid_until_ms: u64,
    expired_ms: Option<u64>,
    direct: bool,
}

impl Record for KeptKey {}

/// The newest document of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// When it came, in milliseconds since 1970.
    pub fetched_ms: u64,
    /// Until when its server says it is good.
    pub valid_until_ms: u64,
    /// The document as canonical JSON.
    pub json: String,
}

impl Record for KeptAnswer {}

impl KeptAnswer {
    /// When to ask anew: after half of the time that it is good for, though it is good for longer.
    pub fn refresh_at_ms(&self) -> u64 {
        let end = self
            .valid_until_ms
            .min(self.fetched_ms.saturating_add(LONGEST_VALIDITY_MS));
        self.fetched_ms + end.saturating_sub(self.fetched_ms) / 2
    }
}

/// Keeps the keys of a document that came at `now_ms`.
///
/// # Errors
/// If the store can't be read.
pub fn keep(txn: &mut Txn, document: &KeyDocument, source: Source, now_ms: u64) -> Result<()> {
    let server = &document.server_name;
    let mut kept: BTreeMap<String, KeptKey> = BTreeMap::new();
    for row in SERVER_KEYS.scan(txn, &(server.clone(),), Direction::Forward) {
        let ((_, key_id), key) = row?;
        kept.insert(key_id, key);
    }
    let valid_until_ms = document
        .valid_until_ms
        .min(now_ms.saturating_add(LONGEST_VALIDITY_MS));
    let mut told: BTreeMap<&String, KeptKey> = BTreeMap::new();
    for (key_id, (key, expired_ms)) in &document.old {
        told.insert(key_id, row(key, 0, Some(*expired_ms), source));
    }
    for (key_id, key) in &document.current {
        told.insert(key_id, row(key, valid_until_ms, None, source));
    }
    if kept.len() + told.len() > MOST_KEPT {
        for (key_id, _) in kept.iter().filter(|(key_id, _)| !told.contains_key(key_id)) {
            SERVER_KEYS.delete(txn, &(server.clone(), key_id.clone()));
        }
    }
    for (key_id, mut key) in told {
        let known = kept.get(key_id);
        if source == Source::Direct || known.is_none_or(|known| known.may_become(&key)) {
            // The same key, told for longer, is still one that came from the server itself.
            key.direct |= known.is_some_and(|known| known.direct && known.public == key.public);
            SERVER_KEYS.put(txn, &(server.clone(), key_id.clone()), &key);
        }
    }
    let answer = KeptAnswer {
        fetched_ms: now_ms,
        valid_until_ms: document.valid_until_ms,
        json: document.json.clone(),
    };
    let newer = match answer_of(txn, server)? {
        Some(known) => source == Source::Direct || known.valid_until_ms < answer.valid_until_ms,
        None => true,
    };
    if newer {
        KEY_ANSWERS.put(txn, server, &answer);
    }
    Ok(())
}

fn row(key: &VerifyKey, valid_until_ms: u64, expired_ms: Option<u64>, source: Source) -> KeptKey {
    KeptKey {
        public: key.to_bytes(),
        valid_until_ms,
        expired_ms,
        direct: source == Source::Direct,
    }
}

impl KeptKey {
    /// Whether what a notary tells of the key may be taken: the same key, good for longer, or now known to be old.
    fn may_become(&self, told: &KeptKey) -> bool {
        if self.public != told.public {
            return !self.direct && self.valid_until_ms < told.valid_until_ms;
        }
        let retired = self.expired_ms.is_none() && told.expired_ms.is_some() && !self.direct;
        let longer = self.expired_ms.is_none()
            && told.expired_ms.is_none()
            && self.valid_until_ms < told.valid_until_ms;
        retired || longer
    }
}

/// The newest document of a server that is kept.
///
/// # Errors
/// If the store can't be read.
pub fn answer_of(read: &impl Read, server_name: &str) -> Result<Option<KeptAnswer>> {
    KEY_ANSWERS.get(read, &server_name.to_owned())
}

/// The keys of a server that are kept.
///
/// # Errors
/// If the store can't be read.
pub fn of_server(read: &impl Read, server_name: &str) -> Result<ServerKeys> {
    let mut keys = BTreeMap::new();
    for row in SERVER_KEYS.scan(read, &(server_name.to_owned(),), Direction::Forward) {
        let ((_, key_id), kept) = row?;
        if let Some(key) = VerifyKey::from_bytes(&kept.public) {
            let (valid_until_ms, expired_ms) = (kept.valid_until_ms, kept.expired_ms);
            let known = KnownKey {
                key,
                valid_until_ms,
                expired_ms,
            };
            keys.insert(key_id, known);
        }
    }
    let answer = answer_of(read, server_name)?;
    Ok(ServerKeys {
        keys,
        fetched_ms: answer.as_ref().map_or(0, |answer| answer.fetched_ms),
        refresh_at_ms: answer.as_ref().map_or(0, KeptAnswer::refresh_at_ms),
    })
}

/// A key and when it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownKey {
    key: VerifyKey,
    valid_until_ms: u64,
    /// When its server stopped using it.
    expired_ms: Option<u64>,
}

/// For what a signature is checked: it says which keys count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request, or anything else of now: only keys that are valid at this time.
    Now(u64),
    /// An event that was made at this time, in a room version that asks for keys that were valid then.
    EventOf(u64),
    /// An event of a room version before 5: any key that the server ever had.
    OldEvent,
}

/// The keys of a server that are known.
#[derive(Clone, Debug, Default)]
pub struct ServerKeys {
    keys: BTreeMap<String, KnownKey>,
    fetched_ms: u64,
    refresh_at_ms: u64,
}

impl ServerKeys {
    /// The key of this id, if it counts.
    pub fn key(&self, key_id: &str, purpose: Purpose) -> Option<VerifyKey> {
        let known = self.keys.get(key_id)?;
        let counts = match purpose {
            Purpose::Now(now_ms) => known.expired_ms.is_none() && now_ms <= known.valid_until_ms,
            Purpose::EventOf(made_ms) => {
                made_ms <= known.expired_ms.unwrap_or(known.valid_until_ms)
            }
            Purpose::OldEvent => true,
        };
        counts.then_some(known.key)
    }

    /// When they were last told, in milliseconds since 1970; 0 if never.
    pub fn fetched_ms(&self) -> u64 {
        self.fetched_ms
    }

    /// When to ask anew: half-way to the end of their validity.
    pub fn refresh_at_ms(&self) -> u64 {
        self.refresh_at_ms
    }
}
