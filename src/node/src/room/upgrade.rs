//! Upgrading a room: the old room's tombstone, the new room with all that goes along, the aliases and the
//! entry in the directory are one commit; so an upgrade that is interrupted was not begun.

use std::sync::Arc;

use event::{EventId, RoomIdFormat, RoomVersion};
use names::{RoomSn, UserSn};
use rooms::create::Preset;
use rooms::policy::SignedEvents;
use rooms::upgrade::{self, OldRoom};
use rooms::{RoomWriter, Sender, aliases, directory};
use serde_json::Map;
use store::Txn;

use crate::room::create::Begun;
use crate::room::{CreateRoom, member_profile};
use crate::{Lane, Lock, Node, NodeError, Touched};

/// A room to be upgraded.
#[derive(Clone, Debug)]
pub struct UpgradeRoom {
    /// The old room.
    pub room: RoomSn,
    /// Who upgrades it.
    pub user: UserSn,
    /// The user's id.
    pub user_id: Arc<str>,
    /// The new room's version.
    pub version: RoomVersion,
    /// Who is to be a creator as well, where the version knows that.
    pub additional_creators: Vec<String>,
}

impl UpgradeRoom {
    fn sender(&self) -> Sender<'_> {
        Sender {
            user: self.user,
            user_id: &self.user_id,
        }
    }

    /// The creation of the new room, as far as its create event goes.
    fn creation(&self, old: &OldRoom) -> CreateRoom {
        let mut creation_content = old.creation_content.clone();
        if self.version.rules().auth.creators_privileged && !self.additional_creators.is_empty() {
            let creators = self.additional_creators.clone().into();
            creation_content.insert("additional_creators".to_owned(), creators);
        }
        CreateRoom {
            creator: self.user,
            creator_id: Arc::clone(&self.user_id),
            version: self.version,
            creation_content,
            preset: Preset::PrivateChat,
            name: None,
            topic: None,
            alias: None,
            published: false,
            invite: Vec::new(),
            is_direct: false,
            initial_state: Vec::new(),
            power_level_override: Map::new(),
        }
    }
}

impl Node {
    /// Upgrades a room and returns the new room's id.
    ///
    /// # Errors
    /// [`rooms::Error::Forbidden`], [`rooms::Error::NotAllowed`], [`rooms::Error::UnknownRoom`]; nothing
    /// has changed then.
    pub async fn upgrade_room(self: &Arc<Self>, request: UpgradeRoom) -> Result<String, NodeError> {
        let mut signed = SignedEvents::default();
        let mut begun: Option<Begun> = None;
        loop {
            let old_guard = self.lock(Lock::Room(request.room)).await;
            let (node, asked) = (Arc::clone(self), request.clone());
            let old = self
                .run(Lane::Interactive, move || {
                    let read = |writer: &mut RoomWriter<'_>| upgrade::read(writer, asked.sender());
                    // Nothing is written: only a writer reads what is being written.
                    node.write_room(&mut node.begin(), asked.room, read)
                })
                .await??
                .0;
            let creation = request.creation(&old);
            // The tombstone names the new room: once that is signed, it stays the room that is made.
            let (new_guard, new) = match begun.take() {
                Some(begun) => (self.lock(Lock::Room(begun.room)).await, begun),
                None => self.begin_room(&creation).await?,
            };
            begun = Some(new.clone());
            let (room, room_id) = (new.room, new.create.room_id().to_owned());
            let (node, asked) = (Arc::clone(self), request.clone());
            let (made, so_far) = self
                .run(Lane::Interactive, move || {
                    let mut signed = signed;
                    let made = node.replace_room(&asked, &old, creation, new, &mut signed);
                    (made, signed)
                })
                .await?;
            signed = so_far;
            let error = match made {
                Ok((txn, touched)) => {
                    self.commit_room((old_guard, new_guard), txn, touched)
                        .await?;
                    let old_room_id = names::room_id(&self.view(), request.room)?;
                    self.carry_over(request.user, &old_room_id, room).await?;
                    return Ok(room_id);
                }
                Err(error) => error,
            };
            drop((old_guard, new_guard));
            if !self.have_signed(&mut signed).await? {
                return Err(error);
            }
        }
    }

    fn replace_room(
        &self,
        request: &UpgradeRoom,
        old: &OldRoom,
        mut creation: CreateRoom,
        mut begun: Begun,
        signed: &mut SignedEvents,
    ) -> Result<(Txn, Touched), NodeError> {
        let mut txn = self.begin();
        let by = request.sender();
        let (tombstone, mut all_touched): (EventId, Touched) =
            self.write_signed(&mut txn, request.room, signed, |writer| {
                upgrade::close(writer, by, old, begun.create.room_id())
            })?;
        let rules = request.version.rules();
        if rules.room_id == RoomIdFormat::Domain {
            // The id does not depend on the create event, so that can name the tombstone.
            if let Some(predecessor) = creation.creation_content.get_mut("predecessor") {
                predecessor["event_id"] = tombstone.as_str().into();
            }
            begun.create = self.create_event(&creation, begun.random, begun.created_ms)?;
        }
        let profile = member_profile(&txn, request.user)?;
        let context = self.room_context();
        let (room, creator) = (begun.room, request.user);
        let mut writer = RoomWriter::begin(&mut txn, context, rules, room, creator, &begun.create)?;
        upgrade::build(&mut writer, by, &profile, old, &request.additional_creators)?;
        let effects = writer.finish();
        let new_touched = self.made(&mut txn, room, &effects)?;
        for alias in &old.aliases {
            aliases::lead_to(&mut txn, alias, room)?;
        }
        if old.published {
            directory::set_published(&mut txn, request.room, false);
            directory::set_published(&mut txn, room, true);
        }
        all_touched.rooms.extend(new_touched.rooms);
        all_touched.memberships.extend(new_touched.memberships);
        all_touched.outgoing |= new_touched.outgoing;
        Ok((txn, all_touched))
    }
}
