//! Invitations from other servers, and their withdrawal: memberships that begin and end without this server being in the
//! room. <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>
//!
//! Invariant: nothing is signed here but an invitation of a user of this server, by a user of the server that asks.

use std::sync::Arc;

use bytes::Bytes;
use event::auth::Membership;
use event::{Pdu, RoomIdFormat, RoomRules, RoomVersion, SignatureError, identifier};
use names::{RoomSn, UserSn};
use rooms::ingest::Refusal;
use rooms::outside::{self, Outside};
use rooms::{event_log, server_acl};
use store::Read;
use users::{account_data, accounts};

use crate::federation::{EntryRefusal, Forbidden};
use crate::{Lock, Node, NodeError, Touched};

/// The most events of `invite_room_state`, and of `knock_room_state`, that are looked at.
const MOST_DESCRIBED: usize = 100;

/// An invitation as another server sends it.
#[derive(Debug)]
pub struct Invitation {
    /// The room.
    pub room_id: String,
    /// The event's id, by the path.
    pub event_id: String,
    /// The room's version.
    pub version: String,
    /// The event.
    pub event: Bytes,
    /// `invite_room_state`: what the user may know of the room.
    pub room_state: Vec<Bytes>,
}

/// Whether the user wants to be invited at all.
/// <https://spec.matrix.org/v1.19/client-server-api/#invite-permission>
///
/// # Errors
/// If the store fails.
pub fn accepts_invites(from: &impl Read, user: UserSn) -> Result<bool, NodeError> {
    let config = account_data::get(from, user, "m.invite_permission_config")?;
    // What the user's client wrote: of whatever shape.
    let config: Option<serde_json::Map<String, serde_json::Value>> =
        config.and_then(|config| serde_json::from_slice(&config).ok());
    let action = config.and_then(|mut config| config.remove("default_action"));
    Ok(action.is_none_or(|action| action != "block"))
}

impl Node {
    /// Takes in an invitation and signs it.
    ///
    /// # Errors
    /// See [`EntryRefusal`].
    pub async fn receive_invite(
        self: &Arc<Self>,
        origin: &str,
        invitation: Invitation,
    ) -> Result<String, EntryRefusal> {
        let unsupported = || EntryRefusal::IncompatibleVersion(invitation.version.clone());
        let version: RoomVersion = invitation.version.parse().map_err(|_| unsupported())?;
        let rules = version.rules();
        let pdu = checked_invite(self, rules, origin, &invitation)?;
        let target_id = pdu.state_key().unwrap_or_default().to_owned();
        if !self.may_share_user(origin, &target_id) {
            return Err(EntryRefusal::Forbidden(Forbidden::User.to_string()));
        }
        let target = self.invited_user(&target_id)?;
        self.must_be_admitted(origin, &invitation.room_id)?;
        let invalid = |error: NodeError| match error {
            NodeError::BadEvent(why) => EntryRefusal::Invalid(why),
            error => EntryRefusal::Failed(error),
        };
        let signed = event::add_signature(rules, pdu.json(), self.signing_key())
            .map_err(|error| EntryRefusal::Invalid(error.to_string()))?;
        // With both signatures, since what is kept must be what others have.
        let verified = self
            .verify_one(rules, Bytes::from(signed.clone()))
            .await
            .map_err(invalid)?;
        if verified.pdu().json() != signed {
            let why = "the event's hash does not hold";
            return Err(EntryRefusal::Invalid(why.to_owned()));
        }
        let room_state = self
            .described_state(rules, &invitation.room_id, invitation.room_state)
            .await?;
        if let Some(room) = self.is_in_room(&invitation.room_id)? {
            // It comes once more in a transaction; the user need not wait for that.
            let taken_in = self
                .take_in_one(room, &invitation.room_id, origin, verified)
                .await;
            return match taken_in {
                Ok(()) => Ok(signed),
                Err(NodeError::Rooms(error)) => Err(error.into()),
                Err(
                    NodeError::Unobtainable(_) | NodeError::Remote(_) | NodeError::MembersMissing,
                ) => Ok(signed),
                Err(error) => Err(error.into()),
            };
        }
        let stripped = outside::stripped_state(texts(&room_state), verified.pdu());
        let servers = vec![origin.to_owned()];
        let outside = Outside::new(rules, verified.pdu(), servers);
        self.names()
            .user(self.store(), verified.pdu().sender())
            .map_err(NodeError::from)?;
        let room = self.names().room(self.store(), &invitation.room_id)?;
        let is_new = |before: Option<&Outside>| {
            before.is_none_or(|before| before.event_id() != outside.event_id())
        };
        self.keep_outside(room, target, &outside, Some(stripped), is_new)
            .await?;
        Ok(signed)
    }

