//! Reading: from a published moment, or through a change's own writes.

use std::sync::Arc;

use crate::{Cursor, Direction, Family, Position, Result, Snapshot};

/// What tables read from: a [`View`], or a [`crate::Txn`], which shows its own writes too.
pub trait Read {
    /// The value of one key.
    fn get_raw(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// The values of many keys, in their order.
    fn multi_get_raw(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>>;
    /// The rows with `lower <= key < upper`; an empty `upper` means no bound.
    fn scan_raw<'a>(
        &'a self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Box<dyn Cursor + 'a>;
    /// The position up to which this shows everything.
    fn position(&self) -> Position;
}

/// The database at one position. Cheap to clone; long-lived views hold back compaction.
#[derive(Clone)]
pub struct View {
    pub(crate) position: Position,
    pub(crate) snapshot: Arc<dyn Snapshot>,
}

impl Read for View {
    fn get_raw(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.snapshot.get(family, key)
    }

    fn multi_get_raw(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        self.snapshot.multi_get(family, keys)
    }

    fn scan_raw<'a>(
        &'a self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Box<dyn Cursor + 'a> {
        self.snapshot.scan(family, lower, upper, direction)
    }

    fn position(&self) -> Position {
        self.position
    }
}
