//! What each connection was told: in memory, bounded, forgotten at a restart; a client whose position
//! is not known any more begins anew.
//!
//! A connection keeps two states: the one that the client has shown to have, and the one after it, which
//! an answer may have brought or not. Whoever asks again with the position of the first gets what is new
//! since then. States are values: an answer makes a new one from the one asked with.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use event::auth::Membership;
use names::{RoomSn, UserSn};
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rooms::EventNo;
use store::Position;

use crate::sliding::request::{RoomConfig, Rules};
use crate::token::number;

/// `pos`: where a connection has got to. Opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pos {
    /// The state that goes with it; no two states have the same.
    pub generation: u64,
    /// The position of the view that was answered from.
    pub position: Position,
}

impl Pos {
    /// Reads a token; nothing if it is not one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (generation, position) = text.strip_prefix('p')?.split_once('.')?;
        Some(Self {
            generation: number(generation)?,
            position: Position(number(position)?),
        })
    }
}

impl std::fmt::Display for Pos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p{}.{}", self.generation, self.position)
    }
}

/// What a connection was told of a room.
#[derive(Clone, Debug)]
pub struct Told {
    /// Everything up to here.
    pub at: Position,
    /// The user's membership.
    pub membership: Membership,
    /// By which rules.
    pub config: Arc<RoomConfig>,
    /// So many of the newest events were told for certain.
    pub limit: u64,
    /// Every event from here on was told.
    pub seen_from: EventNo,
    /// `is_dm`.
    pub is_dm: bool,
    /// `bump_stamp`.
    pub bump_stamp: u64,
    /// `joined_count` and `invited_count`.
    pub members: (u64, u64),
    /// `notification_count` and `highlight_count`.
    pub unread: (u64, u64),
    /// Members whose events were sent because of events of theirs.
    pub lazy_members: Arc<HashSet<UserSn>>,
    /// Receipts up to here.
    pub receipts: Option<Position>,
    /// Typing up to here.
    pub typing: Option<Position>,
    /// The room's account data, but for what the connection notes as missed.
    pub account_data: bool,
}

/// What a connection was told.
#[derive(Clone, Debug)]
pub struct State {
    /// Where it stands.
    pub pos: Pos,
    /// The rules of the last request.
    pub rules: Arc<Rules>,
    /// By room.
    pub rooms: Arc<HashMap<RoomSn, Arc<Told>>>,
    /// What was asked of rooms in the last request; the same is the same allocation.
    pub configs: Vec<Arc<RoomConfig>>,
    /// How many rooms each list has.
    pub counts: BTreeMap<String, u64>,
    /// Account data up to here.
    pub account_data: Option<Position>,
    /// Rooms whose account data was told before and changed while they were out of sight: since when.
    pub account_data_missed: Arc<BTreeMap<RoomSn, Position>>,
    /// Device lists and key counts up to here.
    pub e2ee: Option<Position>,
    /// About so many bytes: see [`weight`].
    pub bytes: u64,
}

/// About how many bytes a state has in which these rooms were told.
pub fn weight(rooms: &HashMap<RoomSn, Arc<Told>>) -> u64 {
    let members: usize = rooms.values().map(|told| told.lazy_members.len() * 8).sum();
    (1024 + rooms.len() * 256 + members) as u64
}

/// The most connections of one device; the one unused for longest makes room.
const MOST_OF_A_DEVICE: usize = 8;
/// The most memory of all, in bytes.
const MOST_BYTES: u64 = 64 << 20;

#[derive(Clone)]
struct Connection {
    id: Arc<str>,
    /// What the client has for certain, and what it was answered last.
    states: Vec<Arc<State>>,
}

/// A device's connections, the one used last at the end.
#[derive(Default, Clone)]
struct Device {
    connections: Vec<Connection>,
    bytes: u64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<(UserSn, Arc<str>), Arc<Device>> for ByBytes {
    fn weight(&self, _key: &(UserSn, Arc<str>), device: &Arc<Device>) -> u64 {
        device.bytes.max(1)
    }
}

/// All connections.
pub struct Connections {
    devices: Cache<(UserSn, Arc<str>), Arc<Device>, ByBytes>,
    /// Held while a device's connections are exchanged for others.
    writing: Mutex<()>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            devices: Cache::with_weighter(10_000, MOST_BYTES, ByBytes),
            writing: Mutex::new(()),
        }
    }
}

