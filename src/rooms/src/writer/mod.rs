//! The one door by which events enter a room: its head, its graph, its state and all that follows from an
//! event, in one change.
//!
//! A [`RoomWriter`] holds a room's head while a change is made: every event inserted sees the ones before
//! it. [`RoomWriter::finish`] writes the head back and says whom it all concerns. Whether an event may enter
//! is decided by those who call [`RoomWriter::insert`]: `append` for the events of this server, `ingest` for
//! those of others.
//!
//! Where an event stands: one that follows all extremities stands on the current state, and changes it on the
//! main line. Any other stands on a state of its own ([`Before::Point`]); what it changes there goes to a side
//! line, and the current state becomes what resolution makes of all extremities.

mod change;
mod member;

use std::borrow::Cow;
use std::sync::Arc;

use event::auth::{self, AuthKey, PowerLevel, PowerLevels};
use event::{AuthEvent, EventId, Pdu, RoomRules, SigningKey, StateLookup};
use names::{RoomSn, UserSn};
use store::{Position, Read, Txn};

use crate::policy::SignedEvents;
use crate::resolve::{Room, Settled};
use crate::schema::{EVENT_IDS, EVENTS, HEADS, TIMESTAMPS};
use crate::types::{Point, StateAfter};
use crate::{
    Cache, Error, EventNo, Flags, Result, RoomHead, StoredEvent, auth_index, event_log, graph,
    partial, redactions, relations, state,
};

/// Whom a change to a room concerns. Without events it concerns nobody.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Users whose membership changed: joined from now on, or not.
    pub memberships: Vec<(UserSn, bool)>,
    /// The appended events, in order.
    pub appended: Vec<(EventNo, EventId)>,
    /// Those of them that users of this server sent: other servers in the room are to get them.
    pub own: Vec<EventNo>,
}

/// A state that an event is checked against and stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// The current state.
    Current,
    /// A state of the past, or of a fork.
    Point(Point),
}

/// A few entries of a state, with their parsed events.
pub(crate) struct StateEvents {
    entries: Vec<StateEvent>,
    /// How many of them an event names in `auth_events`; the rest only helps to judge it.
    selected: usize,
}

struct StateEvent {
    event_type: Cow<'static, str>,
    state_key: String,
    number: EventNo,
    event: Arc<AuthEvent>,
}

impl StateEvents {
    /// Those of [`auth::auth_types`].
    pub(crate) fn selected(&self) -> impl Iterator<Item = &AuthEvent> {
        self.entries[..self.selected]
            .iter()
            .map(|entry| &*entry.event)
    }

    /// Their numbers.
    pub(crate) fn selected_numbers(&self) -> Vec<EventNo> {
        self.entries[..self.selected]
            .iter()
            .map(|entry| entry.number)
            .collect()
    }
}

impl StateLookup for StateEvents {
    fn get(&self, event_type: &str, state_key: &str) -> Option<&AuthEvent> {
        self.entries
            .iter()
            .find(|entry| entry.event_type == event_type && entry.state_key == state_key)
            .map(|entry| &*entry.event)
    }
}

/// An event that is to be kept, and what was found out about it.
pub(crate) struct Admission<'a> {
    pub pdu: &'a Pdu,
    pub sender: UserSn,
    /// Of a member event: the number of the user it is about, if that is a user.
    pub target: Option<UserSn>,
    /// The events that it names in `auth_events`.
    pub auth_events: Vec<EventNo>,
    /// Those of its `prev_events` that are here.
    pub prev_events: Vec<(EventNo, String)>,
    /// Those that are not.
    pub missing: Vec<String>,
    /// The state right before it.
    pub before: Before,
    /// [`Flags::REJECTED`], [`Flags::SOFT_FAILED`] or neither.
    pub verdict: Flags,
    /// If it is here as an outlier: its number.
    pub outlier: Option<EventNo>,
    /// An accepted event that is here follows it.
    pub followed: Option<EventNo>,
}

