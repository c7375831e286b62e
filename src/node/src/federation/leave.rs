//! Ending a membership in a room that this server is not in: refusing an invitation, taking a knock back.
//! <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>
//!
//! A user is never kept in such a room because others do not answer: where no server helps, the leaving is kept here alone.

use std::time::Duration;

use event::{Pdu, RoomRules, identifier};
use names::UserSn;
use remote::{RemoteError, Request, path};
use rooms::outside::{self, Outside};
use serde_json::Map;

use crate::federation::fetch::read;
use crate::federation::templates::{Template, own_leave};
use crate::{Node, NodeError};

/// Servers that are asked.
const MOST_SERVERS: usize = 5;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the user waits for others, all in all.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(25);

impl Node {
    /// Whether the user is invited to, or has knocked on, the room without this server being in it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn is_outside(&self, room: names::RoomSn, user: UserSn) -> Result<bool, NodeError> {
        Ok(outside::is_open(&self.store().head(), room, user)?)
    }

    /// Refuses an invitation, or takes a knock back, where this server is not in the room.
    ///
    /// # Errors
    /// [`rooms::Error::Forbidden`] if there is neither; and if the store fails.
    pub async fn leave_outside(
        &self,
        room: names::RoomSn,
        user: UserSn,
        reason: Option<&str>,
    ) -> Result<(), NodeError> {
        let head = self.store().head();
        let not_in = || rooms::Error::Forbidden("the user is not in the room");
        if !outside::is_open(&head, room, user)? {
            return Err(not_in().into());
        }
        let before = outside::get(&head, room, user)?.ok_or_else(not_in)?;
        let damaged = || rooms::Error::Damaged {
            room: room.0,
            why: "an invitation does not parse",
        };
        let rules = before.rules().ok_or_else(damaged)?;
        let member = Pdu::from_stored(rules, before.event_id(), before.json().as_bytes())
            .map_err(|_| damaged())?;
        let user_id = self.names().user_id(&head, user)?;
        let asked = self.ask_to_leave(&before, rules, &user_id, reason);
        let leave = match tokio::time::timeout(PATIENCE_IN_ALL, asked).await {
            Ok(Some(leave)) => leave,
            Ok(None) | Err(_) => own_leave(self, rules, &member, &user_id, reason)?,
        };
        let end = Outside::new(rules, &leave, before.servers.clone());
        self.keep_outside(room, user, &end, None, |now| now == Some(&before))
            .await?;
        Ok(())
    }

    /// Tells the room by way of a server that is in it; the leaving as that took it.
    async fn ask_to_leave(
        &self,
        before: &Outside,
        rules: &RoomRules,
        user_id: &str,
        reason: Option<&str>,
    ) -> Option<Pdu> {
        let (room_id, sender) = (before.room_id(), before.sender());
        let mut servers: Vec<&str> = Vec::new();
        let known = before.servers.iter().map(String::as_str);
        for server in known
            .chain(identifier::domain(&sender))
            .chain(identifier::domain(&room_id))
        {
            if server != self.server_name() && !servers.contains(&server) {
                servers.push(server);
            }
        }
        self.reachable_first(&mut servers);
        for server in servers.into_iter().take(MOST_SERVERS) {
            match self
                .leave_by(server, rules, &room_id, user_id, reason)
                .await
            {
                Ok(leave) => return Some(leave),
                Err(error) => {
                    tracing::info!(%server, room = room_id, %error, "a leaving was not taken");
                }
            }
        }
        None
    }

    async fn leave_by(
        &self,
        server: &str,
        rules: &RoomRules,
        room_id: &str,
        user_id: &str,
        reason: Option<&str>,
    ) -> Result<Pdu, NodeError> {
        let prefix = "/_matrix/federation/v1/make_leave";
        let request = Request::get(path(prefix, &[room_id, user_id], &[])).timeout(PATIENCE);
        let template: Template = read(&self.remote().call(server, request).await?)?;
        let mut content = Map::new();
        content.insert("membership".to_owned(), "leave".into());
        if let Some(reason) = reason {
            content.insert("reason".to_owned(), reason.into());
        }
        // The first version of invitations does not say which of the first two versions the room has.
        if template.rules()?.event_id != rules.event_id {
            let why = "a template of another room version";
            return Err(RemoteError::BadAnswer(why.to_owned()).into());
        }
        let leave = template.finish(self, room_id, user_id, content)?;
        let ids = [room_id, leave.event_id().as_str()];
        let request = |version: &str| {
            let prefix = format!("/_matrix/federation/{version}/send_leave");
            Request::put(path(&prefix, &ids, &[]), leave.json().to_owned()).timeout(PATIENCE)
        };
        match self.remote().call(server, request("v2")).await {
            Err(error) if is_unknown_endpoint(&error) => {
                self.remote().call(server, request("v1")).await?;
            }
            answer => drop(answer?),
        }
        Ok(leave)
    }
}

/// Whether a server answered that there is no such endpoint: it is older, and knows the first version of it.
pub(crate) fn is_unknown_endpoint(error: &RemoteError) -> bool {
    matches!(
        error,
        RemoteError::Refused { status: 400 | 404 | 405, errcode, .. }
            if errcode.is_empty() || errcode == "M_UNRECOGNIZED"
    )
}
