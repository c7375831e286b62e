//! Asking other servers for the events of rooms: each request by its endpoint, answered with the events' bytes as they
//! came. Whether they are events at all, and whose, is found out by whoever takes them in.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use event::EventId;
use remote::{RemoteError, Request, path};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::{Node, NodeError};

/// How long one request for a few events may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a request for a whole state may take.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// The most bytes of a whole state.
pub(crate) const MOST_STATE_BYTES: usize = 512 << 20;

const V1: &str = "/_matrix/federation/v1";

/// The ids of a state's events and of their auth chain, as a peer has them.
#[derive(Debug)]
pub(crate) struct PeerState {
    pub(crate) state: Vec<EventId>,
    pub(crate) auth_chain: Vec<EventId>,
}

/// Reads the JSON of an answer.
pub(crate) fn read<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, RemoteError> {
    serde_json::from_slice(answer).map_err(|error| RemoteError::BadAnswer(error.to_string()))
}

/// Parts of an answer that share its bytes.
pub(crate) fn parts(answer: &Bytes, raw: &[&RawValue]) -> Vec<Bytes> {
    raw.iter()
        .map(|raw| answer.slice_ref(raw.get().as_bytes()))
        .collect()
}

/// Answers that are one list of events, by whatever name their endpoint gives it.
#[derive(Deserialize)]
struct Events<'a> {
    #[serde(borrow, alias = "pdus", alias = "auth_chain")]
    events: Vec<&'a RawValue>,
}

impl Node {
    async fn fetch_events(&self, peer: &str, request: Request) -> Result<Vec<Bytes>, NodeError> {
        let answer = self.remote().call(peer, request.timeout(PATIENCE)).await?;
        let events = read::<Events<'_>>(&answer)?.events;
        Ok(parts(&answer, &events))
    }

    /// Events between `latest` and `earliest`.
    /// <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid>
    pub(crate) async fn fetch_missing_events(
        &self,
        peer: &str,
        room_id: &str,
        latest: &str,
        earliest: &[String],
        limit: usize,
    ) -> Result<Vec<Bytes>, NodeError> {
        let body = json!({
            "latest_events": [latest],
            "earliest_events": earliest,
            "limit": limit,
            "min_depth": 0,
        });
        let path = path(&format!("{V1}/get_missing_events"), &[room_id], &[]);
        self.fetch_events(peer, Request::post(path, body.to_string()))
            .await
    }

    /// Events and what they follow.
    /// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid>
    pub(crate) async fn fetch_backfill(
        &self,
        peer: &str,
        room_id: &str,
        from: &[EventId],
        limit: usize,
    ) -> Result<Vec<Bytes>, NodeError> {
        let limit = limit.to_string();
        let mut query: Vec<(&str, &str)> = from.iter().map(|id| ("v", id.as_str())).collect();
        query.push(("limit", &limit));
        let path = path(&format!("{V1}/backfill"), &[room_id], &query);
        self.fetch_events(peer, Request::get(path)).await
    }

    /// One event.
    /// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid>
    pub(crate) async fn fetch_event(&self, peer: &str, event_id: &str) -> Result<Bytes, NodeError> {
        let path = path(&format!("{V1}/event"), &[event_id], &[]);
        let events = self.fetch_events(peer, Request::get(path)).await?;
        events
            .into_iter()
            .next()
            .ok_or_else(|| RemoteError::BadAnswer("no event".to_owned()).into())
    }

    /// The auth chain of an event.
    /// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid>
    pub(crate) async fn fetch_event_auth(
        &self,
        peer: &str,
        room_id: &str,
        event_id: &str,
    ) -> Result<Vec<Bytes>, NodeError> {
        let path = path(&format!("{V1}/event_auth"), &[room_id, event_id], &[]);
        self.fetch_events(peer, Request::get(path)).await
    }

    /// The ids of the state before an event.
    /// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid>
    pub(crate) async fn fetch_state_ids(
        &self,
        peer: &str,
        room_id: &str,
        event_id: &str,
    ) -> Result<PeerState, NodeError> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            pdu_ids: Vec<Cow<'a, str>>,
            #[serde(borrow)]
            auth_chain_ids: Vec<Cow<'a, str>>,
        }
        let query = [("event_id", event_id)];
        let path = path(&format!("{V1}/state_ids"), &[room_id], &query);
        let request = Request::get(path)
            .timeout(LONG_PATIENCE)
            .max_answer(MOST_STATE_BYTES);
        let answer = self.remote().call(peer, request).await?;
        let Answer {
            pdu_ids,
            auth_chain_ids,
        } = read(&answer)?;
        let ids = |ids: Vec<Cow<'_, str>>| ids.iter().map(|id| EventId::from(&**id)).collect();
        Ok(PeerState {
            state: ids(pdu_ids),
            auth_chain: ids(auth_chain_ids),
        })
    }

    /// The state before an event and its auth chain, whole.
    /// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid>
    pub(crate) async fn fetch_state(
        &self,
        peer: &str,
        room_id: &str,
        event_id: &str,
    ) -> Result<Vec<Bytes>, NodeError> {
        let (mut events, chain) = self.fetch_state_parts(peer, room_id, event_id).await?;
        events.extend(chain);
        Ok(events)
    }

    /// The same, the state and its auth chain apart.
    pub(crate) async fn fetch_state_parts(
        &self,
        peer: &str,
        room_id: &str,
        event_id: &str,
    ) -> Result<(Vec<Bytes>, Vec<Bytes>), NodeError> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            pdus: Vec<&'a RawValue>,
            #[serde(borrow)]
            auth_chain: Vec<&'a RawValue>,
        }
        let query = [("event_id", event_id)];
        let path = path(&format!("{V1}/state"), &[room_id], &query);
        let request = Request::get(path)
            .timeout(LONG_PATIENCE)
            .max_answer(MOST_STATE_BYTES);
        let answer = self.remote().call(peer, request).await?;
        let Answer { pdus, auth_chain } = read(&answer)?;
        Ok((parts(&answer, &pdus), parts(&answer, &auth_chain)))
    }
}
