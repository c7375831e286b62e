//! One change to one room.

use names::{RoomSn, UserSn};
use rooms::membership::MemberProfile;
use rooms::policy::SignedEvents;
use rooms::{Effects, RoomWriter};
use store::{Read, Txn};
use users::profile;

use crate::{Lock, MembershipChange, Node, NodeError, Touched};

impl Node {
    /// Changes a room that exists: everything that `work` appends and writes is one commit. If it fails,
    /// nothing has changed. In a room with a policy server the work is done once more for each event that this has to
    /// sign, while nobody waits for the room.
    ///
    /// # Errors
    /// Those of `work`; [`rooms::Error::UnknownRoom`]; and if the change can't be committed.
    pub async fn change_room<T, E>(
        &self,
        room: RoomSn,
        mut work: impl FnMut(&mut RoomWriter<'_>) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<rooms::Error> + From<NodeError>,
    {
        let mut signed = SignedEvents::default();
        loop {
            let guard = self.lock(Lock::Room(room)).await;
            let mut txn = self.begin();
            let error = match self.write_signed(&mut txn, room, &mut signed, &mut work) {
                Ok((done, touched)) => {
                    self.commit_room(guard, txn, touched).await?;
                    return Ok(done);
                }
                Err(error) => error,
            };
            drop((txn, guard));
            if !self.have_signed(&mut signed).await? {
                return Err(error);
            }
        }
    }

    /// Commits what [`Node::write_room`] filled.
    ///
    /// # Errors
    /// As [`Node::commit`].
    pub async fn commit_room(
        &self,
        guard: impl Send,
        txn: Txn,
        touched: Touched,
    ) -> Result<(), NodeError> {
        self.load_audience(&touched)?;
        self.commit(guard, txn, touched).await?;
        Ok(())
    }

    /// As [`Node::write_room`], with the events that the room's policy server has signed for this change. If it fails, the
    /// caller drops the change and its locks, and asks [`Node::have_signed`] whether it is to be made again.
    ///
    /// # Errors
    /// As [`Node::write_room`].
    pub fn write_signed<T, E>(
        &self,
        txn: &mut Txn,
        room: RoomSn,
        signed: &mut SignedEvents,
        work: impl FnOnce(&mut RoomWriter<'_>) -> Result<T, E>,
    ) -> Result<(T, Touched), E>
    where
        E: From<rooms::Error>,
    {
        let writer = RoomWriter::open(txn, self.room_context(), room)?;
        let mut writer = writer.with_signed(signed);
        let done = work(&mut writer)?;
        let effects = writer.finish();
        Ok((done, self.made(txn, room, &effects)?))
    }

    /// Fills `txn` with a change to a room, whose lock the caller holds: for changes that need other locks
    /// as well, and make no events that a policy server would have to sign. Says whom it concerns.
    ///
    /// # Errors
    /// Those of `work`, and [`rooms::Error::UnknownRoom`].
    pub fn write_room<T, E>(
        &self,
        txn: &mut Txn,
        room: RoomSn,
        work: impl FnOnce(&mut RoomWriter<'_>) -> Result<T, E>,
    ) -> Result<(T, Touched), E>
    where
        E: From<rooms::Error>,
    {
        let mut writer = RoomWriter::open(txn, self.room_context(), room)?;
        let done = work(&mut writer)?;
        let effects = writer.finish();
        Ok((done, self.made(txn, room, &effects)?))
    }

    /// Whom a change to a room concerns that this server's users made, other servers included.
    pub(crate) fn made(
        &self,
        txn: &mut Txn,
        room: RoomSn,
        effects: &Effects,
    ) -> Result<Touched, rooms::Error> {
        let mut touched = touched(room, effects);
        self.note_outgoing(txn, room, effects, &mut touched)?;
        Ok(touched)
    }

    /// Has the sets of members in memory before the commit, so that it wakes nobody in vain.
    pub(crate) fn load_audience(&self, touched: &Touched) -> Result<(), NodeError> {
        for room in &touched.rooms {
            if !self.audience().has_set(*room) {
                self.audience()
                    .with(|| self.store().head(), *room, |_| ())?;
            }
        }
        Ok(())
    }
}

/// Whom a change to a room concerns.
pub(crate) fn touched(room: RoomSn, effects: &Effects) -> Touched {
    if effects.appended.is_empty() {
        return Touched::nobody();
    }
    let changes = effects.memberships.iter();
    Touched {
        memberships: changes
            .map(|&(user, joined)| MembershipChange { room, user, joined })
            .collect(),
        ..Touched::room(room)
    }
}

/// How a user is shown in member events.
///
/// # Errors
/// If the profile can't be read.
pub fn member_profile(from: &impl Read, user: UserSn) -> Result<MemberProfile, users::Error> {
    let shown = profile::shown(from, user)?;
    Ok(MemberProfile {
        displayname: shown.displayname,
        avatar_url: shown.avatar_url,
    })
}
