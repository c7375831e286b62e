//! Inviting users of other servers: the invitation is made here, signed there, and only then part of the room.
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>
//!
//! Invariant: no lock is held while the other server is waited for. Whether the invitation is still allowed is decided
//! again when it comes back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event::auth::Membership;
use event::{AuthEvent, EventIdFormat, Pdu, RoomRules, RoomVersion, identifier, json};
use names::{RoomSn, UserSn};
use remote::{RemoteError, Request, path};
use rooms::ingest::{Arrival, Need, Received, Verified};
use rooms::membership::{MemberProfile, member_content};
use rooms::template::sealed;
use rooms::{Outline, RoomWriter, members};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::federation::Forbidden;
use crate::federation::fetch::read;
use crate::federation::leave::is_unknown_endpoint;
use crate::{Lock, Node, NodeError};

/// How long the invited user's server may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An invitation of a user of another server.
pub struct InviteElsewhere<'a> {
    /// The room.
    pub room: RoomSn,
    /// Who invites.
    pub sender: UserSn,
    /// Their id.
    pub sender_id: &'a str,
    /// Who is invited.
    pub target_id: &'a str,
    /// The content of the member event, a JSON object.
    pub content: String,
}

/// The content of an invitation.
pub fn invite_content(reason: Option<&str>, is_direct: bool) -> String {
    let content = member_content("invite", &MemberProfile::default(), reason);
    match (is_direct, content.strip_suffix('}')) {
        (true, Some(open)) => format!("{open},\"is_direct\":true}}"),
        _ => content,
    }
}

/// An invitation that the other server is to sign.
struct Unsigned {
    rules: &'static RoomRules,
    pdu: Pdu,
    described: Vec<Arc<AuthEvent>>,
}

impl Node {
    /// Invites a user of another server.
    ///
    /// # Errors
    /// [`rooms::Error::NotAllowed`]; [`NodeError::Remote`] if the other server refuses, or does not answer as it should.
    pub async fn invite_elsewhere(
        self: &Arc<Self>,
        invite: &InviteElsewhere<'_>,
    ) -> Result<(), NodeError> {
        rooms::membership::must_be_joined(&self.store().head(), invite.room, invite.sender())?;
        let (sender, target) = (invite.sender_id, invite.target_id);
        self.invite_signed(invite.room, sender, target, &invite.content)
            .await
    }

    /// Makes an invitation, has the invited user's server sign it, and takes it into the room.
    pub(crate) async fn invite_signed(
        self: &Arc<Self>,
        room: RoomSn,
        sender_id: &str,
        target_id: &str,
        content: &str,
    ) -> Result<(), NodeError> {
        let server = identifier::domain(target_id).unwrap_or_default();
        if !self.may_share_user(server, sender_id) {
            let why = Forbidden::User.to_string();
            return Err(RemoteError::NotAllowed(why).into());
        }
        let made = self.sealed_invite(room, sender_id, target_id, content);
        let Some((rules, pdu)) = made.await? else {
            return Ok(());
        };
        let unsigned = Unsigned {
            rules,
            described: self.described_to_invited(room, sender_id)?,
            pdu: self.signed_for_room(room, rules, pdu).await?,
        };
        let signed = self.ask_to_sign(server, &unsigned).await?;
        let verified = self
            .verify_one(rules, Bytes::from(signed))
            .await
            .map_err(not_signed)?;
        self.take_in_own(room, rules, &verified).await
    }

    /// Takes in an event that was made here and signed elsewhere as well, and sends it to the servers of the room. Nothing
    /// of it is kept if the room does not allow it any more.
    pub(crate) async fn take_in_own(
        &self,
        room: RoomSn,
        rules: &'static RoomRules,
        event: &Verified,
    ) -> Result<(), NodeError> {
        let mut event = event.clone();
        let is_own = self.names().is_local_id(event.pdu().sender());
        for _ in 0..3 {
            let guard = self.lock(Lock::Room(room)).await;
            let mut txn = self.begin();
            let receive = |writer: &mut RoomWriter<'_>| writer.receive(&event, Arrival::Live);
            let (received, mut touched) = self.write_room(&mut txn, room, receive)?;
            match received {
                Received::Need(Need::Users(users)) => {
                    drop((txn, guard));
                    self.names().number_users(self.store(), &users)?;
                    continue;
                }
                Received::Need(Need::Opinion(server)) => {
                    drop((txn, guard));
                    event = self.with_opinion(&server, rules, event).await;
                    continue;
                }
                Received::Need(_) => break,
                Received::Known(_) => {}
                Received::Stored { verdict, .. } => {
                    verdict.must_count()?;
                    if !is_own {
                        // Made in the name of a user of another server.
                        let event_id = event.pdu().event_id();
                        self.note_passed_on(&mut txn, room, event_id, &mut touched)?;
                    }
                }
            }
            return self.commit_room(guard, txn, touched).await;
        }
        Err(NodeError::Unobtainable("the room has changed meanwhile"))
    }

