//! The writer: gives every change its position, writes it, syncs many at once, publishes in order.
//!
//! Two stages. *Write*: the committing thread itself holds the write lock, takes the next position,
//! puts it into the batch and applies the batch to the engine; from then on [`Store::head`] shows it,
//! to those who continue the same work under their own lock. *Sync*: one thread syncs all that was
//! written meanwhile, publishes the newest written view and answers the waiting commits. So a busy
//! room is not limited to one change a sync, and one sync serves everyone who waits.
//!
//! Positions also serve what is never written (typing, presence): [`Store::tick`] takes one. A reserve
//! of positions is kept on disk and raised before it is used up, so that no position is given twice
//! over a restart or a power loss.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use crate::space::SpaceGuard;
use crate::{Batch, Engine, Family, FamilyStats, Op, Read, Result, StoreError, Txn, View};

/// A place in the order of all changes. Grows with every commit; never reused.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Position(pub u64);

impl Position {
    /// Before everything.
    pub const ZERO: Position = Position(0);
    /// Stands for the position of the change being made, until it is committed. Sorts last.
    pub const PENDING: Position = Position(u64::MAX);
}

/// When an acknowledged change is safe from a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Before it is acknowledged or shown to anyone.
    Always,
    /// At most this long after it was acknowledged. A killed process loses nothing.
    Interval(Duration),
    /// When the operating system gets to it. A killed process loses nothing.
    Never,
}

/// A step from one schema version to the next. Must be resumable and idempotent.
pub struct Migration {
    /// The schema version that the step ends in.
    pub to: u32,
    /// Does the work in bounded commits.
    pub run: fn(&Store) -> Result<()>,
}

/// How a store is opened.
pub struct Options {
    /// The durability promised.
    pub sync: SyncMode,
    /// The schema version of this binary.
    pub schema: u32,
    /// Steps from older schemas, oldest first.
    pub migrations: &'static [Migration],
    /// Writes are refused while the disk has less than this many bytes free, or less than a twentieth of
    /// its size, whichever is smaller.
    pub reserve_bytes: u64,
    /// Called once when a sync failed: what was written may or may not be on disk, so the process
    /// must end.
    pub on_fatal: Box<dyn Fn(&StoreError) + Send + Sync>,
}

/// A written change: where it stands in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The change's position.
    pub position: Position,
}

type Waiter = Box<dyn FnOnce(Result<Position>) + Send>;

const POSITION_KEY: &[u8] = b"\x01position";
const SCHEMA_KEY: &[u8] = b"\x01schema";
const RESERVE: u64 = 1 << 20;

/// Between two attempts to sync on a full disk.
const BETWEEN_FULL_SYNCS: Duration = Duration::from_millis(200);

/// Rows of the store itself, for checks that walk over everything.
pub const META_TABLE: crate::TableInfo = crate::TableInfo {
    family: Family::Meta,
    id: 1,
    name: "meta",
    kind: crate::Kind::Source,
    decode: |_, value| match value.len() {
        8 => Ok(()),
        _ => Err(StoreError::Corrupt {
            table: "meta",
            why: "not eight bytes",
        }),
    },
};

struct Written {
    view: View,
    /// Positions up to here may be given without touching the reserve on disk.
    reserved: u64,
    /// Something was written since the last sync began.
    dirty: bool,
}

struct Waiting {
    waiters: VecDeque<(Position, Waiter)>,
    stop: bool,
    failed: bool,
}

struct Shared {
    engine: Box<dyn Engine>,
    sync: SyncMode,
    space: SpaceGuard,
    written: Mutex<Written>,
    published: ArcSwap<View>,
    waiting: Mutex<Waiting>,
    wake: Condvar,
    on_fatal: Box<dyn Fn(&StoreError) + Send + Sync>,
}

/// The database of a running server.
pub struct Store {
    shared: Arc<Shared>,
    syncer: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the database in `engine`, migrating it to `options.schema` if it is older.
    pub fn open(engine: Box<dyn Engine>, options: Options) -> Result<Store> {
        let snapshot = engine.snapshot();
        let found = read_number(&*snapshot, SCHEMA_KEY)?;
        let reserved = read_number(&*snapshot, POSITION_KEY)?.unwrap_or(0);
        drop(snapshot);
        let known = u64::from(options.schema);
        if let Some(found) = found
            && found > known
        {
            return Err(StoreError::NewerSchema {
                found: found as u32,
                known: options.schema,
            });
        }
        let view = View {
            position: Position(reserved),
            snapshot: engine.snapshot().into(),
        };
        let shared = Arc::new(Shared {
            space: SpaceGuard::new(options.reserve_bytes),
            engine,
            sync: options.sync,
            written: Mutex::new(Written {
                view: view.clone(),
                reserved,
                dirty: false,
            }),
            published: ArcSwap::from_pointee(view),
            waiting: Mutex::new(Waiting {
                waiters: VecDeque::new(),
                stop: false,
                failed: false,
            }),
            wake: Condvar::new(),
            on_fatal: options.on_fatal,
        });
        let for_thread = Arc::clone(&shared);
        let syncer = std::thread::Builder::new()
            .name("store-sync".to_owned())
            .spawn(move || for_thread.run())
            .map_err(|error| StoreError::Engine(error.to_string()))?;
        let store = Store {
            shared,
            syncer: Some(syncer),
        };
        store.migrate(found, options.schema, options.migrations)?;
        Ok(store)
    }

