//! Whom a change of a user's keys concerns: the user, and everyone who shares a room with them.

use names::UserSn;

use crate::{Node, NodeError, Touched};

impl Node {
    /// What to touch with a change that marks `user` in [`users::keys::device_lists`]. Called under the
    /// user's lock; whoever comes to share a room meanwhile is told by the join.
    ///
    /// # Errors
    /// If the user's rooms can't be read.
    pub fn keys_changed(&self, user: UserSn) -> Result<Touched, NodeError> {
        Ok(Touched {
            rooms: rooms::members::joined_rooms(&self.store.head(), user)?,
            ..Touched::user(user)
        })
    }
}
