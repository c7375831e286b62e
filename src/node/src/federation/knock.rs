//! Knocking on rooms of other servers. <https://spec.matrix.org/v1.19/server-server-api/#knocking-rooms>

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event::auth::Membership;
use event::{RoomVersion, identifier};
use names::UserSn;
use remote::{RemoteError, Request, path};
use rooms::membership::MemberProfile;
use rooms::outside::{self, Outside};
use serde::Deserialize;
use serde_json::Map;
use serde_json::value::RawValue;

use crate::federation::EntryRefusal;
use crate::federation::fetch::{parts, read};
use crate::federation::invited::texts;
use crate::federation::templates::Template;
use crate::{Node, NodeError};

/// Servers that are tried.
const MOST_SERVERS: usize = 10;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A knock on a room that this server is not in.
pub struct KnockElsewhere<'a> {
    /// The room.
    pub room_id: &'a str,
    /// Who knocks.
    pub user: UserSn,
    /// Their id.
    pub user_id: &'a str,
    /// How they are shown.
    pub profile: MemberProfile,
    /// Why they want to come in.
    pub reason: Option<&'a str>,
    /// Servers that may be in the room, the likeliest first.
    pub servers: Vec<String>,
}

impl Node {
    /// Knocks on a room by way of one of the servers.
    ///
    /// # Errors
    /// That of the last server that refused; [`NodeError::Unobtainable`] if there was none to ask;
    /// [`rooms::Error::Forbidden`] if the user is invited.
    pub async fn knock_elsewhere(
        self: &Arc<Self>,
        knock: &KnockElsewhere<'_>,
    ) -> Result<(), NodeError> {
        let head = self.store().head();
        if let Some(room) = names::room_sn(&head, knock.room_id)?
            && let Some(outside) = outside::get(&head, room, knock.user)?
            && outside.membership() == Membership::Invite
        {
            return Err(rooms::Error::Forbidden("the user is invited to the room").into());
        }
        let mut last = NodeError::Unobtainable("no server is known that is in the room");
        let own = self.server_name();
        let mut servers: Vec<&str> = knock.servers.iter().map(String::as_str).collect();
        self.reachable_first(&mut servers);
        for server in servers.into_iter().take(MOST_SERVERS) {
            if server == own || !identifier::is_server_name(server) {
                continue;
            }
            match self.knock_by(server, knock).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::info!(%server, room = knock.room_id, %error, "a knock was not heard");
                    let refused = matches!(
                        &error,
                        NodeError::Remote(RemoteError::Refused { status, .. }) if *status < 500
                    );
                    if refused || !matches!(last, NodeError::Remote(RemoteError::Refused { .. })) {
                        last = error;
                    }
                }
            }
        }
        Err(last)
    }

    async fn knock_by(
        self: &Arc<Self>,
        server: &str,
        knock: &KnockElsewhere<'_>,
    ) -> Result<(), NodeError> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow, default)]
            knock_room_state: Vec<&'a RawValue>,
        }
        let (room_id, user_id) = (knock.room_id, knock.user_id);
        let versions = RoomVersion::ALL.into_iter();
        let versions: Vec<(&str, &str)> = versions
            .filter(|version| version.rules().auth.knock)
            .map(|version| ("ver", version.as_str()))
            .collect();
        let prefix = "/_matrix/federation/v1/make_knock";
        let request = Request::get(path(prefix, &[room_id, user_id], &versions));
        let answer = self
            .remote()
            .call(server, request.timeout(PATIENCE))
            .await?;
        let template: Template = read(&answer)?;
        let rules = template.rules()?;
        let mut content = Map::new();
        content.insert("membership".to_owned(), "knock".into());
        let shown = [
            ("displayname", knock.profile.displayname.as_deref()),
            ("avatar_url", knock.profile.avatar_url.as_deref()),
            ("reason", knock.reason),
        ];
        for (key, value) in shown {
            if let Some(value) = value {
                content.insert(key.to_owned(), value.into());
            }
        }
        let pdu = template.finish(self, room_id, user_id, content)?;
        let prefix = "/_matrix/federation/v1/send_knock";
        let path = path(prefix, &[room_id, pdu.event_id().as_str()], &[]);
        let request = Request::put(path, pdu.json().to_owned()).timeout(PATIENCE);
        let answer = self.remote().call(server, request).await?;
        let described = read::<Answer<'_>>(&answer)?.knock_room_state;
        let described: Vec<Bytes> = parts(&answer, &described);
        let described = match self.described_state(rules, room_id, described).await {
            Ok(described) => described,
            Err(EntryRefusal::Failed(error)) => return Err(error),
            // The knock is there; only what is shown of the room can't be believed.
            Err(error) => {
                tracing::debug!(%server, room = room_id, %error, "what a knock was answered with");
                Vec::new()
            }
        };
        let stripped = outside::stripped_state(texts(&described), &pdu);
        let outside = Outside::new(rules, &pdu, vec![server.to_owned()]);
        let room = self.names().room(self.store(), room_id)?;
        self.keep_outside(room, knock.user, &outside, Some(stripped), |_| true)
            .await?;
        Ok(())
    }
}
