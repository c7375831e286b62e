//! The key ring: the signing keys of other servers, kept, asked for when they are missing, and asked for again before
//! they run out.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>
//!
//! A server is asked itself; the notaries of `federation.trusted_key_servers` are asked for what it does not
//! tell, and before it when the keys of many servers are missing at once. One fetch serves all who wait for it.
//!
//! Invariants: no server is asked more often than every [`ASK_AGAIN_MS`], nor while it is left alone after failures;
//! what a notary tells counts only if the notary and the server itself signed it; memory is bounded.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use event::VerifyKey;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use remote::{RemoteError, Request};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use servers::keys::{self, BadKeys, KeyDocument, Purpose, ServerKeys, Source};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::{Node, NodeError, Touched};

/// Keys that somebody needs.
#[derive(Clone, Debug)]
pub struct WantedKeys {
    /// Whose.
    pub server_name: String,
    /// Their ids. One of them is enough for a signature, but which will do is not known before.
    pub key_ids: Vec<String>,
    /// What for.
    pub purpose: Purpose,
}

/// A server that answered is not asked again within this time, whatever key is missing.
const ASK_AGAIN_MS: u64 = 30_000;

/// After a first failure a server is left alone this long; then twice as long each time.
const FIRST_BACK_OFF_MS: u64 = 5_000;
const LONGEST_BACK_OFF_MS: u64 = 300_000;

/// Notaries that knew nothing of a server are asked again after this time.
const NOTARY_AGAIN_MS: u64 = 300_000;

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Servers asked at once for the keys of events.
const MOST_AT_ONCE: usize = 128;

/// Servers asked at once because of requests whose senders are not known yet.
const MOST_FOR_STRANGERS: usize = 64;

/// From so many servers on, notaries are asked first: many of an old room's are gone.
const MANY: usize = 9;

/// Servers in one question to a notary.
const MOST_IN_A_QUESTION: usize = 100;

/// Servers whose keys are kept in memory.
const MOST_KNOWN: usize = 10_000;

/// On whose behalf a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behalf {
    /// Of this server, for events that it was given by servers it knows.
    House,
    /// Of anybody who sent a request.
    Stranger,
}

/// The keys of other servers.
pub struct KeyRing {
    known: Cache<Box<str>, Arc<ServerKeys>>,
    /// Held from taking a view until what it shows is in `known`: nothing older can come after it.
    reading: Mutex<()>,
    failures: Cache<Box<str>, Failures>,
    /// Until when notaries are not asked for a server.
    unknown_to_notaries: Cache<Box<str>, u64>,
    asking: Mutex<HashMap<Box<str>, Weak<tokio::sync::Mutex<()>>>>,
    slots: Semaphore,
    /// For what strangers make this server ask: they can't hold up the checking of events.
    strangers_slots: Semaphore,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    until_ms: u64,
}

impl Default for KeyRing {
    fn default() -> Self {
        Self {
            known: Cache::new(MOST_KNOWN),
            reading: Mutex::default(),
            failures: Cache::new(MOST_KNOWN),
            unknown_to_notaries: Cache::new(MOST_KNOWN),
            asking: Mutex::default(),
            slots: Semaphore::new(MOST_AT_ONCE),
            strangers_slots: Semaphore::new(MOST_FOR_STRANGERS),
        }
    }
}

impl KeyRing {
    /// The right to ask a server; those who ask for the same one wait for each other.
    fn turn(&self, server_name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut asking = self.asking.lock();
        if let Some(turn) = asking.get(server_name).and_then(Weak::upgrade) {
            return turn;
        }
        asking.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        asking.insert(server_name.into(), Arc::downgrade(&turn));
        turn
    }

    fn is_left_alone(&self, server_name: &str, now_ms: u64) -> bool {
        self.failures
            .get(server_name)
            .is_some_and(|failures| now_ms < failures.until_ms)
    }

    fn note_failure(&self, server_name: &str, now_ms: u64) {
        let count = self
            .failures
            .get(server_name)
            .map_or(0, |failures| failures.count);
        let pause_ms = FIRST_BACK_OFF_MS
            .saturating_mul(1 << count.min(16))
            .min(LONGEST_BACK_OFF_MS);
        let failures = Failures {
            count: count.saturating_add(1),
            until_ms: now_ms + pause_ms,
        };
        self.failures.insert(server_name.into(), failures);
    }
}

