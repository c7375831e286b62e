//! The records that the tables of this crate hold.

use std::sync::Arc;

use event::auth::Membership;
use event::{EventId, RoomRules, RoomVersion};
use names::UserSn;
use serde::{Deserialize, Serialize};
use store::{Decoder, Encoder, Key, Position, Record, Result as StoreResult, Value};

/// An event's place in its room. Larger is later.
///
/// A room's history as it comes here falls into stretches: each begins with an event whose predecessors can't be had, and
/// all that come after it are placed upwards from there. What is missing before a stretch is filled in later, and goes
/// downwards from its first place; so the numbers below that are left free. Which of the two a place is, the number says
/// ([`EventNo::is_past`]).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct EventNo(pub u64);

impl EventNo {
    /// Before every event.
    pub const MIN: EventNo = EventNo(0);
    /// The lowest place of the room's history. Below are outliers, which have no place in it: events that
    /// are kept because others name them in `auth_events` or in a state.
    pub const HISTORY: EventNo = EventNo(1 << 32);
    /// The first event of a room that began here. What is older and comes later goes below.
    pub const FIRST: EventNo = EventNo(1 << 40);
    /// After every event.
    pub const MAX: EventNo = EventNo(u64::MAX);
    /// The numbers of a stretch: half of them below its first place. The first stretch has all numbers down to
    /// [`EventNo::HISTORY`] below it.
    const STRETCH: u64 = 1 << 28;

    /// The place right after this one.
    pub fn next(self) -> EventNo {
        EventNo(self.0.saturating_add(1))
    }

    /// The place right before this one.
    pub fn previous(self) -> EventNo {
        EventNo(self.0.saturating_sub(1))
    }

    /// Which stretch of the room's history the place belongs to, from 0. History that is filled in belongs to the stretch
    /// that it leads to.
    fn stretch(self) -> u64 {
        self.0.saturating_sub(EventNo::FIRST.0) / EventNo::STRETCH
    }

    /// The first place of the stretch that this one belongs to.
    pub fn stretch_start(self) -> EventNo {
        match self.stretch() {
            0 => EventNo::FIRST,
            n => EventNo(EventNo::FIRST.0 + n * EventNo::STRETCH + EventNo::STRETCH / 2),
        }
    }

    /// The lowest place for what is filled in before the stretch that this place belongs to.
    pub fn stretch_floor(self) -> EventNo {
        match self.stretch() {
            0 => EventNo::HISTORY,
            n => EventNo(EventNo::FIRST.0 + n * EventNo::STRETCH),
        }
    }

    /// Whether the place is for history that is filled in before a stretch: it came when later events were here already,
    /// and was never news to anybody.
    pub fn is_past(self) -> bool {
        self < self.stretch_start()
    }

    /// The first place of the next stretch, if the numbers reach that far: there are 2^36 stretches.
    pub(crate) fn next_stretch(self) -> Option<EventNo> {
        let number = self.stretch() + 1;
        let start = number.checked_mul(EventNo::STRETCH)?;
        let start = start.checked_add(EventNo::FIRST.0 + EventNo::STRETCH / 2)?;
        Some(EventNo(start))
    }
}

/// As operators are shown places: counted from the first of the stretch, after the number of the stretch if it is not the
/// first.
impl std::fmt::Display for EventNo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = i128::from(self.0) - i128::from(self.stretch_start().0);
        match self.stretch() {
            0 => write!(f, "{place}"),
            stretch => write!(f, "{stretch}:{place}"),
        }
    }
}

/// A state of a room: what a line of its state history says right after a place.
///
/// Line 0, the main line, is the current state over time. Other lines begin where events come in that stand
/// on another state; see [`crate::state`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Point {
    /// The line.
    pub line: u32,
    /// The place.
    pub place: EventNo,
}

impl Point {
    /// The state before everything. Its place is not 0, which stands for "its own" where an event is kept.
    pub const NOTHING: Point = Point::main(EventNo(1));

    /// The current state as it was right after `place`.
    pub const fn main(place: EventNo) -> Point {
        Point { line: 0, place }
    }
}

/// Where the state right after an event is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateAfter {
    /// On this line, at the event's own place.
    Line(u32),
    /// Elsewhere: a message that came late has the state of what it follows.
    Point(Point),
    /// Not known: of an outlier.
    Unknown,
}

impl Key for EventNo {
    fn encode(&self, out: &mut Encoder) {
        Key::encode(&self.0, out);
    }
    fn decode(from: &mut Decoder<'_>) -> StoreResult<Self> {
        Ok(EventNo(<u64 as Key>::decode(from)?))
    }
}

impl store::InvertedKey for EventNo {
    fn invert(&self) -> Self {
        EventNo(!self.0)
    }
}

impl Record for EventNo {}

