//! Guests leave when a room is closed to them: "If the `m.room.guest_access` event is changed to stop this
//! from being the case, the server MUST set those users' `m.room.member` state to `leave`."
//! <https://spec.matrix.org/v1.19/client-server-api/#guest-access>

use event::auth::Membership;
use rooms::membership::{MemberProfile, member_content};
use rooms::{NewEvent, RoomWriter, Sender, members};
use users::accounts::{self, Kind};

use crate::NodeError;

/// Makes all guests of this server leave. Looks at every local member: to be called only when a change of
/// `m.room.guest_access` closed the room.
///
/// # Errors
/// If the store fails.
pub fn expel_guests(writer: &mut RoomWriter<'_>) -> Result<(), NodeError> {
    let room = writer.room();
    for user in members::local_joined(writer.txn(), room)? {
        let account = accounts::get(writer.txn(), user)?;
        let is_guest = account.is_some_and(|account| account.kind == Kind::Guest);
        if !is_guest || members::membership(writer.txn(), room, user)? != Membership::Join {
            continue;
        }
        let user_id = names::user_id(writer.txn(), user)?;
        let guest = Sender {
            user,
            user_id: &user_id,
        };
        let content = member_content("leave", &MemberProfile::default(), None);
        writer.append(&NewEvent::member(guest, guest, &content))?;
    }
    Ok(())
}
