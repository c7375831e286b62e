//! Resolving states of a room that differ, at the cost of what they differ in.
//!
//! The states are [`Point`]s; what they may differ in is in the logs of their lines since they parted
//! ([`lines::compare`]), and the difference of their auth chains comes from [`crate::auth_index`]. Nothing
//! else of the states is looked at, however large the room.
//!
//! Law: the answer is the difference between the first state and what [`event::state_res::resolve`] gives
//! for the whole state maps.
//!
//! <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use event::state_res::{
    self, AuthEventIds, EventSource, Resolution, ResolutionError, StateKey, Step,
};
use event::{AuthEvent, RoomRules, StateResolution, auth};
use names::RoomSn;
use store::Read;

use crate::auth_index::{AgreedChain, Standing};
use crate::{Cache, Error, EventNo, Point, Result, event_log, lines, state};

/// How one state differs from another: entries and the events that set them, if any.
pub(crate) type Difference = Vec<(StateKey, Option<EventNo>)>;

/// What of a room was committed before a change began. Only that may be remembered beyond the change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    side_lines: u32,
    next: EventNo,
}

impl Settled {
    /// Of a room that is only being made.
    pub(crate) const NOTHING: Settled = Settled {
        side_lines: 0,
        next: EventNo::MIN,
    };

    /// What is committed in `from`.
    pub(crate) fn of(from: &impl Read, room: RoomSn) -> Result<Settled> {
        Ok(match event_log::head(from, room)? {
            Some(head) => Settled {
                side_lines: head.side_lines,
                next: head.next,
            },
            None => Settled::NOTHING,
        })
    }

    /// Whether an event was committed, by its number.
    pub(crate) fn has_event(&self, no: EventNo) -> bool {
        // What is filled in goes below places that were committed.
        !no.is_past() && no < self.next
    }

    fn has(&self, point: Point) -> bool {
        let is_main = point.line == 0;
        point.place < self.next
            && point.line <= self.side_lines
            && (is_main || !point.place.is_past())
    }
}

/// A room whose states are resolved.
#[derive(Clone, Copy)]
pub(crate) struct Room<'a, R> {
    pub from: &'a R,
    pub cache: &'a Cache,
    pub rules: &'a RoomRules,
    pub room: RoomSn,
    /// The create event.
    pub create: EventNo,
    pub settled: Settled,
    /// Called between the steps of a resolution.
    pub pause: &'a (dyn Fn() + Sync),
}

/// Events that a resolution looks at in one step: about a millisecond.
const STEP: usize = 500;