    fn migrate(&self, found: Option<u64>, schema: u32, migrations: &[Migration]) -> Result<()> {
        let Some(found) = found else {
            return self.put_schema(schema);
        };
        for migration in migrations {
            if u64::from(migration.to) > found {
                tracing::info!(to = migration.to, "migrating the database");
                (migration.run)(self)?;
                self.put_schema(migration.to)?;
            }
        }
        Ok(())
    }

    fn put_schema(&self, schema: u32) -> Result<()> {
        let op = number_op(SCHEMA_KEY, u64::from(schema));
        self.commit_batch(Batch { ops: vec![op] })?;
        self.shared.engine.sync()
    }

    /// The newest published view.
    pub fn view(&self) -> View {
        View::clone(&self.shared.published.load())
    }

    /// The newest written view, which may show changes that are not yet safe. Only for those who
    /// build on them and are acknowledged after them.
    pub fn head(&self) -> View {
        self.shared.written.lock().view.clone()
    }

    /// Begins a change on the newest written view.
    pub fn begin(&self) -> Txn {
        Txn::new(self.head())
    }

    /// Writes a change. When this returns, [`Store::head`] shows it; [`Store::when_durable`] says
    /// when it is safe and published.
    ///
    /// # Errors
    /// [`StoreError::Full`] and [`StoreError::Engine`]; nothing was written then.
    pub fn commit(&self, txn: Txn) -> Result<Ticket> {
        self.commit_noting(txn.into_batch(), |_| {})
    }

    /// Writes a batch, as [`Store::commit`] does.
    pub fn commit_batch(&self, batch: Batch) -> Result<Ticket> {
        self.commit_noting(batch, |_| {})
    }

    /// Writes a batch; `note` runs with its position after it is written and before any view can
    /// show it, in the order of positions: what is kept in memory beside the database is brought up
    /// to date there. It must not call the store.
    pub fn commit_noting(&self, mut batch: Batch, note: impl FnOnce(Position)) -> Result<Ticket> {
        if batch.is_empty() {
            return Ok(Ticket {
                position: self.shared.written.lock().view.position,
            });
        }
        let shared = &*self.shared;
        shared.space.check(&*shared.engine)?;
        let mut written = shared.written.lock();
        let position = Position(written.view.position.0 + 1);
        batch.place(position);
        let mut reserved = written.reserved;
        if position.0 > reserved {
            reserved = position.0 + RESERVE;
            batch.ops.push(number_op(POSITION_KEY, reserved));
        }
        shared.engine.write(&batch)?;
        note(position);
        written.reserved = reserved;
        written.view = View {
            position,
            snapshot: shared.engine.snapshot().into(),
        };
        written.dirty = true;
        if shared.sync == SyncMode::Always {
            drop(written);
            shared.wake_syncer();
        } else {
            shared.published.store(Arc::new(written.view.clone()));
        }
        Ok(Ticket { position })
    }

    /// Takes a position for something that is not written. `change` runs with the position before
    /// any view can show it.
    pub fn tick(&self, change: impl FnOnce(Position)) -> Result<Ticket> {
        let shared = &*self.shared;
        let mut written = shared.written.lock();
        let position = Position(written.view.position.0 + 1);
        if position.0 > written.reserved {
            let reserved = position.0 + RESERVE;
            shared.engine.write(&Batch {
                ops: vec![number_op(POSITION_KEY, reserved)],
            })?;
            written.reserved = reserved;
            written.dirty = true;
        }
        change(position);
        written.view.position = position;
        let behind = shared.sync == SyncMode::Always
            && (written.dirty || shared.published.load().position.0 + 1 < position.0);
        if behind {
            written.dirty = true;
            drop(written);
            shared.wake_syncer();
        } else {
            shared.published.store(Arc::new(written.view.clone()));
        }
        Ok(Ticket { position })
    }

    /// Calls `then` once the ticket's change is durable and published; at once if it is already.
    /// After a failed sync every waiter gets an error.
    pub fn when_durable(
        &self,
        ticket: Ticket,
        then: impl FnOnce(Result<Position>) + Send + 'static,
    ) {
        if self.view().position >= ticket.position {
            return then(Ok(ticket.position));
        }
        let mut waiting = self.shared.waiting.lock();
        if waiting.failed || waiting.stop {
            drop(waiting);
            return then(Err(StoreError::Engine("the store has stopped".to_owned())));
        }
        // Published while we took the lock: the syncer answers under this lock, so look again.
        if self.view().position >= ticket.position {
            drop(waiting);
            return then(Ok(ticket.position));
        }
        waiting.waiters.push_back((ticket.position, Box::new(then)));
    }

