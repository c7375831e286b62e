//! Whom a change of a user's keys concerns: the user, and everyone who shares a room with them, here or on another
//! server.

use names::{RoomSn, UserSn};
use rooms::followed;

use crate::{Node, NodeError, Touched};

impl Node {
    /// What to touch with a change that marks `user`, of this server or another, in [`users::keys::device_lists`].
    /// Called under the user's lock; whoever comes to share a room meanwhile is told by the join.
    ///
    /// # Errors
    /// If the user's rooms can't be read.
    pub fn keys_changed(&self, user: UserSn) -> Result<Touched, NodeError> {
        let head = self.store.head();
        if !user.is_local() {
            let rooms: Vec<RoomSn> = followed::rooms_of(&head, user)
                .map(|row| row.map(|(room, _)| room))
                .collect::<rooms::Result<_>>()?;
            return Ok(Touched {
                rooms,
                ..Touched::nobody()
            });
        }
        Ok(Touched {
            rooms: rooms::members::joined_rooms(&head, user)?,
            outgoing: true,
            ..Touched::user(user)
        })
    }
}