impl<R: Read> Room<'_, R> {
    /// How the state at `base` differs from what resolution makes of the states at `points`.
    pub(crate) fn resolve(&self, base: Point, points: &[Point]) -> Result<Arc<Difference>> {
        let base = lines::normal(self.from, self.room, base)?;
        let mut states = BTreeSet::new();
        for point in points {
            states.insert(lines::normal(self.from, self.room, *point)?);
        }
        let states: Vec<Point> = states.into_iter().collect();
        if states.is_empty() || states == [base] {
            return Ok(Arc::default());
        }
        let question = (base, states);
        if let Some(known) = self.cache.resolution(self.room, &question) {
            return Ok(known);
        }
        let (base, states) = &question;
        let difference = Arc::new(self.difference(*base, states)?);
        if self.settled.has(*base) && states.iter().all(|point| self.settled.has(*point)) {
            self.cache
                .remember_resolution(self.room, question, &difference);
        }
        Ok(difference)
    }

    /// How the state at `to` differs from that at `base`.
    pub(crate) fn between(&self, base: Point, to: Point) -> Result<Difference> {
        let mut difference = Difference::new();
        for (key, values) in lines::compare(self.from, self.room, &[base, to])? {
            if values[0] != values[1] {
                difference.push((key, values[1]));
            }
        }
        Ok(difference)
    }

    fn at(&self, key: &StateKey, point: Point) -> Result<Option<EventNo>> {
        state::at(self.from, self.room, &key.0, &key.1, point)
    }

    fn difference(&self, base: Point, states: &[Point]) -> Result<Difference> {
        // Relative to one of the states first, the base itself if it is among them.
        let first = match states.contains(&base) {
            true => base,
            false => states[0],
        };
        let mut points = vec![first];
        points.extend(states.iter().filter(|point| **point != first));
        let mut difference: BTreeMap<StateKey, Option<EventNo>> =
            self.between(base, first)?.into_iter().collect();
        if points.len() > 1 {
            difference.extend(self.merged(&points)?);
        }
        let mut left = Difference::with_capacity(difference.len());
        for (key, event) in difference {
            if first == base || self.at(&key, base)? != event {
                left.push((key, event));
            }
        }
        Ok(left)
    }

    /// How the resolved state differs from the first of the states.
    fn merged(&self, points: &[Point]) -> Result<Difference> {
        let disagreement = self.disagreement(points)?;
        let mut difference = Difference::new();
        let mut resolved = match disagreement.conflicted.is_empty() {
            true => BTreeMap::new(),
            false => self.resolve_conflict(&disagreement)?,
        };
        for (key, event) in disagreement.decided {
            difference.push((key, Some(event)));
        }
        for (key, before) in disagreement.conflicted {
            let after = resolved.remove(&key);
            if after != before {
                difference.push((key, after));
            }
        }
        // Entries that no state had: an event of the auth difference may bring one back.
        for (key, event) in resolved {
            difference.push((key, Some(event)));
        }
        Ok(difference)
    }

    fn disagreement(&self, points: &[Point]) -> Result<Disagreement> {
        // In room version 1 states disagree only where they have different events.
        let absence_conflicts = self.rules.state_resolution != StateResolution::V1;
        let mut found = Disagreement {
            base: points[0],
            conflicted: BTreeMap::new(),
            decided: BTreeMap::new(),
            events: vec![Vec::new(); points.len()],
        };
        for (key, values) in lines::compare(self.from, self.room, points)? {
            let distinct: BTreeSet<EventNo> = values.iter().flatten().copied().collect();
            let absent = values.contains(&None);
            match distinct.first() {
                None => {}
                Some(_) if distinct.len() == 1 && !absent => {}
                Some(only) if distinct.len() == 1 && !absence_conflicts => {
                    // What the first state has anyway makes no difference.
                    let new = Some(*only).filter(|_| values[0].is_none());
                    found.decided.extend(new.map(|event| (key, event)));
                }
                Some(_) => {
                    for (events, value) in found.events.iter_mut().zip(&values) {
                        events.extend(value);
                    }
                    found.conflicted.insert(key, values[0]);
                }
            }
        }
        Ok(found)
    }

    fn resolve_conflict(&self, disagreement: &Disagreement) -> Result<BTreeMap<StateKey, EventNo>> {
        let conflicted: BTreeSet<EventNo> = disagreement.events.iter().flatten().copied().collect();
        let conflicted: Vec<EventNo> = conflicted.into_iter().collect();
        let agreed = Agreed {
            room: self,
            disagreement,
            known: RefCell::default(),
        };
        let mut auth_difference = Vec::new();
        if self.rules.state_resolution != StateResolution::V1 {
            let mut asked = 0;
            let mut chain = AgreedChain::new(self.from, self.room, |no| {
                asked += 1;
                if asked % STEP == 0 {
                    (self.pause)();
                }
                let event = self.event(no)?;
                let pdu = event.pdu();
                let state_key = pdu.state_key().unwrap_or_default();
                Ok(match agreed.get(pdu.event_type(), state_key)? {
                    Some(agreed) if agreed == no => Standing::Agreed,
                    _ if auth::is_auth_type(pdu.event_type()) => Standing::Other,
                    _ => Standing::Unnamed,
                })
            });
            let difference = state_res::auth_difference_of_conflict(
                &disagreement.events,
                |no| chain.contains(no),
                self,
            );
            auth_difference = difference.map_err(|error| self.failed(error))?;
        }
        let agreed = |event_type: &str, state_key: &str| agreed.get(event_type, state_key);
        let mut resolution = Resolution::new(self.rules, conflicted, auth_difference);
        loop {
            let step = resolution.step(self, &agreed, STEP);
            if let Step::Done(resolved) = step.map_err(|error| self.failed(error))? {
                return Ok(resolved);
            }
            (self.pause)();
        }
    }

    fn failed(&self, error: ResolutionError<EventNo, Error>) -> Error {
        match error {
            ResolutionError::Source(error) => error,
            ResolutionError::Missing(_) => Error::Damaged {
                room: self.room.0,
                why: "an event that its state rests on is gone",
            },
        }
    }

    fn event(&self, no: EventNo) -> Result<Arc<AuthEvent>> {
        self.cache.auth_event(self.from, self.rules, self.room, no)
    }
}

/// What several states disagree about.
struct Disagreement {
    /// The first of the states.
    base: Point,
    /// The entries in conflict, and what they are in the first state.
    conflicted: BTreeMap<StateKey, Option<EventNo>>,
    /// Entries that the first state does not have, and that count without conflict.
    decided: BTreeMap<StateKey, EventNo>,
    /// For each state its events in conflict.
    events: Vec<Vec<EventNo>>,
}

/// The entries on which the states agree, read as they are asked for.
struct Agreed<'a, R> {
    room: &'a Room<'a, R>,
    disagreement: &'a Disagreement,
    known: RefCell<HashMap<StateKey, Option<EventNo>>>,
}

impl<R: Read> Agreed<'_, R> {
    fn get(&self, event_type: &str, state_key: &str) -> Result<Option<EventNo>> {
        let key: StateKey = (event_type.into(), state_key.into());
        let disagreement = self.disagreement;
        if disagreement.conflicted.contains_key(&key) {
            return Ok(None);
        }
        if let Some(decided) = disagreement.decided.get(&key) {
            return Ok(Some(*decided));
        }
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(*known);
        }
        let found = self.room.at(&key, disagreement.base)?;
        self.known.borrow_mut().insert(key, found);
        Ok(found)
    }
}

impl<R: Read> EventSource for Room<'_, R> {
    type Id = EventNo;
    type Error = Error;

    fn event(&self, no: EventNo) -> Result<Option<Arc<AuthEvent>>> {
        self.event(no).map(Some)
    }

    fn auth_events(&self, no: EventNo) -> Result<Option<AuthEventIds<EventNo>>> {
        let node = self
            .cache
            .auth_node(self.from, self.room, no, self.settled)?;
        Ok(node.map(|node| node.auth_events))
    }

    fn generation(&self, no: EventNo) -> Result<Option<u32>> {
        let node = self
            .cache
            .auth_node(self.from, self.room, no, self.settled)?;
        Ok(node.map(|node| node.generation))
    }

    fn create(&self) -> Result<Option<Arc<AuthEvent>>> {
        self.event(self.create).map(Some)
    }
}
