//! Events that reached a server and are not in its store yet, and what each of them waits for.
//!
//! This is what a node does around the core: try, see what is needed, ask, try again. An event is tried when it comes,
//! when something it waits for is stored, and when a question for its sake was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use event::EventId;

use crate::wire::Wire;

/// An event that waits.
pub struct Pending {
    /// The event.
    pub wire: Rc<Wire>,
    /// The server to ask.
    pub from: usize,
    /// It is wanted as an outlier, because others name it.
    pub outlier: bool,
    /// It is wanted in its place.
    pub live: bool,
    /// The state before it as another server has it.
    pub state: Option<Vec<EventId>>,
    /// How often somebody was asked for its sake.
    pub asked: u8,
    depth: u64,
}

/// All that wait.
#[derive(Default)]
pub struct Inbox {
    pending: BTreeMap<EventId, Pending>,
    ready: BTreeSet<(u64, EventId)>,
    /// By what is waited for: who waits.
    waiting: BTreeMap<EventId, BTreeSet<EventId>>,
}

impl Inbox {
    /// Takes an event in; what is there already is wanted in one more way, perhaps.
    pub fn put(&mut self, wire: &Rc<Wire>, from: usize, as_outlier: bool) {
        let Ok(verified) = &wire.verified else {
            return;
        };
        let pdu = verified.pdu();
        let event_id = pdu.event_id().clone();
        let pending = self
            .pending
            .entry(event_id.clone())
            .or_insert_with(|| Pending {
                wire: wire.clone(),
                from,
                outlier: false,
                live: false,
                state: None,
                asked: 0,
                depth: pdu.depth(),
            });
        let news = !if as_outlier {
            pending.outlier
        } else {
            pending.live
        };
        pending.outlier |= as_outlier;
        pending.live |= !as_outlier;
        if news {
            self.ready.insert((pending.depth, event_id));
        }
    }

    /// The next to try, the least deep first.
    pub fn next_ready(&mut self) -> Option<EventId> {
        self.ready.pop_first().map(|(_, event_id)| event_id)
    }

    /// One that waits.
    pub fn get(&mut self, event_id: &str) -> Option<&mut Pending> {
        self.pending.get_mut(event_id)
    }

    /// Whether an event waits.
    pub fn has(&self, event_id: &str) -> bool {
        self.pending.contains_key(event_id)
    }

    /// Tries an event once more.
    pub fn retry(&mut self, event_id: &EventId) {
        if let Some(pending) = self.pending.get(event_id) {
            self.ready.insert((pending.depth, event_id.clone()));
        }
    }

    /// The first event is tried again when the other is stored.
    pub fn wait(&mut self, event_id: &EventId, for_event: &EventId) {
        self.waiting
            .entry(for_event.clone())
            .or_default()
            .insert(event_id.clone());
    }

    /// An event is in the store, as an outlier or in its place.
    pub fn settle(&mut self, event_id: &EventId) {
        if let Some(pending) = self.pending.get_mut(event_id) {
            if pending.outlier && pending.live {
                pending.outlier = false;
                self.ready.insert((pending.depth, event_id.clone()));
            } else {
                self.pending.remove(event_id);
            }
        }
        for waiting in self.waiting.remove(event_id).unwrap_or_default() {
            self.retry(&waiting);
        }
    }

    /// Tries everything again, asking others than before.
    pub fn nudge(&mut self, mut whom: impl FnMut() -> usize) {
        for (event_id, pending) in &mut self.pending {
            pending.from = whom();
            pending.asked = 0;
            self.ready.insert((pending.depth, event_id.clone()));
        }
    }

    /// What waits.
    pub fn ids(&self) -> Vec<EventId> {
        self.pending.keys().cloned().collect()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Inbox::default();
    }
}
