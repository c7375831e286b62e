//! What is known of a server that something is sent to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use names::{RoomSn, UserSn};
use parking_lot::Mutex;
use servers::Queue;
use servers::backoff::{self, next_rest_ms};
use servers::outbox::Destination as Row;
use store::Position;

/// Each kind of what is dropped first: no more of it is kept for a server.
const MOST_EPHEMERAL: usize = 500;

/// A failure is taken to be passing for so long; then the server is caught up by room.
pub(super) const LONG_MS: u64 = 60 * 60 * 1_000;

/// The shortest rest of a server that was heard from, for each failure in a row.
const SHORTEST_REST_MS: u64 = 1_000;
const MOST_SHORTEST_RESTS: u32 = 60;

/// A server that something is sent to.
pub(super) struct Destination {
    pub name: Arc<str>,
    pub state: Mutex<State>,
}

/// A server that fails.
#[derive(Clone, Debug)]
pub(super) struct Failing {
    pub since_ms: u64,
    pub tried_ms: u64,
    pub retry_at_ms: u64,
    pub failures: u32,
    pub error: String,
}

impl Failing {
    /// Whether it has failed for so long that what can't be made up for later is not kept for it.
    pub fn is_given_up(&self, now_ms: u64) -> bool {
        backoff::is_given_up(now_ms.saturating_sub(self.since_ms), self.failures)
    }

    /// When a sign of life may make it be tried at the soonest.
    pub fn soonest_ms(&self) -> u64 {
        let rests = self.failures.min(MOST_SHORTEST_RESTS);
        self.tried_ms + SHORTEST_REST_MS * u64::from(rests)
    }
}

/// What a transaction that failed was: repeated, it is the same.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub id: String,
    /// How many messages to devices, the oldest that wait.
    pub to_device: usize,
}

/// Whose receipt it is: room, user and thread.
pub(super) type ReceiptKey = (RoomSn, UserSn, Option<String>);

/// A receipt as it is sent: event id and time in milliseconds.
pub(super) type SentReceipt = (String, u64);

/// What is dropped first.
#[derive(Default)]
pub(super) struct Ephemeral {
    pub typing: BTreeMap<(RoomSn, UserSn), bool>,
    pub receipts: BTreeMap<ReceiptKey, SentReceipt>,
    pub presence: BTreeSet<UserSn>,
}

impl Ephemeral {
    pub fn is_empty(&self) -> bool {
        self.typing.is_empty() && self.receipts.is_empty() && self.presence.is_empty()
    }

    pub fn typing(&mut self, room: RoomSn, user: UserSn, is_typing: bool) {
        if self.typing.len() < MOST_EPHEMERAL {
            self.typing.insert((room, user), is_typing);
        }
    }

    pub fn receipt(&mut self, of: ReceiptKey, receipt: SentReceipt) {
        if self.receipts.len() < MOST_EPHEMERAL {
            self.receipts.insert(of, receipt);
        }
    }

    pub fn presence(&mut self, user: UserSn) {
        if self.presence.len() < MOST_EPHEMERAL {
            self.presence.insert(user);
        }
    }
}

/// A server that was away for long is told of the rooms in which something happened meanwhile.
#[derive(Clone, Debug)]
pub(super) struct CatchUp {
    /// Since when it has missed everything.
    pub since: Position,
    /// What it is told of now.
    pub stage: Stage,
}

/// What a server is told of that is caught up, in this order.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// Rooms that it is in, after the one that was looked at last.
    Rooms(RoomSn),
    /// Rooms that it was put out of.
    RoomsLeft(RoomSn),
    /// Whose changed devices are looked for.
    LookForUsers,
    /// Users whose changed devices it has to be told of.
    Users(Vec<UserSn>),
}

#[derive(Default)]
pub(super) struct State {
    pub queue: Queue,
    pub catch_up: Option<CatchUp>,
    pub ephemeral: Ephemeral,
    pub has_to_device: bool,
    pub failing: Option<Failing>,
    /// To be repeated.
    pub transaction: Option<Transaction>,
    /// A task sends to it.
    pub is_working: bool,
    /// It has a row of its own: it does not hold back the others.
    pub has_row: bool,
    /// It was taken out of the map.
    pub is_retired: bool,
}

impl State {
    pub fn resume(&mut self, row: &Row) {
        self.queue = Queue::from_log(row.cursor);
        self.has_row = true;
        self.has_to_device = true;
        self.failing = Some(Failing {
            since_ms: row.failing_since_ms,
            tried_ms: 0,
            retry_at_ms: row.retry_at_ms,
            failures: row.failures,
            error: row.error.clone(),
        });
    }

    /// Everything up to here was delivered.
    pub fn cursor(&self, dispatched: Position) -> Position {
        let cursor = self.queue.cursor(dispatched);
        match &self.catch_up {
            Some(catch_up) => catch_up.since.min(cursor),
            None => cursor,
        }
    }

    /// The log is needed from here; nothing if the server will be caught up by room.
    pub fn needs_log_from(&self, dispatched: Position, now_ms: u64) -> Option<Position> {
        let is_long = |failing: &Failing| now_ms.saturating_sub(failing.since_ms) >= LONG_MS;
        if self.failing.as_ref().is_some_and(is_long) {
            return None;
        }
        Some(self.queue.cursor(dispatched))
    }

    /// Whether there is anything to send, or to look for.
    pub fn is_idle(&self) -> bool {
        self.queue.is_done()
            && self.catch_up.is_none()
            && self.ephemeral.is_empty()
            && !self.has_to_device
    }

    /// Notes that it is taken out of the map. Whether it had a row.
    pub fn retire(&mut self) -> bool {
        self.is_working = false;
        self.is_retired = true;
        std::mem::take(&mut self.has_row)
    }

    /// Notes that it could not be reached. What is dropped first goes.
    pub fn fail(&mut self, error: String, now_ms: u64, random: u32, dispatched: Position) -> Row {
        self.queue.failed(dispatched);
        self.ephemeral = Ephemeral::default();
        if let Some(catch_up) = self.catch_up.take() {
            self.queue.skip_to(catch_up.since);
            self.transaction = None;
        }
        let failures = self.failing.as_ref().map_or(0, |failing| failing.failures) + 1;
        let since_ms = self
            .failing
            .as_ref()
            .map_or(now_ms, |failing| failing.since_ms);
        let failing_ms = now_ms.saturating_sub(since_ms);
        let retry_at_ms = now_ms + next_rest_ms(failing_ms, failures, random);
        let row = Row {
            cursor: self.cursor(dispatched),
            failing_since_ms: since_ms,
            retry_at_ms,
            failures,
            error: error.clone(),
        };
        self.failing = Some(Failing {
            since_ms,
            tried_ms: now_ms,
            retry_at_ms,
            failures,
            error,
        });
        row
    }
}

impl Destination {
    pub fn new(name: Arc<str>) -> Self {
        Self {
            name,
            state: Mutex::default(),
        }
    }
}
