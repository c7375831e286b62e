//! The records that the tables of this crate hold.

use std::sync::Arc;

use event::auth::Membership;
use event::{EventId, RoomRules, RoomVersion};
use names::UserSn;
use serde::{Deserialize, Serialize};
use store::{Decoder, Encoder, Key, Position, Record, Result as StoreResult, Value};

/// An event's place in its room. Larger is later; backfilled history goes below the first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct EventNo(pub u64);

impl EventNo {
    /// Before every event.
    pub const MIN: EventNo = EventNo(0);
    /// The first event of a room that began here. What is older and comes later goes below.
    pub const FIRST: EventNo = EventNo(1 << 40);
    /// After every event.
    pub const MAX: EventNo = EventNo(u64::MAX);

    /// The place right after this one.
    pub fn next(self) -> EventNo {
        EventNo(self.0 + 1)
    }
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

    /// Whether all of `other` is set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether clients may be shown the event at all.
    pub fn is_visible(self) -> bool {
        self.0 & (Flags::REJECTED.0 | Flags::SOFT_FAILED.0) == 0
    }
}

/// An event as it is kept: a fixed header and the canonical JSON.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Where it was committed.
    pub position: Position,
    /// What is known without reading the JSON.
    pub flags: Flags,
    /// The line of the room's state history that it stands on.
    pub branch: u32,
    /// Who sent it.
    pub sender: UserSn,
    /// The event's id.
    pub event_id: EventId,
    /// If it belongs to a thread: the id of the thread's root.
    pub thread_root: Option<EventId>,
    /// Canonical JSON as federated.
    pub json: Arc<str>,
}

impl Value for StoredEvent {
    fn encode(&self, out: &mut Encoder) {
        out.position(self.position);
        out.raw(&[1, self.flags.0]);
        out.raw(&self.branch.to_be_bytes());
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
        if version != 1 {
            return Err(from.corrupt("unknown value version"));
        }
        let branch = <u32 as Key>::decode(&mut from)?;
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
            branch,
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
    /// The line of state history that the current state is on.
    pub branch: u32,
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

/// A room as one of its local users, present or past, has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRoom {
    membership: u8,
    /// The member event.
    pub event: EventNo,
    /// The user has left and does not want to see the room any more.
    pub forgotten: bool,
}

impl Record for UserRoom {}

impl UserRoom {
    /// A room by a member event.
    pub fn new(membership: Membership, event: EventNo) -> Self {
        Self {
            membership: membership_code(membership),
            event,
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
    /// The event after.
    pub after: EventNo,
}

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
