//! Making a room: numbers for the names, the locks, one commit for the whole of it.

use std::collections::HashMap;
use std::sync::Arc;

use event::{Pdu, RoomVersion};
use names::{RoomSn, UserSn};
use rooms::aliases;
use rooms::create::{self, InitialState, NewRoom, Preset};
use rooms::membership::MemberProfile;
use rooms::{Error, RoomWriter, Sender, event_log};
use serde_json::{Map, Value};
use store::{Read, Txn};
use tokio::task::JoinSet;

use crate::federation::{InviteElsewhere, invite_content};
use crate::room::member_profile;
use crate::{Guard, Lane, Lock, Node, NodeError, Touched};

/// A room to be made.
#[derive(Clone, Debug)]
pub struct CreateRoom {
    /// Who makes it.
    pub creator: UserSn,
    /// The creator's id.
    pub creator_id: Arc<str>,
    /// The room version.
    pub version: RoomVersion,
    /// `creation_content`.
    pub creation_content: Map<String, Value>,
    /// The preset, chosen or implied.
    pub preset: Preset,
    /// `name`.
    pub name: Option<String>,
    /// `topic`.
    pub topic: Option<String>,
    /// The whole alias made from `room_alias_name`.
    pub alias: Option<String>,
    /// Whether the room is put into the directory.
    pub published: bool,
    /// Who is invited, each once.
    pub invite: Vec<(UserSn, String)>,
    /// `is_direct`.
    pub is_direct: bool,
    /// `initial_state`.
    pub initial_state: Vec<InitialState>,
    /// `power_level_content_override`.
    pub power_level_override: Map<String, Value>,
}

/// A room with a number and a create event, of which nothing is written yet.
#[derive(Clone)]
pub(crate) struct Begun {
    pub(crate) room: RoomSn,
    pub(crate) create: Pdu,
    /// What the room id was made from, where it is not a hash.
    pub(crate) random: [u8; 18],
    /// The create event's time, in milliseconds since 1970.
    pub(crate) created_ms: u64,
}

/// Whom to invite of other servers once the room is there.
struct InvitedElsewhere {
    room: RoomSn,
    creator: UserSn,
    creator_id: Arc<str>,
    is_direct: bool,
    target_ids: Vec<String>,
}

impl InvitedElsewhere {
    fn of(request: &CreateRoom, room: RoomSn) -> Self {
        let others = request.invite.iter().filter(|(user, _)| !user.is_local());
        Self {
            room,
            creator: request.creator,
            creator_id: Arc::clone(&request.creator_id),
            is_direct: request.is_direct,
            target_ids: others.map(|(_, user_id)| user_id.clone()).collect(),
        }
    }
}

/// Servers that are asked at once to sign invitations to a room that was just made.
const INVITED_AT_ONCE: usize = 8;

/// How often a create event is dated one millisecond later because the room of the first exists.
const MOST_TRIES: u64 = 100;

impl CreateRoom {
    fn parts(&self, profile: MemberProfile) -> NewRoom<'_> {
        let invite = self.invite.iter();
        NewRoom {
            creator: Sender {
                user: self.creator,
                user_id: &self.creator_id,
            },
            profile,
            preset: self.preset,
            name: self.name.as_deref(),
            topic: self.topic.as_deref(),
            alias: self.alias.as_deref(),
            published: self.published,
            invite: invite
                .map(|(user, user_id)| Sender {
                    user: *user,
                    user_id,
                })
                .collect(),
            is_direct: self.is_direct,
            initial_state: self.initial_state.clone(),
            power_level_override: self.power_level_override.clone(),
        }
    }
}

impl Node {
    /// Makes a room and returns its id.
    ///
    /// # Errors
    /// [`Error::AliasTaken`], and whatever one of the room's events is refused for; nothing was made then.
    pub async fn create_room(self: &Arc<Self>, request: CreateRoom) -> Result<String, NodeError> {
        let alias_guard = match &request.alias {
            Some(alias) => {
                let guard = self.lock(Lock::Alias(alias.clone())).await;
                if aliases::get(&self.store().head(), alias)?.is_some() {
                    return Err(Error::AliasTaken(alias.clone()).into());
                }
                Some(guard)
            }
            None => None,
        };
        let (room_guard, begun) = self.begin_room(&request).await?;
        let (room, room_id) = (begun.room, begun.create.room_id().to_owned());
        let creator = request.creator;
        let elsewhere = InvitedElsewhere::of(&request, room);
        let predecessor = predecessor(begun.create.content());
        let node = Arc::clone(self);
        let (txn, touched) = self
            .run(Lane::Interactive, move || node.build_room(&request, &begun))
            .await??;
        self.commit_room((alias_guard, room_guard), txn, touched)
            .await?;
        if let Some(old_room) = predecessor {
            self.carry_over(creator, &old_room, room).await?;
        }
        self.invite_those_elsewhere(elsewhere).await;
        Ok(room_id)
    }