/// What is known of an event without reading its JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// A state event.
    pub const STATE: Flags = Flags(1);
    /// Failed authorisation on receipt: kept, shown to nobody.
    pub const REJECTED: Flags = Flags(2);
    /// Allowed by its own state, not by the room's of now: not shown to clients.
    pub const SOFT_FAILED: Flags = Flags(4);
    /// Not part of the room's history: kept because other events name it.
    pub const OUTLIER: Flags = Flags(8);

    /// Whether all of `other` is set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether clients may be shown the event at all.
    pub fn is_visible(self) -> bool {
        self.0 & (Flags::REJECTED.0 | Flags::SOFT_FAILED.0 | Flags::OUTLIER.0) == 0
    }

    /// These and those.
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// An event as it is kept: a fixed header and the canonical JSON.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Where it was committed.
    pub position: Position,
    /// What is known without reading the JSON.
    pub flags: Flags,
    /// Where the state right after it is.
    pub state: StateAfter,
    /// If it was an outlier before it got its place: its number as one, by which states and auth chains know it.
    pub outlier: Option<EventNo>,
    /// Who sent it.
    pub sender: UserSn,
    /// The event's id.
    pub event_id: EventId,
    /// If it belongs to a thread: the id of the thread's root.
    pub thread_root: Option<EventId>,
    /// Canonical JSON as federated.
    pub json: Arc<str>,
}

/// The layout of events whose state is on a line at their own place: nearly all.
const ON_LINE: u8 = 1;
/// The layout of all others.
const ELSEWHERE: u8 = 2;

impl StoredEvent {
    /// The state right after the event, which is at `no`; nothing for outliers.
    pub fn state_after(&self, no: EventNo) -> Option<Point> {
        match self.state {
            StateAfter::Line(line) => Some(Point { line, place: no }),
            StateAfter::Point(point) => Some(point),
            StateAfter::Unknown => None,
        }
    }

    /// The number by which states and auth chains know the event, which is at `no`.
    pub fn number(&self, no: EventNo) -> EventNo {
        self.outlier.unwrap_or(no)
    }
}

impl Value for StoredEvent {
    fn encode(&self, out: &mut Encoder) {
        out.position(self.position);
        match (self.state, self.outlier) {
            (StateAfter::Line(line), None) => {
                out.raw(&[ON_LINE, self.flags.0]);
                out.raw(&line.to_be_bytes());
            }
            (state, outlier) => {
                out.raw(&[ELSEWHERE, self.flags.0]);
                // A place that is 0 stands for "none" or "its own".
                let point = match state {
                    StateAfter::Line(line) => Point {
                        line,
                        place: EventNo::MIN,
                    },
                    StateAfter::Point(point) => point,
                    StateAfter::Unknown => Point {
                        line: u32::MAX,
                        place: EventNo::MIN,
                    },
                };
                out.raw(&point.line.to_be_bytes());
                out.raw(&point.place.0.to_be_bytes());
                out.raw(&outlier.unwrap_or_default().0.to_be_bytes());
            }
        }
        out.raw(&self.sender.0.to_be_bytes());
        let thread_root = self.thread_root.as_ref().map_or("", EventId::as_str);
        for text in [self.event_id.as_str(), thread_root] {
            // Ids have at most 255 bytes.
            out.raw(&[text.len() as u8]);
            out.raw(text.as_bytes());
        }
        out.raw(self.json.as_bytes());
    }

    fn decode(bytes: &[u8], table: &'static str) -> StoreResult<Self> {
        let mut from = Decoder::new(bytes, table);
        let position = Position::decode(&mut from)?;
        let [version, flags] = from.array()?;
        let line = <u32 as Key>::decode(&mut from)?;
        let (state, outlier) = match version {
            ON_LINE => (StateAfter::Line(line), None),
            ELSEWHERE => {
                let place = <EventNo as Key>::decode(&mut from)?;
                let outlier = <EventNo as Key>::decode(&mut from)?;
                let state = match place {
                    EventNo::MIN if line == u32::MAX => StateAfter::Unknown,
                    EventNo::MIN => StateAfter::Line(line),
                    place => StateAfter::Point(Point { line, place }),
                };
                (state, Some(outlier).filter(|no| *no != EventNo::MIN))
            }
            _ => return Err(from.corrupt("unknown value version")),
        };
        let sender = <UserSn as Key>::decode(&mut from)?;
        let mut rest = from.rest();
        let mut ids = [""; 2];
        for id in &mut ids {
            let (&len, after) = rest
                .split_first()
                .ok_or_else(|| from.corrupt("too short"))?;
            let (text, after) = after
                .split_at_checked(len.into())
                .ok_or_else(|| from.corrupt("too short"))?;
            *id = std::str::from_utf8(text).map_err(|_| from.corrupt("not UTF-8"))?;
            rest = after;
        }
        let json = std::str::from_utf8(rest).map_err(|_| from.corrupt("not UTF-8"))?;
        let [event_id, thread_root] = ids;
        Ok(StoredEvent {
            position,
            flags: Flags(flags),
            state,
            outlier,
            sender,
            event_id: event_id.into(),
            thread_root: (!thread_root.is_empty()).then(|| thread_root.into()),
            json: json.into(),
        })
    }
}