impl Connections {
    /// The state that goes with a position; nothing if it is not known.
    pub fn find(&self, user: UserSn, device: &Arc<str>, id: &str, pos: Pos) -> Option<Arc<State>> {
        let device = self.devices.get(&(user, Arc::clone(device)))?;
        let connection = device.connections.iter().find(|one| &*one.id == id)?;
        let state = connection.states.iter().find(|state| state.pos == pos)?;
        Some(Arc::clone(state))
    }

    /// Keeps the state that an answer brings to a client that came with `base`, or without any.
    pub fn keep(
        &self,
        user: UserSn,
        device: &Arc<str>,
        id: &str,
        base: Option<Arc<State>>,
        state: State,
    ) {
        let key = (user, Arc::clone(device));
        let writing = self.writing.lock();
        let kept = self.devices.get(&key).unwrap_or_default();
        let mut connections: Vec<Connection> = (kept.connections.iter())
            .filter(|one| &*one.id != id)
            .cloned()
            .collect();
        if connections.len() >= MOST_OF_A_DEVICE {
            connections.remove(0);
        }
        connections.push(Connection {
            id: id.into(),
            states: base.into_iter().chain([Arc::new(state)]).collect(),
        });
        // The two states of a connection share nearly everything.
        let newest = connections.iter().filter_map(|one| one.states.last());
        let bytes = newest.map(|state| state.bytes).sum();
        let device = Device { connections, bytes };
        self.devices.insert(key, Arc::new(device));
        drop(writing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(generation: u64) -> State {
        State {
            pos: Pos {
                generation,
                position: Position(generation),
            },
            rules: Arc::default(),
            rooms: Arc::default(),
            configs: Vec::new(),
            counts: BTreeMap::new(),
            account_data: None,
            account_data_missed: Arc::default(),
            e2ee: None,
            bytes: 1,
        }
    }

    fn pos(generation: u64) -> Pos {
        state(generation).pos
    }

    #[test]
    fn an_answer_that_was_lost_can_be_asked_for_again() {
        let (connections, device) = (Connections::default(), Arc::from("D"));
        let find = |n| connections.find(UserSn(1), &device, "c", pos(n));
        let keep = |base, n| connections.keep(UserSn(1), &device, "c", base, state(n));
        keep(None, 1);
        let first = find(1);
        keep(first.clone(), 2);
        assert!(find(1).is_some() && find(2).is_some());
        keep(first, 3);
        assert!(find(1).is_some() && find(2).is_none());
        keep(find(3), 4);
        assert!(find(1).is_none() && find(3).is_some() && find(4).is_some());
    }

    #[test]
    fn positions_belong_to_one_user_device_and_connection() {
        let (connections, device) = (Connections::default(), Arc::from("D"));
        connections.keep(UserSn(1), &device, "c", None, state(1));
        let other = Arc::from("E");
        assert!(connections.find(UserSn(2), &device, "c", pos(1)).is_none());
        assert!(connections.find(UserSn(1), &other, "c", pos(1)).is_none());
        assert!(connections.find(UserSn(1), &device, "d", pos(1)).is_none());
        assert!(connections.find(UserSn(1), &device, "c", pos(1)).is_some());
    }

    #[test]
    fn a_device_has_a_bounded_number_of_connections() {
        let (connections, device) = (Connections::default(), Arc::from("D"));
        for n in 0..=MOST_OF_A_DEVICE as u64 {
            connections.keep(UserSn(1), &device, &n.to_string(), None, state(n));
        }
        assert!(connections.find(UserSn(1), &device, "0", pos(0)).is_none());
        assert!(connections.find(UserSn(1), &device, "1", pos(1)).is_some());
    }

    #[test]
    fn positions_read_back_and_nothing_else_does() {
        assert_eq!(
            Pos::parse("p3.7").map(|pos| pos.to_string()).as_deref(),
            Some("p3.7")
        );
        for text in ["", "p", "p1", "p.1", "p1.", "s1.2", "p-1.2", "p1.2.3"] {
            assert_eq!(Pos::parse(text), None, "{text}");
        }
    }
}