/// What a writer needs from outside.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Parsed state events.
    pub cache: &'a Cache,
    /// The key that the server signs with.
    pub key: &'a SigningKey,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// Called between the steps of what may take long: other work may go first.
    pub pause: &'a (dyn Fn() + Sync),
}

/// What is known of a room's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowledge {
    /// All of them.
    Whole,
    /// Not all of them, yet.
    Partial,
    /// Not all of them, and this server has left since.
    Abandoned,
}

impl Knowledge {
    fn of(from: &impl Read, room: RoomSn) -> Result<Self> {
        Ok(if partial::is_partial(from, room)? {
            Self::Partial
        } else if partial::abandoned(from, room)?.is_some() {
            Self::Abandoned
        } else {
            Self::Whole
        })
    }
}

/// A room while a change is made to it.
pub struct RoomWriter<'a> {
    pub(crate) txn: &'a mut Txn,
    context: Context<'a>,
    room: RoomSn,
    room_id: String,
    rules: &'static RoomRules,
    head: RoomHead,
    /// What was committed before this change.
    settled: Settled,
    /// What the room's policy server has signed for this change.
    signed: Option<&'a mut SignedEvents>,
    /// While history is filled in: the next place there.
    past: Option<EventNo>,
    /// What is known of the room's members.
    known: Knowledge,
    changed: bool,
    effects: Effects,
}

impl<'a> RoomWriter<'a> {
    /// Opens a room that exists.
    ///
    /// # Errors
    /// [`Error::UnknownRoom`], [`Error::UnsupportedVersion`].
    pub fn open(txn: &'a mut Txn, context: Context<'a>, room: RoomSn) -> Result<Self> {
        let head = event_log::head(txn, room)?.ok_or(Error::UnknownRoom)?;
        let rules = head
            .rules()
            .ok_or_else(|| Error::UnsupportedVersion(head.version.clone()))?;
        let room_id = names::room_id(txn, room)?;
        let settled = Settled::of(txn.base(), room)?;
        let known = Knowledge::of(txn, room)?;
        Ok(Self {
            txn,
            context,
            room,
            room_id,
            rules,
            head,
            settled,
            signed: None,
            past: None,
            known,
            changed: false,
            effects: Effects::default(),
        })
    }

    /// Begins a room with its create event.
    ///
    /// # Errors
    /// If the create event is not allowed.
    pub fn begin(
        txn: &'a mut Txn,
        context: Context<'a>,
        rules: &'static RoomRules,
        room: RoomSn,
        creator: UserSn,
        create: &Pdu,
    ) -> Result<Self> {
        let mut writer = Self::begin_empty(txn, context, rules, room, create)?;
        writer.insert(Admission {
            pdu: create,
            sender: creator,
            target: None,
            auth_events: Vec::new(),
            prev_events: Vec::new(),
            missing: Vec::new(),
            before: Before::Current,
            verdict: Flags::default(),
            outlier: None,
            followed: None,
        })?;
        Ok(writer)
    }

    /// A room that has no events yet.
    pub(crate) fn begin_empty(
        txn: &'a mut Txn,
        context: Context<'a>,
        rules: &'static RoomRules,
        room: RoomSn,
        create: &Pdu,
    ) -> Result<Self> {
        let nothing = StateEvents {
            entries: Vec::new(),
            selected: 0,
        };
        auth::check(rules, create, &nothing)?;
        let head = RoomHead {
            version: rules.version.to_string(),
            create: EventNo::FIRST,
            extremities: Vec::new(),
            next: EventNo::FIRST,
            depth: 0,
            side_lines: 0,
            joined: 0,
            invited: 0,
        };
        Ok(Self {
            txn,
            context,
            room,
            room_id: create.room_id().to_owned(),
            rules,
            head,
            settled: Settled::NOTHING,
            signed: None,
            past: None,
            known: Knowledge::Whole,
            changed: false,
            effects: Effects::default(),
        })
    }