    /// The number of a user of this server who may be invited.
    fn invited_user(&self, user_id: &str) -> Result<UserSn, EntryRefusal> {
        let head = self.store().head();
        let user = self.names().known_user(&head, user_id)?;
        let account = match user {
            Some(user) => accounts::get(&head, user).map_err(NodeError::from)?,
            None => None,
        };
        let (Some(user), Some(account)) = (user, account) else {
            return Err(EntryRefusal::UnknownUser);
        };
        if account.deactivated {
            let why = "the account is deactivated";
            return Err(EntryRefusal::Forbidden(why.to_owned()));
        }
        if !accepts_invites(&head, user)? {
            return Err(EntryRefusal::InviteBlocked);
        }
        Ok(user)
    }

    /// Refuses a server that a room which is known here does not admit.
    fn must_be_admitted(&self, origin: &str, room_id: &str) -> Result<(), EntryRefusal> {
        let head = self.store().head();
        let Some(room) = names::room_sn(&head, room_id)? else {
            return Ok(());
        };
        let is_known = event_log::head(&head, room)?.is_some();
        if is_known && !server_acl::allows(&head, self.rooms_cache(), room, origin)? {
            return Err(EntryRefusal::Forbidden(
                "the room's access control list denies this server".to_owned(),
            ));
        }
        Ok(())
    }

    /// What another server says of a room, as far as it can be believed. Where the room's id is the hash of its create
    /// event, that has to be there, and whatever is no event of this room refuses the whole.
    pub(crate) async fn described_state(
        self: &Arc<Self>,
        rules: &'static RoomRules,
        room_id: &str,
        mut events: Vec<Bytes>,
    ) -> Result<Vec<Bytes>, EntryRefusal> {
        events.truncate(MOST_DESCRIBED);
        if rules.room_id != RoomIdFormat::CreateHash {
            return Ok(events);
        }
        let invalid = |why: String| EntryRefusal::Invalid(format!("the room's state: {why}"));
        let mut has_create = false;
        let mut good = Vec::with_capacity(events.len());
        let verified = self.verify_events(rules, events.clone()).await?;
        for (event, verified) in events.into_iter().zip(verified) {
            let (pdu, is_verified) = match verified {
                Ok(event) => (event.pdu().clone(), true),
                // Of a server that is gone, say. Of the create event the room's id is proof enough.
                Err(Refusal::Signature(SignatureError::UnknownKeys { .. })) => {
                    let pdu = Pdu::from_federation(rules, &event);
                    (pdu.map_err(|error| invalid(error.to_string()))?, false)
                }
                Err(error) => return Err(invalid(error.to_string())),
            };
            if pdu.room_id() != room_id {
                return Err(invalid("an event of another room".to_owned()));
            }
            let is_create = pdu.is_state("m.room.create", "");
            has_create |= is_create;
            if is_verified || is_create {
                good.push(event);
            }
        }
        match has_create {
            true => Ok(good),
            false => Err(invalid("no create event".to_owned())),
        }
    }

    /// Keeps a membership in a room that this server is not in, if `holds` of the one before, and wakes the user.
    pub(crate) async fn keep_outside(
        &self,
        room: RoomSn,
        user: UserSn,
        outside: &Outside,
        stripped: Option<Vec<u8>>,
        holds: impl FnOnce(Option<&Outside>) -> bool,
    ) -> Result<bool, NodeError> {
        let guard = self.lock(Lock::Room(room)).await;
        let mut txn = self.begin();
        let before = outside::get(&txn, room, user)?;
        let is_in =
            self.audience()
                .with(|| self.store().head(), room, |joined| !joined.is_empty())?;
        let begins = matches!(outside.membership(), Membership::Invite | Membership::Knock);
        // Meanwhile this server may have come in: the room's state tells it then.
        if (is_in && begins) || !holds(before.as_ref()) {
            return Ok(false);
        }
        outside::put(&mut txn, room, user, outside, stripped)?;
        self.commit(guard, txn, Touched::user(user)).await?;
        Ok(true)
    }

