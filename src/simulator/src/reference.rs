//! The reference: what a room must be by the specification, worked out the slow and plain way.
//!
//! Every event that anybody makes is learned here at once, before any server has it. Its verdict and the states before
//! and after it follow from the graph alone, so every server must come to the same, whatever reached it when. Whole state
//! maps are kept for every event, auth chains are walked; nothing of the crate `rooms` is used. What an event merges is
//! resolved twice, by `event` over whole maps and by another implementation, which have to agree.
//!
//! Deliberately not here: soft failure. It depends on what a server knew when an event came, so the comparison asks for
//! the state of that server's extremities ([`Reference::merged`]) and judges by it ([`Reference::check_in`]).

use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use event::auth::{self, AuthError, AuthEvent, StateLookup};
use event::signature::{self, Integrity, VerifyKeys};
use event::state_res::{self, EventSource, StateMap};
use event::{EventId, FormatError, Pdu, RoomIdFormat, RoomRules, SignatureError};

use crate::Fault;
use crate::other::Other;

/// One of so many merges that only extremities need gets a second opinion; those before events all do.
const SELDOM: usize = 8;

/// A state by the numbers of its events.
pub type State = StateMap<usize>;

/// An event, and what follows from its place in the graph.
pub struct Entry {
    /// The event as servers keep it: redacted if its content hash was wrong.
    pub event: Arc<AuthEvent>,
    /// The numbers of its `prev_events`, each once.
    pub prev: Vec<usize>,
    /// The numbers of its `auth_events`.
    pub auth: Arc<[usize]>,
    /// The length of its longest way down over `auth_events`.
    pub generation: u32,
    /// Why it is rejected, if it is.
    pub rejected: Option<AuthError>,
    /// The state before it.
    pub before: Rc<State>,
    /// The state after it.
    pub after: Rc<State>,
    /// Some server has it safe on its disk, so that others may be sent it and build on it.
    pub published: bool,
    /// What its maker had in mind, for pictures.
    pub intent: &'static str,
}

impl Entry {
    /// The event.
    pub fn pdu(&self) -> &Pdu {
        self.event.pdu()
    }
}

/// Why an event has no place in the room, on any server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It is no event of the room version.
    Format(FormatError),
    /// Its signatures do not hold.
    Signature(SignatureError),
    /// It belongs to another room, or begins one.
    OtherRoom,
    /// It refers to an event that has no place in the room itself.
    Reference(String),
}

/// What was learned of an event.
pub enum Learned {
    /// Its number.
    Known(usize),
    /// No server may have it.
    Dropped(Dropped),
}

/// A difference between the two resolvers.
#[derive(Debug)]
pub struct Disagreement(pub String);

/// The room as it must be.
pub struct Reference {
    rules: &'static RoomRules,
    room_id: String,
    entries: Vec<Entry>,
    by_id: HashMap<EventId, usize>,
    merges: HashMap<Vec<usize>, Rc<State>>,
    empty: Rc<State>,
    other: Other,
    fault: Option<Fault>,
    /// How many merges had something to resolve.
    pub resolutions: usize,
}

struct Lookup<'a>(&'a Reference, &'a State);

impl StateLookup for Lookup<'_> {
    fn get(&self, event_type: &str, state_key: &str) -> Option<&AuthEvent> {
        let number = self.1.get(&(event_type.into(), state_key.into()))?;
        Some(&self.0.entries[*number].event)
    }
}

impl EventSource for Reference {
    type Id = usize;
    type Error = Infallible;

    fn event(&self, id: usize) -> Result<Option<Arc<AuthEvent>>, Infallible> {
        Ok(self.entries.get(id).map(|entry| entry.event.clone()))
    }

    fn auth_events(&self, id: usize) -> Result<Option<Arc<[usize]>>, Infallible> {
        Ok(self.entries.get(id).map(|entry| entry.auth.clone()))
    }

    fn generation(&self, id: usize) -> Result<Option<u32>, Infallible> {
        Ok(self.entries.get(id).map(|entry| entry.generation))
    }

    fn create(&self) -> Result<Option<Arc<AuthEvent>>, Infallible> {
        Ok(self.entries.first().map(|entry| entry.event.clone()))
    }
}

