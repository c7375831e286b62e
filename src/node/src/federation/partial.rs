//! Learning the members of rooms that were entered without them (a faster join), in the background: what
//! [`rooms::partial`] asks for.
//!
//! The mark of a room is the job: it is written in the change that enters the room, and goes in the one that knows its
//! members, or in the one in which the last user of this server leaves. A room is worked on from when it is entered, or from
//! the start of the server. The servers in the room are asked in turn, first who let this server in, and again after a rest
//! that grows. What was fetched stays, and is not asked for again.
//!
//! Then the events that were held are let in, piece by piece, by the way that all events take; or they are dropped, if nobody is
//! left in the room.
//!
//! Who needs to know the members waits for them ([`Node::wait_for_members`]), but not for ever.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::{EventId, RoomRules};
use names::RoomSn;
use parking_lot::Mutex;
use rooms::held::{self, Held};
use rooms::ingest::{self, Need};
use rooms::partial::{self, Completed, Partial};
use rooms::{RoomWriter, event_log, members};
use store::Read;
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use super::ingest::Ingest;
use super::put_out::says_not_in_room;
use super::staging::in_order_of_depth;
use crate::room::touched;
use crate::{Lane, Lock, Node, NodeError, Touched};

/// Rooms whose members are fetched at once; the others wait their turn.
const MOST_AT_WORK: usize = 4;

/// Servers that are asked before a rest.
const SERVERS_AT_ONCE: usize = 4;

/// Missing events that are fetched one by one; more are fetched with the whole state.
const MOST_SINGLE_EVENTS: usize = 100;

/// Held events that are let in, or dropped, at once; and the bytes of their JSON.
pub(super) const HELD_AT_ONCE: usize = 50;
pub(super) const HELD_BYTES_AT_ONCE: usize = 1 << 20;

/// Until the members of a room are asked for again; doubled each time.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// How long a request waits for the members of a room.
pub const MEMBERS_PATIENCE: Duration = Duration::from_secs(45);

/// The rooms that are worked on.
pub(crate) struct Completions {
    tasks: TaskTracker,
    at_work: Mutex<HashMap<RoomSn, AtWork>>,
    turns: Semaphore,
    /// Told when a room lacks no members any more, or nobody is in it.
    news: Notify,
}

/// A room that is worked on.
#[derive(Default)]
struct AtWork {
    /// Ends a rest.
    wake: Arc<Notify>,
    /// There may be more to do than was there at the last look.
    again: bool,
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

impl Completions {
    /// Begins to work on a room, or has who works on it look again. Nothing if somebody does.
    fn begin(&self, room: RoomSn) -> Option<Arc<Notify>> {
        let mut at_work = self.at_work.lock();
        if let Some(work) = at_work.get_mut(&room) {
            work.again = true;
            work.wake.notify_one();
            return None;
        }
        let work = AtWork::default();
        let wake = Arc::clone(&work.wake);
        at_work.insert(room, work);
        Some(wake)
    }

    /// Ends the work on a room, unless there may be more to do.
    fn end(&self, room: RoomSn) -> bool {
        let mut at_work = self.at_work.lock();
        match at_work.get_mut(&room) {
            Some(work) if work.again => {
                work.again = false;
                false
            }
            _ => {
                at_work.remove(&room);
                true
            }
        }
    }

    /// After a change in which users left: it may have been the last.
    pub(crate) fn note_left(&self, touched: &Touched) {
        for change in &touched.memberships {
            if change.joined || !change.user.is_local() {
                continue;
            }
            if let Some(work) = self.at_work.lock().get_mut(&change.room) {
                work.again = true;
                work.wake.notify_one();
                self.news.notify_waiters();
            }
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
            held: held::total(from, room)?.events,
        });
    }
    Ok(found)
}

impl Node {
    /// Learns the members of rooms that were entered without them, those from before the start and those entered since,
    /// until the server stops.
    pub async fn run_completions(self: &Arc<Self>) {
        if let Err(error) = self.resume_completions() {
            tracing::error!(%error, "the rooms without members can't be read");
        }
        self.shutdown.cancelled().await;
        self.completions.tasks.close();
        self.completions.tasks.wait().await;
    }

    fn resume_completions(self: &Arc<Self>) -> Result<(), NodeError> {
        let view = self.view();
        for (room, _) in partial::all(&view)? {
            self.complete_in_background(room);
        }
        for room in held::rooms(&view)? {
            self.complete_in_background(room);
        }
        Ok(())
    }

