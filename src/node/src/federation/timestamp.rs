//! The event nearest to a time, where this server's history has gaps that it may lie in.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid>
//!
//! What another server finds is fetched by filling in the history down to it, so that clients can read on from there.

use std::sync::Arc;
use std::time::Duration;

use event::json;
use names::RoomSn;
use remote::{Request, path};
use rooms::{EventNo, backfill, event_log, servers};
use serde::Deserialize;
use store::Read;

use crate::federation::fetch::read;
use crate::{Node, NodeError};

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Servers that are asked.
const MOST_SERVERS: usize = 3;

/// Pieces of history that are filled in to get to the event.
const MOST_PIECES: usize = 10;

/// An event that another server found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Nearest {
    /// Its id.
    pub event_id: String,
    /// When it was sent, in milliseconds since 1970, as it says itself.
    pub origin_server_ts: u64,
}

impl Nearest {
    /// Whether it is on the right side of the time, and nearer to it than the other.
    fn improves(&self, ts_ms: u64, forwards: bool, on: Option<u64>) -> bool {
        let sent_ms = self.origin_server_ts;
        match forwards {
            true => sent_ms >= ts_ms && on.is_none_or(|on| sent_ms < on),
            false => sent_ms <= ts_ms && on.is_none_or(|on| sent_ms > on),
        }
    }
}

/// Whether there may be an event nearer to the time than the one at `found`, in a gap of the history here: it is next
/// to a gap, or there is none.
///
/// # Errors
/// If the store fails.
pub fn may_be_in_gap(
    from: &impl Read,
    room: RoomSn,
    found: Option<EventNo>,
) -> Result<bool, NodeError> {
    let gaps = backfill::gaps(from, room)?;
    let Some(found) = found else {
        return Ok(!gaps.is_empty());
    };
    for gap in gaps.into_keys() {
        let floor = gap.stretch_floor();
        let after = event_log::first(from, room, floor)?;
        let before = event_log::backwards(from, room, floor).next().transpose()?;
        if after == Some(found) || before.is_some_and(|(no, _)| no == found) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The gap that an event of this time may lie in, by the time of the first event after it: the oldest of those that can be.
fn gap_at(from: &impl Read, room: RoomSn, ts_ms: u64) -> Result<Option<EventNo>, NodeError> {
    for gap in backfill::gaps(from, room)?.into_keys() {
        let after = event_log::forwards(from, room, gap.stretch_floor()).next();
        let Some((_, after)) = after.transpose()? else {
            continue;
        };
        let sent = json::member(&after.json, "origin_server_ts").and_then(json::integer);
        if sent.is_some_and(|sent| u64::try_from(sent).unwrap_or(0) >= ts_ms) {
            return Ok(Some(gap));
        }
    }
    Ok(None)
}

impl Node {
    /// Asks other servers in the room for an event nearer to a time than one that was sent at `than_ms`, and fills in
    /// the history down to it as far as that can be done.
    ///
    /// # Errors
    /// If the store fails. That nobody answers, or nothing better, is nothing.
    pub async fn nearer_elsewhere(
        self: &Arc<Self>,
        room: RoomSn,
        (ts_ms, forwards): (u64, bool),
        than_ms: Option<u64>,
    ) -> Result<Option<Nearest>, NodeError> {
        let view = self.view();
        let room_id = names::room_id(&view, room)?;
        let mut servers = servers::joined(&view, room)?;
        self.reachable_first(&mut servers);
        drop(view);
        let mut nearest: Option<Nearest> = None;
        for server in servers.iter().take(MOST_SERVERS) {
            let answer = self
                .ask_for_time(server, &room_id, ts_ms, forwards)
                .await
                .filter(|answer| answer.improves(ts_ms, forwards, than_ms));
            if answer.is_some() {
                nearest = answer;
                break;
            }
        }
        if let Some(nearest) = &nearest {
            for _ in 0..MOST_PIECES {
                let view = self.view();
                let is_here = event_log::find_in(&view, room, &nearest.event_id)?.is_some();
                let gap = gap_at(&view, room, nearest.origin_server_ts)?;
                drop(view);
                match gap.filter(|_| !is_here) {
                    Some(gap) if self.backfill(room, gap).await? => {}
                    _ => break,
                }
            }
        }
        Ok(nearest)
    }

    async fn ask_for_time(
        &self,
        server: &str,
        room_id: &str,
        ts_ms: u64,
        forwards: bool,
    ) -> Option<Nearest> {
        let (ts, dir) = (ts_ms.to_string(), if forwards { "f" } else { "b" });
        let path = path(
            "/_matrix/federation/v1/timestamp_to_event",
            &[room_id],
            &[("ts", &ts), ("dir", dir)],
        );
        let request = Request::get(path).timeout(PATIENCE);
        let answer = self.remote().call(server, request).await;
        match answer.and_then(|answer| read(&answer)) {
            Ok(nearest) => Some(nearest),
            Err(error) => {
                tracing::debug!(%server, room = room_id, %error, "finds no event for a time");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_nearer_and_on_the_right_side_is_better() {
        let at = |ms: u64| Nearest {
            event_id: "$x".to_owned(),
            origin_server_ts: ms,
        };
        assert!(at(12).improves(10, true, None) && at(12).improves(10, true, Some(15)));
        assert!(!at(12).improves(10, true, Some(12)) && !at(9).improves(10, true, None));
        assert!(at(8).improves(10, false, Some(5)) && at(10).improves(10, false, None));
        assert!(!at(12).improves(10, false, None) && !at(5).improves(10, false, Some(5)));
    }
}
