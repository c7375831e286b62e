//! Transactions of other servers: what is in one goes to its rooms, in order in each and in all of them at once.
//! <https://spec.matrix.org/v1.19/server-server-api/#transactions>
//!
//! A transaction that comes again while it is worked on, or soon after, is answered as the first time. Later its
//! events are known by their ids, and its messages to devices by theirs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use event::{EventId, RoomRules};
use names::RoomSn;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rooms::ingest::Verdict;
use rooms::{event_log, server_acl};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use crate::federation::edus::Edu;
use crate::federation::fetch;
use crate::federation::traffic::count;
use crate::{Guard, Lock, Node, NodeError};

/// The most events of a transaction.
pub const MOST_PDUS: usize = 50;

/// The most ephemeral messages of a transaction.
pub const MOST_EDUS: usize = 100;

/// Transactions of one server that are worked on at once. Servers are to send one after the other.
const MOST_AT_ONCE: u64 = 4;

/// What all answers that are kept may take, in bytes: some thousand full transactions.
const MOST_BYTES: u64 = 8 << 20;

/// What an answer takes beside its text.
const ENTRY_BYTES: usize = 200;

/// Server and transaction id.
type Of = (Arc<str>, String);

/// Answers to transactions, as JSON, by server and id.
pub(crate) struct Answers(Cache<Of, Bytes, ByBytes>);

#[derive(Clone, Copy)]
struct ByBytes;

impl Weighter<Of, Bytes> for ByBytes {
    fn weight(&self, (_, txn_id): &Of, answer: &Bytes) -> u64 {
        (ENTRY_BYTES + txn_id.len() + answer.len()) as u64
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self(Cache::with_weighter(4_000, MOST_BYTES, ByBytes))
    }
}

/// What a transaction says.
#[derive(Deserialize)]
struct Transaction<'a> {
    #[serde(borrow, default)]
    pdus: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    edus: Vec<&'a RawValue>,
}

/// What is in a transaction.
struct Parts {
    /// How many events there are, those that can't be read among them.
    events: usize,
    rooms: Vec<OfRoom>,
    edus: Vec<Bytes>,
}

/// The events of a transaction that are of one room.
struct OfRoom {
    room_id: String,
    events: Vec<Bytes>,
}

impl Node {
    /// Takes in a transaction and says what became of each of its events, as JSON.
    ///
    /// # Errors
    /// [`NodeError::BadTransaction`] for what is none; and if the store fails.
    pub async fn take_transaction(
        self: &Arc<Self>,
        origin: &Arc<str>,
        txn_id: &str,
        body: Bytes,
    ) -> Result<Bytes, NodeError> {
        let key = (Arc::clone(origin), txn_id.to_owned());
        let (node, origin) = (Arc::clone(self), Arc::clone(origin));
        let likely = likely_turn(txn_id);
        let answer = self.transactions.0.get_or_insert_async(&key, async move {
            // Whoever sent it may go away: what was begun is finished, and remembered.
            let work = tokio::spawn(async move {
                let _turn = node.transaction_turn(&origin, likely).await;
                node.work_on_transaction(&origin, body).await
            });
            match work.await {
                Ok(answer) => answer.map(|answer| Bytes::from(answer.to_string())),
                Err(_) => Err(NodeError::Panicked),
            }
        });
        answer.await
    }

    /// Waits until a transaction of the server may be worked on: whoever sends many at once has few of them worked on at
    /// once.
    async fn transaction_turn(&self, origin: &str, likely: u64) -> Guard {
        let turn = |number: u64| Lock::Named(format!("transaction {number} of {origin}"));
        let free = (0..MOST_AT_ONCE).find_map(|number| self.try_lock(turn(number)));
        match free {
            Some(guard) => guard,
            None => self.lock(turn(likely)).await,
        }
    }

