//! Learning the members of rooms that were entered without them (a faster join), in the background: what
//! [`rooms::partial`] asks for.
//!
//! The mark of a room is the job: it is written in the change that enters the room, and goes in the one that knows its
//! members. After a restart every room that has it is gone on with. The servers in the room are asked in turn, first who
//! let this server in, and again after a rest that grows, for as long as somebody of this server is in the room. What was
//! fetched stays, and is not asked for again.
//!
//! Then the events that were held are let in, by the way that all events take.
//!
//! Who needs to know the members waits for them ([`Node::wait_for_members`]), but not for ever.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::{EventId, RoomRules};
use names::RoomSn;
use parking_lot::Mutex;
use rooms::ingest::{self, Need};
use rooms::partial::{self, Completed, Held, Partial};
use rooms::{RoomWriter, event_log, members};
use store::Read;
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use super::ingest::Ingest;
use super::staging::in_order_of_depth;
use crate::room::touched;
use crate::{Lane, Lock, Node, NodeError, Touched};

/// Rooms whose members are fetched at once; the others wait their turn.
const MOST_AT_WORK: usize = 4;

/// Servers that are asked before a rest.
const SERVERS_AT_ONCE: usize = 4;

/// Missing events that are fetched one by one; more are fetched with the whole state.
const MOST_SINGLE_EVENTS: usize = 100;

/// Held events that are let in at once.
const HELD_AT_ONCE: usize = 50;

/// Until the members of a room are asked for again; doubled each time.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// Between two looks for rooms that nobody works on.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How long a request waits for the members of a room.
pub const MEMBERS_PATIENCE: Duration = Duration::from_secs(45);

/// The rooms whose members are being fetched.
pub(crate) struct Completions {
    tasks: TaskTracker,
    at_work: Mutex<HashSet<RoomSn>>,
    turns: Semaphore,
    /// Told when the members of a room are known, or given up.
    news: Notify,
}

impl Default for Completions {
    fn default() -> Self {
        Self {
            tasks: TaskTracker::new(),
            at_work: Mutex::default(),
            turns: Semaphore::new(MOST_AT_WORK),
            news: Notify::new(),
        }
    }
}

/// A room whose members are not all known, as an operator sees it.
#[derive(Clone, Debug)]
pub struct PartialRoom {
    /// The room's id.
    pub room_id: String,
    /// When it was entered, in milliseconds since 1970.
    pub entered_ms: u64,
    /// How many events are held until the members are known.
    pub held: u64,
}

/// The rooms whose members are not all known, by number.
///
/// # Errors
/// If they can't be read.
pub fn partial_rooms(from: &impl Read) -> Result<Vec<PartialRoom>, NodeError> {
    let mut found = Vec::new();
    for (room, partial) in partial::all(from)? {
        found.push(PartialRoom {
            room_id: names::room_id(from, room)?,
            entered_ms: partial.entered_ms,
            held: partial::held_count(from, room)?,
        });
    }
    Ok(found)
}

