//! Bringing the state of a room here that another server gave: for who enters the room, and for who learns its members later.
//!
//! It may be large: it is checked on all cores, and kept in pieces, as outliers. What was kept when it ends early is known
//! when it is tried again.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::RoomRules;
use names::RoomSn;
use remote::RemoteError;
use rooms::ingest::{self, Part, Staging};
use rooms::partial::Omitted;
use serde::Deserialize;

use crate::{Lane, Lock, Node, NodeError};

/// Events of a state that are kept in one change.
const EVENTS_PER_STAGE: usize = 2000;

/// How often the log tells how far it is.
const BETWEEN_TELLING: Duration = Duration::from_secs(1);

/// An event of a state that another server gave, or of its auth chain.
pub(super) struct RawPart {
    event: Bytes,
    is_state: bool,
    is_create: bool,
    depth: i64,
}

impl Node {
    /// Brings the events of a room's state here, some at a time: while some are kept, the next are checked. With `omitted`, it
    /// is the state of a room that is to be entered without most of its members.
    ///
    /// # Errors
    /// If it is the state of no room, or of another one; or the store fails.
    pub(super) async fn stage(
        self: &Arc<Self>,
        rules: &'static RoomRules,
        room: RoomSn,
        room_id: &str,
        parts: Vec<RawPart>,
        omitted: Option<Omitted>,
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
        let mut staging = match omitted {
            None => Staging::new(create),
            Some(omitted) => Staging::without_members(create, omitted),
        };
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
                tracing::info!(
                    room = room_id,
                    done,
                    of = count,
                    "taking in the state of a room"
                );
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

/// The events of an answer by depth: nearly always, each comes after what authorises it. What can't be read is left out.
pub(super) fn in_order_of_depth(state: Vec<Bytes>, auth_chain: Vec<Bytes>) -> Vec<RawPart> {
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