impl Node {
    /// A key, if it is known and counts for the purpose. This server's own keys are always known.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn known_key(
        &self,
        server_name: &str,
        key_id: &str,
        purpose: Purpose,
    ) -> Result<Option<VerifyKey>, NodeError> {
        if server_name == self.server_name() {
            let at_ms = match purpose {
                Purpose::Now(_) => None,
                Purpose::EventOf(made_ms) => Some(made_ms),
                Purpose::OldEvent => Some(0),
            };
            return Ok(self.own_keys.key(key_id, at_ms));
        }
        Ok(self.known_keys(server_name)?.key(key_id, purpose))
    }

    fn known_keys(&self, server_name: &str) -> Result<Arc<ServerKeys>, NodeError> {
        if let Some(known) = self.key_ring.known.get(server_name) {
            return Ok(known);
        }
        self.read_keys(server_name)
    }

    fn read_keys(&self, server_name: &str) -> Result<Arc<ServerKeys>, NodeError> {
        let _reading = self.key_ring.reading.lock();
        let keys = Arc::new(keys::of_server(&self.view(), server_name)?);
        self.key_ring
            .known
            .insert(server_name.into(), Arc::clone(&keys));
        Ok(keys)
    }

    /// The key that a server signs requests with now; it is asked for if need be.
    ///
    /// # Errors
    /// If the store fails. A key that can't be had is none.
    pub async fn request_key(
        self: &Arc<Self>,
        server_name: &str,
        key_id: &str,
    ) -> Result<Option<VerifyKey>, NodeError> {
        let now_ms = self.now_ms();
        let purpose = Purpose::Now(now_ms);
        if let Some(key) = self.known_key(server_name, key_id, purpose)? {
            self.refresh_in_time(server_name, now_ms)?;
            return Ok(Some(key));
        }
        self.fetch_server_keys(vec![WantedKeys {
            server_name: server_name.to_owned(),
            key_ids: vec![key_id.to_owned()],
            purpose,
        }])
        .await?;
        self.known_key(server_name, key_id, purpose)
    }

    /// The key of this id after the server was asked anew: for a signature that does not fit the key that is known. A
    /// server that lost its data may have made another key of the same name.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn renewed_request_key(
        &self,
        server_name: &str,
        key_id: &str,
    ) -> Result<Option<VerifyKey>, NodeError> {
        match self
            .ask_directly(server_name, Behalf::Stranger, |_| true)
            .await
        {
            Err(AskError::Node(error)) => return Err(error),
            Err(error) => tracing::debug!(server_name, %error, "no newer keys"),
            Ok(()) => {}
        }
        self.known_key(server_name, key_id, Purpose::Now(self.now_ms()))
    }

    /// Asks anew, without anybody waiting, for keys that are past half of their validity.
    fn refresh_in_time(self: &Arc<Self>, server_name: &str, now_ms: u64) -> Result<(), NodeError> {
        let known = self.known_keys(server_name)?;
        let due = server_name != self.server_name()
            && known.refresh_at_ms() <= now_ms
            && known.fetched_ms() + ASK_AGAIN_MS <= now_ms
            && !self.key_ring.is_left_alone(server_name, now_ms);
        // Whoever asks already will have the answer.
        if !due || self.key_ring.turn(server_name).try_lock().is_err() {
            return Ok(());
        }
        let (node, server_name) = (Arc::clone(self), server_name.to_owned());
        tokio::spawn(async move {
            let seen_ms = known.fetched_ms();
            let worth_it = |keys: &ServerKeys| keys.fetched_ms() == seen_ms;
            let asked = node.ask_directly(&server_name, Behalf::House, worth_it);
            if let Err(error) = asked.await {
                tracing::debug!(server_name, %error, "keys could not be refreshed");
            }
        });
        Ok(())
    }

    /// Asks for the keys that are not known yet; which of them came is seen by asking [`Node::known_key`] again.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn fetch_server_keys(
        self: &Arc<Self>,
        wanted: Vec<WantedKeys>,
    ) -> Result<(), NodeError> {
        let mut missing = self.missing(wanted)?;
        if missing.len() >= MANY {
            self.ask_notaries(&missing).await?;
            missing = self.still_missing(missing)?;
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut asked = JoinSet::new();
        for wanted in missing.values().cloned() {
            let node = Arc::clone(self);
            asked.spawn(async move {
                let worth_it = |keys: &ServerKeys| !is_satisfied(keys, &wanted);
                let behalf = match wanted.purpose {
                    Purpose::Now(_) => Behalf::Stranger,
                    Purpose::EventOf(_) | Purpose::OldEvent => Behalf::House,
                };
                let asked = node.ask_directly(&wanted.server_name, behalf, worth_it);
                let answer = asked.await;
                (wanted.server_name, answer)
            });
        }
        while let Some(ended) = asked.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                Ok((_, Err(AskError::Node(error)))) => return Err(error),
                Ok((server_name, Err(error))) => {
                    tracing::debug!(server_name, %error, "no keys");
                }
                Err(_) => return Err(NodeError::Panicked),
            }
        }
        let missing = self.still_missing(missing)?;
        self.ask_notaries(&missing).await
    }

    /// What of `wanted` is not known, by server.
    fn missing(&self, wanted: Vec<WantedKeys>) -> Result<BTreeMap<String, WantedKeys>, NodeError> {
        let mut missing: BTreeMap<String, WantedKeys> = BTreeMap::new();
        for wanted in wanted {
            let known = wanted.server_name == self.server_name()
                || is_satisfied(&*self.known_keys(&wanted.server_name)?, &wanted);
            if known {
                continue;
            }
            match missing.get_mut(&wanted.server_name) {
                Some(more) => {
                    more.purpose = stricter(more.purpose, wanted.purpose);
                    more.key_ids.extend(wanted.key_ids);
                    more.key_ids.sort_unstable();
                    more.key_ids.dedup();
                }
                None => {
                    missing.insert(wanted.server_name.clone(), wanted);
                }
            }
        }
        Ok(missing)
    }

    fn still_missing(
        &self,
        wanted: BTreeMap<String, WantedKeys>,
    ) -> Result<BTreeMap<String, WantedKeys>, NodeError> {
        self.missing(wanted.into_values().collect())
    }

    /// Asks a server for its keys, unless somebody did meanwhile.
    pub(super) async fn ask_directly(
        &self,
        server_name: &str,
        behalf: Behalf,
        worth_it: impl Fn(&ServerKeys) -> bool,
    ) -> Result<(), AskError> {
        let turn = self.key_ring.turn(server_name);
        let _turn = turn.lock().await;
        let now_ms = self.now_ms();
        let known = self.known_keys(server_name)?;
        if !worth_it(&known)
            || known.fetched_ms() + ASK_AGAIN_MS > now_ms
            || self.key_ring.is_left_alone(server_name, now_ms)
        {
            return Ok(());
        }
        let slots = match behalf {
            Behalf::House => &self.key_ring.slots,
            Behalf::Stranger => &self.key_ring.strangers_slots,
        };
        let _slot = slots.acquire().await;
        match self.published_keys(server_name).await {
            Ok(document) => {
                self.key_ring.failures.remove(server_name);
                Ok(self.keep_server_keys(&[document], Source::Direct).await?)
            }
            Err(error) => {
                self.key_ring.note_failure(server_name, self.now_ms());
                Err(error)
            }
        }
    }

    async fn published_keys(&self, server_name: &str) -> Result<KeyDocument, AskError> {
        let request = Request::get("/_matrix/key/v2/server".to_owned())
            .timeout(PATIENCE)
            .max_answer(keys::MAX_DOCUMENT_BYTES);
        let answer = self.remote().call(server_name, request).await?;
        let document = KeyDocument::read(&answer)?;
        if document.server_name() != server_name {
            return Err(BadKeys("of another server").into());
        }
        Ok(document)
    }

    async fn keep_server_keys(
        &self,
        documents: &[KeyDocument],
        source: Source,
    ) -> Result<(), NodeError> {
        let now_ms = self.now_ms();
        let mut txn = self.begin();
        for document in documents {
            keys::keep(&mut txn, document, source, now_ms)?;
        }
        self.commit((), txn, Touched::nobody()).await?;
        for document in documents {
            self.read_keys(document.server_name())?;
        }
        Ok(())
    }

    /// Asks the notaries, one after the other, for what is missing.
    async fn ask_notaries(
        self: &Arc<Self>,
        missing: &BTreeMap<String, WantedKeys>,
    ) -> Result<(), NodeError> {
        let now_ms = self.now_ms();
        let ring = &self.key_ring;
        let mut missing: BTreeMap<String, WantedKeys> = missing
            .iter()
            .filter(|(server, _)| {
                let until_ms = ring.unknown_to_notaries.get(server.as_str());
                until_ms.is_none_or(|until_ms| until_ms <= now_ms)
            })
            .map(|(server, wanted)| (server.clone(), wanted.clone()))
            .collect();
        let config = self.config();
        for notary in &config.federation.trusted_key_servers {
            let notary = notary.as_str();
            if missing.is_empty() || notary == self.server_name() {
                continue;
            }
            let all: Vec<&WantedKeys> = missing
                .values()
                .filter(|wanted| wanted.server_name != notary)
                .collect();
            for some in all.chunks(MOST_IN_A_QUESTION) {
                match self.ask_notary(notary, some).await {
                    Ok(documents) => self.keep_server_keys(&documents, Source::Notary).await?,
                    Err(AskError::Node(error)) => return Err(error),
                    Err(error) => {
                        tracing::debug!(notary, %error, "a notary did not help");
                        break;
                    }
                }
            }
            missing = self.still_missing(missing)?;
        }
        for server in missing.into_keys() {
            let again_ms = now_ms + NOTARY_AGAIN_MS;
            ring.unknown_to_notaries.insert(server.into(), again_ms);
        }
        Ok(())
    }

    /// One question to a notary, for at most [`MOST_IN_A_QUESTION`] servers.
    async fn ask_notary(
        self: &Arc<Self>,
        notary: &str,
        wanted: &[&WantedKeys],
    ) -> Result<Vec<KeyDocument>, AskError> {
        // Its own keys come from itself alone.
        let now_ms = self.now_ms();
        let stale = |keys: &ServerKeys| keys.refresh_at_ms() <= now_ms;
        self.ask_directly(notary, Behalf::House, stale).await?;
        if self.key_ring.is_left_alone(notary, now_ms) {
            return Err(RemoteError::Unreachable("it failed lately".to_owned()).into());
        }
        let notary_keys = self.known_keys(notary)?;
        let question = question(wanted, now_ms);
        let request = Request::post("/_matrix/key/v2/query".to_owned(), question)
            .timeout(PATIENCE)
            .max_answer(keys::MAX_DOCUMENT_BYTES * 32);
        let answer = match self.remote().call(notary, request).await {
            Ok(answer) => answer,
            Err(error) => {
                self.key_ring.note_failure(notary, self.now_ms());
                return Err(error.into());
            }
        };
        let answer: NotaryAnswer<'_> = serde_json::from_slice(&answer)
            .map_err(|error| RemoteError::BadAnswer(error.to_string()))?;
        let mut documents = Vec::new();
        for told in answer.server_keys.iter().take(4 * wanted.len()) {
            let Ok(document) = KeyDocument::read(told.get().as_bytes()) else {
                continue;
            };
            let signed_by_notary = document.is_signed_by(notary, &|_: &str, key_id: &str| {
                notary_keys.key(key_id, Purpose::Now(now_ms))
            });
            let asked_for = wanted
                .iter()
                .any(|wanted| wanted.server_name == document.server_name());
            if signed_by_notary && asked_for {
                documents.push(document);
            }
        }
        Ok(documents)
    }
}

