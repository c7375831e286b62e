//! The ordered key-value boundary under everything that is kept.
//!
//! Owns: typed tables over a handful of column families, snapshots ([`View`]), changes that read
//! their own writes ([`Txn`]) and become one atomic [`Batch`], and the [`Store`], which gives every
//! batch its [`Position`] at the moment it is written, syncs many of them at once and makes them
//! visible in order.
//!
//! Invariants:
//! - A batch is applied whole or not at all, and its position is its place in the write order.
//! - What a published [`View`] shows has reached the disk (with [`SyncMode::Always`]), and no view
//!   ever shows a position without everything before it.
//! - Engines offer only get, multi-get, scan and write; no engine type leaves this crate.
//!
//! Deliberately not here: Matrix, tokio, caches of decoded values.

mod batch;
mod codec;
mod engine;
mod error;
pub mod memory;
mod record;
pub mod rocks;
mod space;
mod store;
mod table;
mod txn;
mod view;

pub use batch::{Batch, Op};
pub use codec::{Decoder, Encoder, InvertedKey, Key, PrefixOf};
pub use engine::{Cursor, Direction, Engine, Family, FamilyStats, Snapshot, Space};
pub use error::StoreError;
pub use record::{At, Blob, Record, Value};
pub use store::{META_TABLE, Migration, Options, Position, Store, SyncMode, Ticket};
pub use table::{Kind, Scan, Table, TableInfo, check_rows};
pub use txn::Txn;
pub use view::{Read, View};

/// What every fallible call of this crate returns.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