    /// Says which event began the room, in a room that has no head yet; that alone writes none.
    pub(crate) fn created_by(&mut self, no: EventNo) {
        self.head.create = no;
    }

    /// Has events of this server enter a room with a policy server once they are signed, of which some are.
    pub fn with_signed(self, signed: &'a mut SignedEvents) -> Self {
        Self {
            signed: Some(signed),
            ..self
        }
    }

    pub(crate) fn signed(&mut self) -> Option<&mut SignedEvents> {
        self.signed.as_deref_mut()
    }

    /// The room's number.
    pub fn room(&self) -> RoomSn {
        self.room
    }

    /// The room's id.
    pub fn room_id(&self) -> &str {
        &self.room_id
    }

    /// The name of this server.
    pub fn server_name(&self) -> &str {
        self.context.key.server_name()
    }

    /// The rules of the room's version.
    pub fn rules(&self) -> &'static RoomRules {
        self.rules
    }

    /// Where the room has got to.
    pub fn head(&self) -> &RoomHead {
        &self.head
    }

    /// What events are signed with.
    pub(crate) fn key(&self) -> &'a SigningKey {
        self.context.key
    }

    /// Parsed state events.
    pub(crate) fn cache(&self) -> &'a Cache {
        self.context.cache
    }

    pub(crate) fn head_mut(&mut self) -> &mut RoomHead {
        self.changed = true;
        &mut self.head
    }

    /// The room with everything inserted so far.
    pub(crate) fn read(&self) -> &Txn {
        self.txn
    }

    /// The change so far: shows the room with everything appended.
    pub fn txn(&mut self) -> &mut Txn {
        self.txn
    }

    /// The room, for resolving its states.
    pub(crate) fn states(&self) -> Room<'_, Txn> {
        Room {
            from: self.txn,
            cache: self.context.cache,
            rules: self.rules,
            room: self.room,
            create: self.head.create,
            settled: self.settled,
            pause: self.context.pause,
        }
    }

    /// The parsed event of an entry of the current state.
    pub fn state_event(&self, event_type: &str, state_key: &str) -> Result<Option<Arc<AuthEvent>>> {
        match state::current(self.txn, self.room, event_type, state_key)? {
            Some(no) => {
                let cache = self.context.cache;
                Ok(Some(cache.auth_event(self.txn, self.rules, self.room, no)?))
            }
            None => Ok(None),
        }
    }

    /// The entries that authorisation asks for in the state `before`, and the create event.
    pub(crate) fn state_events<'k>(
        &self,
        selected: impl IntoIterator<Item = AuthKey<'k>>,
        before: Before,
    ) -> Result<StateEvents> {
        let mut keys: Vec<(&'static str, String)> = Vec::with_capacity(6);
        for (of, key) in selected {
            keys.push((of, key.into_owned()));
        }
        let selected = keys.len();
        if !keys.iter().any(|(of, _)| *of == CREATE) {
            keys.push((CREATE, String::new()));
        }
        let asked: Vec<_> = keys.iter().map(|(of, key)| (*of, key.as_str())).collect();
        let numbers = match before {
            Before::Current => state::current_many(self.txn, self.room, &asked)?,
            Before::Point(point) => {
                let mut numbers = Vec::with_capacity(asked.len());
                for (of, key) in &asked {
                    numbers.push(state::at(self.txn, self.room, of, key, point)?);
                }
                numbers
            }
        };
        let mut found = StateEvents {
            entries: Vec::with_capacity(keys.len()),
            selected: 0,
        };
        for (index, ((of, state_key), number)) in keys.into_iter().zip(numbers).enumerate() {
            let Some(number) = number else { continue };
            let cache = self.context.cache;
            let event = cache.auth_event(self.txn, self.rules, self.room, number)?;
            found.entries.push(StateEvent {
                event_type: Cow::Borrowed(of),
                state_key,
                number,
                event,
            });
            if index < selected {
                found.selected = found.entries.len();
            }
        }
        Ok(found)
    }

    /// A user's power level in the current state.
    pub fn power_level(&self, user_id: &str) -> Result<PowerLevel> {
        self.with_power_levels(|levels| levels.user(user_id))
    }

    /// Runs `look` on the room's power levels.
    pub fn with_power_levels<T>(&self, look: impl FnOnce(&PowerLevels<'_>) -> T) -> Result<T> {
        self.with_power_levels_in(Before::Current, look)
    }

    pub(crate) fn with_power_levels_in<T>(
        &self,
        state: Before,
        look: impl FnOnce(&PowerLevels<'_>) -> T,
    ) -> Result<T> {
        let damaged = Error::Damaged {
            room: self.room.0,
            why: "no usable create event",
        };
        let keys = [(POWER_LEVELS, Cow::Borrowed(""))];
        let events = self.state_events(keys, state)?;
        let Some(create) = events.get(CREATE, "") else {
            return Err(damaged);
        };
        match PowerLevels::of_events(self.rules, create, events.get(POWER_LEVELS, "")) {
            Some(levels) => Ok(look(&levels)),
            None => Err(damaged),
        }
    }

    /// The current state.
    pub(crate) fn now(&self) -> Point {
        // Not the next place: what is decided there is not decided yet.
        Point::main(self.head.next.previous())
    }

    /// The next place in the room's history, where events go that come now.
    pub(crate) fn take_place(&mut self) -> EventNo {
        match self.past {
            Some(no) => {
                self.past = Some(no.next());
                no
            }
            None => self.take_newest_place(),
        }
    }

    fn take_newest_place(&mut self) -> EventNo {
        let no = self.head.next;
        // Where a stretch has used up its numbers, the next one goes on without a gap.
        self.head_mut().next = no.next().max(no.next().stretch_start());
        no
    }

    /// Leaves free numbers before what comes now, for the history that is missing there.
    fn begin_stretch(&mut self) {
        if let Some(start) = self.head.next.next_stretch() {
            self.head_mut().next = start;
        }
    }

    /// If events that come now are history that is filled in: the next place there.
    pub(crate) fn past(&self) -> Option<EventNo> {
        self.past
    }

    /// Whether events that come now are history that is filled in.
    pub(crate) fn is_in_past(&self) -> bool {
        self.past.is_some()
    }

    /// Whether not all of the room's members are known: see [`crate::partial`].
    pub fn lacks_members(&self) -> bool {
        self.known != Knowledge::Whole
    }

    /// Whether this server left the room before its members were known.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.known == Knowledge::Abandoned
    }

    /// The last user of this server leaves the room at `place`.
    pub(crate) fn nobody_is_left(&mut self, place: EventNo) -> Result<()> {
        if self.known == Knowledge::Partial {
            partial::abandon(self.txn, self.room, place)?;
            self.known = Knowledge::Abandoned;
        }
        Ok(())
    }

    /// From now on events are history that is filled in, at the places from `first` on; or not any more.
    pub(crate) fn fill_past(&mut self, first: Option<EventNo>) {
        self.past = first;
    }

    /// Writes an event, and all that follows from it.
    pub(crate) fn insert(&mut self, new: Admission<'_>) -> Result<EventNo> {
        let (room, pdu) = (self.room, new.pdu);
        let is_state = pdu.state_key().is_some();
        // What something here follows already is old itself: the gap before it is the one before that.
        let is_newest = new.followed.is_none() && !self.is_in_past();
        let after_gap = !new.missing.is_empty() && !self.head.extremities.is_empty();
        if after_gap && is_newest && new.verdict.is_visible() {
            self.begin_stretch();
        }
        let own_key = pdu
            .state_key()
            .filter(|_| !new.verdict.has(Flags::REJECTED))
            .map(|state_key| (pdu.event_type().into(), state_key.into()));
        // A line for what the event changes, where the current state is not what it changes.
        let line = match (new.before, &own_key) {
            (Before::Point(point), Some(_)) => Some((self.line_from(point)?, point)),
            _ => None,
        };
        let no = self.take_place();
        let number = new.outlier.unwrap_or(no);
        let relation = relations::parse(pdu.content()).filter(|_| new.verdict.is_visible());
        let flags = match is_state {
            true => new.verdict.with(Flags::STATE),
            false => new.verdict,
        };
        let stored = StoredEvent {
            position: Position::PENDING,
            flags,
            state: match (new.before, line) {
                (Before::Current, _) => StateAfter::Line(0),
                (Before::Point(_), Some((line, _))) => StateAfter::Line(line),
                (Before::Point(point), None) => StateAfter::Point(point),
            },
            outlier: new.outlier,
            sender: new.sender,
            event_id: pdu.event_id().clone(),
            thread_root: relations::thread_root(self.txn, room, relation.as_ref())?,
            json: pdu.shared_json(),
        };
        self.write_event(pdu, no, &stored, &new);
        if let Some(relation) = &relation {
            relations::add(self.txn, room, relation, no, &stored, pdu.event_type())?;
        }
        if let Some(key) = own_key {
            if new.outlier.is_none() {
                auth_index::add(self.txn, room, number, &new.auth_events)?;
            }
            let change = vec![(key, Some(number))];
            match line {
                Some((line, point)) => self.write_line(line, no, point, &change)?,
                None => self.set_current(no, &change, new.target)?,
            }
        }
        self.enter_graph(no, &new)?;
        if new.verdict.is_visible() {
            redactions::follow(self, no, pdu, new.before)?;
        }
        Ok(no)
    }

    /// What an event that is written changes in the room's extremities, and by that in its current state.
    fn enter_graph(&mut self, no: EventNo, new: &Admission<'_>) -> Result<()> {
        let pdu = new.pdu;
        let in_past = self.past.is_some();
        let before = self.head.extremities.len();
        if new.verdict.is_visible() {
            // What is filled in is followed by what is here, or by what comes with it.
            let followed = in_past || new.followed.is_some();
            graph::extend(self, no, pdu.event_id(), &new.prev_events, followed)?;
            if let Some(follower) = new.followed.filter(|_| !in_past) {
                // It came late: what it follows belongs before the stretch of what follows it.
                graph::note_missing(self.txn, self.room, follower, &new.missing);
            }
            if !in_past {
                self.head_mut().depth = self.head.depth.max(pdu.depth());
                self.effects.appended.push((no, pdu.event_id().clone()));
                if new.sender.is_local() {
                    self.effects.own.push(no);
                }
            }
        } else if let Some(follower) = new.followed {
            // Hidden, it still leads from the accepted event after the gap to what is before the gap.
            graph::note_missing(self.txn, self.room, follower, &new.missing);
            graph::cover(self, follower, &new.prev_events)?;
        } else {
            return Ok(());
        }
        if in_past && self.head.extremities.len() != before {
            let now = self.take_newest_place();
            self.resolve_current(now)
        } else if !in_past && new.before != Before::Current {
            self.resolve_current(no)
        } else {
            Ok(())
        }
    }

    fn write_event(&mut self, pdu: &Pdu, no: EventNo, stored: &StoredEvent, new: &Admission<'_>) {
        let room = self.room;
        EVENTS.put(self.txn, &(room, no), stored);
        match new.outlier {
            Some(outlier) => event_log::set_place(self.txn, room, outlier, no),
            None => EVENT_IDS.put(self.txn, &pdu.event_id().to_string(), &(room, no)),
        }
        let ts = u64::try_from(pdu.origin_server_ts()).unwrap_or(0);
        TIMESTAMPS.put(self.txn, &(room, ts, no), &());
        graph::note_missing(self.txn, room, no, &new.missing);
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.context.now_ms
    }

    /// Writes the head back, if anything was inserted.
    pub fn finish(self) -> Effects {
        if self.changed {
            HEADS.put(self.txn, &self.room, &self.head);
        }
        self.effects
    }
}

const CREATE: &str = "m.room.create";
const POWER_LEVELS: &str = "m.room.power_levels";
