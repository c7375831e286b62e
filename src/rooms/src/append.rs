//! Appending events to a room: the one door by which events of this server enter.
//!
//! A [`RoomWriter`] holds a room's head while a change is made: every event appended sees the ones
//! before it. [`RoomWriter::finish`] writes the head back and says whom it all concerns.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use event::auth::{self, Membership, PowerLevel, PowerLevels};
use event::{
    AuthEvent, EventDraft, EventId, FirstFormat, Pdu, ReferenceFormat, RoomRules, SigningKey,
    StateLookup, json,
};
use names::{RoomSn, UserSn};
use store::{At, Blob, Position, Txn};

use crate::schema::{
    EVENT_IDS, EVENTS, HEADS, MARKS, MEMBERS, STATE, STATE_HISTORY, STATE_LOG, STRIPPED_STATE,
    TIMESTAMPS, USER_ROOMS,
};
use crate::types::{Member, StateDelta, UserRoom};
use crate::{
    Cache, Error, EventNo, Flags, Result, RoomHead, Sender, StoredEvent, event_log, members,
    relations, state,
};

/// An event to be made.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    /// Who sends it.
    pub sender: Sender<'a>,
    /// The type.
    pub event_type: &'a str,
    /// The state key of a state event.
    pub state_key: Option<&'a str>,
    /// Of a member event: the number of the user it is about.
    pub target: Option<UserSn>,
    /// The content, a JSON object in any spelling.
    pub content: &'a str,
    /// Of a redaction: the event to be redacted.
    pub redacts: Option<&'a str>,
    /// The time of an event that an application service dates; now otherwise.
    pub origin_server_ts: Option<u64>,
}

impl<'a> NewEvent<'a> {
    /// A message event.
    pub fn message(sender: Sender<'a>, event_type: &'a str, content: &'a str) -> Self {
        NewEvent {
            sender,
            event_type,
            state_key: None,
            target: None,
            content,
            redacts: None,
            origin_server_ts: None,
        }
    }

    /// A state event, but not of a member.
    pub fn state(
        sender: Sender<'a>,
        event_type: &'a str,
        state_key: &'a str,
        content: &'a str,
    ) -> Self {
        NewEvent {
            state_key: Some(state_key),
            ..NewEvent::message(sender, event_type, content)
        }
    }

    /// A member event.
    pub fn member(sender: Sender<'a>, target: Sender<'a>, content: &'a str) -> Self {
        NewEvent {
            target: Some(target.user),
            ..NewEvent::state(sender, "m.room.member", target.user_id, content)
        }
    }
}

/// Whom a change to a room concerns. Without events it concerns nobody.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Users whose membership changed: joined from now on, or not.
    pub memberships: Vec<(UserSn, bool)>,
    /// The appended events, in order.
    pub appended: Vec<(EventNo, EventId)>,
}

