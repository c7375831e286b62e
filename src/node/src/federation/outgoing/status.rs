//! How it stands with the servers that something is sent to, for the operator: of a running server from memory and the
//! database, of a stopped one from the database alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::servers::{backoff, outbox};
use names::RoomSn;
use rooms::servers;
use store::{Position, View};

use super::state::Destination;
use crate::{Node, NodeError};

/// What waits is counted up to here.
const MOST_COUNTED: usize = 1_000;

/// How it stands with a server that something is sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationStatus {
    /// Its name.
    pub server: String,
    /// Since when it fails, in milliseconds since 1970; nothing if it does not.
    pub failing_since_ms: Option<u64>,
    /// When it is tried again.
    pub retry_at_ms: Option<u64>,
    /// Failures in a row.
    pub failures: u32,
    /// The last failure.
    pub error: Option<String>,
    /// It has failed for so long that no messages to devices are kept for it.
    pub is_given_up: bool,
    /// It was away for long, and is told of the rooms in which something happened meanwhile.
    pub is_catching_up: bool,
    /// Everything up to this position was delivered; nothing if all was.
    pub cursor: Option<Position>,
    /// Rooms that it shares with this server and into which something was sent after that, up to a thousand.
    pub rooms: usize,
    /// Messages to devices that wait, up to a thousand.
    pub to_device: usize,
}

impl Node {
    /// The servers that something waits for, by name.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn outgoing_status(&self) -> Result<Vec<DestinationStatus>, NodeError> {
        let view = self.view();
        let mut found: BTreeMap<String, DestinationStatus> = BTreeMap::new();
        for server in outbox::servers_with_to_device(&view)? {
            found.insert(server.clone(), DestinationStatus::of(&server));
        }
        for row in outbox::destinations(&view) {
            let (server, row) = row?;
            let status = DestinationStatus {
                failing_since_ms: Some(row.failing_since_ms),
                retry_at_ms: Some(row.retry_at_ms),
                failures: row.failures,
                error: Some(row.error).filter(|error| !error.is_empty()),
                cursor: Some(row.cursor),
                ..DestinationStatus::of(&server)
            };
            found.insert(server, status);
        }
        let dispatched = self.outgoing.dispatched();
        for destination in self.outgoing.all() {
            let status = destination.status(dispatched);
            found.insert(status.server.clone(), status);
        }
        let mut all: Vec<DestinationStatus> = found.into_values().collect();
        let now_ms = self.now_ms();
        for status in &mut all {
            if let Some(since_ms) = status.failing_since_ms {
                let failing_ms = now_ms.saturating_sub(since_ms);
                status.is_given_up = backoff::is_given_up(failing_ms, status.failures);
            }
            status.to_device = outbox::count_to_device(&view, &status.server, MOST_COUNTED)?;
            if let Some(since) = status.cursor {
                status.rooms = waiting_rooms(&view, &status.server, since)?;
            }
        }
        Ok(all)
    }

    /// How it stands with a server, and the rooms shared with it.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn outgoing_status_of(
        &self,
        server: &str,
    ) -> Result<(DestinationStatus, Vec<RoomSn>), NodeError> {
        let all = self.outgoing_status()?.into_iter();
        let status = all.into_iter().find(|status| status.server == server);
        let status = status.unwrap_or_else(|| DestinationStatus::of(server));
        let rooms = servers::rooms_with(&self.view(), server).collect::<Result<_, _>>()?;
        Ok((status, rooms))
    }

    /// Puts the servers that can't be sent to behind the others, as they are to be asked for something.
    pub(in crate::federation) fn reachable_first<S: AsRef<str>>(&self, servers: &mut [S]) {
        servers.sort_by_cached_key(|server| self.outgoing.is_failing(server.as_ref()));
    }

    /// Forgets how long a server has failed, and tries it now. False if nothing waits for it.
    pub fn retry_now(self: &Arc<Self>, server: &str) -> bool {
        let Some(destination) = self.outgoing.find(server) else {
            return false;
        };
        {
            let mut state = destination.state.lock();
            if let Some(failing) = &mut state.failing {
                let key = (failing.retry_at_ms, Arc::clone(&destination.name));
                // Not there while it is being tried.
                if !self.outgoing.retries.lock().remove(&key) {
                    return true;
                }
                failing.retry_at_ms = 0;
            }
        }
        self.deliver_to(&destination);
        true
    }
}

fn waiting_rooms(view: &View, server: &str, since: Position) -> Result<usize, NodeError> {
    let mut waiting = 0;
    for room in servers::rooms_with(view, server) {
        waiting += usize::from(outbox::sent_since(view, room?, since)?);
        if waiting == MOST_COUNTED {
            break;
        }
    }
    Ok(waiting)
}

impl DestinationStatus {
    fn of(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            ..Self::default()
        }
    }
}

impl Destination {
    fn status(&self, dispatched: Position) -> DestinationStatus {
        let state = self.state.lock();
        let failing = state.failing.as_ref();
        DestinationStatus {
            failing_since_ms: failing.map(|failing| failing.since_ms),
            retry_at_ms: failing.map(|failing| failing.retry_at_ms),
            failures: failing.map_or(0, |failing| failing.failures),
            error: failing.map(|failing| failing.error.clone()),
            is_catching_up: state.catch_up.is_some(),
            cursor: Some(state.cursor(dispatched)),
            ..DestinationStatus::of(&self.name)
        }
    }
}
