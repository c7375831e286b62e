//! What is read of a server: for its answers to others, for its members, and to be compared with what must be.

use event::EventId;
use names::RoomSn;
use rooms::state::Entry;
use rooms::{Error, EventNo, Flags, StoredEvent, event_log, graph, state};
use store::View;

use crate::homeserver::Homeserver;
use crate::people::Sight;
use crate::random::Random;

/// Entries of a state: type, state key, event id.
pub type Entries = Vec<(String, String, EventId)>;

impl Homeserver {
    /// The ids of the room's extremities.
    ///
    /// # Errors
    /// If the store fails.
    pub fn extremities(&self) -> rooms::Result<Vec<String>> {
        let (view, room) = self.look()?;
        let head = event_log::head(&view, room)?.ok_or(Error::UnknownRoom)?;
        Ok(head.extremities.into_iter().map(|(_, id)| id).collect())
    }

    /// Everything this server has of the room.
    ///
    /// # Errors
    /// If the store fails.
    pub fn all_events(&self) -> rooms::Result<Vec<(EventNo, StoredEvent)>> {
        let (view, room) = self.look()?;
        event_log::forwards(&view, room, EventNo::HISTORY).collect()
    }

    /// Everything this server has of the room without a place in its history.
    ///
    /// # Errors
    /// If the store fails.
    pub fn all_outliers(&self) -> rooms::Result<Vec<(EventNo, StoredEvent)>> {
        let (view, room) = self.look()?;
        event_log::outliers(&view, room).collect()
    }

    /// `/get_missing_events`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn missing_events(
        &self,
        latest: &[EventId],
        earliest: &[EventId],
    ) -> rooms::Result<Vec<StoredEvent>> {
        let (view, room) = self.look()?;
        let found = graph::missing_events(&view, room, latest, earliest, 10, 0)?;
        Ok(found.into_iter().map(|(_, event)| event).collect())
    }

    /// `/backfill`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn backfill(&self, from_events: &[EventId]) -> rooms::Result<Vec<StoredEvent>> {
        let (view, room) = self.look()?;
        let found = graph::backfill(&view, room, from_events, 20)?;
        Ok(found.into_iter().map(|(_, event)| event).collect())
    }

    /// `/state_ids`: state and auth chain.
    ///
    /// # Errors
    /// If the store fails.
    pub fn state_ids(&self, event_id: &str) -> rooms::Result<Option<(Vec<EventId>, Vec<EventId>)>> {
        let (view, room) = self.look()?;
        let found = graph::state_ids(&view, room, event_id)?;
        Ok(found.map(|found| (found.state, found.auth_chain)))
    }

    /// The current state, as type, key and event id.
    ///
    /// # Errors
    /// If the store fails.
    pub fn current_state(&self) -> rooms::Result<Entries> {
        let (view, room) = self.look()?;
        self.named(&view, room, state::all_current(&view, room)?)
    }

    /// The states before and after an event.
    ///
    /// # Errors
    /// If the store fails.
    pub fn states_around(&self, no: EventNo, event: &StoredEvent) -> rooms::Result<[Entries; 2]> {
        let (view, room) = self.look()?;
        let unknown = || Error::Damaged {
            room: room.0,
            why: "the state at an event of the history is not known",
        };
        let before = graph::state_before(no, event).ok_or_else(unknown)?;
        let after = event.state_after(no).ok_or_else(unknown)?;
        let before = state::all_at(&view, room, before)?;
        let after = state::all_at(&view, room, after)?;
        Ok([
            self.named(&view, room, before)?,
            self.named(&view, room, after)?,
        ])
    }

    fn named(&self, view: &View, room: RoomSn, entries: Vec<Entry>) -> rooms::Result<Entries> {
        let places: Vec<EventNo> = entries.iter().map(|entry| entry.event).collect();
        let events = event_log::get_many(view, room, &places)?;
        if events.len() != entries.len() {
            return Err(Error::Damaged {
                room: room.0,
                why: "an entry of the state names an event that is not there",
            });
        }
        let with_ids = entries.into_iter().zip(events);
        Ok(with_ids
            .map(|(entry, (_, event))| (entry.event_type, entry.state_key, event.event_id))
            .collect())
    }

    /// Everything that the room's tables contradict each other in.
    ///
    /// # Errors
    /// If the store fails.
    pub fn contradictions(&self) -> rooms::Result<Vec<String>> {
        let (view, room) = self.look()?;
        let mut found = Vec::new();
        rooms::check::room(&view, room, self.room_id(), &mut |what| found.push(what))?;
        names::check(&view, &mut |what| found.push(what))?;
        Ok(found)
    }

    /// The ids of events here that follow something that is not here.
    ///
    /// # Errors
    /// If the store fails.
    pub fn after_gaps(&self) -> rooms::Result<Vec<EventId>> {
        let (view, room) = self.look()?;
        let mut found = Vec::new();
        for (_, no) in graph::backward_extremities(&view, room)? {
            found.extend(event_log::get(&view, room, no)?.map(|event| event.event_id));
        }
        Ok(found)
    }
}

/// Whether an event is here for others' sake alone.
pub fn is_outlier(event: &StoredEvent) -> bool {
    event.flags.has(Flags::OUTLIER)
}

impl Sight for Homeserver {
    fn content(&self, event_type: &str, state_key: &str) -> Option<String> {
        let (view, room) = self.look().ok()?;
        let no = state::current(&view, room, event_type, state_key).ok()??;
        let event = event_log::get(&view, room, no).ok()??;
        event::json::member(&event.json, "content").map(str::to_owned)
    }

    fn some_event(&self, random: &mut Random) -> Option<String> {
        let (view, room) = self.look().ok()?;
        let head = event_log::head(&view, room).ok()??;
        let mut stretches = event_log::stretches(&view, room, head.next);
        let (mut first, mut next) = stretches.next()?.ok()?;
        while random.below(2) == 0
            && let Some(Ok(older)) = stretches.next()
        {
            (first, next) = older;
        }
        let count = next.0.saturating_sub(first.0).max(1);
        let no = EventNo(first.0 + random.below(count as usize) as u64);
        Some(event_log::get(&view, room, no).ok()??.event_id.to_string())
    }
}
