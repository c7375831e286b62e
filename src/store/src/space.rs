//! Keeps the engine from ever meeting a full disk: writes are refused while less than a reserve is
//! free, and accepted again when there is more.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::{Engine, Result, StoreError};

/// Writes between two looks at the disk, besides the one each second.
const LOOK_EVERY: u32 = 256;

pub(crate) struct SpaceGuard {
    reserve_bytes: u64,
    full: AtomicBool,
    writes: AtomicU32,
}

impl SpaceGuard {
    pub fn new(reserve_bytes: u64) -> Self {
        Self {
            reserve_bytes,
            full: AtomicBool::new(false),
            writes: AtomicU32::new(0),
        }
    }

    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Looks at the disk.
    pub fn look(&self, engine: &dyn Engine) {
        let full = engine
            .free_bytes()
            .is_some_and(|free| free < self.reserve_bytes);
        let was = self.full.swap(full, Ordering::Relaxed);
        if full && !was {
            tracing::error!("the disk is nearly full: writes are refused until there is space");
        } else if was && !full {
            tracing::info!("the disk has space again: writes are accepted");
        }
    }

    /// Fails while the disk is full.
    pub fn check(&self, engine: &dyn Engine) -> Result<()> {
        let writes = self.writes.fetch_add(1, Ordering::Relaxed);
        if writes.is_multiple_of(LOOK_EVERY) || self.is_full() {
            self.look(engine);
        }
        if self.is_full() {
            Err(StoreError::Full)
        } else {
            Ok(())
        }
    }
}
