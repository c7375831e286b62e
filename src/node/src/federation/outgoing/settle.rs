//! Writing down how far the servers are, and forgetting what of the log nobody needs any more.

use std::sync::atomic::Ordering;

use servers::outbox::{self, Progress};
use store::Position;
use users::keys::device_lists;

use crate::{Node, NodeError, Touched};

/// Rows of the log that are forgotten in one change.
const MOST_FORGOTTEN: usize = 2_000;

impl Node {
    pub(super) fn settle_outgoing(&self) {
        if let Err(error) = self.try_settle() {
            tracing::warn!(%error, "how far other servers are could not be written");
        }
    }

    fn try_settle(&self) -> Result<(), NodeError> {
        let outgoing = &self.outgoing;
        // First: what is handed out from now on is after it.
        let dispatched = outgoing.dispatched();
        let (mut settled, mut needed) = (dispatched, dispatched);
        let now_ms = self.now_ms();
        for destination in outgoing.all() {
            let state = destination.state.lock();
            if !state.has_row {
                settled = settled.min(state.cursor(dispatched));
            }
            if let Some(from) = state.needs_log_from(dispatched, now_ms) {
                needed = needed.min(from);
            }
        }
        let head = self.store().head();
        let before = outbox::progress(&head)?;
        let settled = settled.max(before.settled);
        let needed = needed.min(settled).max(before.forgotten);
        let erased = outgoing.erased.load(Ordering::Acquire);
        if settled == before.settled && needed.0 == erased {
            return Ok(());
        }
        let mut txn = self.begin();
        let since = Position(erased);
        let more = outbox::forget_events(&mut txn, since, needed, MOST_FORGOTTEN)?
            | device_lists::forget_parts(&mut txn, since, needed, MOST_FORGOTTEN)?;
        let progress = Progress {
            settled,
            forgotten: needed,
        };
        outbox::put_progress(&mut txn, &progress);
        let ticket = self.write(txn.into_batch(), &Touched::nobody())?;
        self.wake_when_durable(ticket, Touched::nobody());
        outgoing.forgotten.store(needed.0, Ordering::Release);
        match more {
            true => outgoing.unforgotten.notify_one(),
            false => outgoing.erased.store(needed.0, Ordering::Release),
        }
        Ok(())
    }
}
