//! The shell around the core: it owns the store, hands out locks, runs core work on bounded lanes,
//! commits changes and wakes those who wait for them.
//!
//! A request goes: lock what it changes, [`Node::begin`], core functions fill the change,
//! [`Node::commit`] (write, release the lock, wait until durable, wake), answer.
//!
//! Invariants:
//! - Locks are taken in the order of [`Lock`]; none is held while waiting for a sync, the
//!   network or a client.
//! - Whoever waits is woken by numbers (a room, a user), never by data: they look at a view.

mod activity;
mod audience;
mod backup_sweep;
mod budget;
mod error;
pub mod federation;
pub mod jobs;
mod key_changes;
mod locks;
mod media_repository;
mod notifier;
mod own_memberships;
mod pace;
mod pool;
mod presence;
pub mod room;
mod sliding_poll;
mod sync_poll;
pub mod to_device;
mod typing;
mod user_rooms;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use config::Config;
use federation::outgoing::Outgoing;
use names::Names;
use pace::Pace;
use remote::Remote;
use store::{Batch, Position, Read, Store, Ticket, Txn, View};
use tokio_util::sync::CancellationToken;

pub use activity::{Activity, MembershipChange, Touched};
pub use audience::Audience;
pub use budget::{Budget, Turn};
pub use error::NodeError;
pub use federation::OwnKeys;
pub use federation::outgoing::DestinationStatus;
pub use jobs::{JOB_PATIENCE, Task};
pub use locks::{Guard, Lock, Locks};
pub use media_repository::{Media, MediaUpload, ThumbnailAnswer};
pub use notifier::{Notifier, Waiter};
pub use pool::{Lane, Pool};
pub use presence::presence_named;
pub use remote::MOST_CONNECTIONS as MOST_OUTGOING;
pub use sliding_poll::SlidingRequest;
pub use sync_poll::SyncRequest;
pub use user_rooms::Rooms;

/// A running homeserver, without its doors.
pub struct Node {
    config: Arc<ArcSwap<Config>>,
    store: Arc<Store>,
    names: Names,
    key: event::SigningKey,
    locks: Locks,
    pool: Pool,
    budget: Arc<Budget>,
    activity: Arc<Activity>,
    audience: Arc<Audience>,
    notifier: Arc<Notifier>,
    memory: Arc<sync::Memory>,
    rooms_cache: rooms::Cache,
    media: Media,
    user_rooms: user_rooms::UserRooms,
    jobs: jobs::Jobs,
    remote: Arc<Remote>,
    key_ring: federation::KeyRing,
    own_keys: OwnKeys,
    published: federation::Published,
    outgoing: Arc<Outgoing>,
    traffic: federation::Traffic,
    transactions: federation::Answers,
    completions: Arc<federation::Completions>,
    remote_aliases: federation::RemoteAliases,
    told_spaces: federation::ToldSpaces,
    key_fetches: federation::KeyFetches,
    audit: Arc<federation::Audit>,
    policy_answers: federation::PolicyAnswers,
    profiles: federation::Profiles,
    media_fetches: federation::MediaFetches,
    /// For the states of sliding sync, which are not kept over a restart: begins at random, so that a
    /// position from before one is hardly taken for one from after it.
    next_generation: AtomicU64,
    shutdown: CancellationToken,
}

