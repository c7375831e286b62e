//! Joining a room by way of the servers that are in it.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>
//!
//! Users of this server who join one room at the same time go in one after the other: the first enters by another
//! server, and the rest find the room here.
//!
//! A room may be large: its state is checked on all cores and kept in pieces, and entered in one change at the end. What was
//! kept of a join that ends early is known when it is tried again.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::{Pdu, RoomRules, RoomVersion};
use names::{RoomSn, UserSn};
use remote::{RemoteError, Request, path};
use rooms::ingest::{self, Entered, Need, Part, Staging, Verified};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::federation::fetch::{MOST_STATE_BYTES, parts, read};
use crate::room::touched;
use crate::{Lane, Lock, Node, NodeError};

/// Servers that are tried.
const MOST_SERVERS: usize = 10;

/// How long a server may take to make a template.
const TEMPLATE_PATIENCE: Duration = Duration::from_secs(20);

/// How long a server may take to answer with the room's state.
const ENTRY_PATIENCE: Duration = Duration::from_secs(180);

/// Events of a state that are kept in one change.
const EVENTS_PER_STAGE: usize = 2000;

/// How often the log tells how far a join is.
const BETWEEN_TELLING: Duration = Duration::from_secs(1);

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

/// What `make_join` answers.
#[derive(Deserialize)]
struct Template {
    room_version: Option<String>,
    event: Map<String, Value>,
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
}

/// The answer of `send_join`, its events still in their bytes.
struct Received {
    state: Vec<Bytes>,
    auth_chain: Vec<Bytes>,
    event: Option<Bytes>,
}

