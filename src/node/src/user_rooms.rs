//! The rooms of a user, kept in memory: true for a view as long as nothing of the user changed between
//! the view and the position they were read at.

use std::sync::Arc;

use names::{RoomSn, UserSn};
use quick_cache::sync::Cache;
use rooms::UserRoom;
use store::{At, Position, Read, View};

use crate::{Node, NodeError};

/// A user's rooms, of whatever membership.
pub type Rooms = Arc<Vec<(RoomSn, At<UserRoom>)>>;

pub(crate) struct UserRooms {
    kept: Cache<UserSn, (Position, Rooms)>,
}

impl Default for UserRooms {
    fn default() -> Self {
        Self {
            kept: Cache::new(20_000),
        }
    }
}

impl Node {
    /// A user's rooms in a view.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn rooms_of(&self, user: UserSn, view: &View) -> Result<Rooms, NodeError> {
        let position = view.position();
        if let Some((as_of, rooms)) = self.user_rooms.kept.get(&user)
            && !self.activity.user_changed(user, as_of.min(position))
        {
            return Ok(rooms);
        }
        let rooms: Rooms = Arc::new(rooms::members::rooms_of(view, user)?);
        self.user_rooms
            .kept
            .insert(user, (position, Arc::clone(&rooms)));
        Ok(rooms)
    }
}
