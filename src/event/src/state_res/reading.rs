//! What a step of a resolution reads through: the source, the agreed state, the events read before, and the budget.

use std::collections::HashMap;
use std::sync::Arc;

use super::auth_chain;
use super::{AuthEventIds, EventSource, ResolutionError, Resolved, Unconflicted};
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

/// The events a resolution has read, each once.
pub(super) type Loaded<Id> = HashMap<Id, Entry<Id>>;

/// One step's view.
pub(super) struct Reading<'a, S: EventSource> {
    source: &'a S,
    unconflicted: &'a Unconflicted<'a, S>,
    loaded: &'a mut Loaded<S::Id>,
    budget: usize,
}

impl<'a, S: EventSource> Reading<'a, S> {
    pub(super) fn new(
        source: &'a S,
        unconflicted: &'a Unconflicted<'a, S>,
        loaded: &'a mut Loaded<S::Id>,
        budget: usize,
    ) -> Self {
        Reading {
            source,
            unconflicted,
            loaded,
            budget,
        }
    }

    /// Whether one more event may be looked at in this step. Asked before each turn of every loop.
    pub(super) fn spend(&mut self) -> bool {
        let left = self.budget > 0;
        self.budget = self.budget.saturating_sub(1);
        left
    }

    pub(super) fn get(&mut self, id: S::Id) -> Resolved<Entry<S::Id>, S> {
        if let Some(entry) = self.loaded.get(&id) {
            return Ok(entry.clone());
        }
        let event = self.source.event(id).map_err(ResolutionError::Source)?;
        let event = event.ok_or(ResolutionError::Missing(id))?;
        let auth_events = auth_chain::auth_events(self.source, id)?;
        let entry = Entry { event, auth_events };
        self.loaded.insert(id, entry.clone());
        Ok(entry)
    }

    /// What the event names, without reading the event.
    pub(super) fn auth_events(&self, id: S::Id) -> Resolved<AuthEventIds<S::Id>, S> {
        match self.loaded.get(&id) {
            Some(entry) => Ok(entry.auth_events.clone()),
            None => auth_chain::auth_events(self.source, id),
        }
    }

    pub(super) fn generation(&self, id: S::Id) -> Resolved<u32, S> {
        auth_chain::generation(self.source, id)
    }

    pub(super) fn create(&self) -> Resolved<Option<Arc<AuthEvent>>, S> {
        self.source.create().map_err(ResolutionError::Source)
    }

    /// The event for a key on which the states agree.
    pub(super) fn unconflicted(
        &self,
        event_type: &str,
        state_key: &str,
    ) -> Resolved<Option<S::Id>, S> {
        (self.unconflicted)(event_type, state_key).map_err(ResolutionError::Source)
    }

    /// The power levels event that the event names in `auth_events`.
    pub(super) fn power_levels_of(&mut self, id: S::Id) -> Resolved<Option<S::Id>, S> {
        for &auth_id in self.get(id)?.auth_events.iter() {
            let event = self.get(auth_id)?.event;
            if event.pdu().is_state("m.room.power_levels", "") {
                return Ok(Some(auth_id));
            }
        }
        Ok(None)
    }
}
