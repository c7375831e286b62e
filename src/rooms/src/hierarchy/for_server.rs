//! One level of a space, for another server.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>

use names::RoomSn;
use store::Read;

use super::{Room, children};
use crate::about::About;
use crate::{Result, event_log, members, summary};

/// What another server is told of a space.
#[derive(Clone, Debug)]
pub struct Level {
    /// The space.
    pub room: Room,
    /// Those of its children that this server is in and the other may know of.
    pub children: Vec<About>,
    /// Those that this server is in and the other may not know of.
    pub inaccessible: Vec<String>,
}

/// Children that are looked into for another server.
const MOST_CHILDREN: usize = 1_000;

/// Reads a space and its children for another server; nothing if this server is not in the space, or the other may
/// not know of it.
///
/// # Errors
/// If the rooms can't be read.
pub fn for_server(
    from: &impl Read,
    root: RoomSn,
    server: &str,
    suggested_only: bool,
) -> Result<Option<Level>> {
    let Some(about) = resident(from, root)? else {
        return Ok(None);
    };
    if !summary::may_server_know(from, &about, server)? {
        return Ok(None);
    }
    let mut level = Level {
        children: Vec::new(),
        inaccessible: Vec::new(),
        room: Room {
            children: children(from, &about, suggested_only)?,
            about,
        },
    };
    for child in level.room.children.iter().take(MOST_CHILDREN) {
        let room = names::room_sn(from, &child.room_id)?;
        let about = match room {
            Some(room) => resident(from, room)?,
            None => None,
        };
        match about {
            Some(about) if summary::may_server_know(from, &about, server)? => {
                level.children.push(about);
            }
            Some(about) => level.inaccessible.push(about.room_id),
            None => {}
        }
    }
    Ok(Some(level))
}

/// What a room says of itself, if this server is in it.
pub(super) fn resident(from: &impl Read, room: RoomSn) -> Result<Option<About>> {
    let Some(head) = event_log::head(from, room)? else {
        return Ok(None);
    };
    match members::is_resident(from, room)? {
        true => Ok(Some(About::with_head(from, room, &head)?)),
        false => Ok(None),
    }
}