    /// Begins to learn the members of a room, unless that is being done.
    pub(super) fn complete_in_background(self: &Arc<Self>, room: RoomSn) {
        let Some(wake) = self.completions.begin(room) else {
            return;
        };
        let node = Arc::clone(self);
        self.completions.tasks.spawn(async move {
            loop {
                node.complete(room, &wake).await;
                if node.completions.end(room) || node.shutdown.is_cancelled() {
                    return;
                }
            }
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
    async fn complete(self: &Arc<Self>, room: RoomSn, wake: &Notify) {
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
                () = wake.notified() => {}
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
        let partial = partial::get(&self.store().head(), room)?;
        if let Some(partial) = partial {
            let servers = self.servers_to_ask(&[&partial.by], &partial, asked);
            self.learn_members(room, &partial, &servers).await?;
        }
        self.let_in_held(room).await
    }

    /// Learns the members of a room that this server left before they were known, and that a user has come back to by
    /// `server`; does nothing for any other room. What comes until then can't be judged: see [`rooms::partial`].
    pub(super) async fn complete_abandoned(
        self: &Arc<Self>,
        room: RoomSn,
        server: &str,
    ) -> Result<(), NodeError> {
        let Some(partial) = partial::abandoned(&self.store().head(), room)? else {
            return Ok(());
        };
        let servers = self.servers_to_ask(&[server, &partial.by], &partial, 0);
        self.learn_members(room, &partial, &servers).await
    }

    /// The `first` servers, and some of the others that were said to be in the room, from the one on where the last round
    /// ended. Those that can't be reached come last.
    fn servers_to_ask(&self, first: &[&str], partial: &Partial, asked: usize) -> Vec<String> {
        let mut servers: Vec<String> = first.iter().map(|&server| server.to_owned()).collect();
        servers.dedup();
        let others: Vec<&String> = (partial.servers.iter())
            .filter(|server| !servers.contains(server))
            .collect();
        let next = others.iter().copied().cycle().skip(asked);
        let next: Vec<String> = next
            .take(others.len().min(SERVERS_AT_ONCE))
            .cloned()
            .collect();
        servers.extend(next);
        self.reachable_first(&mut servers);
        servers
    }

    /// Asks the servers for the members, one after the other until one tells them. It is done as well if it turns out that
    /// nobody of this server is in the room any more.
    async fn learn_members(
        self: &Arc<Self>,
        room: RoomSn,
        partial: &Partial,
        servers: &[String],
    ) -> Result<(), NodeError> {
        let head = self.store().head();
        let room_id = names::room_id(&head, room)?;
        let rules = event_log::head(&head, room)?.and_then(|head| head.rules());
        let rules = rules.ok_or(rooms::Error::UnknownRoom)?;
        drop(head);
        let entry = EventId::from(partial.entry.as_str());
        let mut last = NodeError::Unobtainable("no server is known that is in the room");
        for server in servers {
            let of_room = (room, room_id.as_str(), rules);
            match self.learn_members_from(server, of_room, &entry).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::info!(room = room_id, %server, %error, "does not tell the members of a room");
                    if *server == partial.by
                        && says_not_in_room(&error)
                        && self.leave_where_put_out(room).await?
                    {
                        return Ok(());
                    }
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

    /// Lets in the events that were held, in the order in which they came; or drops them, if nobody is in the room any more.
    async fn let_in_held(self: &Arc<Self>, room: RoomSn) -> Result<(), NodeError> {
        loop {
            let head = self.store().head();
            let mut piece = held::first(&head, room, HELD_AT_ONCE, HELD_BYTES_AT_ONCE)?;
            let Some(peer) = piece.first().map(|(_, held)| held.peer.clone()) else {
                return Ok(());
            };
            if members::is_resident(&head, room)? {
                let of_peer = piece.iter().take_while(|(_, held)| held.peer == peer);
                let count = of_peer.count();
                piece.truncate(count);
                drop(head);
                self.let_in(room, &peer, &piece).await?;
            }
            let guard = self.lock(Lock::Room(room)).await;
            let mut txn = self.begin();
            held::let_go(&mut txn, room, &piece)?;
            self.commit(guard, txn, Touched::nobody()).await?;
        }
    }

    async fn let_in(
        self: &Arc<Self>,
        room: RoomSn,
        peer: &str,
        held: &[(u64, Held)],
    ) -> Result<(), NodeError> {
        let head = self.store().head();
        let rules = event_log::head(&head, room)?.and_then(|head| head.rules());
        let rules = rules.ok_or(rooms::Error::UnknownRoom)?;
        let room_id = names::room_id(&head, room)?;
        drop(head);
        let events: Vec<Bytes> = (held.iter())
            .map(|(_, held)| Bytes::from(held.json.clone()))
            .collect();
        let verified = self.verify_events(rules, events).await?;
        let good = verified.into_iter().filter_map(Result::ok).collect();
        let outcomes = self.take_in(room, &room_id, peer, good).await?;
        for (event, outcome) in outcomes {
            if let Err(error) = outcome {
                tracing::debug!(room = room_id, %event, %error, "an event that was held does not come in");
            }
        }
        Ok(())
    }
}