    async fn work_on_transaction(
        self: &Arc<Self>,
        origin: &Arc<str>,
        body: Bytes,
    ) -> Result<Value, NodeError> {
        let read = self.run_for(origin, move || read(&body)).await??;
        count(&self.traffic.transactions_received, 1);
        count(&self.traffic.events_received, read.events);
        count(&self.traffic.edus_received, read.edus.len());
        let mut rooms = JoinSet::new();
        for of_room in read.rooms {
            let (node, origin) = (Arc::clone(self), Arc::clone(origin));
            rooms.spawn(async move { node.take_events_of(&origin, of_room).await });
        }
        // One that can't be read is as if it were not there: it is of a kind to come.
        let edus = read.edus.iter();
        let edus = edus.filter_map(|edu| serde_json::from_slice(edu).ok());
        // A receipt may be for an event of the same transaction. What else comes does not wait for events.
        let (receipts, others): (Vec<Edu<'_>>, Vec<Edu<'_>>) =
            edus.partition(|edu: &Edu<'_>| edu.edu_type == "m.receipt");
        self.receive_edus(origin, &others).await?;
        let mut results = Map::new();
        while let Some(of_room) = rooms.join_next().await {
            let of_room = of_room.map_err(|_| NodeError::Panicked)??;
            for (event_id, error) in of_room {
                let result = match error {
                    None => json!({}),
                    Some(error) => {
                        count(&self.traffic.events_refused, 1);
                        json!({ "error": error })
                    }
                };
                results.insert(event_id.to_string(), result);
            }
        }
        self.receive_edus(origin, &receipts).await?;
        Ok(json!({ "pdus": results }))
    }

    /// Takes in the events of one room; says of each what is wrong with it.
    async fn take_events_of(
        self: &Arc<Self>,
        origin: &Arc<str>,
        of_room: OfRoom,
    ) -> Result<Vec<(EventId, Option<String>)>, NodeError> {
        let OfRoom { room_id, events } = of_room;
        let Some((room, rules)) = self.room_with_rules(&room_id)? else {
            self.receive_from_outside(origin, &room_id, events).await?;
            return Ok(Vec::new());
        };
        let head = self.store().head();
        let is_denied = !server_acl::allows(&head, self.rooms_cache(), room, origin)?
            || !self.may_share_room(origin, &room_id);
        let mut outcomes = Vec::new();
        let mut good = Vec::new();
        for verified in self.verify_events_for(origin, rules, events).await? {
            match verified {
                Ok(event) if is_denied => {
                    let why = "the server is denied by the room's access control list, or by this server's rules";
                    outcomes.push((event.pdu().event_id().clone(), Some(why.to_owned())));
                }
                Ok(event) => good.push(event),
                // Without the event there is no id that it could be named by.
                Err(error) => tracing::debug!(%origin, room = room_id, %error, "got a bad event"),
            }
        }
        if good.is_empty() {
            return Ok(outcomes);
        }
        for (event_id, outcome) in self.take_in(room, &room_id, origin, good).await? {
            let error = match outcome {
                Ok(Verdict::Accepted | Verdict::SoftFailed(_) | Verdict::NotRecommended) => None,
                // Nothing is wrong with the event that its sender could mend.
                Err(NodeError::Unobtainable(_) | NodeError::MembersMissing) => None,
                Ok(Verdict::Rejected(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            outcomes.push((event_id, error));
        }
        Ok(outcomes)
    }

    /// The number of a room that users of this server are joined to.
    ///
    /// # Errors
    /// If the store fails.
    pub fn is_in_room(&self, room_id: &str) -> Result<Option<RoomSn>, NodeError> {
        Ok(self.room_with_rules(room_id)?.map(|(room, _)| room))
    }

    /// A room that users of this server are joined to, and the rules of its version.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) fn room_with_rules(
        &self,
        room_id: &str,
    ) -> Result<Option<(RoomSn, &'static RoomRules)>, NodeError> {
        let view = self.store().head();
        let Some(room) = names::room_sn(&view, room_id)? else {
            return Ok(None);
        };
        let Some(head) = event_log::head(&view, room)? else {
            return Ok(None);
        };
        let Some(rules) = head.rules() else {
            return Ok(None);
        };
        let is_in =
            self.audience()
                .with(|| self.store().head(), room, |joined| !joined.is_empty())?;
        Ok(is_in.then_some((room, rules)))
    }
}

/// The turn that a transaction waits for if all are taken.
fn likely_turn(txn_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    txn_id.hash(&mut hasher);
    hasher.finish() % MOST_AT_ONCE
}

/// Takes a transaction apart.
fn read(body: &Bytes) -> Result<Parts, NodeError> {
    let bad = |why: String| NodeError::BadTransaction(why);
    let transaction: Transaction<'_> =
        serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
    if transaction.pdus.len() > MOST_PDUS || transaction.edus.len() > MOST_EDUS {
        return Err(bad("there is too much in the transaction".to_owned()));
    }
    Ok(Parts {
        events: transaction.pdus.len(),
        rooms: by_room(fetch::parts(body, &transaction.pdus)),
        edus: fetch::parts(body, &transaction.edus),
    })
}

/// The events of a transaction by room, in the order in which rooms and events come.
fn by_room(events: Vec<Bytes>) -> Vec<OfRoom> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        room_id: Cow<'a, str>,
    }
    let mut rooms: Vec<OfRoom> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for event in events {
        // An event without a room is none that could be taken.
        let Ok(named) = serde_json::from_slice::<Named<'_>>(&event) else {
            continue;
        };
        let room_id = named.room_id.into_owned();
        let place = *places.entry(room_id.clone()).or_insert_with(|| {
            rooms.push(OfRoom {
                room_id,
                events: Vec::new(),
            });
            rooms.len() - 1
        });
        if let Some(of_room) = rooms.get_mut(place) {
            of_room.events.push(event);
        }
    }
    rooms
}
