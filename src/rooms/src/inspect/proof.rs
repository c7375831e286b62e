//! Whether a room is as it must be, found out anew from its events: for `meyrin room check`.
//!
//! [`crate::check`] compares tables with each other. Here every event is taken as if it had come just now:
//! - its JSON is canonical, and gives its id and its content hash (or is the redacted form);
//! - the verdict that was kept is the one that the authorisation rules give again, by the events that it names
//!   and by the state before it;
//! - the state after it is the state before it, and itself;
//! - the state before it is what resolution makes of the states after the events that it follows, and the current
//!   state is what it makes of those after the extremities. Where these states differ, they are resolved a second
//!   time, plainly, from whole state maps by [`state_res::resolve`], which has no part in how they were made.
//!
//! What can't be known here is left out: the state after a gap is what another server said it was.
//!
//! Events are read one by one. A plain resolution holds the states that it resolves, at most one for each event that is
//! followed, and the auth chain of the room's state.

use std::collections::BTreeSet;
use std::sync::Arc;

use event::state_res::{self, ResolutionError, StateMap};
use event::{
    AuthError, AuthEvent, EventIdFormat, Pdu, RoomRules, auth, canonical, hash, redaction,
};
use names::RoomSn;
use store::{Direction, Read, StoreError};

use crate::policy::{self, PolicyServer};
use crate::resolve::{Room, Settled};
use crate::schema::STATE_HISTORY;
use crate::{
    Cache, Error, EventNo, Flags, Point, Result, RoomHead, StoredEvent, event_log, graph, lines,
    state,
};

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Events, outliers included.
    pub events: u64,
    /// States that were resolved plainly.
    pub resolutions: u64,
    /// Events whose state before them rests on the word of another server.
    pub after_gaps: u64,
}

/// Who hears of a check while it goes on.
pub struct Listener<'a> {
    /// Hears of everything that is wrong, a line each.
    pub report: &'a mut dyn FnMut(String),
    /// Hears how many places of the history are done, and of how many. If it answers `false`, the check ends.
    pub progress: &'a mut dyn FnMut(u64, u64) -> bool,
}

/// Places between two reports of progress.
const PROGRESS_EVERY: u64 = 100;
/// Resolutions that are not made twice.
const MOST_PROVEN: usize = 10_000;
/// Differences between two states that are named.
const MOST_NAMED: usize = 3;

/// Proves a room. Without `plainly` no state is resolved; all else is done.
///
/// # Errors
/// [`Error::UnknownRoom`], [`Error::UnsupportedVersion`], and what the store can't read at all. A row that is damaged
/// is reported and is no error.
pub fn room(
    from: &impl Read,
    room: RoomSn,
    plainly: bool,
    listener: &mut Listener<'_>,
) -> Result<Seen> {
    let head = event_log::head(from, room)?.ok_or(Error::UnknownRoom)?;
    let rules = head
        .rules()
        .ok_or_else(|| Error::UnsupportedVersion(head.version.clone()))?;
    let cache = Cache::default();
    let mut proof = Proof {
        from,
        room,
        room_id: names::room_id(from, room)?,
        head: &head,
        rules,
        cache: &cache,
        settled: Settled::of(from, room)?,
        plainly,
        proven: BTreeSet::new(),
        depth: 0,
        seen: Seen::default(),
    };
    let total = super::places(from, room, &head)?;
    let mut last = String::from("the beginning");
    let events =
        event_log::outliers(from, room).chain(event_log::forwards(from, room, EventNo::MIN));
    for row in events {
        let (no, event) = match row {
            Ok(row) => row,
            Err(error) => {
                let why = damage(error)?;
                (listener.report)(format!("the row of the event after {last}: {why}"));
                continue;
            }
        };
        let id = &event.event_id;
        let mut say = |what: String| (listener.report)(format!("event {id}: {what}"));
        if let Err(error) = proof.event(no, &event, &mut say) {
            say(damage(error)?);
        }
        proof.seen.events += 1;
        let done = proof.seen.events.min(total);
        if proof.seen.events.is_multiple_of(PROGRESS_EVERY) && !(listener.progress)(done, total) {
            return Ok(proof.seen);
        }
        last = id.to_string();
    }
    proof.entries(listener.report)?;
    if let Err(error) = proof.current(listener.report) {
        (listener.report)(format!("the current state: {}", damage(error)?));
    }
    (listener.progress)(total, total);
    Ok(proof.seen)
}