impl Node {
    /// Learns the members of rooms that were entered without them, now and whenever a room is entered so, until the server
    /// stops.
    pub async fn run_completions(self: &Arc<Self>) {
        loop {
            if let Err(error) = self.resume_completions() {
                tracing::error!(%error, "the rooms without members can't be read");
            }
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        self.completions.tasks.close();
        self.completions.tasks.wait().await;
    }

    fn resume_completions(self: &Arc<Self>) -> Result<(), NodeError> {
        let view = self.view();
        for (room, _) in partial::all(&view)? {
            self.complete_in_background(room);
        }
        for room in partial::rooms_with_held(&view)? {
            self.complete_in_background(room);
        }
        Ok(())
    }

    /// Begins to learn the members of a room, unless that is being done.
    pub(super) fn complete_in_background(self: &Arc<Self>, room: RoomSn) {
        if !self.completions.at_work.lock().insert(room) {
            return;
        }
        let node = Arc::clone(self);
        self.completions.tasks.spawn(async move {
            node.complete(room).await;
            node.completions.at_work.lock().remove(&room);
        });
    }

    /// Waits until all members of a room are known, but not longer than `patience`. False if they are not.
    ///
    /// # Errors
    /// If the room can't be read.
    pub async fn wait_for_members(
        &self,
        room: RoomSn,
        patience: Duration,
    ) -> Result<bool, NodeError> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            let mut news = std::pin::pin!(self.completions.news.notified());
            // From here on no news is missed.
            news.as_mut().enable();
            if !partial::is_partial(&self.view(), room)? {
                return Ok(true);
            }
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep_until(until) => return Ok(false),
                () = self.shutdown.cancelled() => return Ok(false),
            }
        }
    }

    /// Works on a room until its members are known and what was held is let in, or until the server stops.
    async fn complete(self: &Arc<Self>, room: RoomSn) {
        let mut rest = FIRST_REST;
        let mut asked = 0;
        loop {
            let Ok(turn) = self.completions.turns.acquire().await else {
                return;
            };
            let tried = tokio::select! {
                tried = self.try_to_complete(room, asked) => tried,
                () = self.shutdown.cancelled() => return,
            };
            drop(turn);
            match tried {
                Ok(()) => return,
                Err(error) => {
                    let rest_ms = rest.as_millis() as u64;
                    tracing::warn!(room = room.0, %error, rest_ms, "the members of a room can't be had yet");
                }
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
            rest = (rest * 2).min(LONGEST_REST);
            asked += SERVERS_AT_ONCE;
        }
    }

    async fn try_to_complete(
        self: &Arc<Self>,
        room: RoomSn,
        asked: usize,
    ) -> Result<(), NodeError> {
        let head = self.store().head();
        if let Some(partial) = partial::get(&head, room)? {
            if !members::is_resident(&head, room)? {
                return self.give_up_members(room).await;
            }
            drop(head);
            self.learn_members(room, &partial, asked).await?;
        }
        self.let_in_held(room).await
    }

    /// Asks some of the servers for the members: who let this server in, and others, from the one on where the last
    /// round ended.
    async fn learn_members(
        self: &Arc<Self>,
        room: RoomSn,
        partial: &Partial,
        asked: usize,
    ) -> Result<(), NodeError> {
        let head = self.store().head();
        let room_id = names::room_id(&head, room)?;
        let rules = event_log::head(&head, room)?.and_then(|head| head.rules());
        let rules = rules.ok_or(rooms::Error::UnknownRoom)?;
        drop(head);
        let others: Vec<&String> = (partial.servers.iter())
            .filter(|server| **server != partial.by)
            .collect();
        let next = others.iter().copied().cycle().skip(asked);
        let next = next.take(others.len().min(SERVERS_AT_ONCE));
        let mut last = NodeError::Unobtainable("no server is known that is in the room");
        for server in [&partial.by].into_iter().chain(next) {
            let entry = EventId::from(partial.entry.as_str());
            match self
                .learn_members_from(server, (room, &room_id, rules), &entry)
                .await
            {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::info!(room = room_id, %server, %error, "does not tell the members of a room");
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn learn_members_from(
        self: &Arc<Self>,
        server: &str,
        (room, room_id, rules): (RoomSn, &str, &'static RoomRules),
        entry: &EventId,
    ) -> Result<(), NodeError> {
        let started = Instant::now();
        let ids = self.fetch_state_ids(server, room_id, entry).await?;
        let all: Vec<EventId> = ids.state.iter().chain(&ids.auth_chain).cloned().collect();
        let mut missing = self.missing_events(room, &all)?;
        tracing::info!(
            room = room_id, %server, state = ids.state.len(), missing = missing.len(),
            "learning the members of a room"
        );
        if !missing.is_empty() && missing.len() <= MOST_SINGLE_EVENTS {
            let mut ingest = Ingest::new(self, room, room_id, server)?;
            ingest.keep_single_events(&missing).await?;
            missing = self.missing_events(room, &missing)?;
        }
        if !missing.is_empty() {
            let state = self.fetch_state_parts(server, room_id, entry).await?;
            let parts = self
                .run(Lane::Bulk, move || in_order_of_depth(state.0, state.1))
                .await?;
            // What does not hold is left out, as when a room is entered; what is not given is another matter.
            if parts.len() < all.len() {
                return Err(NodeError::Unobtainable("not all of the state is given"));
            }
            self.stage(rules, room, room_id, parts, None).await?;
        }
        let left_out = self.missing_events(room, &ids.state)?;
        let left_out: HashSet<EventId> = left_out.into_iter().collect();
        let mut state = ids.state;
        state.retain(|id| !left_out.contains(id));
        let members = self.put_members(room, state).await?;
        let ms = started.elapsed().as_millis() as u64;
        tracing::info!(room = room_id, %server, ms, members, left_out = left_out.len(), "all members of a room are known");
        Ok(())
    }

    /// Those of the events that are not here.
    fn missing_events(&self, room: RoomSn, ids: &[EventId]) -> Result<Vec<EventId>, NodeError> {
        let head = self.store().head();
        let mut missing = Vec::new();
        for id in ids {
            if !ingest::is_here(&head, room, id)? {
                missing.push(id.clone());
            }
        }
        Ok(missing)
    }

    /// Puts the members into the room; how many there were.
    async fn put_members(
        self: &Arc<Self>,
        room: RoomSn,
        state: Vec<EventId>,
    ) -> Result<usize, NodeError> {
        let state = Arc::new(state);
        loop {
            let guard = self.lock(Lock::Room(room)).await;
            let (node, state) = (Arc::clone(self), Arc::clone(&state));
            let work = move || -> Result<_, NodeError> {
                let mut txn = node.begin();
                let writer = RoomWriter::open(&mut txn, node.room_context(), room)?;
                let completed = writer.complete(&state)?;
                Ok((txn, completed))
            };
            match self.run(Lane::Bulk, work).await?? {
                (txn, Completed::Done { members, effects }) => {
                    let touched = Touched {
                        rooms: vec![room],
                        ..touched(room, &effects)
                    };
                    self.commit_room(guard, txn, touched).await?;
                    self.completions.news.notify_waiters();
                    return Ok(members);
                }
                (_, Completed::NotPartial) => return Ok(0),
                (_, Completed::Need(Need::Users(users))) => {
                    drop(guard);
                    self.names().number_users(self.store(), &users)?;
                }
                (_, Completed::Need(_)) => {
                    return Err(NodeError::Unobtainable("the state is not whole"));
                }
            }
        }
    }

    /// Lets in the events that were held, in the order in which they came.
    async fn let_in_held(self: &Arc<Self>, room: RoomSn) -> Result<(), NodeError> {
        loop {
            let head = self.store().head();
            let mut held = partial::held(&head, room, HELD_AT_ONCE)?;
            let Some(peer) = held.first().map(|(_, held)| held.peer.clone()) else {
                return Ok(());
            };
            if !members::is_resident(&head, room)? {
                return self.give_up_members(room).await;
            }
            let of_peer = held.iter().take_while(|(_, held)| held.peer == peer);
            let count = of_peer.count();
            held.truncate(count);
            let rules = event_log::head(&head, room)?.and_then(|head| head.rules());
            let rules = rules.ok_or(rooms::Error::UnknownRoom)?;
            let room_id = names::room_id(&head, room)?;
            drop(head);
            self.let_in(room, &room_id, rules, &peer, &held).await?;
            let guard = self.lock(Lock::Room(room)).await;
            let mut txn = self.begin();
            partial::let_go(&mut txn, room, &held);
            self.commit(guard, txn, Touched::nobody()).await?;
        }
    }

    async fn let_in(
        self: &Arc<Self>,
        room: RoomSn,
        room_id: &str,
        rules: &'static RoomRules,
        peer: &str,
        held: &[(u64, Held)],
    ) -> Result<(), NodeError> {
        let events: Vec<Bytes> = (held.iter())
            .map(|(_, held)| Bytes::from(held.json.clone()))
            .collect();
        let verified = self.verify_events(rules, events).await?;
        let good = verified.into_iter().filter_map(Result::ok).collect();
        let outcomes = self.take_in(room, room_id, peer, good).await?;
        for (event, outcome) in outcomes {
            if let Err(error) = outcome {
                tracing::debug!(room = room_id, %event, %error, "an event that was held does not come in");
            }
        }
        Ok(())
    }

    /// Nobody of this server is in the room any more: its members are asked for no longer.
    pub(super) async fn give_up_members(&self, room: RoomSn) -> Result<(), NodeError> {
        let guard = self.lock(Lock::Room(room)).await;
        let mut txn = self.begin();
        if members::is_resident(&txn, room)? || !partial::give_up(&mut txn, room)? {
            return Ok(());
        }
        self.commit(guard, txn, Touched::nobody()).await?;
        self.completions.news.notify_waiters();
        Ok(())
    }
}