impl Reference {
    /// An empty room.
    pub fn new(rules: &'static RoomRules, room_id: &str, fault: Option<Fault>) -> Self {
        Reference {
            rules,
            room_id: room_id.to_owned(),
            entries: Vec::new(),
            by_id: HashMap::new(),
            merges: HashMap::new(),
            empty: Rc::default(),
            other: Other::new(rules),
            fault,
            resolutions: 0,
        }
    }

    /// The rules of the room's version.
    pub fn rules(&self) -> &'static RoomRules {
        self.rules
    }

    /// The room's id.
    pub fn room_id(&self) -> &str {
        &self.room_id
    }

    /// All events, in the order in which they were made.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// An event by its number.
    pub fn entry(&self, number: usize) -> &Entry {
        &self.entries[number]
    }

    /// The number of an event id.
    pub fn find(&self, event_id: &str) -> Option<usize> {
        self.by_id.get(event_id).copied()
    }

    /// Some server has the event safe on its disk.
    pub fn publish(&mut self, number: usize) {
        self.entries[number].published = true;
    }

    /// Learns an event from the bytes that go over the network.
    ///
    /// # Errors
    /// If the two resolvers disagree about the state before it.
    pub fn learn(
        &mut self,
        bytes: &str,
        keys: &impl VerifyKeys,
        intent: &'static str,
    ) -> Result<Learned, Disagreement> {
        let pdu = match Pdu::from_federation(self.rules, bytes.as_bytes()) {
            Ok(pdu) => pdu,
            Err(error) => return Ok(Learned::Dropped(Dropped::Format(error))),
        };
        let pdu = match signature::verify_event(self.rules, &pdu, keys) {
            Ok(Integrity::Whole) => pdu,
            Ok(Integrity::Redacted) => match pdu.redacted(self.rules) {
                Ok(pdu) => pdu,
                Err(error) => return Ok(Learned::Dropped(Dropped::Format(error))),
            },
            Err(error) => return Ok(Learned::Dropped(Dropped::Signature(error))),
        };
        if pdu.room_id() != self.room_id {
            return Ok(Learned::Dropped(Dropped::OtherRoom));
        }
        if let Some(number) = self.find(pdu.event_id()) {
            return Ok(Learned::Known(number));
        }
        let begins = pdu.event_type() == "m.room.create" && pdu.prev_events().len() == 0;
        if begins && !self.entries.is_empty() {
            return Ok(Learned::Dropped(Dropped::OtherRoom));
        }
        let mut prev = Vec::new();
        for id in pdu.prev_events() {
            match self.find(id) {
                Some(number) if !prev.contains(&number) => prev.push(number),
                Some(_) => {}
                None => return Ok(Learned::Dropped(Dropped::Reference(id.to_owned()))),
            }
        }
        let mut auth = Vec::new();
        for id in pdu.auth_events() {
            match self.find(id) {
                Some(number) => auth.push(number),
                None => return Ok(Learned::Dropped(Dropped::Reference(id.to_owned()))),
            }
        }
        let before = self.merge(&prev, true)?;
        let rejected = self.judge(&pdu, &auth, &before).err();
        Ok(Learned::Known(
            self.place(pdu, prev, auth, before, rejected, intent),
        ))
    }

    fn place(
        &mut self,
        pdu: Pdu,
        prev: Vec<usize>,
        auth: Vec<usize>,
        before: Rc<State>,
        rejected: Option<AuthError>,
        intent: &'static str,
    ) -> usize {
        let number = self.entries.len();
        let event = match rejected {
            Some(_) => AuthEvent::rejected(self.rules, pdu),
            None => AuthEvent::new(self.rules, pdu),
        };
        let pdu = event.pdu();
        let after = match pdu.state_key() {
            Some(state_key) if rejected.is_none() => {
                let mut after = State::clone(&before);
                after.insert((pdu.event_type().into(), state_key.into()), number);
                Rc::new(after)
            }
            _ => before.clone(),
        };
        let below = auth.iter().map(|of| self.entries[*of].generation + 1).max();
        self.by_id.insert(pdu.event_id().clone(), number);
        self.other.learn(&event);
        self.entries.push(Entry {
            event: Arc::new(event),
            prev,
            auth: auth.into(),
            generation: below.unwrap_or_default(),
            rejected,
            before,
            after,
            published: false,
            intent,
        });
        number
    }

    /// Checks 4 and 5 on receipt of a PDU.
    fn judge(&self, pdu: &Pdu, auth: &[usize], before: &State) -> Result<(), AuthError> {
        let mut events: Vec<&AuthEvent> = auth
            .iter()
            .map(|number| &*self.entries[*number].event)
            .collect();
        auth::check_auth_events(self.rules, pdu, &events)?;
        if self.rules.room_id == RoomIdFormat::CreateHash {
            events.extend(self.entries.first().map(|entry| &*entry.event));
        }
        auth::check(self.rules, pdu, &events[..])?;
        if self.fault == Some(Fault::OracleSkipsStateBefore) {
            return Ok(());
        }
        auth::check(self.rules, pdu, &Lookup(self, before))
    }

    /// Whether an event would be allowed in a state.
    pub fn check_in(&self, pdu: &Pdu, state: &State) -> Result<(), AuthError> {
        auth::check(self.rules, pdu, &Lookup(self, state))
    }

    /// The state that the states after some events resolve to.
    ///
    /// # Errors
    /// If the two resolvers disagree.
    pub fn merged(&mut self, events: &[usize]) -> Result<Rc<State>, Disagreement> {
        self.merge(events, self.resolutions.is_multiple_of(SELDOM))
    }

    fn merge(&mut self, events: &[usize], second_opinion: bool) -> Result<Rc<State>, Disagreement> {
        let mut states: Vec<Rc<State>> = Vec::with_capacity(events.len());
        for number in events {
            let after = &self.entries[*number].after;
            if !states
                .iter()
                .any(|state| Rc::ptr_eq(state, after) || state == after)
            {
                states.push(after.clone());
            }
        }
        match states.as_slice() {
            [] => return Ok(self.empty.clone()),
            [only] => return Ok(only.clone()),
            _ => {}
        }
        let mut key = events.to_vec();
        key.sort_unstable();
        if let Some(known) = self.merges.get(&key) {
            return Ok(known.clone());
        }
        self.resolutions += 1;
        let resolved = self.resolve(&states, second_opinion);
        let resolved = resolved.map_err(|Disagreement(told)| {
            Disagreement(format!("merging the states after {events:?}: {told}"))
        })?;
        let resolved = Rc::new(resolved);
        self.merges.insert(key, resolved.clone());
        Ok(resolved)
    }

    fn resolve(
        &mut self,
        states: &[Rc<State>],
        second_opinion: bool,
    ) -> Result<State, Disagreement> {
        if self.fault == Some(Fault::OracleTakesTheNewest) {
            let mut newest = State::new();
            for (key, number) in states.iter().flat_map(|state| state.iter()) {
                let entry = newest.entry(key.clone()).or_insert(*number);
                *entry = (*entry).max(*number);
            }
            return Ok(newest);
        }
        let maps: Vec<&State> = states.iter().map(|state| &**state).collect();
        let ours = state_res::resolve(self.rules, &maps, None, self)
            .map_err(|error| Disagreement(format!("the resolver of event fails: {error}")))?;
        if !second_opinion {
            return Ok(ours);
        }
        let Some(theirs) = self.other.resolve(&maps) else {
            return Ok(ours);
        };
        let theirs =
            theirs.map_err(|error| Disagreement(format!("the other resolver fails: {error}")))?;
        if ours == theirs {
            return Ok(ours);
        }
        let told =
            crate::picture::difference(self, ("event", &ours), ("the other resolver", &theirs));
        Err(Disagreement(format!("two resolvers disagree: {told}")))
    }

    /// The events, of those that `holds` says a server has, that no accepted one follows and that are accepted
    /// themselves: what its extremities must be, given which it soft-failed.
    pub fn extremities(
        &self,
        holds: impl Fn(usize) -> bool,
        soft_failed: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let counts = |number: usize| {
            holds(number) && self.entries[number].rejected.is_none() && !soft_failed(number)
        };
        // Newest first, so that everything that follows an event is seen before it.
        let mut followed = vec![false; self.entries.len()];
        let mut found = Vec::new();
        for number in (0..self.entries.len()).rev() {
            if !holds(number) {
                continue;
            }
            let follows = followed[number] || counts(number);
            if counts(number) && !followed[number] {
                found.push(number);
            }
            if follows {
                for prev in &self.entries[number].prev {
                    followed[*prev] = true;
                }
            }
        }
        found.reverse();
        found
    }
}
