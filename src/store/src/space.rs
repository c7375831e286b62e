//! Keeps the engine from ever meeting a full disk: writes are refused while less than a reserve is
//! free, and accepted again when there is more.
//!
//! The disk is looked at before every write: a look costs less than a microsecond, and between two
//! looks another program can fill any reserve.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Engine, Result, StoreError};

/// At most this part of a disk is held in reserve, so that small disks can be used too.
const RESERVE_PART: u64 = 20;

pub(crate) struct SpaceGuard {
    reserve_bytes: u64,
    full: AtomicBool,
}

impl SpaceGuard {
    pub fn new(reserve_bytes: u64) -> Self {
        Self {
            reserve_bytes,
            full: AtomicBool::new(false),
        }
    }

    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Looks at the disk: true if it is full.
    pub fn look(&self, engine: &dyn Engine) -> bool {
        let full = engine.space().is_some_and(|space| {
            let reserve_bytes = self.reserve_bytes.min(space.total_bytes / RESERVE_PART);
            space.free_bytes < reserve_bytes
        });
        let was = self.full.swap(full, Ordering::Relaxed);
        if full && !was {
            tracing::error!("the disk is nearly full: writes are refused until there is space");
        } else if was && !full {
            tracing::info!("the disk has space again: writes are accepted");
        }
        full
    }

    /// Fails while the disk is full.
    pub fn check(&self, engine: &dyn Engine) -> Result<()> {
        if self.look(engine) {
            Err(StoreError::Full)
        } else {
            Ok(())
        }
    }
}
