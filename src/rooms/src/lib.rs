//! Core of rooms: appending events, state and its history, membership, timeline, relations, receipts,
//! aliases and the directory.
//!
//! Synchronous and pure over a [`store::Read`]; changes go into a [`store::Txn`]. Time, randomness and
//! keys come in as arguments.
//!
//! Invariants:
//! - [`EventNo`] is an event's place in its room; it grows in the order of arrival, and so in the
//!   order of positions. Stored events never change; what changes about them (redaction, relations)
//!   is kept beside them and applied when they are rendered.
//! - One change writes all that follows from an event: its place, the state, its history, membership,
//!   relations, threads.
//!
//! Deliberately not here: users' own data, /sync, waiting.

pub mod about;
pub mod aliases;
pub mod append;
mod auth_index;
pub mod backfill;
mod cache;
pub mod check;
pub mod create;
pub mod directory;
mod error;
pub mod event_log;
pub mod followed;
pub mod graph;
pub mod held;
pub mod hierarchy;
pub mod history;
pub mod ingest;
pub mod inspect;
mod lines;
pub mod members;
pub mod membership;
pub mod migrations;
pub mod outside;
pub mod partial;
pub mod policy;
pub mod receipts;
mod redactions;
pub mod relations;
pub mod render;
pub mod resident;
mod resolve;
mod schema;
pub mod search;
pub mod send;
pub mod served;
pub mod server_acl;
pub mod servers;
pub mod state;
pub mod summary;
pub mod template;
mod types;
pub mod upgrade;
pub mod visibility;
mod writer;

pub use append::{NewEvent, Outline};
pub use cache::Cache;
pub use error::Error;
pub use schema::TABLES;
pub use types::{
    EventNo, Flags, Marks, Member, Point, Relation, RoomHead, RoomServer, Sender, StateAfter,
    StateDelta, StoredEvent, ThreadSummary, UserRoom,
};
pub use writer::{Context, Effects, RoomWriter};

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