    /// Invites users of other servers to a room that was made. The room is there: one who can't be invited now can be
    /// invited again.
    async fn invite_those_elsewhere(self: &Arc<Self>, elsewhere: InvitedElsewhere) {
        let elsewhere = Arc::new(elsewhere);
        for some in elsewhere.target_ids.chunks(INVITED_AT_ONCE) {
            let mut invites = JoinSet::new();
            for target_id in some {
                let (node, elsewhere) = (Arc::clone(self), Arc::clone(&elsewhere));
                let target_id = target_id.clone();
                invites.spawn(async move {
                    let invite = InviteElsewhere {
                        room: elsewhere.room,
                        sender: elsewhere.creator,
                        sender_id: &elsewhere.creator_id,
                        target_id: &target_id,
                        content: invite_content(None, elsewhere.is_direct),
                    };
                    if let Err(error) = node.invite_elsewhere(&invite).await {
                        tracing::info!(%target_id, %error, "the room was made, but not this invitation");
                    }
                });
            }
            invites.join_all().await;
        }
    }

    /// Makes the create event of a room that is not there yet, and locks the room.
    ///
    /// Where the room id is the hash of the create event, the same user asking for the same room twice
    /// in one millisecond would be given one room; the second is dated later.
    pub(crate) async fn begin_room(
        &self,
        request: &CreateRoom,
    ) -> Result<(Guard, Begun), NodeError> {
        let now_ms = self.now_ms();
        for later_ms in 0..MOST_TRIES {
            let (random, created_ms) = (self.random(), now_ms + later_ms);
            let create = self.create_event(request, random, created_ms)?;
            let room = self.names().room(self.store(), create.room_id())?;
            let guard = self.lock(Lock::Room(room)).await;
            if event_log::head(&self.store().head(), room)?.is_none() {
                let begun = Begun {
                    room,
                    create,
                    random,
                    created_ms,
                };
                return Ok((guard, begun));
            }
        }
        Err(NodeError::Overloaded)
    }

    pub(crate) fn create_event(
        &self,
        request: &CreateRoom,
        random: [u8; 18],
        now_ms: u64,
    ) -> Result<Pdu, NodeError> {
        let parts = request.parts(MemberProfile::default());
        let content = request.creation_content.clone();
        let (version, key) = (request.version, self.signing_key());
        Ok(create::create_event(
            version, key, &parts, content, random, now_ms,
        )?)
    }

    fn build_room(&self, request: &CreateRoom, begun: &Begun) -> Result<(Txn, Touched), NodeError> {
        let mut txn = self.begin();
        let mut profiles: HashMap<UserSn, MemberProfile> = HashMap::new();
        for (user, _) in &request.invite {
            profiles.insert(*user, member_profile(&txn, *user)?);
        }
        let parts = request.parts(member_profile(&txn, request.creator)?);
        let (rules, context) = (request.version.rules(), self.room_context());
        let (room, creator) = (begun.room, request.creator);
        let mut writer = RoomWriter::begin(&mut txn, context, rules, room, creator, &begun.create)?;
        create::build(&mut writer, &parts)?;
        create::invite_all(&mut writer, &parts, |user| {
            Ok(profiles.get(&user).cloned().unwrap_or_default())
        })?;
        let effects = writer.finish();
        let touched = self.made(&mut txn, room, &effects)?;
        Ok((txn, touched))
    }
}

/// The room that a room replaces, by its create event.
///
/// # Errors
/// If the room can't be read.
pub fn predecessor_of(writer: &RoomWriter<'_>) -> rooms::Result<Option<String>> {
    let create = writer.state_event("m.room.create", "")?;
    Ok(create.and_then(|create| predecessor(create.pdu().content())))
}

/// The room that `room` replaces, as its create event says.
///
/// # Errors
/// If the room can't be read.
pub fn predecessor_in(from: &impl Read, room: RoomSn) -> rooms::Result<Option<String>> {
    let Some(head) = event_log::head(from, room)? else {
        return Ok(None);
    };
    let create = event_log::get(from, room, head.create)?;
    let content = create
        .as_ref()
        .and_then(|create| event::json::member(&create.json, "content"));
    Ok(content.and_then(predecessor))
}

fn predecessor(create_content: &str) -> Option<String> {
    let predecessor = event::json::member(create_content, "predecessor")
        .filter(|it| event::json::is_object(it))?;
    let room_id = event::json::member(predecessor, "room_id").and_then(event::json::string)?;
    Some(room_id.into_owned())
}