/// A few entries of a state, with their parsed events.
pub struct StateEvents {
    entries: Vec<(Cow<'static, str>, String, Arc<AuthEvent>)>,
}

impl StateLookup for StateEvents {
    fn get(&self, event_type: &str, state_key: &str) -> Option<&AuthEvent> {
        self.entries
            .iter()
            .find(|(of, key, _)| of == event_type && key == state_key)
            .map(|(_, _, event)| &**event)
    }
}

/// See [`FirstFormat`].
struct First {
    event_id: String,
    prev_hashes: Vec<[u8; 32]>,
    auth_hashes: Vec<[u8; 32]>,
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
}

/// A room while a change is made to it.
pub struct RoomWriter<'a> {
    pub(crate) txn: &'a mut Txn,
    context: Context<'a>,
    room: RoomSn,
    room_id: String,
    rules: &'static RoomRules,
    head: RoomHead,
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
        Ok(Self {
            txn,
            context,
            room,
            room_id,
            rules,
            head,
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
        auth::check(
            rules,
            create,
            &StateEvents {
                entries: Vec::new(),
            },
        )?;
        let head = RoomHead {
            version: rules.version.to_string(),
            create: EventNo::FIRST,
            extremities: Vec::new(),
            next: EventNo::FIRST,
            depth: 0,
            branch: 0,
            joined: 0,
            invited: 0,
        };
        let room_id = create.room_id().to_owned();
        let mut writer = Self {
            txn,
            context,
            room,
            room_id,
            rules,
            head,
            effects: Effects::default(),
        };
        writer.insert(create, creator, None)?;
        Ok(writer)
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

    /// The change so far: shows the room with everything appended.
    pub fn txn(&mut self) -> &mut Txn {
        self.txn
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

    fn state_events(
        &self,
        keys: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<StateEvents> {
        let keys: Vec<(&'static str, String)> = keys.into_iter().collect();
        let asked: Vec<_> = keys.iter().map(|(of, key)| (*of, key.as_str())).collect();
        let places = state::current_many(self.txn, self.room, &asked)?;
        let mut entries = Vec::with_capacity(keys.len());
        for ((of, key), place) in keys.into_iter().zip(places) {
            if let Some(no) = place {
                let event = self
                    .context
                    .cache
                    .auth_event(self.txn, self.rules, self.room, no)?;
                entries.push((Cow::Borrowed(of), key, event));
            }
        }
        Ok(StateEvents { entries })
    }

    /// A user's power level in the current state.
    pub fn power_level(&self, user_id: &str) -> Result<PowerLevel> {
        self.with_power_levels(|levels| levels.user(user_id))
    }

    /// Runs `look` on the room's power levels.
    pub fn with_power_levels<T>(&self, look: impl FnOnce(&PowerLevels<'_>) -> T) -> Result<T> {
        let damaged = Error::Damaged {
            room: self.room.0,
            why: "no usable create event",
        };
        let Some(create) = self.state_event("m.room.create", "")? else {
            return Err(damaged);
        };
        let levels = self.state_event("m.room.power_levels", "")?;
        match PowerLevels::of_events(self.rules, &create, levels.as_deref()) {
            Some(levels) => Ok(look(&levels)),
            None => Err(damaged),
        }
    }

    /// Makes, checks and appends an event.
    ///
    /// # Errors
    /// [`Error::NotAllowed`], [`Error::BadEvent`], [`Error::TooLarge`]; nothing was changed then.
    pub fn append(&mut self, new: &NewEvent<'_>) -> Result<(EventNo, EventId)> {
        let (event_type, state_key) = (new.event_type, new.state_key);
        let mut keys: Vec<(&'static str, String)> = auth::auth_types(
            self.rules,
            event_type,
            new.sender.user_id,
            state_key,
            new.content,
        )
        .into_iter()
        .map(|(of, key)| (of, key.into_owned()))
        .collect();
        let selected = keys.clone();
        if !keys.iter().any(|(of, _)| *of == "m.room.create") {
            keys.push(("m.room.create", String::new()));
        }
        let events = self.state_events(keys)?;
        let auth_events: Vec<&str> = events
            .entries
            .iter()
            .filter(|(of, key, _)| selected.iter().any(|(t, k)| of == t && k == key))
            .map(|(_, _, event)| event.pdu().event_id().as_str())
            .collect();
        let prev_events: Vec<&str> = self
            .head
            .extremities
            .iter()
            .map(|(_, id)| id.as_str())
            .collect();
        let first = self.first_format(&auth_events)?;
        let draft = EventDraft {
            room_id: Some(&self.room_id),
            sender: new.sender.user_id,
            event_type,
            state_key,
            content: new.content,
            redacts: new.redacts,
            origin_server_ts: new.origin_server_ts.unwrap_or(self.context.now_ms) as i64,
            prev_events: &prev_events,
            auth_events: &auth_events,
            depth: self.head.depth + 1,
            first_format: first.as_ref().map(|first| FirstFormat {
                event_id: &first.event_id,
                prev_hashes: &first.prev_hashes,
                auth_hashes: &first.auth_hashes,
            }),
        };
        let pdu = draft
            .seal(self.rules, self.context.key)
            .map_err(Error::from_draft)?;
        auth::check(self.rules, &pdu, &events)?;
        let place = self.insert(&pdu, new.sender.user, new.target)?;
        Ok((place, pdu.event_id().clone()))
    }

    /// What events of room versions 1 and 2 have beside: an id that is chosen, and hashes of the events
    /// they refer to.
    fn first_format(&self, auth_events: &[&str]) -> Result<Option<First>> {
        if self.rules.references == ReferenceFormat::Plain {
            return Ok(None);
        }
        let mut first = First {
            // Unique here by room and place; by time as well, should the database ever begin anew.
            event_id: format!(
                "${:x}.{:x}.{:x}:{}",
                self.context.now_ms,
                self.room.0,
                self.head.next.0,
                self.server_name()
            ),
            prev_hashes: Vec::new(),
            auth_hashes: Vec::new(),
        };
        for (no, _) in &self.head.extremities {
            first.prev_hashes.push(self.reference_hash(*no)?);
        }
        for event_id in auth_events {
            let no = event_log::find_in(self.txn, self.room, event_id)?;
            first
                .auth_hashes
                .push(self.reference_hash(no.unwrap_or_default())?);
        }
        Ok(Some(first))
    }

    fn reference_hash(&self, no: EventNo) -> Result<[u8; 32]> {
        let event = event_log::get(self.txn, self.room, no)?.ok_or(Error::Damaged {
            room: self.room.0,
            why: "an event that others refer to is gone",
        })?;
        Ok(event::hash::reference_hash(self.rules, &event.json))
    }

    /// Writes an event that was accepted, and all that follows from it.
    fn insert(&mut self, pdu: &Pdu, sender: UserSn, target: Option<UserSn>) -> Result<EventNo> {
        let no = self.head.next;
        let room = self.room;
        let relation = relations::parse(pdu.content());
        let thread_root = relations::thread_root(self.txn, room, relation.as_ref())?;
        let is_state = pdu.state_key().is_some();
        let stored = StoredEvent {
            position: Position::PENDING,
            flags: if is_state {
                Flags::STATE
            } else {
                Flags::default()
            },
            branch: self.head.branch,
            sender,
            event_id: pdu.event_id().clone(),
            thread_root,
            json: pdu.shared_json(),
        };
        EVENTS.put(self.txn, &(room, no), &stored);
        EVENT_IDS.put(self.txn, &pdu.event_id().to_string(), &(room, no));
        let ts = u64::try_from(pdu.origin_server_ts()).unwrap_or(0);
        TIMESTAMPS.put(self.txn, &(room, ts, no), &());
        if let Some(relation) = &relation {
            relations::add(self.txn, room, relation, no, &stored, pdu.event_type())?;
        }
        if let Some(state_key) = pdu.state_key() {
            self.set_state(pdu, state_key, no)?;
            if pdu.event_type() == "m.room.member" {
                self.set_member(pdu, target, no)?;
            }
        } else if pdu.event_type() == "m.room.redaction"
            && let Some(target) = pdu.redacts()
        {
            self.redact(target, no)?;
        }
        self.head.extremities = vec![(no, pdu.event_id().to_string())];
        self.head.next = no.next();
        self.head.depth = self.head.depth.max(pdu.depth());
        self.effects.appended.push((no, pdu.event_id().clone()));
        Ok(no)
    }

    fn set_state(&mut self, pdu: &Pdu, state_key: &str, no: EventNo) -> Result<()> {
        let (room, branch) = (self.room, self.head.branch);
        let key = (room, pdu.event_type().to_owned(), state_key.to_owned());
        let before = STATE.get(self.txn, &key)?;
        STATE.put(self.txn, &key, &no);
        let (_, event_type, state_key) = key;
        let history = (
            room,
            event_type.clone(),
            state_key.clone(),
            branch,
            Reverse(no),
        );
        STATE_HISTORY.put(self.txn, &history, &no);
        let delta = StateDelta {
            event_type,
            state_key,
            before,
            after: no,
        };
        STATE_LOG.put(self.txn, &(room, branch, no), &vec![delta]);
        Ok(())
    }

    fn set_member(&mut self, pdu: &Pdu, target: Option<UserSn>, no: EventNo) -> Result<()> {
        let room = self.room;
        let target = target.ok_or_else(|| Error::BadEvent("not a user id".to_owned()))?;
        let now = Membership::of_content(pdu.content()).unwrap_or(Membership::Other);
        let before = members::membership(self.txn, room, target)?;
        let count = |of: Membership| u64::from(now == of).wrapping_sub(u64::from(before == of));
        self.head.joined = self.head.joined.wrapping_add(count(Membership::Join));
        self.head.invited = self.head.invited.wrapping_add(count(Membership::Invite));
        MEMBERS.put(self.txn, &(room, target), &Member::new(now, no));
        if target.is_local() {
            USER_ROOMS.put(self.txn, &(target, room), &At::now(UserRoom::new(now, no)));
            if matches!(now, Membership::Invite | Membership::Knock) {
                let state = self.stripped_state_for(pdu)?;
                STRIPPED_STATE.put(self.txn, &(target, room), &Blob(state));
            } else {
                STRIPPED_STATE.delete(self.txn, &(target, room));
            }
        }
        self.effects
            .memberships
            .push((target, now == Membership::Join));
        Ok(())
    }

    /// What an invited or knocking user may know: <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>.
    fn stripped_state_for(&self, member: &Pdu) -> Result<Vec<u8>> {
        let mut out = vec![b'['];
        let sender = member.sender();
        let keys = STRIPPED_TYPES
            .iter()
            .map(|of| (*of, ""))
            .chain([("m.room.member", sender)]);
        for (event_type, state_key) in keys {
            if Some(state_key) == member.state_key() && event_type == "m.room.member" {
                continue;
            }
            if let Some(event) = self.state_event(event_type, state_key)? {
                event::render::stripped_state(&mut out, event.pdu().json());
                out.push(b',');
            }
        }
        event::render::stripped_state(&mut out, member.json());
        out.push(b']');
        Ok(out)
    }

    fn redact(&mut self, target: &str, no: EventNo) -> Result<()> {
        let Some(place) = event_log::find_in(self.txn, self.room, target)? else {
            return Ok(());
        };
        let mut marks = event_log::marks(self.txn, self.room, target)?;
        marks.redacted_by = Some(no);
        MARKS.put(self.txn, &(self.room, target.to_owned()), &marks);
        if let Some(event) = event_log::get(self.txn, self.room, place)? {
            relations::remove(self.txn, self.room, place, &event)?;
        }
        Ok(())
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.context.now_ms
    }

    /// Writes the head back, if anything was appended.
    pub fn finish(self) -> Effects {
        if !self.effects.appended.is_empty() {
            HEADS.put(self.txn, &self.room, &self.head);
        }
        self.effects
    }
}

/// The types shown to those who are invited or knock, all with an empty state key.
const STRIPPED_TYPES: [&str; 8] = [
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
    "m.room.tombstone",
];

impl Error {
    pub(crate) fn from_draft(error: event::DraftError) -> Error {
        match error {
            event::DraftError::TooLarge(_) => Error::TooLarge(error.to_string()),
            error => Error::BadEvent(error.to_string()),
        }
    }
}

/// A string member of a JSON object.
pub(crate) fn string_member<'a>(object: &'a str, key: &str) -> Option<Cow<'a, str>> {
    json::member(object, key).and_then(json::string)
}
