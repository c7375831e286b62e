//! What other parts of federation are asked for and do not give yet: each goes away with the part that gives it.

use bytes::Bytes;
use names::RoomSn;

use crate::{Node, NodeError};

impl Node {
    /// Sends an event of another server, that came in by this one, on to the servers of the room.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn relay(&self, _room: RoomSn, _event_id: &str) -> Result<(), NodeError> {
        Ok(())
    }

    /// Takes in events of a room that this server is not in: an invitation may be withdrawn by one.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn receive_from_outside(
        &self,
        _origin: &str,
        _room_id: &str,
        _events: Vec<Bytes>,
    ) -> Result<(), NodeError> {
        Ok(())
    }
}
