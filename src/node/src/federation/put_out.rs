//! Users who were put out of a room whose members are not known here yet (a faster join).
//!
//! Who puts them out may be somebody of whom nothing is known, so the event can't be judged, and is held. It never will be
//! judged: the members that this asks for are told to servers in the room alone, and this one is not in it any more. Its users
//! would be left in a room that is not there.
//!
//! So two signs together are believed: that the server which let this one in says that it is not in the room; and that an
//! event is held, signed by its sender's server, which puts the user out. Then the user leaves, by an event of this server's
//! own, for the reason that the held one gives: what others do is judged by nobody, and what is kept is true either way.

use std::collections::HashMap;
use std::sync::Arc;

use event::auth::Membership;
use event::{EventId, Pdu, RoomRules};
use names::{RoomSn, UserSn};
use remote::RemoteError;
use rooms::membership::{MemberProfile, member_content};
use rooms::{NewEvent, RoomWriter, Sender, event_log, held, members, partial};
use serde::Deserialize;

use super::partial::{HELD_AT_ONCE, HELD_BYTES_AT_ONCE};
use crate::{Node, NodeError};

/// What putting somebody out says.
#[derive(Deserialize)]
struct Content {
    membership: String,
    reason: Option<String>,
}

/// Whether a server says that this one is not in the room.
pub(super) fn says_not_in_room(error: &NodeError) -> bool {
    matches!(error, NodeError::Remote(RemoteError::Refused { status: 403, errcode, .. }) if errcode == "M_FORBIDDEN")
}

impl Node {
    /// Has those users leave the room whom events that are held put out of it. Says whether nobody of this server is in it after
    /// that. To be called when the server that let this one in says so.
    pub(super) async fn leave_where_put_out(
        self: &Arc<Self>,
        room: RoomSn,
    ) -> Result<bool, NodeError> {
        // Where nobody is in the room any more, there is nothing to find out.
        if !partial::is_partial(&self.store().head(), room)? {
            return Ok(false);
        }
        let put_out = self.put_out(room)?;
        if put_out.is_empty() {
            return Ok(false);
        }
        self.change_room(room, |writer| -> Result<(), NodeError> {
            for (user, reason) in &put_out {
                leave(writer, *user, reason.as_deref())?;
            }
            Ok(())
        })
        .await?;
        Ok(!members::is_resident(&self.store().head(), room)?)
    }

    /// The local users whom the last event of their membership that is held puts out, each with the reason.
    fn put_out(&self, room: RoomSn) -> Result<HashMap<UserSn, Option<String>>, NodeError> {
        let head = self.store().head();
        let mut found = HashMap::new();
        let Some(rules) = event_log::head(&head, room)?.and_then(|head| head.rules()) else {
            return Ok(found);
        };
        let mut next = 0;
        loop {
            let piece = held::from(&head, room, next, HELD_AT_ONCE, HELD_BYTES_AT_ONCE)?;
            let Some((last, _)) = piece.last() else {
                return Ok(found);
            };
            next = last.saturating_add(1);
            for (_, held) in &piece {
                let Some((user_id, reason)) = member_change(rules, held) else {
                    continue;
                };
                let Some(user) = names::user_sn(&head, &user_id)?.filter(|user| user.is_local())
                else {
                    continue;
                };
                match reason {
                    Some(reason) => found.insert(user, reason),
                    None => found.remove(&user),
                };
            }
        }
    }
}

/// Whose membership a held event changes, and the reason if it puts them out.
fn member_change(rules: &RoomRules, held: &held::Held) -> Option<(String, Option<Option<String>>)> {
    let id = EventId::from(held.event_id.as_str());
    let pdu = Pdu::from_stored(rules, id, held.json.as_bytes()).ok()?;
    let user_id = pdu
        .state_key()
        .filter(|_| pdu.event_type() == "m.room.member")?;
    let content: Content = serde_json::from_str(pdu.content()).ok()?;
    let puts_out = matches!(content.membership.as_str(), "leave" | "ban");
    let puts_out = puts_out && pdu.sender() != user_id;
    Some((user_id.to_owned(), puts_out.then_some(content.reason)))
}

/// A user leaves, if they are still there.
fn leave(
    writer: &mut RoomWriter<'_>,
    user: UserSn,
    reason: Option<&str>,
) -> Result<(), rooms::Error> {
    let room = writer.room();
    if members::membership(writer.txn(), room, user)? != Membership::Join {
        return Ok(());
    }
    let user_id = names::user_id(writer.txn(), user)?;
    let own = Sender {
        user,
        user_id: &user_id,
    };
    let content = member_content("leave", &MemberProfile::default(), reason);
    writer.append(&NewEvent::member(own, own, &content))?;
    Ok(())
}