    /// Makes an invitation that is allowed now, without taking it into the room; nothing if the user is invited so already.
    pub(crate) async fn sealed_invite(
        &self,
        room: RoomSn,
        sender_id: &str,
        target_id: &str,
        content: &str,
    ) -> Result<Option<(&'static RoomRules, Pdu)>, rooms::Error> {
        let guard = self.lock(Lock::Room(room)).await;
        let mut txn = self.begin();
        let target = names::user_sn(&txn, target_id)?;
        let before = match target {
            Some(target) => members::membership(&txn, room, target)?,
            None => Membership::Leave,
        };
        let mut writer = RoomWriter::open(&mut txn, self.room_context(), room)?;
        if before == Membership::Invite && is_invited_so(&writer, sender_id, target_id, content)? {
            return Ok(None);
        }
        let outline = Outline::member(sender_id, target_id, content);
        let made = (writer.rules(), sealed(&mut writer, &outline)?);
        // It enters the room when all have signed it.
        drop((txn, guard));
        Ok(Some(made))
    }

    /// The events that show who is invited by `sender_id` what the room is.
    pub(crate) fn described_to_invited(
        &self,
        room: RoomSn,
        sender_id: &str,
    ) -> Result<Vec<Arc<AuthEvent>>, rooms::Error> {
        let mut txn = self.begin();
        let writer = RoomWriter::open(&mut txn, self.room_context(), room)?;
        writer.events_for_invited(sender_id)
    }

    /// The invitation with the signature of the invited user's server.
    async fn ask_to_sign(&self, server: &str, unsigned: &Unsigned) -> Result<String, NodeError> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            event: &'a RawValue,
        }
        let (rules, pdu) = (unsigned.rules, &unsigned.pdu);
        let ids = [pdu.room_id(), pdu.event_id().as_str()];
        let request = |version: &str, body: String| {
            let prefix = format!("/_matrix/federation/{version}/invite");
            Request::put(path(&prefix, &ids, &[]), body).timeout(PATIENCE)
        };
        let answer = self
            .remote()
            .call(server, request("v2", second_version(unsigned)))
            .await;
        let is_first = matches!(rules.version, RoomVersion::V1 | RoomVersion::V2);
        match answer {
            Err(error) if is_first && is_unknown_endpoint(&error) => {
                let request = request("v1", first_version(unsigned));
                let answer = self.remote().call(server, request).await?;
                let (_, answer): (u16, Answer<'_>) = read(&answer)?;
                countersigned(rules, pdu, answer.event.get(), server)
            }
            answer => {
                let answer = answer?;
                let answer: Answer<'_> = read(&answer)?;
                countersigned(rules, pdu, answer.event.get(), server)
            }
        }
    }
}

impl InviteElsewhere<'_> {
    fn sender(&self) -> rooms::Sender<'_> {
        rooms::Sender {
            user: self.sender,
            user_id: self.sender_id,
        }
    }
}

/// Whether the user's member event is one like this, by the same user.
fn is_invited_so(
    writer: &RoomWriter<'_>,
    sender_id: &str,
    target_id: &str,
    content: &str,
) -> Result<bool, rooms::Error> {
    let Some(event) = writer.state_event("m.room.member", target_id)? else {
        return Ok(false);
    };
    let content = event::canonical::from_text(content, writer.rules().numbers);
    let pdu = event.pdu();
    Ok(pdu.sender() == sender_id && content.is_ok_and(|content| content == pdu.content()))
}

/// The body of the second version of the request.
fn second_version(unsigned: &Unsigned) -> String {
    format!(
        "{{\"room_version\":\"{}\",\"event\":{},\"invite_room_state\":{}}}",
        unsigned.rules.version,
        unsigned.pdu.json(),
        list(&unsigned.described),
    )
}

/// The body of the first version: the event itself.
fn first_version(unsigned: &Unsigned) -> String {
    let event = unsigned.pdu.json();
    let open = event.strip_suffix('}').unwrap_or(event);
    let described = list(&unsigned.described);
    format!("{open},\"unsigned\":{{\"invite_room_state\":{described}}}}}")
}

/// Events as they are, in a JSON list.
pub fn list(events: &[Arc<AuthEvent>]) -> String {
    let events: Vec<&str> = events.iter().map(|event| event.pdu().json()).collect();
    format!("[{}]", events.join(","))
}

/// Our own event with the signatures of the other server, and nothing else of what it answered.
fn countersigned(
    rules: &RoomRules,
    own: &Pdu,
    answer: &str,
    server: &str,
) -> Result<String, NodeError> {
    let bad = |why: &str| NodeError::Remote(RemoteError::BadAnswer(why.to_owned()));
    let theirs =
        Pdu::from_federation(rules, answer.as_bytes()).map_err(|error| bad(&error.to_string()))?;
    let is_same = theirs.event_id() == own.event_id()
        && (rules.event_id != EventIdFormat::Chosen
            || event::hash::reference_hash(rules, theirs.json())
                == event::hash::reference_hash(rules, own.json()));
    if !is_same {
        return Err(bad("another event than the invitation"));
    }
    let signatures = json::member(theirs.json(), "signatures")
        .and_then(|signatures| json::member(signatures, server))
        .ok_or_else(|| bad("an invitation that it did not sign"))?;
    event::with_signatures(own, server, signatures).map_err(|error| bad(&error.to_string()))
}

/// What our own event, once signed by another server, is found to be wrong by, is that server's doing.
fn not_signed(error: NodeError) -> NodeError {
    match error {
        NodeError::BadEvent(why) => NodeError::Remote(RemoteError::BadAnswer(why)),
        error => error,
    }
}
