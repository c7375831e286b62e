//! Joining a room by way of the servers that are in it.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>
//!
//! Users of this server who join one room at the same time go in one after the other: the first enters by another
//! server, and the rest find the room here.
//!
//! A room may be large: its state is brought here in pieces ([`super::staging`]), and entered in one change at the end. A room
//! that nothing is known of here is entered without most of its members, where the other server does that: they come
//! afterwards ([`super::partial`]).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::{Pdu, RoomRules, RoomVersion};
use names::UserSn;
use remote::{RemoteError, Request, path};
use rooms::event_log;
use rooms::ingest::{self, Entered, Need, Verified};
use rooms::partial::Omitted;
use rooms::resident::Members;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::staging::in_order_of_depth;
use super::templates::Template;
use crate::federation::fetch::{MOST_STATE_BYTES, parts, read};
use crate::room::touched;
use crate::{Lane, Lock, Node, NodeError};

/// Servers that are tried.
const MOST_SERVERS: usize = 10;

/// How long a server may take to make a template.
const TEMPLATE_PATIENCE: Duration = Duration::from_secs(20);

/// How long a server may take to answer with the room's state.
const ENTRY_PATIENCE: Duration = Duration::from_secs(180);

/// How long a join waits for the members of a room that was entered without them.
const SMALL_ROOM_PATIENCE: Duration = Duration::from_millis(500);

/// Who lets a user into a restricted room.
const AUTHORISER: &str = "join_authorised_via_users_server";

/// The room versions that this server knows, for `ver`.
const VERSIONS: [RoomVersion; 12] = RoomVersion::ALL;

/// What came of a join by way of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinedElsewhere {
    /// The user is in the room.
    Joined,
    /// Another user of this server got in meanwhile: the join can be made here.
    RoomIsHere,
}

/// A join that other servers are to let in.
pub struct JoinElsewhere<'a> {
    /// The room.
    pub room_id: &'a str,
    /// Who joins.
    pub user: UserSn,
    /// Their id.
    pub user_id: &'a str,
    /// Servers that may be in the room, the likeliest first.
    pub servers: Vec<String>,
    /// The content of the member event, but for who lets the user in.
    pub content: Map<String, Value>,
    /// This server is in the room, but has nobody there who may let the user in.
    pub for_authorisation: bool,
}

/// What `send_join` answers. Version 1 of it has the same in an array after the number 200.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    state: Vec<&'a RawValue>,
    #[serde(borrow)]
    auth_chain: Vec<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(default)]
    members_omitted: bool,
    #[serde(default)]
    servers_in_room: Vec<String>,
}

/// The answer of `send_join`, its events still in their bytes.
struct Received {
    state: Vec<Bytes>,
    auth_chain: Vec<Bytes>,
    event: Option<Bytes>,
    /// If most members are left out.
    omitted: Option<Omitted>,
}

impl Received {
    /// The join: with the signature of the server that lets the user in, where it gave that.
    fn join_event(&self, sent: &Pdu) -> Bytes {
        match &self.event {
            // A copy: the whole answer would stay for it.
            Some(event) => Bytes::copy_from_slice(event),
            None => Bytes::from(sent.json().to_owned()),
        }
    }
}

impl Node {
    /// Joins a room through one of the servers.
    ///
    /// # Errors
    /// That of the last server that refused; [`NodeError::Unobtainable`] if there was none to ask.
    pub async fn join_elsewhere(
        self: &Arc<Self>,
        join: &JoinElsewhere<'_>,
    ) -> Result<JoinedElsewhere, NodeError> {
        let _turn = self
            .lock(Lock::Named(format!("entering {}", join.room_id)))
            .await;
        if !join.for_authorisation && self.room_with_rules(join.room_id)?.is_some() {
            return Ok(JoinedElsewhere::RoomIsHere);
        }
        let mut last = NodeError::Unobtainable("no server is known that is in the room");
        let own = self.server_name();
        let mut tried: HashSet<&str> = HashSet::new();
        let mut servers: Vec<&str> = join.servers.iter().map(String::as_str).collect();
        self.reachable_first(&mut servers);
        for server in servers {
            if tried.len() == MOST_SERVERS {
                break;
            }
            if server == own || !tried.insert(server) {
                continue;
            }
            match self.join_by(server, join).await {
                Ok(()) => return Ok(JoinedElsewhere::Joined),
                Err(error) => {
                    tracing::info!(%server, room = join.room_id, %error, "a join was not let in");
                    // What a server that is in the room says counts for more than that another is silent.
                    if refuses(&error) || !refuses(&last) {
                        last = error;
                    }
                }
            }
        }
        Err(last)
    }