/// An event of it.
struct RawPart {
    event: Bytes,
    is_state: bool,
    is_create: bool,
    depth: i64,
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
        let version = template.room_version.as_deref().unwrap_or("1");
        let rules = version
            .parse::<RoomVersion>()
            .map_err(|_| rooms::Error::UnsupportedVersion(version.to_owned()))?
            .rules();
        let pdu = self.finish_template(rules, join, template.event)?;
        let received = self.ask_to_join(server, room_id, &pdu).await?;
        if let Some((room, rules)) = self.room_with_rules(room_id)? {
            let join = received.join_event(&pdu);
            let join = self.verify_one(rules, join).await?;
            return self.take_in_one(room, room_id, server, join).await;
        }
        self.enter(server, rules, room_id, pdu, received).await
    }

    /// Makes the join from a template: of that only what says where in the room it goes, and who lets it in.
    fn finish_template(
        &self,
        rules: &'static RoomRules,
        join: &JoinElsewhere<'_>,
        mut event: Map<String, Value>,
    ) -> Result<Pdu, NodeError> {
        const AUTHORISER: &str = "join_authorised_via_users_server";
        let mut content = join.content.clone();
        if let Some(authoriser) = event
            .get("content")
            .and_then(|content| content.get(AUTHORISER))
        {
            content.insert(AUTHORISER.to_owned(), authoriser.clone());
        }
        content.insert("membership".to_owned(), "join".into());
        let first_format = rules.event_id == event::EventIdFormat::Chosen;
        event.retain(|key, _| matches!(key.as_str(), "auth_events" | "prev_events" | "depth"));
        if first_format {
            let random = u64::from_be_bytes(self.random());
            let id = format!("${random:x}{:x}:{}", self.now_ms(), self.server_name());
            event.insert("event_id".to_owned(), id.into());
        }
        event.insert("type".to_owned(), "m.room.member".into());
        event.insert("room_id".to_owned(), join.room_id.into());
        event.insert("sender".to_owned(), join.user_id.into());
        event.insert("state_key".to_owned(), join.user_id.into());
        event.insert("content".to_owned(), Value::Object(content));
        event.insert("origin_server_ts".to_owned(), self.now_ms().into());
        event.insert("origin".to_owned(), self.server_name().into());
        let bad = |why: String| NodeError::Remote(RemoteError::BadAnswer(why));
        let text = Value::Object(event).to_string();
        let signed = event::hash_and_sign(rules, &text, self.signing_key())
            .map_err(|error| bad(error.to_string()))?;
        Pdu::from_federation(rules, signed.as_bytes()).map_err(|error| bad(error.to_string()))
    }

    async fn ask_to_join(
        &self,
        server: &str,
        room_id: &str,
        pdu: &Pdu,
    ) -> Result<Received, NodeError> {
        let ids = [room_id, pdu.event_id().as_str()];
        let request = |version: &str, query: &[(&str, &str)]| {
            let prefix = format!("/_matrix/federation/{version}/send_join");
            Request::put(path(&prefix, &ids, query), pdu.json().to_owned())
                .timeout(ENTRY_PATIENCE)
                .max_answer(MOST_STATE_BYTES)
        };
        let answer = self
            .remote()
            .call(server, request("v2", &[("omit_members", "false")]))
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
        } = if is_second {
            read(&answer)?
        } else {
            let (_, entry): (u16, Entry<'_>) = read(&answer)?;
            entry
        };
        Ok(Received {
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
            state, auth_chain, ..
        } = received;
        if join.pdu().event_id() != pdu.event_id() {
            let why = "another event than the join that was sent";
            return Err(RemoteError::BadAnswer(why.to_owned()).into());
        }
        let count = state.len();
        let room = self.names().room(self.store(), room_id)?;
        let parts = self
            .run(Lane::Bulk, move || in_order_of_depth(state, auth_chain))
            .await?;
        let staging = self.stage(rules, room, room_id, parts).await?;
        tracing::info!(
            room = room_id, %server, state = count, left_out = count - staging.state_count(),
            waiting = staging.waiting_count(), ms = started.elapsed().as_millis() as u64,
            "entering a room: its state is here"
        );
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
        tracing::info!(room = room_id, %server, ms = started.elapsed().as_millis() as u64, "entered a room");
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

    /// Brings the events of a room that is entered here, some at a time: while some are kept, the next are checked.
    async fn stage(
        self: &Arc<Self>,
        rules: &'static RoomRules,
        room: RoomSn,
        room_id: &str,
        parts: Vec<RawPart>,
    ) -> Result<Staging, NodeError> {
        let create = parts.iter().find(|part| part.is_create);
        let create = create.ok_or_else(|| no_room("the state has no create event"))?;
        // A copy: the whole answer would stay for it.
        let create = Bytes::copy_from_slice(&create.event);
        let create = self.verify_one(rules, create).await?;
        if create.pdu().room_id() != room_id {
            return Err(no_room("the create event is of another room"));
        }
        let users = ingest::users_without_number(&self.store().head(), [&create])?;
        self.names().number_users(self.store(), &users)?;
        let mut staging = Staging::new(create);
        let count = parts.len();
        let mut parts = parts.into_iter();
        let mut verified = Vec::new();
        let mut told = Instant::now();
        loop {
            let next: Vec<RawPart> = parts.by_ref().take(EVENTS_PER_STAGE).collect();
            let is_last = next.is_empty();
            (staging, verified) = tokio::try_join!(
                self.keep_staged(rules, room, staging, verified),
                self.verified(rules, room_id, next)
            )?;
            if is_last {
                return Ok(staging);
            }
            if told.elapsed() > BETWEEN_TELLING {
                told = Instant::now();
                let done = count - parts.len();
                tracing::info!(room = room_id, done, of = count, "entering a room");
            }
        }
    }

    async fn keep_staged(
        self: &Arc<Self>,
        rules: &'static RoomRules,
        room: RoomSn,
        mut staging: Staging,
        parts: Vec<Part>,
    ) -> Result<Staging, NodeError> {
        if parts.is_empty() {
            return Ok(staging);
        }
        let _guard = self.lock(Lock::Room(room)).await;
        let node = Arc::clone(self);
        let work = move || -> Result<_, NodeError> {
            let events = parts.iter().map(|part| &part.event);
            let users = ingest::users_without_number(&node.store().head(), events)?;
            node.names().number_users(node.store(), &users)?;
            let mut txn = node.begin();
            staging.keep(&mut txn, node.room_context(), rules, room, parts)?;
            // It concerns nobody yet: that it is safe is waited for when the room is entered.
            node.store().commit(txn)?;
            Ok(staging)
        };
        self.run(Lane::Bulk, work).await?
    }

    /// Those of the events that hold and are of the room.
    async fn verified(
        self: &Arc<Self>,
        rules: &'static RoomRules,
        room_id: &str,
        parts: Vec<RawPart>,
    ) -> Result<Vec<Part>, NodeError> {
        let mut good = Vec::with_capacity(parts.len());
        let (events, of_state): (Vec<Bytes>, Vec<bool>) = parts
            .into_iter()
            .map(|part| (part.event, part.is_state))
            .unzip();
        let verified = self.verify_events(rules, events).await?;
        for (event, is_state) in verified.into_iter().zip(of_state) {
            match event {
                Ok(event) if event.pdu().room_id() == room_id => {
                    good.push(Part { event, is_state });
                }
                Ok(_) => tracing::debug!(room = room_id, "got an event of another room"),
                Err(error) => tracing::debug!(room = room_id, %error, "got a bad event"),
            }
        }
        Ok(good)
    }
}

fn no_room(why: &str) -> NodeError {
    RemoteError::BadAnswer(why.to_owned()).into()
}

/// A server that is in the room says no, as opposed to one that can't be reached or does not know the room.
fn refuses(error: &NodeError) -> bool {
    matches!(error, NodeError::Remote(RemoteError::Refused { status, .. }) if *status != 404 && *status < 500)
}

/// The events of an answer by depth: nearly always, each comes after what authorises it. What can't be read is left out.
fn in_order_of_depth(state: Vec<Bytes>, auth_chain: Vec<Bytes>) -> Vec<RawPart> {
    #[derive(Deserialize)]
    struct Outline<'a> {
        #[serde(borrow, rename = "type")]
        event_type: Cow<'a, str>,
        depth: i64,
    }
    let state = state.into_iter().map(|event| (event, true));
    let auth_chain = auth_chain.into_iter().map(|event| (event, false));
    let mut parts = Vec::with_capacity(state.len() + auth_chain.len());
    for (event, is_state) in state.chain(auth_chain) {
        let Ok(outline) = serde_json::from_slice::<Outline<'_>>(&event) else {
            continue;
        };
        let is_create = outline.event_type == "m.room.create";
        let depth = outline.depth;
        parts.push(RawPart {
            event,
            is_state,
            is_create,
            depth,
        });
    }
    parts.sort_by_key(|part| part.depth);
    parts
}