    /// Takes in events of a room that this server is not in: who was invited, or has knocked, may be told that it is over.
    /// All other events are passed over.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn receive_from_outside(
        self: &Arc<Self>,
        origin: &str,
        room_id: &str,
        events: Vec<Bytes>,
    ) -> Result<(), NodeError> {
        let head = self.store().head();
        let Some(room) = names::room_sn(&head, room_id)? else {
            return Ok(());
        };
        let open = outside::users(&head, room)?;
        let Some(rules) = open.iter().find_map(|(_, outside)| outside.rules()) else {
            return Ok(());
        };
        let mut ends = Vec::new();
        for event in events {
            let Ok(pdu) = Pdu::from_federation(rules, &event) else {
                continue;
            };
            for (user, outside) in &open {
                let user_id = self.names().user_id(&head, *user)?;
                if may_end(&pdu, &user_id, outside) {
                    ends.push((*user, outside, event.clone()));
                }
            }
        }
        for (user, outside, event) in ends {
            let event = match self.verify_one(rules, event).await {
                Ok(event) => event,
                Err(error) => {
                    tracing::debug!(%origin, room = room_id, %error, "got a bad event");
                    continue;
                }
            };
            let end = Outside::new(rules, event.pdu(), outside.servers.clone());
            self.keep_outside(room, user, &end, None, |now| now == Some(outside))
                .await?;
        }
        Ok(())
    }
}

/// Whether the event ends an invitation or a knock. Without the room's state nobody here can tell who may do that; so an
/// invitation is ended by who made it, a knock by somebody of a server that it went to.
fn may_end(pdu: &Pdu, user_id: &str, outside: &Outside) -> bool {
    let membership = Membership::of_content(pdu.content());
    let ends = pdu.is_state("m.room.member", user_id)
        && pdu.room_id() == outside.room_id()
        && matches!(membership, Some(Membership::Leave | Membership::Ban))
        && pdu
            .auth_events()
            .any(|id| id == outside.event_id().as_str());
    ends && match outside.membership() {
        Membership::Invite => pdu.sender() == outside.sender(),
        Membership::Knock => identifier::domain(pdu.sender())
            .is_some_and(|server| outside.servers.iter().any(|of| of == server)),
        _ => false,
    }
}

/// Whether what came is the invitation that the path names, of a user of this server by one of the server that sent it.
fn checked_invite(
    node: &Node,
    rules: &RoomRules,
    origin: &str,
    invitation: &Invitation,
) -> Result<Pdu, EntryRefusal> {
    let invalid = |why: &str| EntryRefusal::Invalid(why.to_owned());
    let pdu = Pdu::from_federation(rules, &invitation.event)
        .map_err(|error| EntryRefusal::Invalid(error.to_string()))?;
    let is_invite = pdu.event_type() == "m.room.member"
        && Membership::of_content(pdu.content()) == Some(Membership::Invite);
    if !is_invite {
        return Err(invalid("the event is not an invitation"));
    }
    if pdu.room_id() != invitation.room_id || pdu.event_id().as_str() != invitation.event_id {
        return Err(invalid("the event is not the one that the path names"));
    }
    if identifier::domain(pdu.sender()) != Some(origin) {
        return Err(invalid("the sender is of another server"));
    }
    let target = pdu.state_key().unwrap_or_default();
    if !identifier::is_user_id(target) || !node.names().is_local_id(target) {
        return Err(invalid("the invited user is of another server"));
    }
    Ok(pdu)
}

/// What of the events is text.
pub(crate) fn texts(events: &[Bytes]) -> impl Iterator<Item = &str> {
    events
        .iter()
        .filter_map(|event| std::str::from_utf8(event).ok())
}
