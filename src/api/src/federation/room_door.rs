//! The door before everything that other servers read of a room: a server that is in it, and that the room's access
//! control list admits. Nobody else learns even whether there is such a room.

use std::sync::Arc;

use event::RoomRules;
use names::RoomSn;
use node::federation::Forbidden;
use rooms::{event_log, partial, server_acl, servers};
use store::View;

use crate::app::App;
use crate::error::ApiError;
use crate::federation::Signed;

/// The most bytes of an event id, and of a room id.
pub const MOST_ID_BYTES: usize = event::identifier::MAX_BYTES;

/// A room as one server may read it, at one moment.
pub struct RoomDoor {
    /// The moment.
    pub view: View,
    /// The room.
    pub room: RoomSn,
    /// The rules of its version.
    pub rules: &'static RoomRules,
    /// The server that asks.
    pub origin: Arc<str>,
}

impl RoomDoor {
    /// Lets a server in.
    ///
    /// # Errors
    /// `M_FORBIDDEN`.
    pub fn open(app: &App, signed: &Signed, room_id: &str) -> Result<Self, ApiError> {
        let view = app.node().view();
        let room = app.node().names().known_room(&view, room_id)?;
        let room = room.ok_or_else(not_in_room)?;
        Self::open_known(app, signed, view, room)
    }

    /// The same for a room that is known already.
    ///
    /// # Errors
    /// `M_FORBIDDEN`.
    pub fn open_known(
        app: &App,
        signed: &Signed,
        view: View,
        room: RoomSn,
    ) -> Result<Self, ApiError> {
        let head = event_log::head(&view, room)?.ok_or_else(not_in_room)?;
        let rules = head
            .rules()
            .ok_or_else(|| ApiError::unsupported_room_version(&head.version))?;
        let origin = Arc::clone(&signed.origin);
        if !server_acl::allows(&view, app.node().rooms_cache(), room, &origin)? {
            return Err(ApiError::forbidden(
                "The room's access control list denies this server",
            ));
        }
        if !servers::is_joined(&view, room, &origin)? {
            return Err(not_in_room());
        }
        // A request may name an event alone, whose room the rules of the house have not seen yet.
        let node = app.node();
        if node.is_limited_partner(&origin)
            && !node.may_share_room(&origin, &names::room_id(&view, room)?)
        {
            return Err(ApiError::forbidden(Forbidden::Room.to_string()));
        }
        Ok(Self {
            view,
            room,
            rules,
            origin,
        })
    }

    /// Refuses what all members of the room belong to, where not all of them are known here yet.
    ///
    /// # Errors
    /// `M_NOT_FOUND`: another server can tell.
    pub fn must_know_members(&self) -> Result<(), ApiError> {
        match partial::lacks_members(&self.view, self.room)? {
            true => Err(ApiError::not_found(
                "This server does not know the members of the room yet",
            )),
            false => Ok(()),
        }
    }

    /// The room with its rules, as the core writes events by.
    pub fn room(&self) -> (RoomSn, &'static RoomRules) {
        (self.room, self.rules)
    }
}

fn not_in_room() -> ApiError {
    ApiError::forbidden("This server is not in the room")
}
