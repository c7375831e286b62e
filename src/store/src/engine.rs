//! The seam between the store and the engine that keeps the bytes.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Batch, Result};

/// Column families: tables with the same access pattern share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Family {
    /// Schema version, position reserve, server identity. A few rows.
    Meta,
    /// Names to numbers and back: point lookups.
    Names,
    /// Event bodies by room and number: scans in order, cold soon, well compressible.
    Events,
    /// Event ids to their place: point lookups of random keys.
    EventIds,
    /// Room state: point lookups and prefix scans.
    State,
    /// Everything else that is kept by room: heads, members, relations, receipts, lists.
    Rooms,
    /// Everything that is kept by user: accounts, tokens, account data, profiles.
    Users,
    /// End-to-end keys and key backups.
    Keys,
    /// To-device messages: written once, read once, deleted.
    ToDevice,
    /// Transaction ids: written often, read seldom, expire.
    Transactions,
    /// Metadata of uploaded files.
    Media,
    /// Work to be done: jobs and outgoing queues.
    Work,
}

impl Family {
    /// All families.
    pub const ALL: [Family; 12] = [
        Family::Meta,
        Family::Names,
        Family::Events,
        Family::EventIds,
        Family::State,
        Family::Rooms,
        Family::Users,
        Family::Keys,
        Family::ToDevice,
        Family::Transactions,
        Family::Media,
        Family::Work,
    ];

    /// The family's name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Meta => "meta",
            Family::Names => "names",
            Family::Events => "events",
            Family::EventIds => "event_ids",
            Family::State => "state",
            Family::Rooms => "rooms",
            Family::Users => "users",
            Family::Keys => "keys",
            Family::ToDevice => "to_device",
            Family::Transactions => "transactions",
            Family::Media => "media",
            Family::Work => "work",
        }
    }
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Backward,
}

/// Walks over the rows of a range.
pub trait Cursor {
    /// The next row, or nothing at the end.
    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>>;
}

/// The database as it was at one moment.
pub trait Snapshot: Send + Sync {
    /// The value of one key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// The values of many keys, in their order.
    fn multi_get(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>>;
    /// The rows with `lower <= key < upper`; an empty `upper` means no bound.
    fn scan<'a>(
        &'a self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Box<dyn Cursor + 'a>;
}

/// Sizes of one family, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyStats {
    /// The family's name.
    pub name: &'static str,
    /// The engine's estimate of the number of rows.
    pub rows: u64,
    /// Bytes in files on disk.
    pub disk_bytes: u64,
    /// Bytes in memory not yet in files.
    pub memory_bytes: u64,
}

/// The room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What this process may still fill.
    pub free_bytes: u64,
    /// The size of the file system.
    pub total_bytes: u64,
}

/// What keeps the bytes: RocksDB, or memory in tests.
pub trait Engine: Send + Sync {
    /// A snapshot of everything written so far.
    fn snapshot(&self) -> Box<dyn Snapshot>;
    /// Applies the batch whole or not at all. Visible to later snapshots at once; not yet safe
    /// from a power loss.
    fn write(&self, batch: &Batch) -> Result<()>;
    /// Returns when everything written before the call is safe from a power loss.
    ///
    /// # Errors
    /// [`crate::StoreError::Full`] if that needs room which the disk does not have: nothing is lost, and a
    /// later call can succeed. After any other failure nobody knows what is on the disk.
    fn sync(&self) -> Result<()>;
    /// Writes a complete, consistent copy of the database into the new directory `target`.
    fn checkpoint(&self, target: &Path) -> Result<()>;
    /// Sizes by family.
    fn stats(&self) -> Result<Vec<FamilyStats>>;
    /// The room on the disk that holds the database; nothing if there is none.
    fn space(&self) -> Option<Space>;
}
