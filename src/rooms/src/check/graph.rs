//! The graph of a room's events, as its tables should have it: extremities, gaps, and the order of what was filled in.

use std::collections::{BTreeMap, BTreeSet};

use event::{Pdu, RoomRules};
use names::RoomSn;
use store::{Position, Read};

use crate::schema::MISSING;
use crate::{EventNo, Flags, Result, RoomHead, StoredEvent, event_log};

/// The events of a room by place.
#[derive(Default)]
pub(super) struct Graph(BTreeMap<EventNo, Node>);

struct Node {
    flags: Flags,
    position: Position,
    id: String,
    /// Those of its predecessors that are here.
    follows: Vec<EventNo>,
}

impl Graph {
    /// Adds an event. What it follows is here, or noted as missing.
    pub(super) fn add(
        &mut self,
        from: &impl Read,
        (room, rules): (RoomSn, &RoomRules),
        no: EventNo,
        event: &StoredEvent,
        say: &mut dyn FnMut(String),
    ) -> Result<()> {
        let id = &event.event_id;
        let Ok(pdu) = Pdu::from_stored(rules, id.clone(), event.json.as_bytes()) else {
            say(format!("event {id} does not parse"));
            return Ok(());
        };
        let mut follows = Vec::new();
        for prev in pdu.prev_events() {
            let prev_no = event_log::find_in(from, room, prev)?;
            let noted = MISSING.contains(from, &(room, prev.to_owned(), no))?;
            if prev_no.is_some() == noted {
                say(format!("what event {id} follows, {prev}, is noted wrongly"));
            }
            follows.extend(prev_no);
        }
        let node = Node {
            flags: event.flags,
            position: event.position,
            id: id.to_string(),
            follows,
        };
        self.0.insert(no, node);
        Ok(())
    }

    /// Checks all of it, once all events are there.
    pub(super) fn check(&self, head: &RoomHead, say: &mut dyn FnMut(String)) {
        self.extremities(head, say);
        self.order(say);
    }

    fn visible(&self) -> impl Iterator<Item = (EventNo, &Node)> {
        let nodes = self.0.iter().map(|(no, node)| (*no, node));
        nodes.filter(|(_, node)| node.flags.is_visible())
    }

    /// The extremities are the visible events that no visible event follows, hidden ones in between or not.
    fn extremities(&self, head: &RoomHead, say: &mut dyn FnMut(String)) {
        let mut covered = BTreeSet::new();
        for (_, node) in self.visible() {
            let mut open = node.follows.clone();
            while let Some(no) = open.pop() {
                if !covered.insert(no) {
                    continue;
                }
                if let Some(node) = self.0.get(&no)
                    && !node.flags.is_visible()
                {
                    open.extend(&node.follows);
                }
            }
        }
        // History that was filled in is none, even while what follows it has not come yet.
        let free = self
            .visible()
            .filter(|(no, _)| !no.is_past() && !covered.contains(no));
        let mut wanted: Vec<(EventNo, String)> =
            free.map(|(no, node)| (no, node.id.clone())).collect();
        let mut extremities = head.extremities.clone();
        wanted.sort();
        extremities.sort();
        if wanted != extremities {
            say(format!(
                "its extremities are {extremities:?}, not {wanted:?}"
            ));
        }
    }

    /// The law of [`crate::backfill`]: what was filled in stands below every visible event that follows it and was here
    /// when it came.
    fn order(&self, say: &mut dyn FnMut(String)) {
        for (no, node) in self.visible() {
            let above = node.follows.iter().filter(|prev| **prev > no);
            for prev in above.filter(|prev| prev.is_past()) {
                if let Some(before) = self.0.get(prev)
                    && (!no.is_past() || before.position >= node.position)
                {
                    say(format!(
                        "event {} was filled in above {}, which follows it",
                        before.id, node.id
                    ));
                }
            }
        }
    }
}
