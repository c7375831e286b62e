//! /sync as a pure read over (since, view): every answer is built from one view, and its `next_batch`
//! is that view's position.
//!
//! Law: a client that follows the tokens has, after every answer, what a client that starts anew would
//! be told; nothing is missed, doubled or reordered while others write.
//!
//! What is kept in memory beside the database (typing, presence, lazily loaded members, unread counts)
//! is reached through [`Memory`]. Deliberately not here: waiting.

mod account;
mod devices;
mod ephemeral;
mod error;
mod fields;
pub mod filtered;
mod key_counts;
mod lazy;
mod notifications;
mod outside;
mod presences;
mod response;
mod room;
pub mod room_state;
pub mod sliding;
mod summary;
mod token;
mod unread;

pub use account::{ignored as ignored_users, presence_content};
pub use devices::device_changes;
pub use ephemeral::{Presence, PresenceState, Typing};
pub use error::Error;
pub use lazy::LazyMembers;
pub use notifications::{Asked as NotificationsAsked, notifications};
pub use response::{Answer, Request, StateMode, build};
pub use token::{PaginationToken, SyncToken};
pub use unread::UnreadCounts;

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is kept in memory beside the database.
#[derive(Default)]
pub struct Memory {
    /// Who is typing.
    pub typing: Typing,
    /// Who is online.
    pub presence: Presence,
    /// Which members each device was shown.
    pub lazy_members: LazyMembers,
    /// Unread counts as far as they were counted.
    pub unread: UnreadCounts,
    /// What connections of sliding sync were told.
    pub sliding: sliding::Kept,
}
