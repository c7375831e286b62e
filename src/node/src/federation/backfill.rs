//! Fetching history that others have, when somebody reads back to where this server's has a gap.
//! <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

use std::collections::HashSet;
use std::sync::Arc;

use event::EventId;
use names::RoomSn;
use rooms::backfill::Filled;
use rooms::ingest::{self, Need, Verified};
use rooms::{EventNo, RoomWriter, backfill, event_log, servers};
use store::Read;

use super::ingest::Ingest;
use super::partial::MEMBERS_PATIENCE;
use crate::room::touched;
use crate::{Lane, Lock, Node, NodeError};

/// Servers that are asked before the history is left as it is.
const MOST_SERVERS: usize = 4;

/// Missing events that are asked about at once.
const MOST_MISSING: usize = 10;

/// Events asked for at once.
const LIMIT: usize = 100;

/// Times that what an event needs is fetched.
const MOST_TRIES: usize = 4;

impl Node {
    /// Fetches history from before the stretch that begins at `stretch`; says whether there was any.
    ///
    /// # Errors
    /// If the store fails; that no server has it is none.
    pub async fn backfill(
        self: &Arc<Self>,
        room: RoomSn,
        stretch: EventNo,
    ) -> Result<bool, NodeError> {
        // Who reads on at the same time finds what the first has fetched.
        let floor = stretch.stretch_floor();
        let first_before = event_log::first(&self.view(), room, floor)?;
        let _turn = self
            .lock(Lock::Named(format!("backfilling {}", room.0)))
            .await;
        let view = self.view();
        if event_log::first(&view, room, floor)? != first_before {
            return Ok(true);
        }
        if !self.wait_for_members(room, MEMBERS_PATIENCE).await? {
            return Ok(false);
        }
        let Some(mut missing) = backfill::gaps(&view, room)?.remove(&stretch) else {
            return Ok(false);
        };
        missing.truncate(MOST_MISSING);
        let room_id = names::room_id(&view, room)?;
        let mut servers = servers::joined(&view, room)?;
        self.reachable_first(&mut servers);
        for server in servers.iter().take(MOST_SERVERS) {
            match self.backfill_by(room, &room_id, server, &missing).await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::debug!(room = room_id, %server, count, "history was filled in");
                    return Ok(true);
                }
                Err(error) => {
                    tracing::debug!(room = room_id, %server, %error, "no history to be had");
                }
            }
        }
        Ok(false)
    }

    async fn backfill_by(
        self: &Arc<Self>,
        room: RoomSn,
        room_id: &str,
        server: &str,
        missing: &[EventId],
    ) -> Result<usize, NodeError> {
        let mut events = self.fetch_backfill(server, room_id, missing, LIMIT).await?;
        events.truncate(LIMIT);
        let mut ingest = Ingest::new(self, room, room_id, server)?;
        let events = ingest.events_without_place(events).await?;
        let events = with_one_end(&self.view(), room, ingest::in_prev_order(events)?)?;
        let state = match lowest(&self.view(), room, &events)?.first() {
            Some(lowest) => ingest.keep_state_at(lowest).await?,
            None => Vec::new(),
        };
        let events = Arc::new((events, state));
        for _ in 0..MOST_TRIES {
            match self.fill_in(room, &events).await? {
                Filled::Stored(count) => return Ok(count),
                Filled::Need(Need::Users(users)) => {
                    self.names().number_users(self.store(), &users)?;
                }
                Filled::Need(Need::AuthEvents(missing)) => {
                    ingest.keep_single_events(&missing).await?;
                }
                Filled::Need(need) => {
                    tracing::debug!(
                        room = room_id,
                        ?need,
                        "the history rests on what is not here"
                    );
                    return Ok(0);
                }
            }
        }
        Ok(0)
    }

    async fn fill_in(
        self: &Arc<Self>,
        room: RoomSn,
        events: &Arc<(Vec<Verified>, Vec<EventId>)>,
    ) -> Result<Filled, NodeError> {
        let guard = self.lock(Lock::Room(room)).await;
        let (node, events) = (Arc::clone(self), Arc::clone(events));
        let work = move || -> Result<_, NodeError> {
            let mut txn = node.begin();
            let mut writer = RoomWriter::open(&mut txn, node.room_context(), room)?;
            let (events, state) = &*events;
            let filled = writer.backfill(events, state)?;
            let touched = touched(room, &writer.finish());
            Ok((txn, touched, filled))
        };
        let (txn, touched, filled) = self.run(Lane::Bulk, work).await??;
        if matches!(filled, Filled::Stored(count) if count > 0) {
            self.commit_room(guard, txn, touched).await?;
        }
        Ok(filled)
    }
}

/// Of the events, each after those that it follows, those that follow something that is neither among them nor here.
fn lowest(from: &impl Read, room: RoomSn, events: &[Verified]) -> Result<Vec<EventId>, NodeError> {
    let among: HashSet<&str> = events
        .iter()
        .map(|event| event.pdu().event_id().as_str())
        .collect();
    let mut lowest = Vec::new();
    for event in events {
        for id in event.pdu().prev_events() {
            if !among.contains(id) && event_log::find_in(from, room, id)?.is_none() {
                lowest.push(event.pdu().event_id().clone());
                break;
            }
        }
    }
    Ok(lowest)
}

/// The newest of the events, as many as can be had so that one of them at most follows what is not here: for that one
/// the state is asked for, and the others follow from it.
fn with_one_end(
    from: &impl Read,
    room: RoomSn,
    mut events: Vec<Verified>,
) -> Result<Vec<Verified>, NodeError> {
    while lowest(from, room, &events)?.len() > 1 {
        events.remove(0);
    }
    Ok(events)
}
