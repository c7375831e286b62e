//! History from before what is here, filled in at the gaps: events that are followed by what this server has.
//! <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>
//!
//! It goes below the first place of what is here, in the order of the graph, so that paging back meets it after
//! everything that came before, and no token or place that was given out changes its meaning. It is no extremity.
//! Nearly always it changes nothing else; where it shows that what was an extremity is followed by another, the
//! current state is resolved anew, at a place of its own after everything, and the effects say whom that concerns.

use std::collections::{BTreeMap, HashMap};

use event::EventId;

use crate::ingest::{Arrival, Need, Received, Verified};
use crate::{Error, EventNo, Result, RoomWriter, event_log, graph, ingest};

/// What came of filling in history.
#[derive(Debug)]
pub enum Filled {
    /// As many events were kept.
    Stored(usize),
    /// Get these and come again. What was kept before the first event that needs something stays.
    Need(Need),
}

impl RoomWriter<'_> {
    /// Fills in events that lead to a gap of what is here; others are left out. `state` is the state before the one
    /// of them whose own `prev_events` are not among them and not here: the caller cuts what it got so that there
    /// is one at most.
    ///
    /// # Errors
    /// [`Error::BadEvent`] for an event that can't belong to this room.
    pub fn backfill(&mut self, events: &[Verified], state: &[EventId]) -> Result<Filled> {
        let events = self.leading_to_gaps(events)?;
        let first = event_log::first(self.read(), self.room())?.ok_or(Error::UnknownRoom)?;
        // A place for each event, one for the state before it, and one for each of the lines that may begin there.
        let places = 4 * (events.len() as u64 + 1);
        let start = EventNo(first.0.saturating_sub(places));
        if start < EventNo::HISTORY {
            return Err(Error::Invalid(
                "there is no place for more history".to_owned(),
            ));
        }
        self.fill_past(Some(start));
        let filled = self.fill_in(&events, state);
        self.fill_past(None);
        filled
    }

    fn fill_in(&mut self, events: &[&Verified], state: &[EventId]) -> Result<Filled> {
        let mut stored = 0;
        for event in events {
            match self.receive(event, Arrival::AfterGap { state })? {
                Received::Need(need) => return Ok(Filled::Need(need)),
                Received::Known(_) => {}
                Received::Stored { .. } => stored += 1,
            }
        }
        Ok(Filled::Stored(stored))
    }

    /// Those of the events that are not here and that an event here follows, directly or by way of others of them;
    /// each after those that it follows.
    fn leading_to_gaps<'e>(&self, events: &'e [Verified]) -> Result<Vec<&'e Verified>> {
        let mut by_id: HashMap<&str, &Verified> = HashMap::new();
        for event in events {
            let id = event.pdu().event_id().as_str();
            if event_log::find_in(self.read(), self.room(), id)?.is_none() {
                by_id.insert(id, event);
            }
        }
        let missing = graph::backward_extremities(self.read(), self.room())?;
        let mut open: Vec<&str> = Vec::new();
        for (id, follower) in &missing {
            // What only hidden events follow would be an extremity: it is not history.
            let follower = event_log::get(self.read(), self.room(), *follower)?;
            if follower.is_some_and(|event| event.flags.is_visible()) {
                open.extend(by_id.get_key_value(id.as_str()).map(|(id, _)| *id));
            }
        }
        let mut wanted: BTreeMap<&str, &Verified> = BTreeMap::new();
        while let Some(id) = open.pop() {
            let Some(event) = by_id.get(id) else { continue };
            if wanted.insert(id, event).is_none() {
                let prev_events = event.pdu().prev_events();
                open.extend(prev_events.filter_map(|id| Some(*by_id.get_key_value(id)?.0)));
            }
        }
        ingest::in_order(&wanted, |event| event.pdu().prev_events().collect())
            .ok_or_else(|| Error::BadEvent("the events follow each other in a circle".to_owned()))
    }
}
