//! What an account does to all its memberships, a room at a time: show a changed profile, leave.
//!
//! Each is a step of a job. A room that refuses (its rules changed meanwhile) stays as it is.

use event::auth::Membership;
use names::{RoomSn, UserSn};
use rooms::membership::{Action, Change, MemberProfile, change};
use rooms::policy::SignedEvents;
use rooms::{RoomWriter, Sender, members};

use crate::jobs::{Job, Progress, Step};
use crate::room::member_profile;
use crate::{Lock, Node, NodeError};

impl Node {
    /// Changes the user's membership in the next room where that has to be done.
    pub(crate) async fn change_next_own(
        &self,
        job: Job,
        progress: &Progress,
        user: UserSn,
        action: Action,
    ) -> Result<Step, NodeError> {
        let head = self.store().head();
        let after = RoomSn(progress.cursor);
        let Some((room, membership)) = members::next_room_of(&head, user, after)? else {
            return Ok(Step::Done);
        };
        let is_concerned = match action {
            Action::Join => membership == Membership::Join,
            _ => !matches!(membership, Membership::Leave | Membership::Ban),
        };
        if is_concerned && self.is_outside(room, user)? {
            if action == Action::Leave {
                self.leave_outside(room, user, None).await?;
            }
            Ok(Step::Passed(room.0))
        } else if is_concerned {
            self.change_own(job, progress, user, (room, action)).await
        } else {
            Ok(Step::Passed(room.0))
        }
    }

    /// Changes the user's membership in a room, and with it the job's row. Nothing is written where
    /// nothing is to be changed.
    async fn change_own(
        &self,
        job: Job,
        progress: &Progress,
        user: UserSn,
        (room, action): (RoomSn, Action),
    ) -> Result<Step, NodeError> {
        let mut signed = SignedEvents::default();
        loop {
            let guard = self.lock(Lock::Room(room)).await;
            let mut txn = self.begin();
            let profile = match action {
                // Only who is joined shows a profile: the room may have been left while we waited.
                Action::Join if members::membership(&txn, room, user)? != Membership::Join => {
                    return Ok(Step::Passed(room.0));
                }
                Action::Join => member_profile(&txn, user)?,
                _ => MemberProfile::default(),
            };
            let user_id = self.names().user_id(&txn, user)?;
            let me = Sender {
                user,
                user_id: &user_id,
            };
            let wanted = Change {
                action,
                sender: me,
                target: me,
                profile,
                reason: None,
                is_guest: false,
                is_direct: false,
                custom: None,
            };
            let writer = RoomWriter::open(&mut txn, self.room_context(), room)?;
            let mut writer = writer.with_signed(&mut signed);
            let changed = change(&mut writer, &wanted);
            let effects = writer.finish();
            let error = match changed {
                Ok(_) if effects.appended.is_empty() => return Ok(Step::Passed(room.0)),
                Ok(_) => {
                    let moved = progress.after_step(room.0);
                    job.put(&mut txn, &moved);
                    let touched = self.made(&mut txn, room, &effects)?;
                    let ticket = self.write(txn.into_batch(), &touched)?;
                    drop(guard);
                    return Ok(Step::Written(moved, ticket, touched));
                }
                Err(rooms::Error::Store(error)) => return Err(error.into()),
                Err(error) => error,
            };
            drop((txn, guard));
            let error = match self.have_signed(&mut signed).await {
                Ok(true) => continue,
                Ok(false) => error.into(),
                Err(error) => error,
            };
            tracing::debug!(%error, ?room, %user_id, "a membership could not be changed");
            return Ok(Step::Passed(room.0));
        }
    }
}
