//! Sending to other servers: what goes to whom, in which order, and how often it is tried.
//!
//! ```text
//! a change with events  ->  the log (servers::outbox)  ->  dispatch: who gets it  ->  a queue for each server
//!                                                                                          |
//!                               back-off, catching up  <-  delivery: one transaction at a time
//! ```
//!
//! Invariants:
//! - What must arrive (events, messages to devices, changes of devices) is in the database before it is sent, and is
//!   found there again after a crash. What need not (typing, receipts, presence) is in memory, bounded, and goes first
//!   where something has to go.
//! - A server gets one transaction at a time. One that does not answer costs a row and a place in the list of
//!   retries, no task and no connection.
//! - Servers with nothing to send are not in memory.
//!
//! Deliberately not here: how a server is reached and requests are signed (`remote`).

mod catch_up;
mod delivery;
mod dispatch;
mod edus;
mod log;
mod recipients;
mod settle;
mod state;
mod status;
pub mod to_device;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use names::UserSn;
use parking_lot::Mutex;
use servers::outbox;
use store::Position;
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use crate::{Node, NodeError, Touched};

use state::{Destination, State};
pub use status::DestinationStatus;

/// Requests under way to servers that answered the last one.
const MOST_AT_WORK: usize = 256;
/// Requests under way to servers that did not: so that these can't keep the others waiting.
const MOST_AT_RISK: usize = 64;
/// How often it is written down how far the servers are.
const SETTLE_EVERY: Duration = Duration::from_secs(5);
/// How long a change of presence waits for others, to be sent with them.
const PRESENCE_PAUSE: Duration = Duration::from_secs(1);
/// How often servers hear of those who stay online: they take users of whom they hear nothing for offline.
const PRESENCE_AGAIN: Duration = Duration::from_secs(20 * 60);
/// When the server stops, how long requests under way may take.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// What is sent to other servers.
pub struct Outgoing {
    servers: Mutex<HashMap<Arc<str>, Arc<Destination>>>,
    /// When servers that failed are tried again.
    retries: Mutex<BTreeSet<(u64, Arc<str>)>>,
    /// There is something in the log, or in `nudged`, or a server was heard from.
    news: Notify,
    /// More of the log can be forgotten than was in one go.
    unforgotten: Notify,
    nudged: Mutex<BTreeSet<String>>,
    presence: Mutex<BTreeSet<UserSn>>,
    /// The log is being handed out up to here.
    dispatching: AtomicU64,
    /// It was handed out up to here.
    dispatched: AtomicU64,
    /// Nobody needs the log up to here.
    forgotten: AtomicU64,
    /// It is forgotten up to here.
    erased: AtomicU64,
    turns: Semaphore,
    risky_turns: Semaphore,
    tasks: TaskTracker,
    /// The first part of transaction ids: they are not repeated after a restart.
    started_ms: u64,
    next_transaction: AtomicU64,
}

impl Outgoing {
    pub(crate) fn new(started_ms: u64) -> Self {
        Self {
            servers: Mutex::default(),
            retries: Mutex::default(),
            news: Notify::new(),
            unforgotten: Notify::new(),
            nudged: Mutex::default(),
            presence: Mutex::default(),
            dispatching: AtomicU64::new(0),
            dispatched: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            erased: AtomicU64::new(0),
            turns: Semaphore::new(MOST_AT_WORK),
            risky_turns: Semaphore::new(MOST_AT_RISK),
            tasks: TaskTracker::new(),
            started_ms,
            next_transaction: AtomicU64::new(0),
        }
    }

    /// A change is durable and visible: what it has for other servers is looked at.
    pub(crate) fn wake(&self, touched: &Touched) {
        if !touched.servers.is_empty() {
            self.nudged.lock().extend(touched.servers.iter().cloned());
        }
        if touched.outgoing || !touched.servers.is_empty() {
            self.news.notify_one();
        }
    }

    fn dispatched(&self) -> Position {
        Position(self.dispatched.load(Ordering::Acquire))
    }

    /// Runs `change` on the state of a server, which is there from now on.
    fn with<T>(&self, server: &str, change: impl FnOnce(&mut State) -> T) -> (Arc<Destination>, T) {
        loop {
            let destination = {
                let mut servers = self.servers.lock();
                match servers.get(server) {
                    Some(destination) => Arc::clone(destination),
                    None => {
                        let name: Arc<str> = server.into();
                        let destination = Arc::new(Destination::new(Arc::clone(&name)));
                        servers.insert(name, Arc::clone(&destination));
                        destination
                    }
                }
            };
            let mut state = destination.state.lock();
            // Taken out of the map meanwhile, for having nothing to do.
            if state.is_retired {
                continue;
            }
            let done = change(&mut state);
            drop(state);
            return (destination, done);
        }
    }