#[derive(Deserialize)]
struct NotaryAnswer<'a> {
    #[serde(borrow)]
    server_keys: Vec<&'a RawValue>,
}

fn question(wanted: &[&WantedKeys], now_ms: u64) -> String {
    let mut servers = serde_json::Map::new();
    for wanted in wanted {
        let until_ms = match wanted.purpose {
            Purpose::Now(at_ms) | Purpose::EventOf(at_ms) => at_ms.min(now_ms),
            Purpose::OldEvent => 0,
        };
        let mut criteria = serde_json::Map::new();
        for key_id in &wanted.key_ids {
            let criterion = json!({"minimum_valid_until_ts": until_ms});
            criteria.insert(key_id.clone(), criterion);
        }
        servers.insert(wanted.server_name.clone(), criteria.into());
    }
    json!({"server_keys": servers}).to_string()
}

/// Whether all that is wanted of a server is known. Of a signature by several keys one would do; asking for the others
/// once does no harm.
pub(super) fn is_satisfied(keys: &ServerKeys, wanted: &WantedKeys) -> bool {
    wanted
        .key_ids
        .iter()
        .all(|key_id| keys.key(key_id, wanted.purpose).is_some())
}

/// The purpose that fewer keys are good for.
fn stricter(a: Purpose, b: Purpose) -> Purpose {
    match (a, b) {
        (Purpose::Now(a), Purpose::Now(b)) => Purpose::Now(a.max(b)),
        (Purpose::Now(at), _) | (_, Purpose::Now(at)) => Purpose::Now(at),
        (Purpose::EventOf(a), Purpose::EventOf(b)) => Purpose::EventOf(a.max(b)),
        (Purpose::EventOf(at), _) | (_, Purpose::EventOf(at)) => Purpose::EventOf(at),
        (Purpose::OldEvent, Purpose::OldEvent) => Purpose::OldEvent,
    }
}

/// Why no keys came.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Keys(#[from] BadKeys),
    #[error(transparent)]
    Node(#[from] NodeError),
}
