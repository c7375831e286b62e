//! Keys of users of other servers: from what is kept, else from their servers.
//!
//! Servers are asked side by side, with one request for all users of a server that a query names, and an answer serves
//! all queries that wait for it. A query takes no answer that was asked for before the user's last known change. An
//! answer is kept where it can be kept true ([`users::keys::remote`]), also if who asked has gone away meanwhile.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption>.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use event::identifier;
use names::UserSn;
use parking_lot::Mutex;
use remote::{RemoteError, Request};
use rooms::followed::{self, OurStays};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::{Position, Read, View};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use users::keys::device_lists;
use users::keys::remote::{self as kept, RemoteKeys};

use crate::{Lane, Lock, Node, NodeError, Touched};

/// The most users whom one request to a server names.
const MOST_USERS_IN_A_REQUEST: usize = 250;

/// How long a server may take, whoever waits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests under way at once.
const MOST_REQUESTS: usize = 128;

/// Users whose rows are read between two other requests; more go to a lane.
const MOST_USERS_INLINE: usize = 8;

/// What one request brought: the keys by user id.
type Answer = Arc<Result<BTreeMap<String, RemoteKeys>, RemoteError>>;

/// A request under way.
#[derive(Clone)]
struct Fetch {
    /// Where this server was when it asked.
    as_of: Position,
    answer: watch::Receiver<Option<Answer>>,
}

/// The requests under way, by the users they ask for.
pub(crate) struct KeyFetches {
    under_way: Mutex<HashMap<String, Fetch>>,
    turns: Semaphore,
}

impl Default for KeyFetches {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
            turns: Semaphore::new(MOST_REQUESTS),
        }
    }
}

/// The keys of a user of another server.
pub enum KeysOfOther {
    /// What is kept of this user is current.
    Kept(UserSn),
    /// What their server said just now.
    Asked(Answered),
}

/// The part of an answer that is about one user.
pub struct Answered {
    answer: Answer,
    user_id: String,
}

impl Answered {
    /// The keys; none if the server knows no such user.
    pub fn keys(&self) -> Option<&RemoteKeys> {
        self.answer.as_ref().as_ref().ok()?.get(&self.user_id)
    }
}

/// The keys of users of other servers, and which servers did not answer.
pub struct KeysOfOthers {
    /// What [`KeysOfOther::Kept`] is current in.
    pub view: View,
    /// By user id.
    pub users: BTreeMap<String, KeysOfOther>,
    /// By server name.
    pub failures: BTreeMap<String, RemoteError>,
}

/// What is to be asked, by server.
#[derive(Default)]
struct Plan {
    kept: Vec<(String, UserSn)>,
    /// User ids, each with the position of the last change that is known of.
    to_ask: BTreeMap<String, Vec<(String, Position)>>,
}

impl Node {
    /// The keys of users of other servers, waiting at most `timeout` for those servers.
    ///
    /// # Errors
    /// If this server failed; other servers' failures are part of the result.
    pub async fn keys_of_others(
        self: &Arc<Self>,
        user_ids: Vec<String>,
        timeout: Duration,
    ) -> Result<KeysOfOthers, NodeError> {
        let deadline = Instant::now() + timeout;
        let view = self.view();
        let as_of = view.position();
        let plan = if user_ids.len() <= MOST_USERS_INLINE {
            self.plan(&view, user_ids)?
        } else {
            let (node, view) = (Arc::clone(self), view.clone());
            self.run(Lane::Interactive, move || node.plan(&view, user_ids))
                .await??
        };
        let mut found = KeysOfOthers {
            view,
            users: BTreeMap::new(),
            failures: BTreeMap::new(),
        };
        for (user_id, user) in plan.kept {
            found.users.insert(user_id, KeysOfOther::Kept(user));
        }
        let mut waiting = Vec::new();
        for (server, wanted) in plan.to_ask {
            for (user_id, answer) in self.ask_for_keys(&server, wanted, as_of) {
                waiting.push((server.clone(), user_id, answer));
            }
        }
        for (server, user_id, mut receiver) in waiting {
            let answer = tokio::time::timeout_at(deadline, receiver.wait_for(Option::is_some));
            let answer: Answer = match answer.await {
                Ok(Ok(answer)) => answer.clone().unwrap_or_else(no_answer),
                Ok(Err(_)) | Err(_) => no_answer(),
            };
            if let Err(error) = answer.as_ref() {
                found.failures.insert(server, error.clone());
                continue;
            }
            let answered = Answered {
                answer,
                user_id: user_id.clone(),
            };
            found.users.insert(user_id, KeysOfOther::Asked(answered));
        }
        Ok(found)
    }

    fn plan(&self, view: &View, user_ids: Vec<String>) -> Result<Plan, NodeError> {
        let mut plan = Plan::default();
        let mut ours = OurStays::default();
        for user_id in user_ids {
            if !identifier::is_user_id(&user_id) {
                continue;
            }
            let Some(server) = identifier::domain(&user_id).map(str::to_owned) else {
                continue;
            };
            let mut last_changed = Position::ZERO;
            if let Some(user) = self.names.known_user(view, &user_id)? {
                if self.has_current_keys(view, user, &mut ours)? {
                    plan.kept.push((user_id, user));
                    continue;
                }
                last_changed = device_lists::last_changed(view, user)?.unwrap_or_default();
            }
            let of_server = plan.to_ask.entry(server).or_default();
            of_server.push((user_id, last_changed));
        }
        Ok(plan)
    }