impl Node {
    /// Puts a node around an open store.
    ///
    /// # Errors
    /// If the store can't be read, or the folder of uploaded files can't be made.
    pub fn new(
        config: Config,
        store: Store,
        keys: impl Into<OwnKeys>,
    ) -> Result<Arc<Node>, NodeError> {
        let own_keys = keys.into();
        let key = own_keys.current().clone();
        let names = Names::open(&store, config.server_name.as_str())?;
        let media = Media::open(&config)?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let threads = config
            .runtime
            .compute_threads
            .map_or(cores, |count| count as usize);
        let config = Arc::new(ArcSwap::from_pointee(config));
        let audit = Arc::default();
        let remote = Remote::new(federation::options(&config, &audit)?, key.clone())?;
        let started = store.head().position();
        Ok(Arc::new(Node {
            config,
            names,
            key,
            locks: Locks::default(),
            pool: Pool::new(threads.max(2)),
            budget: Budget::new(cores),
            activity: Arc::new(Activity::new(started)),
            audience: Arc::default(),
            notifier: Arc::default(),
            memory: Arc::default(),
            rooms_cache: rooms::Cache::default(),
            media,
            user_rooms: user_rooms::UserRooms::default(),
            jobs: jobs::Jobs::default(),
            remote,
            key_ring: federation::KeyRing::default(),
            own_keys,
            published: Default::default(),
            outgoing: Arc::new(Outgoing::new(now_ms())),
            traffic: federation::Traffic::default(),
            transactions: federation::Answers::default(),
            completions: Arc::default(),
            remote_aliases: federation::RemoteAliases::default(),
            told_spaces: federation::ToldSpaces::default(),
            key_fetches: Default::default(),
            audit,
            policy_answers: Default::default(),
            profiles: Default::default(),
            media_fetches: Default::default(),
            next_generation: AtomicU64::new(rand::random::<u64>() >> 16),
            shutdown: CancellationToken::new(),
            store: Arc::new(store),
        }))
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Puts a new configuration into force; what can't be changed while running keeps its old value
    /// until the next start.
    pub fn reload(&self, config: Config) {
        self.config.store(Arc::new(config));
    }

    /// The server's name.
    pub fn server_name(&self) -> &str {
        self.key.server_name()
    }

    /// The key that this server signs with.
    pub fn signing_key(&self) -> &event::SigningKey {
        &self.key
    }

    /// The database.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Users and rooms by number.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Who of the other servers may compute how much.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// What changed since the start, by room and user.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Who is woken by what happens in a room.
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Wakes and waits.
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }

    /// What is kept in memory beside the database for /sync.
    pub fn memory(&self) -> &Arc<sync::Memory> {
        &self.memory
    }

    /// Parsed state events.
    pub fn rooms_cache(&self) -> &rooms::Cache {
        &self.rooms_cache
    }

    /// The content repository.
    pub fn media(&self) -> &Media {
        &self.media
    }

    /// The way to other servers.
    pub fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    /// Where aliases of other servers lead.
    pub(crate) fn remote_aliases(&self) -> &federation::RemoteAliases {
        &self.remote_aliases
    }

    /// What other servers told of spaces.
    pub(crate) fn told_spaces(&self) -> &federation::ToldSpaces {
        &self.told_spaces
    }