    async fn join_by(
        self: &Arc<Self>,
        server: &str,
        join: &JoinElsewhere<'_>,
    ) -> Result<(), NodeError> {
        let (room_id, user_id) = (join.room_id, join.user_id);
        let versions = VERSIONS.map(|version| ("ver", version.as_str()));
        let prefix = "/_matrix/federation/v1/make_join";
        let request = Request::get(path(prefix, &[room_id, user_id], &versions));
        let answer = self
            .remote()
            .call(server, request.timeout(TEMPLATE_PATIENCE))
            .await?;
        let template: Template = read(&answer)?;
        let rules = template.rules()?;
        let mut content = join.content.clone();
        if let Some(authoriser) = template.content_str(AUTHORISER) {
            content.insert(AUTHORISER.to_owned(), authoriser.into());
        }
        content.insert("membership".to_owned(), "join".into());
        let pdu = template.finish(self, room_id, user_id, content)?;
        let members = self.members_wanted(room_id)?;
        let received = self.ask_to_join(server, room_id, &pdu, members).await?;
        if let Some((room, rules)) = self.room_with_rules(room_id)? {
            let join = received.join_event(&pdu);
            let join = self.verify_one(rules, join).await?;
            return self.take_in_one(room, room_id, server, join).await;
        }
        self.enter(server, rules, room_id, pdu, received).await
    }

    /// Whether a room may be given without its members: if nothing is known of it here. A state of it that is here already may
    /// differ from the one that is given, and then it matters who is a member.
    fn members_wanted(&self, room_id: &str) -> Result<Members, NodeError> {
        if !self.config().federation.faster_joins {
            return Ok(Members::All);
        }
        let head = self.store().head();
        let is_known = match names::room_sn(&head, room_id)? {
            Some(room) => event_log::head(&head, room)?.is_some(),
            None => false,
        };
        Ok(match is_known {
            true => Members::All,
            false => Members::Omitted,
        })
    }

