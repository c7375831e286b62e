//! This server as the one that others join a room by.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::sync::Arc;

use bytes::Bytes;
use event::auth::Membership;
use event::{Pdu, RoomRules, identifier, json};
use names::RoomSn;
use rooms::graph::StateOf;
use rooms::membership::{Admittance, NotHere, admittance};
use rooms::resident::{self, Members};
use rooms::template::template;
use rooms::{EventNo, Outline, RoomWriter, members, partial, server_acl, servers};
use store::View;

use crate::{Lane, Node, NodeError};

/// Why another server's user is not let in.
#[derive(Debug, thiserror::Error)]
pub enum EntryRefusal {
    /// This server is not in the room.
    #[error("this server is not in the room")]
    UnknownRoom,
    /// The other server does not know the room's version.
    #[error("the room has version {0}")]
    IncompatibleVersion(String),
    /// Only another server can let the user in.
    #[error("{}", match .0 {
        NotHere::CannotTell => "this server can't tell whether the user may join",
        NotHere::NobodyMayInvite => "no user of this server may let others in",
    })]
    NotHere(NotHere),
    /// The members of the room are not all known here yet.
    #[error("this server does not know the members of the room yet")]
    MembersMissing,
    /// The user may not enter.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such user here.
    #[error("there is no such user")]
    UnknownUser,
    /// The user does not want to be invited.
    #[error("the user does not accept invitations")]
    InviteBlocked,
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Something failed.
    #[error(transparent)]
    Failed(#[from] NodeError),
}

impl From<rooms::Error> for EntryRefusal {
    fn from(error: rooms::Error) -> Self {
        match error {
            rooms::Error::UnknownRoom => EntryRefusal::UnknownRoom,
            rooms::Error::MembersMissing => EntryRefusal::MembersMissing,
            rooms::Error::NotAllowed(_)
            | rooms::Error::Forbidden(_)
            | rooms::Error::NotRecommended => EntryRefusal::Forbidden(error.to_string()),
            error => EntryRefusal::Failed(error.into()),
        }
    }
}

impl From<store::StoreError> for EntryRefusal {
    fn from(error: store::StoreError) -> Self {
        EntryRefusal::Failed(error.into())
    }
}

/// A join that the other server is to finish and sign.
pub struct JoinTemplate {
    /// The room's version.
    pub version: &'static str,
    /// The event, a JSON object.
    pub event: String,
}

/// What a server gets that has joined.
pub struct JoinAnswer {
    /// The join, with this server's signature if it let the user in.
    pub event: String,
    /// The room.
    pub room: (RoomSn, &'static RoomRules),
    /// The state before the join, and what authorises it.
    pub state: StateOf<EventNo>,
    /// Where the events of these numbers are read.
    pub view: View,
    /// If the members are left out: the servers that are in the room.
    pub servers: Option<Vec<String>>,
}

const AUTHORISER: &str = "join_authorised_via_users_server";

impl Node {
    /// The room that a server asks about, if that server is admitted and this one is in it and knows its members.
    pub(crate) fn room_for(
        &self,
        origin: &str,
        room_id: &str,
    ) -> Result<(RoomSn, &'static RoomRules), EntryRefusal> {
        let found = self.room_with_rules(room_id)?;
        let (room, rules) = found.ok_or(EntryRefusal::UnknownRoom)?;
        let head = self.store().head();
        if !server_acl::allows(&head, self.rooms_cache(), room, origin)? {
            return Err(EntryRefusal::Forbidden(
                "the room's access control list denies this server".to_owned(),
            ));
        }
        if partial::is_partial(&head, room)? {
            return Err(EntryRefusal::MembersMissing);
        }
        Ok((room, rules))
    }

    /// Makes the template of a join. `versions` are those that the other server knows.
    ///
    /// # Errors
    /// See [`EntryRefusal`].
    pub fn make_join(
        &self,
        origin: &str,
        room_id: &str,
        user_id: &str,
        versions: &[String],
    ) -> Result<JoinTemplate, EntryRefusal> {
        if identifier::domain(user_id) != Some(origin) {
            return Err(EntryRefusal::Forbidden(
                "the user is of another server".to_owned(),
            ));
        }
        let (room, rules) = self.room_for(origin, room_id)?;
        let version = rules.version.as_str();
        if !versions.iter().any(|known| known == version) {
            return Err(EntryRefusal::IncompatibleVersion(version.to_owned()));
        }
        // Nothing of it is kept.
        let mut txn = self.begin();
        let user = names::user_sn(&txn, user_id)?;
        let before = match user {
            Some(user) => members::membership(&txn, room, user)?,
            None => Membership::Leave,
        };
        let mut writer = RoomWriter::open(&mut txn, self.room_context(), room)?;
        let content = match admittance(&mut writer, user, before)? {
            Admittance::NotNeeded => r#"{"membership":"join"}"#.to_owned(),
            Admittance::By(authoriser) => {
                serde_json::json!({ "membership": "join", AUTHORISER: authoriser }).to_string()
            }
            Admittance::NotAMember => {
                let why = "the user is in none of the rooms whose members may join";
                return Err(EntryRefusal::Forbidden(why.to_owned()));
            }
            Admittance::NotHere(why) => return Err(EntryRefusal::NotHere(why)),
        };
        let outline = Outline::member(user_id, user_id, &content);
        let event = template(&mut writer, &outline)?;
        Ok(JoinTemplate { version, event })
    }