    /// What a writer of rooms needs from outside.
    pub fn room_context(&self) -> rooms::Context<'_> {
        rooms::Context {
            cache: &self.rooms_cache,
            key: &self.key,
            now_ms: self.now_ms(),
            pause: &pool::pause,
        }
    }

    /// Cancelled when the server drains: long polls answer at once.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        now_ms()
    }

    /// Random bytes fit for secrets.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        rand::random()
    }

    /// The newest published view: what a response is built from.
    pub fn view(&self) -> View {
        self.store.view()
    }

    /// Begins a change. The caller holds the lock of whatever it reads and then changes.
    pub fn begin(&self) -> Txn {
        self.store.begin()
    }

    /// Waits for the right to change something.
    pub async fn lock(&self, lock: Lock) -> Guard {
        self.locks.lock(lock).await
    }

    /// The right to change something, if nobody has it.
    pub(crate) fn try_lock(&self, lock: Lock) -> Option<Guard> {
        self.locks.try_lock(lock)
    }

    /// Writes a change, releases `guard`, waits until the change is durable and visible, and wakes
    /// whom it concerns. An empty change waits until what it was judged by is durable.
    ///
    /// # Errors
    /// [`NodeError::Store`] if it was not written; nothing has changed then.
    pub async fn commit(
        &self,
        guard: impl Send,
        txn: Txn,
        touched: Touched,
    ) -> Result<Position, NodeError> {
        let touched = match txn.is_empty() {
            true => Touched::nobody(),
            false => touched,
        };
        let ticket = self.write_change(txn, &touched)?;
        drop(guard);
        self.durable(ticket, touched).await
    }

    /// The first half of [`Node::commit`], of an empty change as well.
    ///
    /// # Errors
    /// As [`Node::commit`].
    pub(crate) fn write_change(&self, txn: Txn, touched: &Touched) -> Result<Ticket, NodeError> {
        if txn.is_empty() {
            let position = txn.position();
            return Ok(Ticket { position });
        }
        self.write(txn.into_batch(), touched)
    }

    /// The first half of [`Node::commit`]: the change is written and next in order.
    ///
    /// # Errors
    /// As [`Node::commit`].
    pub fn write(&self, batch: Batch, touched: &Touched) -> Result<Ticket, NodeError> {
        for room in &touched.rooms {
            // So that the wake finds the set of those joined.
            self.audience.with(|| self.store.head(), *room, |_| ())?;
        }
        let ticket = self.store.commit_noting(batch, |position| {
            self.activity.note(touched, position);
            self.audience.note(touched, position);
        })?;
        Ok(ticket)
    }

    /// The second half of [`Node::commit`]. The waking happens even if the caller goes away.
    ///
    /// # Errors
    /// [`NodeError::Store`] if the sync failed; the server is about to end then.
    pub async fn durable(&self, ticket: Ticket, touched: Touched) -> Result<Position, NodeError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (notifier, audience) = (Arc::clone(&self.notifier), Arc::clone(&self.audience));
        let outgoing = Arc::clone(&self.outgoing);
        let completions = Arc::clone(&self.completions);
        self.store.when_durable(ticket, move |result| {
            if result.is_ok() {
                notifier.wake(&touched, &audience);
                outgoing.wake(&touched);
                completions.note_left(&touched);
            }
            // The request may have gone away; the change stays.
            let _ = sender.send(result);
        });
        receiver
            .await
            .map_err(|_| NodeError::Stopped)?
            .map_err(NodeError::from)
    }

    /// Takes a position for something that is not written (typing, presence); `change` brings it into
    /// memory before any view can show the position. Wakes whom it concerns.
    ///
    /// # Errors
    /// [`NodeError::Store`] if the reserve of positions can't be raised.
    pub fn tick(
        &self,
        touched: Touched,
        change: impl FnOnce(Position),
    ) -> Result<Position, NodeError> {
        let ticket = self.store.tick(|position| {
            change(position);
            self.activity.note(&touched, position);
        })?;
        self.wake_when_durable(ticket, touched);
        Ok(ticket.position)
    }

    /// Wakes whom a change concerns once it is durable; nobody waits for that here.
    pub(crate) fn wake_when_durable(&self, ticket: Ticket, touched: Touched) {
        let (notifier, audience) = (Arc::clone(&self.notifier), Arc::clone(&self.audience));
        let outgoing = Arc::clone(&self.outgoing);
        let completions = Arc::clone(&self.completions);
        self.store.when_durable(ticket, move |result| {
            if result.is_ok() {
                notifier.wake(&touched, &audience);
                outgoing.wake(&touched);
                completions.note_left(&touched);
            }
        });
    }

    /// Runs core work that may take more than half a millisecond on a lane of its own.
    ///
    /// # Errors
    /// [`NodeError::Overloaded`] if the lane's queue is full, [`NodeError::Panicked`] if the work did.
    pub async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NodeError> {
        self.pool.run(lane, work).await
    }

    /// Runs a piece of work, of a millisecond or two, for another server or an address: when it is the turn of that `account`, with what
    /// the users of this server leave.
    ///
    /// # Errors
    /// As [`Node::run`].
    pub async fn run_for<T: Send + 'static>(
        &self,
        account: &Arc<str>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NodeError> {
        self.run_paced(account, |_| work()).await
    }

    /// As [`Node::run_for`], work of several steps.
    ///
    /// # Errors
    /// As [`Node::run`].
    pub(crate) async fn run_paced<T: Send + 'static>(
        &self,
        account: &Arc<str>,
        work: impl FnOnce(&mut Pace<'_>) -> T + Send + 'static,
    ) -> Result<T, NodeError> {
        let mut turn = self.budget.turn(account).await?;
        self.run(Lane::Spare, move || turn.run(work)).await
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_millis() as u64
}
