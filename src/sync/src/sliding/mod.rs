//! Simplified sliding sync (MSC4186): windows on the user's rooms, as a pure read over
//! (what the connection was told, view).
//!
//! An answer is built from one view and from a [`State`], which says what the connection was told of each
//! room and up to which position; it makes the next state. A room is looked at only if something may have
//! happened in it since it was told, if the rules ask for more of it, or if it was never told. So a room
//! that drops out of a window is told from where it was left when it comes back.
//!
//! Law: a client that follows the positions knows, of the rooms in its windows, what a client that begins
//! anew is told.

mod answer;
mod connection;
mod description;
mod extensions;
mod facts;
mod filters;
pub mod request;
pub mod required_state;
mod room;
mod room_list;
mod state;

use names::{RoomSn, UserSn};
use store::Position;

pub use answer::{Answer, build};
pub use connection::{Connections, Pos, State, Told};
pub use request::Request;

/// What changed when, as far as it is known without reading: an answer of no is certain.
#[derive(Clone, Copy)]
pub struct Changes<'a> {
    /// Whether a room may have something new after a position.
    pub rooms: &'a (dyn Fn(RoomSn, Position) -> bool + 'a),
    /// Whether the user may have something new for themselves after a position.
    pub user: &'a (dyn Fn(Position) -> bool + 'a),
}

impl Changes<'_> {
    /// Whether a room may have something new after a position.
    pub fn room(&self, room: RoomSn, since: Position) -> bool {
        (self.rooms)(room, since)
    }

    /// Whether the user may have something new for themselves after a position.
    pub fn user(&self, since: Position) -> bool {
        (self.user)(since)
    }
}

/// Who asks, and for what.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The user.
    pub user: UserSn,
    /// The user's id.
    pub user_id: &'a str,
    /// The device.
    pub device: &'a str,
    /// What for.
    pub request: &'a Request,
    /// A number that no other state has.
    pub generation: u64,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

/// What is kept in memory for sliding sync.
#[derive(Default)]
pub struct Kept {
    /// What each connection was told.
    pub connections: Connections,
    lists: room_list::RoomLists,
    facts: facts::Facts,
}