    /// Takes in a join that another server made from a template, and gives it the room.
    ///
    /// # Errors
    /// See [`EntryRefusal`].
    pub async fn send_join(
        self: &Arc<Self>,
        origin: &str,
        room_id: &str,
        event_id: &str,
        event: Bytes,
        members: Members,
    ) -> Result<JoinAnswer, EntryRefusal> {
        let (room, rules) = self.room_for(origin, room_id)?;
        let invalid = |why: &str| EntryRefusal::Invalid(why.to_owned());
        let pdu = Pdu::from_federation(rules, &event)
            .map_err(|error| EntryRefusal::Invalid(error.to_string()))?;
        let is_join = pdu.event_type() == "m.room.member"
            && pdu.content_str("membership").as_deref() == Some("join")
            && pdu.state_key() == Some(pdu.sender());
        if !is_join {
            return Err(invalid("the event is not a join"));
        }
        if pdu.room_id() != room_id || pdu.event_id().as_str() != event_id {
            return Err(invalid("the event is not the one that the path names"));
        }
        if identifier::domain(pdu.sender()) != Some(origin) {
            let why = "the user is of another server";
            return Err(EntryRefusal::Forbidden(why.to_owned()));
        }
        let signed = self.countersigned(room, rules, &pdu)?;
        let verified = self.verify_one(rules, Bytes::from(signed.clone())).await;
        let verified = verified.map_err(|error| match error {
            NodeError::BadEvent(why) => EntryRefusal::Forbidden(why),
            error => EntryRefusal::Failed(error),
        })?;
        // As it is before the join: who has joined knows of itself.
        let servers = match members {
            Members::Omitted => Some(self.resident_servers(room)?),
            Members::All => None,
        };
        let entered = self.take_in_and_pass_on(room, room_id, origin, verified);
        entered.await.map_err(|error| match error {
            NodeError::Rooms(error) => error.into(),
            NodeError::Unobtainable(why) => EntryRefusal::Forbidden(why.to_owned()),
            error => EntryRefusal::Failed(error),
        })?;
        let (view, id) = (self.view(), event_id.to_owned());
        let read = move || -> Result<_, NodeError> {
            let state = resident::state_before(&view, room, &id, members)?;
            Ok((view, state))
        };
        let (view, state) = self.run(Lane::Bulk, read).await??;
        Ok(JoinAnswer {
            event: signed,
            room: (room, rules),
            state: state.ok_or(EntryRefusal::UnknownRoom)?,
            view,
            servers,
        })
    }

    /// The servers that are in a room, this one among them.
    fn resident_servers(&self, room: RoomSn) -> Result<Vec<String>, EntryRefusal> {
        let mut servers = servers::joined(&self.view(), room)?;
        servers.push(self.server_name().to_owned());
        Ok(servers)
    }

    /// The event, signed by this server as well if it is in the name of one of its users that somebody is let in.
    fn countersigned(
        &self,
        room: RoomSn,
        rules: &'static RoomRules,
        pdu: &Pdu,
    ) -> Result<String, EntryRefusal> {
        let authoriser = json::member(pdu.content(), AUTHORISER).and_then(json::string);
        let Some(authoriser) = authoriser.filter(|_| rules.auth.restricted) else {
            return Ok(pdu.json().to_owned());
        };
        if identifier::domain(&authoriser) != Some(self.server_name()) {
            return Ok(pdu.json().to_owned());
        }
        // Nothing of it is kept.
        let mut txn = self.begin();
        let user = names::user_sn(&txn, pdu.sender())?;
        let before = match user {
            Some(user) => members::membership(&txn, room, user)?,
            None => Membership::Leave,
        };
        let mut writer = RoomWriter::open(&mut txn, self.room_context(), room)?;
        match admittance(&mut writer, user, before)? {
            Admittance::NotNeeded | Admittance::By(_) => {}
            Admittance::NotAMember => {
                let why = "the user is in none of the rooms whose members may join";
                return Err(EntryRefusal::Forbidden(why.to_owned()));
            }
            Admittance::NotHere(why) => return Err(EntryRefusal::NotHere(why)),
        }
        event::add_signature(rules, pdu.json(), self.signing_key())
            .map_err(|error| EntryRefusal::Invalid(error.to_string()))
    }
}
