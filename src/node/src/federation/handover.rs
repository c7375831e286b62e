//! This server as the one by which users of others leave a room, refuse an invitation, or knock.
//! <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>,
//! <https://spec.matrix.org/v1.19/server-server-api/#knocking-rooms>

use std::sync::Arc;

use bytes::Bytes;
use event::auth::Membership;
use event::{Pdu, identifier};
use rooms::template::template;
use rooms::{Outline, RoomWriter};

use crate::federation::EntryRefusal;
use crate::federation::resident::JoinTemplate;
use crate::{Node, NodeError};

/// What a server can do here for a user of its own without coming into the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// The user leaves, or refuses an invitation, or takes a knock back.
    Leave,
    /// The user asks to be let in.
    Knock,
}

impl Handover {
    fn membership(self) -> (Membership, &'static str) {
        match self {
            Handover::Leave => (Membership::Leave, r#"{"membership":"leave"}"#),
            Handover::Knock => (Membership::Knock, r#"{"membership":"knock"}"#),
        }
    }
}

impl Node {
    /// Makes the template of a leaving or of a knock. `versions` are those that the other server knows, if it says so.
    ///
    /// # Errors
    /// See [`EntryRefusal`].
    pub fn make_handover(
        &self,
        what: Handover,
        origin: &str,
        room_id: &str,
        user_id: &str,
        versions: Option<&[String]>,
    ) -> Result<JoinTemplate, EntryRefusal> {
        if !identifier::is_user_id(user_id) || identifier::domain(user_id) != Some(origin) {
            let why = "the user is of another server";
            return Err(EntryRefusal::Forbidden(why.to_owned()));
        }
        let (room, rules) = self.room_for(origin, room_id)?;
        let version = rules.version.as_str();
        if versions.is_some_and(|versions| !versions.iter().any(|known| known == version)) {
            return Err(EntryRefusal::IncompatibleVersion(version.to_owned()));
        }
        // Nothing of it is kept.
        let mut txn = self.begin();
        let mut writer = RoomWriter::open(&mut txn, self.room_context(), room)?;
        let (_, content) = what.membership();
        let event = template(&mut writer, &Outline::member(user_id, user_id, content))?;
        Ok(JoinTemplate { version, event })
    }

    /// Takes in a leaving or a knock that another server made from a template. Of a knock: what the user may know of the
    /// room, as events.
    ///
    /// # Errors
    /// See [`EntryRefusal`].
    pub async fn send_handover(
        self: &Arc<Self>,
        what: Handover,
        origin: &str,
        room_id: &str,
        event_id: &str,
        event: Bytes,
    ) -> Result<Vec<Arc<event::AuthEvent>>, EntryRefusal> {
        let (room, rules) = self.room_for(origin, room_id)?;
        let invalid = |why: &str| EntryRefusal::Invalid(why.to_owned());
        let pdu = Pdu::from_federation(rules, &event)
            .map_err(|error| EntryRefusal::Invalid(error.to_string()))?;
        let (membership, _) = what.membership();
        let is_it = pdu.event_type() == "m.room.member"
            && Membership::of_content(pdu.content()) == Some(membership)
            && pdu.state_key() == Some(pdu.sender());
        if !is_it {
            return Err(invalid(match what {
                Handover::Leave => "the event is not a leaving",
                Handover::Knock => "the event is not a knock",
            }));
        }
        if pdu.room_id() != room_id || pdu.event_id().as_str() != event_id {
            return Err(invalid("the event is not the one that the path names"));
        }
        if identifier::domain(pdu.sender()) != Some(origin) {
            return Err(invalid("the user is of another server"));
        }
        let verified = self.verify_one(rules, event).await;
        let verified = verified.map_err(|error| match error {
            NodeError::BadEvent(why) => EntryRefusal::Invalid(why),
            error => EntryRefusal::Failed(error),
        })?;
        let taken_in = self.take_in_and_pass_on(room, room_id, origin, verified);
        taken_in.await.map_err(|error| match error {
            NodeError::Rooms(error) => error.into(),
            NodeError::Unobtainable(why) => EntryRefusal::Forbidden(why.to_owned()),
            error => EntryRefusal::Failed(error),
        })?;
        if what == Handover::Leave {
            return Ok(Vec::new());
        }
        Ok(self.described_to_invited(room, pdu.sender())?)
    }
}