    fn has_current_keys(
        &self,
        view: &View,
        user: UserSn,
        ours: &mut OurStays,
    ) -> Result<bool, NodeError> {
        let Some(as_of) = kept::kept_as_of(view, user)? else {
            return Ok(false);
        };
        match followed::since(view, user, ours, as_of)? {
            Some(followed) => Ok(kept::is_current(view, user, followed)?),
            None => Ok(false),
        }
    }

    /// Joins the requests under way that are new enough, and begins others for the rest.
    fn ask_for_keys(
        self: &Arc<Self>,
        server: &str,
        wanted: Vec<(String, Position)>,
        as_of: Position,
    ) -> Vec<(String, watch::Receiver<Option<Answer>>)> {
        let mut answers = Vec::with_capacity(wanted.len());
        let mut rest = Vec::new();
        let mut under_way = self.key_fetches.under_way.lock();
        for (user_id, last_changed) in wanted {
            match under_way.get(&user_id) {
                // One that ended without an answer is no longer there to wait for.
                Some(fetch)
                    if fetch.as_of >= last_changed && fetch.answer.has_changed().is_ok() =>
                {
                    answers.push((user_id, fetch.answer.clone()));
                }
                _ => rest.push(user_id),
            }
        }
        for asked in rest.chunks(MOST_USERS_IN_A_REQUEST) {
            let (sender, receiver) = watch::channel(None);
            let fetch = Fetch {
                as_of,
                answer: receiver.clone(),
            };
            for user_id in asked {
                under_way.insert(user_id.clone(), fetch.clone());
                answers.push((user_id.clone(), receiver.clone()));
            }
            let node = Arc::clone(self);
            let (server, asked) = (server.to_owned(), asked.to_vec());
            tokio::spawn(async move {
                let answer: Answer = Arc::new(node.fetch_keys(&server, &asked).await);
                if let Ok(keys) = answer.as_ref()
                    && let Err(error) = node.keep_keys(keys, as_of).await
                {
                    tracing::warn!(%server, %error, "keys of another server's users were not kept");
                }
                sender.send_replace(Some(answer));
                let mut under_way = node.key_fetches.under_way.lock();
                for user_id in &asked {
                    let is_ours = |fetch: &Fetch| fetch.answer.same_channel(&receiver);
                    if under_way.get(user_id).is_some_and(is_ours) {
                        under_way.remove(user_id);
                    }
                }
            });
        }
        answers
    }

    async fn fetch_keys(
        &self,
        server: &str,
        asked: &[String],
    ) -> Result<BTreeMap<String, RemoteKeys>, RemoteError> {
        let _turn = self.key_fetches.turns.acquire().await;
        let users: BTreeMap<&str, [&str; 0]> =
            asked.iter().map(|user_id| (user_id.as_str(), [])).collect();
        let path = remote::path("/_matrix/federation/v1/user/keys/query", &[], &[]);
        let body = json!({ "device_keys": users }).to_string();
        let request = Request::post(path, body).timeout(REQUEST_TIMEOUT);
        let answer = self.remote.call(server, request).await?;
        RemoteKeys::read_answer(&answer, asked)
            .map_err(|error| RemoteError::BadAnswer(error.to_string()))
    }

    /// Keeps what can be kept of an answer.
    async fn keep_keys(
        &self,
        keys: &BTreeMap<String, RemoteKeys>,
        as_of: Position,
    ) -> Result<(), NodeError> {
        for (user_id, keys) in keys {
            let Some(user) = self.names.known_user(&self.store.head(), user_id)? else {
                continue;
            };
            let _guard = self.lock(Lock::User(user)).await;
            let mut txn = self.begin();
            let followed = followed::since(&txn, user, &mut OurStays::default(), as_of)?;
            let touched = match kept::keep(&mut txn, user, keys, as_of, followed)? {
                true => self.keys_changed(user)?,
                false => Touched::nobody(),
            };
            self.write_unless_empty(txn, touched)?;
        }
        Ok(())
    }

    /// Claims one-time keys of users of another server: `wanted` is user id to device id to algorithm, the result user
    /// id to device id to the key under its name.
    ///
    /// # Errors
    /// If the server did not answer, or not as it should.
    pub async fn claim_keys_of_others(
        &self,
        server: &str,
        wanted: &BTreeMap<&str, &BTreeMap<String, String>>,
        timeout: Duration,
    ) -> Result<BTreeMap<String, Map<String, Value>>, RemoteError> {
        #[derive(Deserialize)]
        struct Claimed {
            one_time_keys: BTreeMap<String, Map<String, Value>>,
        }
        let path = remote::path("/_matrix/federation/v1/user/keys/claim", &[], &[]);
        let body = json!({ "one_time_keys": wanted }).to_string();
        let request = Request::post(path, body).timeout(timeout);
        let answer = self.remote.call(server, request).await?;
        let mut claimed: Claimed = serde_json::from_slice(&answer)
            .map_err(|error| RemoteError::BadAnswer(error.to_string()))?;
        // A server speaks for its own users and of what it was asked for.
        claimed.one_time_keys.retain(|user_id, devices| {
            let asked = wanted.get(user_id.as_str());
            devices.retain(|device, _| asked.is_some_and(|asked| asked.contains_key(device)));
            !devices.is_empty()
        });
        Ok(claimed.one_time_keys)
    }
}

fn no_answer() -> Answer {
    Arc::new(Err(RemoteError::TimedOut))
}
