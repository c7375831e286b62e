//! Who is typing: kept in memory, told to the room's members here and to the servers of the others.
//! <https://spec.matrix.org/v1.19/client-server-api/#typing-notifications>

use std::sync::Arc;

use names::{RoomSn, UserSn};

use crate::{Node, NodeError, Touched};

impl Node {
    /// Lets a user of this server type until then, or no longer.
    ///
    /// # Errors
    /// If the room can't be read, or no position can be taken.
    pub fn set_typing(
        self: &Arc<Self>,
        room: RoomSn,
        user: UserSn,
        until_ms: Option<u64>,
    ) -> Result<(), NodeError> {
        if self.put_typing(room, user, until_ms)? {
            self.send_typing(room, user, until_ms.is_some())?;
        }
        Ok(())
    }

    /// Notes until when a user types. Says whether that is news to the room.
    pub(crate) fn put_typing(
        &self,
        room: RoomSn,
        user: UserSn,
        until_ms: Option<u64>,
    ) -> Result<bool, NodeError> {
        let typing = &self.memory.typing;
        if typing.would_change(room, user, until_ms.is_some()) {
            self.tick(Touched::room(room), |position| {
                typing.set(room, user, until_ms, position);
            })?;
            return Ok(true);
        }
        if let Some(until_ms) = until_ms {
            typing.extend(room, user, until_ms);
        }
        Ok(false)
    }

    /// Ends typing that ran out.
    pub(crate) fn end_typing(self: &Arc<Self>) -> Result<(), NodeError> {
        for (room, user) in self.memory.typing.expired(self.now_ms()) {
            if user.is_local() {
                self.set_typing(room, user, None)?;
            } else {
                self.put_typing(room, user, None)?;
            }
        }
        Ok(())
    }
}
