//! Invitations of addresses outside of Matrix, once somebody has proved that the address is theirs: what the identity server
//! signed is turned into an invitation, by the server of who invited or by that of the invited.
//! <https://spec.matrix.org/v1.19/server-server-api/#third-party-invites>
//!
//! Whether the proof holds is decided by the authorisation rules, with the keys in the room's `m.room.third_party_invite`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event::identifier;
use remote::{Request, path};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::Read;
use users::accounts;

use crate::federation::EntryRefusal;
use crate::{Node, NodeError};

/// How long the other server may take to make the invitation and to have it signed here.
const PATIENCE: Duration = Duration::from_secs(30);

/// The proof: what an identity server signed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Proof {
    /// Who owns the address.
    pub mxid: String,
    /// The state key of the `m.room.third_party_invite` event.
    pub token: String,
    /// By server and key.
    pub signatures: Map<String, Value>,
}

/// An invitation that is to be made for somebody who has a proof.
#[derive(Clone, Debug)]
pub struct ProvedInvite {
    /// The room.
    pub room_id: String,
    /// Who invited the address.
    pub sender: String,
    /// Who owns it.
    pub target: String,
    /// The proof.
    pub proof: Proof,
}

impl ProvedInvite {
    /// The content of the invitation. The name it is shown by is that of the `m.room.third_party_invite` event.
    fn content(&self, display_name: Option<&str>) -> String {
        let mut invite = json!({ "signed": self.proof });
        if let Some(display_name) = display_name {
            invite["display_name"] = display_name.into();
        }
        json!({ "membership": "invite", "third_party_invite": invite }).to_string()
    }
}

impl Node {
    /// Makes the invitation that a server asks for, whose user has a proof.
    ///
    /// # Errors
    /// See [`EntryRefusal`].
    pub async fn exchange_third_party_invite(
        self: &Arc<Self>,
        origin: &str,
        invite: &ProvedInvite,
    ) -> Result<(), EntryRefusal> {
        let forbidden = |why: &str| EntryRefusal::Forbidden(why.to_owned());
        if identifier::domain(&invite.target) != Some(origin) {
            return Err(forbidden("the invited user is of another server"));
        }
        if !self.names().is_local_id(&invite.sender) {
            return Err(forbidden("another server sent the invitation"));
        }
        let (room, _) = self.room_for(origin, &invite.room_id)?;
        self.key_must_be_good(room, &invite.proof)
            .await
            .map_err(refused)?;
        let content = self.content_of(room, invite)?;
        let invited = self
            .invite_signed(room, &invite.sender, &invite.target, &content)
            .await;
        invited.map_err(refused)
    }

    /// Takes the news that an address belongs to a user of this server who is invited by it: makes the invitation, or has
    /// it made by the server of who invited.
    ///
    /// # Errors
    /// [`EntryRefusal::UnknownUser`] if there is no such user; see [`EntryRefusal`] for the others.
    pub async fn take_proved_invite(
        self: &Arc<Self>,
        invite: &ProvedInvite,
    ) -> Result<(), EntryRefusal> {
        let head = self.store().head();
        let user = self.names().known_user(&head, &invite.target)?;
        let account = match user.filter(|user| user.is_local()) {
            Some(user) => accounts::get(&head, user).map_err(NodeError::from)?,
            None => None,
        };
        if account.is_none_or(|account| account.deactivated) {
            return Err(EntryRefusal::UnknownUser);
        }
        if let Some(room) = self.is_in_room(&invite.room_id)? {
            self.key_must_be_good(room, &invite.proof)
                .await
                .map_err(refused)?;
            let content = self.content_of(room, invite)?;
            let Some((rules, pdu)) = self
                .sealed_invite(room, &invite.sender, &invite.target, &content)
                .await?
            else {
                return Ok(());
            };
            let event = Bytes::from(pdu.json().to_owned());
            let verified = self.verify_one(rules, event).await?;
            let taken_in = self.take_in_own(room, rules, &verified).await;
            return taken_in.map_err(refused);
        }
        let server = identifier::domain(&invite.sender).unwrap_or_default();
        if server == self.server_name() || !identifier::is_server_name(server) {
            return Err(EntryRefusal::UnknownRoom);
        }
        let body = json!({
            "type": "m.room.member",
            "room_id": invite.room_id,
            "sender": invite.sender,
            "state_key": invite.target,
            "content": serde_json::from_str::<Value>(&invite.content(Some(""))).unwrap_or_default(),
        });
        let prefix = "/_matrix/federation/v1/exchange_third_party_invite";
        let path = path(prefix, &[&invite.room_id], &[]);
        let request = Request::put(path, body.to_string()).timeout(PATIENCE);
        let answer = self.remote().call(server, request).await;
        answer.map_err(NodeError::from)?;
        Ok(())
    }

    /// The content of the invitation as the room has it.
    fn content_of(
        &self,
        room: names::RoomSn,
        invite: &ProvedInvite,
    ) -> Result<String, rooms::Error> {
        let head = self.store().head();
        let display_name = display_name(&head, room, &invite.proof.token)?;
        Ok(invite.content(display_name.as_deref()))
    }
}

fn refused(error: NodeError) -> EntryRefusal {
    match error {
        NodeError::Rooms(error) => error.into(),
        error => EntryRefusal::Failed(error),
    }
}

/// What the room calls the address.
fn display_name(
    from: &impl Read,
    room: names::RoomSn,
    token: &str,
) -> Result<Option<String>, rooms::Error> {
    let offer = rooms::state::current(from, room, "m.room.third_party_invite", token)?;
    let Some(offer) = offer else { return Ok(None) };
    let event = rooms::event_log::get(from, room, offer)?;
    let content: Option<Map<String, Value>> = event
        .and_then(|event| event::json::member(&event.json, "content").map(serde_json::from_str))
        .and_then(Result::ok);
    let name = content.and_then(|mut content| content.remove("display_name"));
    Ok(name.and_then(|name| name.as_str().map(str::to_owned)))
}