/// Where a room has got to. One row a room, read and written with every event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomHead {
    /// The room version, by its name.
    pub version: String,
    /// The room's create event.
    pub create: EventNo,
    /// Events that no other event follows yet.
    pub extremities: Vec<(EventNo, String)>,
    /// The place of the next event.
    pub next: EventNo,
    /// The greatest depth so far.
    pub depth: u64,
    /// How many side lines the state history has.
    pub side_lines: u32,
    /// How many are joined.
    pub joined: u64,
    /// How many are invited.
    pub invited: u64,
}

impl Record for RoomHead {}

impl RoomHead {
    /// The rules of the room's version.
    pub fn rules(&self) -> Option<&'static RoomRules> {
        self.version
            .parse::<RoomVersion>()
            .ok()
            .map(RoomVersion::rules)
    }
}

/// A member of a room, as the current state has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    membership: u8,
    /// The member event.
    pub event: EventNo,
}

impl Record for Member {}

impl Member {
    /// A member by a member event.
    pub fn new(membership: Membership, event: EventNo) -> Self {
        Self {
            membership: membership_code(membership),
            event,
        }
    }

    /// The membership.
    pub fn membership(self) -> Membership {
        membership_of(self.membership)
    }
}

/// Another server in a room, as the current state has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomServer {
    /// How many of its users are joined.
    pub joined: u64,
    /// Where the first of them joined; if none is joined, where the last ceased to be.
    pub since: EventNo,
}

impl Record for RoomServer {}

impl RoomServer {
    /// Whether the server was in the room right before `place`, or right after it.
    pub fn concerns(self, place: EventNo) -> bool {
        match self.joined {
            0 => self.since >= place,
            _ => self.since <= place,
        }
    }
}

/// A room as one of its local users, present or past, has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRoom {
    membership: u8,
    /// Where the room's current state came to have it: after this place nothing is told to those who left. The
    /// member event itself is in [`Member`]; it may be older, where resolution brought it back.
    pub place: EventNo,
    /// The user has left and does not want to see the room any more.
    pub forgotten: bool,
}

impl Record for UserRoom {}

impl UserRoom {
    /// A membership that began at a place.
    pub fn new(membership: Membership, place: EventNo) -> Self {
        Self {
            membership: membership_code(membership),
            place,
            forgotten: false,
        }
    }

    /// The user's membership.
    pub fn membership(self) -> Membership {
        membership_of(self.membership)
    }
}

fn membership_code(membership: Membership) -> u8 {
    match membership {
        Membership::Leave | Membership::Other => 0,
        Membership::Join => 1,
        Membership::Invite => 2,
        Membership::Knock => 3,
        Membership::Ban => 4,
    }
}

fn membership_of(code: u8) -> Membership {
    match code {
        1 => Membership::Join,
        2 => Membership::Invite,
        3 => Membership::Knock,
        4 => Membership::Ban,
        _ => Membership::Leave,
    }
}

/// One entry of a room's state that an event changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDelta {
    /// The entry's type.
    pub event_type: String,
    /// The entry's state key.
    pub state_key: String,
    /// The event before, if the entry was set.
    pub before: Option<EventNo>,
    /// The event after; nothing if resolution took the entry away.
    #[serde(with = "none_is_zero")]
    pub after: Option<EventNo>,
}

/// Nearly every change of state sets something: that it does not is worth no byte in every row.
mod none_is_zero {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::EventNo;

    pub fn serialize<S: Serializer>(no: &Option<EventNo>, out: S) -> Result<S::Ok, S::Error> {
        no.unwrap_or_default().serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<EventNo>, D::Error> {
        Ok(Some(EventNo::deserialize(from)?).filter(|no| *no != EventNo::MIN))
    }
}

/// A side line of a room's state history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Where it begins: what it says nothing of is as it is there.
    pub base: Point,
    /// How many lines there are between it and the main line, itself counted.
    pub depth: u8,
}

impl Record for Line {}

/// An accepted state event in the graph of `auth_events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthNode {
    /// Greater than that of each of its auth events; 0 for the create event.
    pub generation: u32,
    /// The events that it names in `auth_events`.
    pub auth_events: Vec<EventNo>,
}

impl Record for AuthNode {}

/// An event that refers to another by `m.relates_to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// `rel_type`.
    pub rel_type: String,
    /// The type of the referring event.
    pub event_type: String,
    /// Who sent the referring event.
    pub sender: UserSn,
    /// `key` of an annotation.
    pub key: Option<String>,
}

impl Record for Relation {}

/// What later events did to an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The event that redacts it.
    pub redacted_by: Option<EventNo>,
    /// Events refer to it with `m.replace`, or did before they were redacted.
    pub replaced: bool,
    /// The same for `m.thread`.
    pub threaded: bool,
    /// The same for `m.reference`.
    pub referenced: bool,
}

impl Record for Marks {}

/// A thread, by its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadSummary {
    /// The newest event in the thread.
    pub latest: EventNo,
    /// Events in the thread, the root not counted.
    pub count: u64,
}

impl Record for ThreadSummary {}

/// A user who acts: name and number.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The user's number.
    pub user: UserSn,
    /// The user id.
    pub user_id: &'a str,
}