    async fn ask_to_join(
        &self,
        server: &str,
        room_id: &str,
        pdu: &Pdu,
        members: Members,
    ) -> Result<Received, NodeError> {
        let ids = [room_id, pdu.event_id().as_str()];
        let omit_members = match members {
            Members::All => "false",
            Members::Omitted => "true",
        };
        let request = |version: &str, query: &[(&str, &str)]| {
            let prefix = format!("/_matrix/federation/{version}/send_join");
            Request::put(path(&prefix, &ids, query), pdu.json().to_owned())
                .timeout(ENTRY_PATIENCE)
                .max_answer(MOST_STATE_BYTES)
        };
        let answer = self
            .remote()
            .call(server, request("v2", &[("omit_members", omit_members)]))
            .await;
        let (answer, is_second) = match answer {
            Err(RemoteError::Refused {
                status: 404 | 405,
                errcode,
                ..
            }) if errcode.is_empty() || errcode == "M_UNRECOGNIZED" => {
                (self.remote().call(server, request("v1", &[])).await?, false)
            }
            answer => (answer?, true),
        };
        let Entry {
            state,
            auth_chain,
            event,
            members_omitted,
            servers_in_room,
        } = if is_second {
            read(&answer)?
        } else {
            let (_, entry): (u16, Entry<'_>) = read(&answer)?;
            entry
        };
        let omitted = match (members_omitted, members) {
            (false, _) => None,
            (true, Members::Omitted) => Some(Omitted {
                by: server.to_owned(),
                servers: servers_in_room,
            }),
            (true, Members::All) => {
                let why = "the members were left out, which nobody asked for";
                return Err(RemoteError::BadAnswer(why.to_owned()).into());
            }
        };
        Ok(Received {
            omitted,
            state: parts(&answer, &state),
            auth_chain: parts(&answer, &auth_chain),
            event: event.and_then(|event| parts(&answer, &[event]).pop()),
        })
    }

    /// Enters the room with what the server answered.
    async fn enter(
        self: &Arc<Self>,
        server: &str,
        rules: &'static RoomRules,
        room_id: &str,
        pdu: Pdu,
        received: Received,
    ) -> Result<(), NodeError> {
        let started = Instant::now();
        let join = self.verify_one(rules, received.join_event(&pdu)).await?;
        let Received {
            state,
            auth_chain,
            omitted,
            ..
        } = received;
        let is_partial = omitted.is_some();
        if join.pdu().event_id() != pdu.event_id() {
            let why = "another event than the join that was sent";
            return Err(RemoteError::BadAnswer(why.to_owned()).into());
        }
        let count = state.len();
        let room = self.names().room(self.store(), room_id)?;
        let parts = self
            .run(Lane::Bulk, move || in_order_of_depth(state, auth_chain))
            .await?;
        let staging = self.stage(rules, room, room_id, parts, omitted).await?;
        tracing::info!(
            room = room_id, %server, state = count, left_out = count - staging.state_count(),
            waiting = staging.waiting_count(), ms = started.elapsed().as_millis() as u64,
            "entering a room: its state is here"
        );
        self.complete_abandoned(room, server).await?;
        let entry = Arc::new((staging, join));
        loop {
            let guard = self.lock(Lock::Room(room)).await;
            let (node, of_lane) = (Arc::clone(self), Arc::clone(&entry));
            let work = move || -> Result<_, NodeError> {
                let mut txn = node.begin();
                let (staging, join) = &*of_lane;
                let context = node.room_context();
                let entered = ingest::enter_staged(&mut txn, context, rules, room, staging, join)?;
                Ok((txn, entered))
            };
            match self.run(Lane::Bulk, work).await?? {
                (mut txn, Entered::Done(effects)) => {
                    let mut touched = touched(room, &effects);
                    self.note_joined(&mut txn, room, &effects, &mut touched)?;
                    self.commit_room(guard, txn, touched).await?;
                    break;
                }
                (_, Entered::Need(Need::Users(users))) => {
                    drop(guard);
                    self.names().number_users(self.store(), &users)?;
                }
                (_, Entered::Need(_)) => {
                    let why = "the state is not whole";
                    return Err(RemoteError::BadAnswer(why.to_owned()).into());
                }
            }
        }
        let ms = started.elapsed().as_millis() as u64;
        tracing::info!(room = room_id, %server, ms, is_partial, "entered a room");
        if is_partial {
            self.complete_in_background(room);
            // A room that is not large is hardly ever seen without its members.
            self.wait_for_members(room, SMALL_ROOM_PATIENCE).await?;
        }
        Ok(())
    }

    /// Checks an event that must hold.
    pub(crate) async fn verify_one(
        self: &Arc<Self>,
        rules: &'static RoomRules,
        event: Bytes,
    ) -> Result<Verified, NodeError> {
        let verified = self.verify_events(rules, vec![event]).await?.pop();
        match verified {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(NodeError::BadEvent(error.to_string())),
            None => Err(NodeError::Panicked),
        }
    }
}

/// A server that is in the room says no, as opposed to one that can't be reached or does not know the room.
fn refuses(error: &NodeError) -> bool {
    matches!(error, NodeError::Remote(RemoteError::Refused { status, .. }) if *status != 404 && *status < 500)
}