/// What of an error is a finding about the room; the others end the check.
fn damage(error: Error) -> Result<String> {
    match error {
        Error::Damaged { why, .. } => Ok(why.to_owned()),
        Error::Store(StoreError::Corrupt { .. }) => Ok(error.to_string()),
        error => Err(error),
    }
}

struct Proof<'a, R> {
    from: &'a R,
    room: RoomSn,
    room_id: String,
    head: &'a RoomHead,
    rules: &'static RoomRules,
    cache: &'a Cache,
    settled: Settled,
    plainly: bool,
    /// States before, with the states that are resolved to them.
    proven: BTreeSet<(Point, Vec<Point>)>,
    /// The greatest depth so far.
    depth: u64,
    seen: Seen,
}

impl<R: Read> Proof<'_, R> {
    fn event(
        &mut self,
        no: EventNo,
        event: &StoredEvent,
        say: &mut dyn FnMut(String),
    ) -> Result<()> {
        let id = event.event_id.clone();
        let Ok(pdu) = Pdu::from_stored(self.rules, id, event.json.as_bytes()) else {
            say("it does not parse".to_owned());
            return Ok(());
        };
        self.form(event, &pdu, say)?;
        let by_auth_events = self.check_by_auth_events(&pdu, say)?;
        let Some(before) = graph::state_before(no, event) else {
            let flags = event.flags;
            self.verdict(flags, by_auth_events.map(|checked| (checked, Ok(()))), say);
            return Ok(());
        };
        if event.flags.is_visible() {
            self.depth = self.depth.max(pdu.depth());
        }
        let verdict = match by_auth_events {
            Some(checked) => Some((checked, self.check_by_state(&pdu, before)?)),
            None => None,
        };
        self.verdict(event.flags, verdict, say);
        if event.flags.has(Flags::SOFT_FAILED)
            && self
                .check_by_state(&pdu, Point::main(no.previous()))?
                .is_ok()
            && !self.had_policy_server(Point::main(no.previous()))?
        {
            say("it is soft-failed, but the current state of its time allows it".to_owned());
        }
        self.own_change(no, event, &pdu, before, say)?;
        self.predecessors(no, event, &pdu, before, say)
    }

    /// What the event says of itself.
    fn form(&self, event: &StoredEvent, pdu: &Pdu, say: &mut dyn FnMut(String)) -> Result<()> {
        let (rules, json) = (self.rules, pdu.json());
        if canonical::from_text(json, rules.numbers).ok().as_deref() != Some(json) {
            say("its JSON is not canonical".to_owned());
        }
        let id = match rules.event_id {
            EventIdFormat::Chosen => event::json::member(json, "event_id")
                .and_then(event::json::string)
                .map(|id| id.into_owned()),
            _ => Some(hash::event_id(rules, &hash::reference_hash(rules, json)).to_string()),
        };
        if id.as_deref() != Some(event.event_id.as_str()) {
            say(format!("its JSON is that of {}", id.unwrap_or_default()));
        }
        // What came with another hash is kept in its redacted form.
        if !hash::content_hash_matches(json) && redaction::redact(rules, json) != json.as_bytes() {
            say("its content hash does not match".to_owned());
        }
        if pdu.room_id() != self.room_id {
            say(format!("it says that it is of room {}", pdu.room_id()));
        }
        // Nobody checks that it is more than that of the events before: whoever has the key may write anything.
        if pdu.depth() > rules.max_depth {
            say(format!("its depth {} is too great", pdu.depth()));
        }
        if event.flags.has(Flags::STATE) != pdu.state_key().is_some() {
            say("it is not kept as what it is, state or message".to_owned());
        }
        let sender = names::user_id(self.from, event.sender)?;
        if sender != pdu.sender() {
            say(format!("it is kept as one of {sender}"));
        }
        Ok(())
    }

    /// Whether the event is allowed by the events that it names; nothing if one of them is not here.
    fn check_by_auth_events(
        &self,
        pdu: &Pdu,
        say: &mut dyn FnMut(String),
    ) -> Result<Option<Result<(), AuthError>>> {
        let mut events = Vec::new();
        for id in pdu.auth_events() {
            match event_log::number(self.from, id)? {
                Some((room, no)) if room == self.room => events.push(self.parsed(no)?),
                _ => {
                    say(format!("it names {id} in auth_events, which is not here"));
                    return Ok(None);
                }
            }
        }
        let mut named: Vec<&AuthEvent> = events.iter().map(|event| &**event).collect();
        if let Err(error) = auth::check_auth_events(self.rules, pdu, &named) {
            return Ok(Some(Err(error)));
        }
        let is_create = |event: &&AuthEvent| event.pdu().is_state("m.room.create", "");
        let create = match pdu.event_type() {
            "m.room.create" => None,
            _ if named.iter().any(is_create) => None,
            _ => Some(self.parsed(self.head.create)?),
        };
        named.extend(create.as_deref());
        Ok(Some(auth::check(self.rules, pdu, named.as_slice())))
    }

    /// Whether a state allows the event.
    fn check_by_state(&self, pdu: &Pdu, point: Point) -> Result<Result<(), AuthError>> {
        let mut keys = auth::auth_types_of(self.rules, pdu);
        keys.push(("m.room.create", "".into()));
        let mut events = Vec::with_capacity(keys.len());
        for (event_type, state_key) in keys {
            if let Some(no) = state::at(self.from, self.room, event_type, &state_key, point)? {
                events.push(self.parsed(no)?);
            }
        }
        let named: Vec<&AuthEvent> = events.iter().map(|event| &**event).collect();
        Ok(auth::check(self.rules, pdu, named.as_slice()))
    }

    /// Whether a state names a policy server, for whose word an event may be soft-failed; which word that was is not kept.
    fn had_policy_server(&self, point: Point) -> Result<bool> {
        let Some(no) = state::at(self.from, self.room, policy::POLICY, "", point)? else {
            return Ok(false);
        };
        let event = self.parsed(no)?;
        Ok(PolicyServer::of_content(event.pdu().content()).is_some())
    }

    /// The verdict that was kept is the one that the rules give.
    fn verdict(
        &self,
        flags: Flags,
        found: Option<(Result<(), AuthError>, Result<(), AuthError>)>,
        say: &mut dyn FnMut(String),
    ) {
        match (flags.has(Flags::REJECTED), found) {
            (_, None) => {}
            (false, Some((Err(error), _))) => {
                say(format!(
                    "it is accepted, but the events that it names do not allow it: {error}"
                ));
            }
            (false, Some((_, Err(error)))) => {
                say(format!(
                    "it is accepted, but the state before it does not allow it: {error}"
                ));
            }
            (true, Some((Ok(()), Ok(())))) => {
                say("it is rejected, but the rules allow it".to_owned());
            }
            _ => {}
        }
    }

    /// The state after an event is the state before it, and the event itself if it is an accepted state event.
    fn own_change(
        &self,
        no: EventNo,
        event: &StoredEvent,
        pdu: &Pdu,
        before: Point,
        say: &mut dyn FnMut(String),
    ) -> Result<()> {
        let Some(state_key) = pdu
            .state_key()
            .filter(|_| !event.flags.has(Flags::REJECTED))
        else {
            return Ok(());
        };
        let (of, after) = (pdu.event_type(), event.state_after(no).unwrap_or_default());
        let number = Some(event.number(no));
        let earlier = state::at(self.from, self.room, of, state_key, before)?;
        if state::at(self.from, self.room, of, state_key, after)? != number {
            say("the state after it does not have it".to_owned());
        }
        let changes = state::change_of(self.from, self.room, after)?;
        let own = |change: &crate::StateDelta| {
            (change.event_type.as_str(), change.state_key.as_str()) == (of, state_key)
        };
        match changes.iter().find(|change| own(change)) {
            Some(change) if change.after != number => {
                say("the state's history has another event where it is".to_owned());
            }
            Some(change) if change.before != earlier => {
                say("the state's history has it take the place of another event".to_owned());
            }
            Some(_) if changes.len() == 1 => {}
            Some(_) => say("the state after it has more changes than it makes".to_owned()),
            None => say("the state's history does not have it".to_owned()),
        }
        Ok(())
    }

    /// The state before an event is what follows from the events before it.
    fn predecessors(
        &mut self,
        no: EventNo,
        event: &StoredEvent,
        pdu: &Pdu,
        before: Point,
        say: &mut dyn FnMut(String),
    ) -> Result<()> {
        let mut points = Vec::new();
        let mut gap = pdu.event_type() != "m.room.create" && pdu.prev_events().len() == 0;
        for id in pdu.prev_events() {
            let place = event_log::find_in(self.from, self.room, id)?;
            let Some(place) = place else {
                gap = true;
                continue;
            };
            let Some(prev) = event_log::get(self.from, self.room, place)? else {
                say(format!("it follows {id}, whose row is gone"));
                gap = true;
                continue;
            };
            // What came later was missing then, wherever its place is now.
            gap |= place > no || prev.position > event.position;
            points.extend(prev.state_after(place));
        }
        if gap {
            self.seen.after_gaps += 1;
            return Ok(());
        }
        self.follows_from(before, &points, "the state before it", say)
    }

    /// The state at `point` is what resolution makes of the states at `points`.
    fn follows_from(
        &mut self,
        point: Point,
        points: &[Point],
        name: &str,
        say: &mut dyn FnMut(String),
    ) -> Result<()> {
        let point = lines::normal(self.from, self.room, point)?;
        let mut states = BTreeSet::new();
        for point in points {
            states.insert(lines::normal(self.from, self.room, *point)?);
        }
        let states: Vec<Point> = states.into_iter().collect();
        let question = (point, states);
        let states = &question.1;
        if states.is_empty() || *states == [point] || self.proven.contains(&question) {
            return Ok(());
        }
        let difference = match states.as_slice() {
            [only] => self.between(point, *only)?,
            _ if !self.plainly => return Ok(()),
            _ => {
                self.seen.resolutions += 1;
                let Some(resolved) = self.resolve(states)? else {
                    say(format!("{name} can't be resolved again: an event is gone"));
                    return Ok(());
                };
                differing(&self.map(point)?, &resolved)
            }
        };
        if difference.is_empty() {
            if self.proven.len() == MOST_PROVEN {
                self.proven.clear();
            }
            self.proven.insert(question);
            return Ok(());
        }
        for (event_type, state_key, kept, right) in difference.iter().take(MOST_NAMED) {
            let (kept, right) = (self.name(*kept)?, self.name(*right)?);
            say(format!(
                "{name} has {event_type} {state_key:?} by {kept}, it follows from the events before by {right}"
            ));
        }
        if difference.len() > MOST_NAMED {
            let more = difference.len() - MOST_NAMED;
            say(format!("{name} is wrong in {more} more entries"));
        }
        Ok(())
    }

    fn between(&self, kept: Point, right: Point) -> Result<Vec<Wrong>> {
        let mut found = Vec::new();
        for ((event_type, state_key), right) in self.states().between(kept, right)? {
            let kept = state::at(self.from, self.room, &event_type, &state_key, kept)?;
            found.push((event_type.into(), state_key.into(), kept, right));
        }
        Ok(found)
    }

    fn resolve(&self, points: &[Point]) -> Result<Option<StateMap<EventNo>>> {
        let mut maps = Vec::with_capacity(points.len());
        for point in points {
            maps.push(self.map(*point)?);
        }
        let maps: Vec<&StateMap<EventNo>> = maps.iter().collect();
        match state_res::resolve(self.rules, &maps, None, &self.states()) {
            Ok(resolved) => Ok(Some(resolved)),
            Err(ResolutionError::Missing(_)) => Ok(None),
            Err(ResolutionError::Source(error)) => Err(error),
        }
    }

    fn map(&self, point: Point) -> Result<StateMap<EventNo>> {
        let mut map = StateMap::new();
        for entry in state::all_at(self.from, self.room, point)? {
            map.insert(
                (entry.event_type.into(), entry.state_key.into()),
                entry.event,
            );
        }
        Ok(map)
    }

    fn states(&self) -> Room<'_, R> {
        Room {
            from: self.from,
            cache: self.cache,
            rules: self.rules,
            room: self.room,
            create: self.head.create,
            settled: self.settled,
            pause: &|| {},
        }
    }

    /// Every entry of every state is set by a state event of its type and key that was not rejected.
    fn entries(&self, report: &mut dyn FnMut(String)) -> Result<()> {
        for row in STATE_HISTORY.scan(self.from, &(self.room,), Direction::Forward) {
            let row = match row {
                Ok(row) => row,
                Err(error) => {
                    report(format!("the state's history: {}", damage(error.into())?));
                    continue;
                }
            };
            let ((_, of, key, line, place), no) = row;
            if no == EventNo::MIN {
                continue;
            }
            let why = match self.parsed(no) {
                Ok(event) if !event.pdu().is_state(&of, &key) => "is of another type or key",
                Ok(event) if event.is_rejected() => "was rejected",
                Ok(_) => continue,
                Err(error) => &damage(error)?,
            };
            let (line, place) = (line, place.0.0);
            let id = self.name(Some(no))?;
            report(format!(
                "event {id}: the state has it as {of} {key:?} (line {line}, place {place}), but it {why}"
            ));
        }
        Ok(())
    }

    /// The current state, and the head.
    fn current(&mut self, report: &mut dyn FnMut(String)) -> Result<()> {
        if self.depth != self.head.depth {
            report(format!(
                "the greatest depth is {}, the head has {}",
                self.depth, self.head.depth
            ));
        }
        let mut points = Vec::with_capacity(self.head.extremities.len());
        for (no, id) in &self.head.extremities {
            match event_log::get(self.from, self.room, *no)? {
                Some(event) => points.extend(event.state_after(*no)),
                None => {
                    report(format!("event {id}: it is an extremity, and gone"));
                    return Ok(());
                }
            }
        }
        let now = Point::main(self.head.next);
        self.follows_from(now, &points, "the current state", report)
    }

    fn parsed(&self, no: EventNo) -> Result<Arc<AuthEvent>> {
        self.cache.auth_event(self.from, self.rules, self.room, no)
    }

    /// The id of an event by its number.
    fn name(&self, no: Option<EventNo>) -> Result<String> {
        let Some(no) = no else {
            return Ok("nothing".to_owned());
        };
        let event = event_log::get(self.from, self.room, no)?;
        Ok(event.map_or_else(
            || format!("number {}", no.0),
            |event| event.event_id.to_string(),
        ))
    }
}

/// Type, state key, the event that is kept, and the one that is right.
type Wrong = (String, String, Option<EventNo>, Option<EventNo>);

fn differing(kept: &StateMap<EventNo>, right: &StateMap<EventNo>) -> Vec<Wrong> {
    let mut found = Vec::new();
    for (key, no) in kept {
        let right = right.get(key).copied();
        if right != Some(*no) {
            found.push((key.0.to_string(), key.1.to_string(), Some(*no), right));
        }
    }
    for (key, no) in right {
        if !kept.contains_key(key) {
            found.push((key.0.to_string(), key.1.to_string(), None, Some(*no)));
        }
    }
    found
}
