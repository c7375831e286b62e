//! Parsed state events and resolved states in memory. What is here follows from what was committed and never
//! changes, so nothing is ever invalid.

use std::sync::Arc;

use event::{AuthEvent, Pdu, RoomRules};
use names::RoomSn;
use quick_cache::Weighter;
use quick_cache::sync::Cache as Lru;
use store::{Position, Read};

use crate::resolve::{Difference, Settled};
use crate::server_acl::Listed;
use crate::{Error, EventNo, Flags, Point, Result, auth_index, event_log};

/// State events as the authorisation rules use them, by place.
pub struct Cache {
    auth_events: Lru<(RoomSn, EventNo), Arc<AuthEvent>, ByBytes>,
    auth_nodes: Lru<(RoomSn, EventNo), CachedNode, ByBytes>,
    resolutions: Lru<(RoomSn, Question), Arc<Difference>, ByEntries>,
    server_acls: Lru<(RoomSn, EventNo), Arc<Listed>>,
}

/// Answers weigh what they say: about 100 bytes an entry.
#[derive(Clone, Copy)]
struct ByEntries;

impl Weighter<(RoomSn, Question), Arc<Difference>> for ByEntries {
    fn weight(&self, (_, (_, states)): &(RoomSn, Question), answer: &Arc<Difference>) -> u64 {
        (1 + states.len() + answer.len()) as u64
    }
}

/// Events weigh their bytes: whoever makes them chooses how large they are.
#[derive(Clone, Copy)]
struct ByBytes;

impl Weighter<(RoomSn, EventNo), Arc<AuthEvent>> for ByBytes {
    fn weight(&self, _: &(RoomSn, EventNo), event: &Arc<AuthEvent>) -> u64 {
        (ENTRY_BYTES + size_of::<AuthEvent>() + event.pdu().json().len()) as u64
    }
}

impl Weighter<(RoomSn, EventNo), CachedNode> for ByBytes {
    fn weight(&self, _: &(RoomSn, EventNo), node: &CachedNode) -> u64 {
        (ENTRY_BYTES + size_of_val(&*node.auth_events)) as u64
    }
}

/// See [`crate::types::AuthNode`].
#[derive(Clone)]
pub(crate) struct CachedNode {
    pub generation: u32,
    pub auth_events: Arc<[EventNo]>,
}

/// A state, and the states that are to be resolved: how does the first differ from the result?
pub(crate) type Question = (Point, Vec<Point>);

/// What an entry of a cache takes beside what is in it.
const ENTRY_BYTES: usize = 100;

/// What all parsed state events may take, in bytes: some 50,000 members.
const MOST_EVENT_BYTES: u64 = 64 << 20;

/// What all nodes of the graph of auth events may take, in bytes: some 100,000.
const MOST_NODE_BYTES: u64 = 14 << 20;

/// What all answers that are remembered may weigh.
const MOST_REMEMBERED: u64 = 100_000;

impl Default for Cache {
    fn default() -> Self {
        Self {
            auth_events: Lru::with_weighter(50_000, MOST_EVENT_BYTES, ByBytes),
            auth_nodes: Lru::with_weighter(100_000, MOST_NODE_BYTES, ByBytes),
            resolutions: Lru::with_weighter(1_000, MOST_REMEMBERED, ByEntries),
            server_acls: Lru::new(1_000),
        }
    }
}

impl Cache {
    pub(crate) fn resolution(&self, room: RoomSn, question: &Question) -> Option<Arc<Difference>> {
        // The key type owns its parts; states are few.
        self.resolutions.get(&(room, question.clone()))
    }

    /// Both the states and all events in them must be committed.
    pub(crate) fn remember_resolution(
        &self,
        room: RoomSn,
        question: Question,
        answer: &Arc<Difference>,
    ) {
        self.resolutions
            .insert((room, question), Arc::clone(answer));
    }

    /// The lists of an `m.room.server_acl` event; nothing if it is not here.
    pub(crate) fn server_acl(
        &self,
        from: &impl Read,
        room: RoomSn,
        no: EventNo,
    ) -> Result<Option<Arc<Listed>>> {
        if let Some(listed) = self.server_acls.get(&(room, no)) {
            return Ok(Some(listed));
        }
        let Some(event) = event_log::get(from, room, no)? else {
            return Ok(None);
        };
        let listed = Listed::of(&event);
        if event.position != Position::PENDING {
            self.server_acls.insert((room, no), Arc::clone(&listed));
        }
        Ok(Some(listed))
    }

    /// The auth events of an accepted state event.
    pub(crate) fn auth_node(
        &self,
        from: &impl Read,
        room: RoomSn,
        no: EventNo,
        settled: Settled,
    ) -> Result<Option<CachedNode>> {
        if let Some(node) = self.auth_nodes.get(&(room, no)) {
            return Ok(Some(node));
        }
        let Some(node) = auth_index::node(from, room, no)? else {
            return Ok(None);
        };
        let node = CachedNode {
            generation: node.generation,
            auth_events: node.auth_events.into(),
        };
        if settled.has_event(no) {
            self.auth_nodes.insert((room, no), node.clone());
        }
        Ok(Some(node))
    }

    /// The parsed event at a place.
    ///
    /// # Errors
    /// [`Error::Damaged`] if there is none.
    pub fn auth_event(
        &self,
        from: &impl Read,
        rules: &RoomRules,
        room: RoomSn,
        no: EventNo,
    ) -> Result<Arc<AuthEvent>> {
        if let Some(event) = self.auth_events.get(&(room, no)) {
            return Ok(event);
        }
        let (event, position) = read_auth_event(from, rules, room, no)?;
        // Only what is committed may be remembered: a change that is given up leaves no events.
        if position != Position::PENDING {
            self.auth_events.insert((room, no), Arc::clone(&event));
        }
        Ok(event)
    }
    /// The same for those who look at a whole state: what they read is not remembered, and takes the place of nothing.
    ///
    /// # Errors
    /// [`Error::Damaged`] if there is none.
    pub(crate) fn auth_event_in_passing(
        &self,
        from: &impl Read,
        rules: &RoomRules,
        room: RoomSn,
        no: EventNo,
    ) -> Result<Arc<AuthEvent>> {
        match self.auth_events.peek(&(room, no)) {
            Some(event) => Ok(event),
            None => Ok(read_auth_event(from, rules, room, no)?.0),
        }
    }
}

fn read_auth_event(
    from: &impl Read,
    rules: &RoomRules,
    room: RoomSn,
    no: EventNo,
) -> Result<(Arc<AuthEvent>, Position)> {
    let damaged = |why| Error::Damaged { room: room.0, why };
    let stored = event_log::get(from, room, no)?.ok_or_else(|| damaged("state event is gone"))?;
    let pdu = Pdu::from_stored(rules, stored.event_id.clone(), stored.json.as_bytes())
        .map_err(|_| damaged("stored event does not parse"))?;
    let event = match stored.flags.has(Flags::REJECTED) {
        true => AuthEvent::rejected(rules, pdu),
        false => AuthEvent::new(rules, pdu),
    };
    Ok((Arc::new(event), stored.position))
}
