//! What an account does to all its memberships at once: show a changed profile, leave everywhere.
//!
//! Each room is a change of its own under its own lock; all are written before the first is waited
//! for, so that they share syncs. A room that refuses (its rules changed meanwhile) stays as it is.

use event::auth::Membership;
use names::{RoomSn, UserSn};
use rooms::membership::{Action, Change, MemberProfile, change};
use rooms::{RoomWriter, Sender, members};
use store::Ticket;
use users::profile;

use crate::{Lock, MembershipChange, Node, NodeError, Touched};

impl Node {
    /// Brings the user's profile into the member events of all rooms that the user is joined to.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn profile_changed(&self, user: UserSn) -> Result<(), NodeError> {
        let view = self.view();
        let shown = profile::shown(&view, user)?;
        let rooms = members::joined_rooms(&view, user)?;
        let profile = MemberProfile {
            displayname: shown.displayname,
            avatar_url: shown.avatar_url,
        };
        self.change_all(user, &rooms, Action::Join, &profile).await
    }

    /// Leaves all rooms that the user is joined or invited to, or has knocked on.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn leave_all(&self, user: UserSn) -> Result<(), NodeError> {
        let rooms: Vec<RoomSn> = members::rooms_of(&self.view(), user)?
            .into_iter()
            .map(|(room, _)| room)
            .collect();
        let profile = MemberProfile::default();
        self.change_all(user, &rooms, Action::Leave, &profile).await
    }

    async fn change_all(
        &self,
        user: UserSn,
        rooms: &[RoomSn],
        action: Action,
        profile: &MemberProfile,
    ) -> Result<(), NodeError> {
        let mut written = Vec::with_capacity(rooms.len());
        for room in rooms {
            let guard = self.lock(Lock::Room(*room)).await;
            if let Some(change) = self.change_one(user, *room, action, profile)? {
                written.push(change);
            }
            drop(guard);
        }
        for (ticket, touched) in written {
            self.durable(ticket, touched).await?;
        }
        Ok(())
    }

    fn change_one(
        &self,
        user: UserSn,
        room: RoomSn,
        action: Action,
        profile: &MemberProfile,
    ) -> Result<Option<(Ticket, Touched)>, NodeError> {
        let mut txn = self.begin();
        // Only who is joined now shows a profile: the room may have been left while we waited.
        let joined = members::membership(&txn, room, user)? == Membership::Join;
        if action == Action::Join && !joined {
            return Ok(None);
        }
        let user_id = self.names().user_id(&txn, user)?;
        let me = Sender {
            user,
            user_id: &user_id,
        };
        let wanted = Change {
            action,
            sender: me,
            target: me,
            profile: profile.clone(),
            reason: None,
            is_guest: false,
            is_direct: false,
            custom: None,
        };
        let mut writer = RoomWriter::open(&mut txn, self.room_context(), room)?;
        match change(&mut writer, &wanted) {
            Ok(_) => {}
            Err(rooms::Error::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, ?room, %user_id, "a membership could not be changed");
                return Ok(None);
            }
        }
        let effects = writer.finish();
        if txn.is_empty() || effects.appended.is_empty() {
            return Ok(None);
        }
        let memberships = effects.memberships.into_iter();
        let touched = Touched {
            memberships: memberships
                .map(|(user, joined)| MembershipChange { room, user, joined })
                .collect(),
            ..Touched::room(room)
        };
        let ticket = self.write(txn.into_batch(), &touched)?;
        Ok(Some((ticket, touched)))
    }
}
