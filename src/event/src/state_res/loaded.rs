//! Events read during one resolution, each once.

use std::collections::HashMap;
use std::sync::Arc;

use super::{AuthEventIds, EventSource, ResolutionError, Resolved};
use crate::auth::AuthEvent;

/// An event and what it names in `auth_events`.
pub(super) struct Entry<Id> {
    pub event: Arc<AuthEvent>,
    pub auth_events: AuthEventIds<Id>,
}

impl<Id> Clone for Entry<Id> {
    fn clone(&self) -> Self {
        Entry {
            event: self.event.clone(),
            auth_events: self.auth_events.clone(),
        }
    }
}

/// The events loaded so far.
pub(super) struct Loaded<'a, S: EventSource> {
    source: &'a S,
    entries: HashMap<S::Id, Entry<S::Id>>,
}

impl<'a, S: EventSource> Loaded<'a, S> {
    pub(super) fn new(source: &'a S) -> Self {
        Loaded {
            source,
            entries: HashMap::new(),
        }
    }

    pub(super) fn get(&mut self, id: S::Id) -> Resolved<Entry<S::Id>, S> {
        if let Some(entry) = self.entries.get(&id) {
            return Ok(entry.clone());
        }
        let event = self.source.event(id).map_err(ResolutionError::Source)?;
        let auth_events = self
            .source
            .auth_events(id)
            .map_err(ResolutionError::Source)?;
        let (Some(event), Some(auth_events)) = (event, auth_events) else {
            return Err(ResolutionError::Missing(id));
        };
        let entry = Entry { event, auth_events };
        self.entries.insert(id, entry.clone());
        Ok(entry)
    }

    /// The power levels event that the event names in `auth_events`.
    pub(super) fn power_levels_of(&mut self, id: S::Id) -> Resolved<Option<S::Id>, S> {
        for &auth_id in self.get(id)?.auth_events.iter() {
            if self
                .get(auth_id)?
                .event
                .pdu()
                .is_state("m.room.power_levels", "")
            {
                return Ok(Some(auth_id));
            }
        }
        Ok(None)
    }
}
