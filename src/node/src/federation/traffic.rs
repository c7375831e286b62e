//! What goes between this server and the others, counted since the start: for whoever watches over the server.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Node;

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(super) transactions_sent: AtomicU64,
    pub(super) transactions_failed: AtomicU64,
    pub(super) events_sent: AtomicU64,
    pub(super) edus_sent: AtomicU64,
    pub(super) transactions_received: AtomicU64,
    pub(super) events_received: AtomicU64,
    pub(super) events_refused: AtomicU64,
    pub(super) edus_received: AtomicU64,
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// What went between this server and the others, and what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FederationTraffic {
    /// Transactions that other servers took.
    pub transactions_sent: u64,
    /// Tries that failed.
    pub transactions_failed: u64,
    /// Events in the transactions that were taken, once for each server.
    pub events_sent: u64,
    /// Ephemeral data units in them.
    pub edus_sent: u64,
    /// Transactions that were worked on.
    pub transactions_received: u64,
    /// Events in them.
    pub events_received: u64,
    /// Those that were answered with an error.
    pub events_refused: u64,
    /// Ephemeral data units in them.
    pub edus_received: u64,
    /// Servers that something waits for, or is sent to.
    pub servers_waiting: u64,
    /// Those of them that fail.
    pub servers_failing: u64,
    /// For how long the one that fails longest fails, in milliseconds: nothing that waits is older.
    pub longest_failing_ms: u64,
}

impl Node {
    /// What went between this server and the others since the start, and what waits now.
    pub fn federation_traffic(&self) -> FederationTraffic {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let traffic = &self.traffic;
        let (waiting, failing, longest_failing_ms) = self.outgoing.waiting(self.now_ms());
        FederationTraffic {
            transactions_sent: of(&traffic.transactions_sent),
            transactions_failed: of(&traffic.transactions_failed),
            events_sent: of(&traffic.events_sent),
            edus_sent: of(&traffic.edus_sent),
            transactions_received: of(&traffic.transactions_received),
            events_received: of(&traffic.events_received),
            events_refused: of(&traffic.events_refused),
            edus_received: of(&traffic.edus_received),
            servers_waiting: waiting,
            servers_failing: failing,
            longest_failing_ms,
        }
    }
}
