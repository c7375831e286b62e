//! Mainline ordering: events by how old the power levels are that they rest on.
//!
//! Only the order counts, so the mainline is followed no further than it takes to tell the events apart. Each event is
//! held by the newest power levels event of its own line that is not ruled out; the holders are taken from the greatest
//! generation down, with the mainline beside them: where the mainline is below a holder, the holder is not on it. When
//! all events that have no position yet are held by the same one, they have the same position, whatever it is.
//!
//! Source: <https://spec.matrix.org/v1.19/rooms/v2/#definitions>.

use std::collections::{BinaryHeap, HashMap};
use std::mem;

use super::reading::Reading;
use super::{EventSource, Resolved};
use crate::event_id::EventId;

/// Sorts events by the mainline of some power levels, from earliest to latest.
pub(super) struct MainlineOrder<Id> {
    /// The events that have not been looked at.
    open: Vec<Id>,
    /// Events whose position is not known, by the power levels event that holds them.
    held: HashMap<Id, Vec<Id>>,
    /// The holders by generation.
    holders: BinaryHeap<(u32, Id)>,
    /// Where the mainline has been followed to: its generation, its event, and the distance from the current levels.
    mainline: Option<(u32, Id, isize)>,
    /// The current power levels, until they are looked at.
    tip: Option<Id>,
    positions: Vec<(isize, Id)>,
    /// Whether some event has no mainline event.
    infinite: bool,
}

/// The position of events without a mainline event.
const INFINITY: isize = isize::MAX;

impl<Id: Copy + Eq + std::hash::Hash + Ord> MainlineOrder<Id> {
    pub(super) fn new(events: Vec<Id>, power_levels: Option<Id>) -> Self {
        MainlineOrder {
            open: events,
            held: HashMap::new(),
            holders: BinaryHeap::new(),
            mainline: None,
            tip: power_levels,
            positions: Vec::new(),
            infinite: false,
        }
    }

    /// The sorted events, `None` when the budget ends before.
    pub(super) fn advance<S: EventSource<Id = Id>>(
        &mut self,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<Option<Vec<Id>>, S> {
        while reading.spend() {
            if let Some(tip) = self.tip.take() {
                self.mainline = Some((reading.generation(tip)?, tip, 0));
            } else if let Some(id) = self.open.pop() {
                let event = reading.get(id)?.event;
                let holder = match event.pdu().is_state("m.room.power_levels", "") {
                    true => Some(id),
                    false => reading.power_levels_of(id)?,
                };
                self.hold(holder, vec![id], reading)?;
            } else if self.held.len() + usize::from(self.infinite) > 1 {
                self.descend(reading)?;
            } else {
                return self.sorted(reading).map(Some);
            }
        }
        Ok(None)
    }

    fn hold<S: EventSource<Id = Id>>(
        &mut self,
        holder: Option<Id>,
        events: Vec<Id>,
        reading: &Reading<'_, S>,
    ) -> Resolved<(), S> {
        match holder {
            None => {
                self.infinite = true;
                self.place(INFINITY, events);
            }
            Some(holder) => match self.held.get_mut(&holder) {
                Some(held) => held.extend(events),
                None => {
                    self.holders.push((reading.generation(holder)?, holder));
                    self.held.insert(holder, events);
                }
            },
        }
        Ok(())
    }

    /// One step down, on the mainline or from the greatest holder.
    fn descend<S: EventSource<Id = Id>>(
        &mut self,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<(), S> {
        let Some(&(generation, holder)) = self.holders.peek() else {
            return Ok(());
        };
        match self.mainline {
            Some((above, event, position)) if above > generation => {
                let next = below(above, event, reading)?;
                self.mainline = next.map(|(generation, next)| (generation, next, position + 1));
                return Ok(());
            }
            _ => {}
        }
        self.holders.pop();
        let events = self.held.remove(&holder).unwrap_or_default();
        match self.mainline {
            Some((_, event, position)) if event == holder => self.place(position, events),
            None => self.hold(None, events, reading)?,
            Some(_) => {
                let next = below(generation, holder, reading)?;
                self.hold(next.map(|(_, next)| next), events, reading)?;
            }
        }
        Ok(())
    }

    fn place(&mut self, position: isize, events: Vec<Id>) {
        self.positions
            .extend(events.into_iter().map(|id| (position, id)));
    }

    fn sorted<S: EventSource<Id = Id>>(
        &mut self,
        reading: &mut Reading<'_, S>,
    ) -> Resolved<Vec<Id>, S> {
        // What is still held is older than all that has been placed, and alike.
        for (_, events) in mem::take(&mut self.held) {
            self.place(INFINITY, events);
        }
        let mut ranked: Vec<(isize, i64, EventId, Id)> = Vec::with_capacity(self.positions.len());
        for (position, id) in mem::take(&mut self.positions) {
            let event = reading.get(id)?.event;
            let pdu = event.pdu();
            // Greater positions are older and go first.
            ranked.push((
                -position,
                pdu.origin_server_ts(),
                pdu.event_id().clone(),
                id,
            ));
        }
        ranked.sort_unstable();
        Ok(ranked.into_iter().map(|(_, _, _, id)| id).collect())
    }
}

/// The power levels event that another one rests on, with its generation, which is less: so every line ends.
fn below<S: EventSource>(
    generation: u32,
    power_levels: S::Id,
    reading: &mut Reading<'_, S>,
) -> Resolved<Option<(u32, S::Id)>, S> {
    let Some(next) = reading.power_levels_of(power_levels)? else {
        return Ok(None);
    };
    let next = (reading.generation(next)?, next);
    Ok(Some(next).filter(|(below, _)| *below < generation))
}