    /// Waits in this thread until the ticket's change is durable and published.
    pub fn wait(&self, ticket: Ticket) -> Result<Position> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.when_durable(ticket, move |result| {
            // The receiver waits below until it has the result.
            let _ = sender.send(result);
        });
        receiver
            .recv()
            .map_err(|_| StoreError::Engine("the store has stopped".to_owned()))?
    }

    /// Writes a consistent copy of the whole database into the new directory `target`.
    pub fn checkpoint(&self, target: &Path) -> Result<()> {
        self.shared.engine.checkpoint(target)
    }

    /// Sizes by family.
    pub fn stats(&self) -> Result<Vec<FamilyStats>> {
        self.shared.engine.stats()
    }

    /// True while writes are refused for want of disk space.
    pub fn is_full(&self) -> bool {
        self.shared.space.is_full()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.waiting.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(syncer) = self.syncer.take() {
            // A panic there was reported when it happened.
            let _ = syncer.join();
        }
    }
}

impl Shared {
    /// The syncer looks for work and goes to sleep under this lock, so that it can't miss us.
    fn wake_syncer(&self) {
        drop(self.waiting.lock());
        self.wake.notify_one();
    }

    /// The sync stage.
    fn run(&self) {
        let pause = match self.sync {
            SyncMode::Interval(interval) => interval,
            SyncMode::Always | SyncMode::Never => Duration::from_secs(1),
        };
        let mut next_look = Instant::now();
        loop {
            let stop = self.wait_for_work(pause);
            if self.sync != SyncMode::Never || stop {
                match self.sync_once() {
                    Ok(()) => {}
                    Err(StoreError::Full) if !stop => self.rest_while_full(),
                    Err(error) => {
                        self.fail(error);
                        return;
                    }
                }
            }
            self.answer();
            if next_look <= Instant::now() {
                self.space.look(&*self.engine);
                next_look = Instant::now() + Duration::from_secs(1);
            }
            if stop {
                return;
            }
        }
    }

    fn wait_for_work(&self, pause: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        if self.sync == SyncMode::Always {
            let deadline = Instant::now() + pause;
            while !waiting.stop && !self.written.lock().dirty {
                if self.wake.wait_until(&mut waiting, deadline).timed_out() {
                    break;
                }
            }
        } else if !waiting.stop {
            self.wake.wait_for(&mut waiting, pause);
        }
        waiting.stop
    }

    fn sync_once(&self) -> Result<()> {
        let view = {
            let mut written = self.written.lock();
            if !written.dirty {
                return Ok(());
            }
            written.dirty = false;
            written.view.clone()
        };
        if let Err(error) = self.engine.sync() {
            self.written.lock().dirty = true;
            return Err(error);
        }
        if self.sync == SyncMode::Always {
            self.published.store(Arc::new(view));
        }
        Ok(())
    }

    /// What was written waits until the disk has room for the sync; meanwhile nothing is acknowledged.
    fn rest_while_full(&self) {
        let mut waiting = self.waiting.lock();
        let deadline = Instant::now() + BETWEEN_FULL_SYNCS;
        while !waiting.stop && !self.wake.wait_until(&mut waiting, deadline).timed_out() {}
    }

    fn answer(&self) {
        let published = self.published.load().position;
        let mut ready = Vec::new();
        {
            let mut waiting = self.waiting.lock();
            // Commits enter in nearly their order; a later one in front only waits for its turn.
            let mut kept = VecDeque::new();
            while let Some((position, then)) = waiting.waiters.pop_front() {
                if position <= published {
                    ready.push((position, then));
                } else {
                    kept.push_back((position, then));
                }
            }
            waiting.waiters = kept;
        }
        for (position, then) in ready {
            then(Ok(position));
        }
    }

    fn fail(&self, error: StoreError) {
        let waiters = {
            let mut waiting = self.waiting.lock();
            waiting.failed = true;
            std::mem::take(&mut waiting.waiters)
        };
        for (_, then) in waiters {
            then(Err(StoreError::Engine(error.to_string())));
        }
        (self.on_fatal)(&error);
    }
}

fn number_op(key: &[u8], number: u64) -> Op {
    Op {
        family: Family::Meta,
        key: key.to_vec(),
        value: Some(number.to_be_bytes().to_vec()),
        key_position: None,
        value_position: None,
    }
}

fn read_number(snapshot: &dyn crate::Snapshot, key: &[u8]) -> Result<Option<u64>> {
    match snapshot.get(Family::Meta, key)? {
        Some(bytes) => bytes
            .try_into()
            .map(|bytes| Some(u64::from_be_bytes(bytes)))
            .map_err(|_| StoreError::Corrupt {
                table: "meta",
                why: "not eight bytes",
            }),
        None => Ok(None),
    }
}

/// The positions of a view and of a store, for logs.
impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
