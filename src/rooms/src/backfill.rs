//! History that is filled in at the gaps: events that are followed by what this server has.
//! <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>
//!
//! It goes below the first place of the stretch that it leads to ([`EventNo`]), in the order of the graph, so that paging
//! back meets it between what follows it and what was here before the gap, and no token or place that was given out changes
//! its meaning. It is no extremity. Nearly always it changes nothing else; where it shows that what was an extremity is
//! followed by another, the current state is resolved anew, at a place of its own after everything, and the effects say whom
//! that concerns.
//!
//! Law: an event that is filled in stands below every visible event that follows it and was here when it came.

use std::collections::{BTreeMap, HashMap};

use event::EventId;
use names::RoomSn;
use store::Read;

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

/// The gaps in a room's history, oldest first: the first place of the stretch after each, and the ids of the events that
/// are missing there.
///
/// # Errors
/// If the room can't be read.
pub fn gaps(from: &impl Read, room: RoomSn) -> Result<BTreeMap<EventNo, Vec<EventId>>> {
    let mut gaps: BTreeMap<EventNo, Vec<EventId>> = BTreeMap::new();
    for (id, stretch) in missing(from, room)? {
        gaps.entry(stretch).or_default().push(id.as_str().into());
    }
    Ok(gaps)
}

/// Events that are not here and that some of the room's history follows: the first place of the first stretch with an event
/// that follows.
fn missing(from: &impl Read, room: RoomSn) -> Result<BTreeMap<String, EventNo>> {
    let mut missing: BTreeMap<String, EventNo> = BTreeMap::new();
    for (id, no) in graph::backward_extremities(from, room)? {
        // What only hidden events follow would be an extremity: it is not history.
        let follower = event_log::get(from, room, no)?;
        if follower.is_some_and(|event| event.flags.is_visible()) {
            let stretch = missing.entry(id).or_insert(no.stretch_start());
            *stretch = no.stretch_start().min(*stretch);
        }
    }
    Ok(missing)
}

impl RoomWriter<'_> {
    /// Fills in events that lead to gaps of what is here; others are left out. `state` is the state before the one
    /// of them whose own `prev_events` are not among them and not here: the caller cuts what it got so that there
    /// is one at most.
    ///
    /// # Errors
    /// [`Error::BadEvent`] for an event that can't belong to this room.
    pub fn backfill(&mut self, events: &[Verified], state: &[EventId]) -> Result<Filled> {
        let events = self.leading_to_gaps(events)?;
        let mut places = self.places_for(&events)?;
        let filled = self.fill_in(&events, &mut places, state);
        self.fill_past(None);
        filled
    }

    /// For each of the stretches that the events lead to the first place for them.
    fn places_for(&self, events: &[(&Verified, EventNo)]) -> Result<BTreeMap<EventNo, EventNo>> {
        let mut counts: BTreeMap<EventNo, u64> = BTreeMap::new();
        for (_, stretch) in events {
            *counts.entry(*stretch).or_default() += 1;
        }
        let mut places = BTreeMap::new();
        for (stretch, count) in counts {
            let floor = stretch.stretch_floor();
            let first = event_log::first(self.read(), self.room(), floor)?;
            let first = first.ok_or(Error::UnknownRoom)?;
            // A place for each event, one for the state before it, and one for each of the lines that may begin there.
            let start = EventNo(first.0.saturating_sub(4 * (count + 1)));
            if start < floor {
                return Err(Error::Invalid(
                    "there is no place for more history".to_owned(),
                ));
            }
            places.insert(stretch, start);
        }
        Ok(places)
    }

    fn fill_in(
        &mut self,
        events: &[(&Verified, EventNo)],
        places: &mut BTreeMap<EventNo, EventNo>,
        state: &[EventId],
    ) -> Result<Filled> {
        let mut stored = 0;
        for (event, stretch) in events {
            self.fill_past(places.get(stretch).copied());
            match self.receive(event, Arrival::AfterGap { state })? {
                Received::Need(need) => return Ok(Filled::Need(need)),
                Received::Known(_) => {}
                Received::Stored { .. } => stored += 1,
            }
            if let Some(next) = self.past() {
                places.insert(*stretch, next);
            }
        }
        Ok(Filled::Stored(stored))
    }

    /// Those of the events that are not here and that an event here follows, directly or by way of others of them, with
    /// the first of the stretches that they lead to; each after those that it follows.
    fn leading_to_gaps<'e>(&self, events: &'e [Verified]) -> Result<Vec<(&'e Verified, EventNo)>> {
        let mut by_id: HashMap<&str, &Verified> = HashMap::new();
        for event in events {
            let id = event.pdu().event_id().as_str();
            if event_log::find_in(self.read(), self.room(), id)?.is_none() {
                by_id.insert(id, event);
            }
        }
        let mut open: Vec<(EventNo, &str)> = Vec::new();
        for (id, stretch) in missing(self.read(), self.room())? {
            open.extend(
                by_id
                    .get_key_value(id.as_str())
                    .map(|(id, _)| (stretch, *id)),
            );
        }
        // The last stretch first, so that what leads to the first one is reached from there at last.
        open.sort_unstable();
        let mut wanted: BTreeMap<&str, &Verified> = BTreeMap::new();
        let mut stretches: HashMap<&str, EventNo> = HashMap::new();
        while let Some((stretch, id)) = open.pop() {
            let Some(event) = by_id.get(id) else { continue };
            wanted.insert(id, event);
            if stretches.get(id).is_some_and(|known| *known <= stretch) {
                continue;
            }
            stretches.insert(id, stretch);
            let prev_events = event.pdu().prev_events();
            let prev_events = prev_events.filter_map(|id| Some(*by_id.get_key_value(id)?.0));
            open.extend(prev_events.map(|id| (stretch, id)));
        }
        let circle = || Error::BadEvent("the events follow each other in a circle".to_owned());
        let ordered = ingest::in_order(&wanted, |event| event.pdu().prev_events().collect());
        let ordered = ordered.ok_or_else(circle)?;
        let stretch =
            |event: &'e Verified| Some((event, *stretches.get(event.pdu().event_id().as_str())?));
        Ok(ordered.into_iter().filter_map(stretch).collect())
    }
}