    fn find(&self, server: &str) -> Option<Arc<Destination>> {
        self.servers.lock().get(server).cloned()
    }

    fn is_failing(&self, server: &str) -> bool {
        self.find(server)
            .is_some_and(|destination| destination.state.lock().failing.is_some())
    }

    /// How many servers something waits for, how many of them fail, and for how long the one that fails longest.
    pub(in crate::federation) fn waiting(&self, now_ms: u64) -> (u64, u64, u64) {
        let (mut waiting, mut failing, mut longest_ms) = (0, 0, 0);
        for destination in self.all() {
            waiting += 1;
            if let Some(of) = &destination.state.lock().failing {
                failing += 1;
                longest_ms = now_ms.saturating_sub(of.since_ms).max(longest_ms);
            }
        }
        (waiting, failing, longest_ms)
    }

    fn all(&self) -> Vec<Arc<Destination>> {
        self.servers.lock().values().cloned().collect()
    }
}

impl Node {
    /// Sends to other servers until this one stops.
    pub async fn run_outgoing(self: &Arc<Self>) {
        if !self.config().federation.enabled {
            return;
        }
        if let Err(error) = self.resume_outgoing() {
            tracing::error!(%error, "what was left to be sent to other servers can't be read");
        }
        let outgoing = &self.outgoing;
        let mut settle = tokio::time::interval(SETTLE_EVERY);
        let mut presence = tokio::time::interval(PRESENCE_PAUSE);
        let mut presence_again = tokio::time::interval(PRESENCE_AGAIN);
        loop {
            let next_retry_ms = outgoing.retries.lock().first().map(|(at_ms, _)| *at_ms);
            let rest = next_retry_ms.map(|at_ms| at_ms.saturating_sub(self.now_ms()));
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                () = outgoing.news.notified() => self.dispatch_all().await,
                () = tokio::time::sleep(Duration::from_millis(rest.unwrap_or(0))), if rest.is_some() => {
                    self.retry_due();
                }
                _ = settle.tick() => self.settle_outgoing(),
                () = outgoing.unforgotten.notified() => self.settle_outgoing(),
                _ = presence.tick() => self.send_presences().await,
                _ = presence_again.tick() => {
                    let present = self.memory.presence.present();
                    present.into_iter().for_each(|user| self.note_presence(user));
                }
            }
        }
        outgoing.tasks.close();
        // What is cut off is sent again after the start.
        let _ = tokio::time::timeout(LAST_REQUESTS, outgoing.tasks.wait()).await;
        self.settle_outgoing();
    }

    /// Takes up what an earlier process left.
    fn resume_outgoing(self: &Arc<Self>) -> Result<(), NodeError> {
        let view = self.view();
        let progress = outbox::progress(&view)?;
        let outgoing = &self.outgoing;
        outgoing
            .forgotten
            .store(progress.forgotten.0, Ordering::Release);
        outgoing
            .dispatching
            .store(progress.settled.0, Ordering::Release);
        outgoing
            .dispatched
            .store(progress.settled.0, Ordering::Release);
        for row in outbox::destinations(&view) {
            let (server, row) = row?;
            let (destination, ()) = outgoing.with(&server, |state| state.resume(&row));
            let name = Arc::clone(&destination.name);
            outgoing.retries.lock().insert((row.retry_at_ms, name));
        }
        let waiting = outbox::servers_with_to_device(&view)?;
        outgoing.nudged.lock().extend(waiting);
        outgoing.news.notify_one();
        Ok(())
    }

    /// Notes that a server is alive: what waits for it is tried now, and not only when its rest is over.
    pub fn heard_from(self: &Arc<Self>, server: &str) {
        let Some(destination) = self.outgoing.find(server) else {
            return;
        };
        let now_ms = self.now_ms();
        let mut state = destination.state.lock();
        let Some(failing) = &mut state.failing else {
            return;
        };
        let sooner_ms = failing.soonest_ms().max(now_ms);
        if sooner_ms >= failing.retry_at_ms {
            return;
        }
        let mut retries = self.outgoing.retries.lock();
        let name = Arc::clone(&destination.name);
        // Not there while it is being tried.
        if retries.remove(&(failing.retry_at_ms, Arc::clone(&name))) {
            failing.retry_at_ms = sooner_ms;
            retries.insert((sooner_ms, name));
            self.outgoing.news.notify_one();
        }
    }

    fn retry_due(self: &Arc<Self>) {
        let now_ms = self.now_ms();
        loop {
            let due = {
                let mut retries = self.outgoing.retries.lock();
                match retries.first() {
                    Some((at_ms, _)) if *at_ms <= now_ms => retries.pop_first(),
                    _ => None,
                }
            };
            let Some((_, server)) = due else { return };
            if let Some(destination) = self.outgoing.find(&server) {
                self.deliver_to(&destination);
            }
        }
    }
}
