//! What a client asks for: lists, subscriptions and extensions, whichever of the two ways of writing
//! them it uses. Plain data; how it is parsed is not here.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sliding::required_state::RequiredState;

/// The most lists of a request; a set of lists fits into one number.
pub const MOST_LISTS: usize = 100;

/// Which names the fields have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// As the proposal was merged.
    Stable,
    /// As it is served at `org.matrix.simplified_msc3575`.
    Unstable,
}

/// A request, without its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which names the fields have.
    pub dialect: Dialect,
    /// `conn_id`; empty without one.
    pub connection: String,
    /// Which rooms, and what of them.
    pub rules: Arc<Rules>,
    /// What else.
    pub extensions: Extensions,
}

/// Which rooms are asked for, and what of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// By name; at most [`MOST_LISTS`].
    pub lists: Vec<(String, List)>,
    /// By room id.
    pub subscriptions: BTreeMap<String, RoomConfig>,
}

/// What is asked of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomConfig {
    /// The most events of a timeline.
    pub timeline_limit: u64,
    /// Which state.
    pub required_state: RequiredState,
}

impl RoomConfig {
    /// Takes in what another rule asks for the same room.
    pub fn unite(&mut self, other: &RoomConfig) {
        self.timeline_limit = self.timeline_limit.max(other.timeline_limit);
        self.required_state.unite(&other.required_state);
    }
}

/// A window on the user's rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// What is asked of its rooms.
    pub config: RoomConfig,
    /// First and last place of each window; no limit without any.
    pub ranges: Option<Vec<(u64, u64)>>,
    /// Which rooms are in the list.
    pub filters: Filters,
}

impl List {
    /// Whether the window covers a place.
    pub fn covers(&self, place: u64) -> bool {
        match &self.ranges {
            None => true,
            Some(ranges) => ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&place)),
        }
    }
}

/// Which rooms are in a list; what is not said does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// In the user's `m.direct`.
    pub is_dm: Option<bool>,
    /// Children of one of these spaces.
    pub spaces: Option<Vec<String>>,
    /// Encrypted.
    pub is_encrypted: Option<bool>,
    /// The user is invited.
    pub is_invited: Option<bool>,
    /// The type of the room is one of these; nothing stands for rooms without a type.
    pub room_types: Option<Vec<Option<String>>>,
    /// The type of the room is none of these.
    pub not_room_types: Option<Vec<Option<String>>>,
    /// Part of the room's name, in whatever case.
    pub room_name_like: Option<String>,
    /// The user has put one of these tags on the room.
    pub tags: Option<Vec<String>>,
    /// The user has put none of these tags on the room.
    pub not_tags: Option<Vec<String>>,
}

/// Which rooms an extension is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Names of lists, `*` for all.
    pub lists: Vec<String>,
    /// Ids of rooms, `*` for all that are subscribed to.
    pub rooms: Vec<String>,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            lists: vec!["*".to_owned()],
            rooms: vec!["*".to_owned()],
        }
    }
}

/// `extensions`: those that are enabled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Messages to the device.
    pub to_device: Option<ToDevice>,
    /// Key counts, and whose keys changed.
    pub e2ee: bool,
    /// The user's account data.
    pub account_data: Option<Scope>,
    /// Receipts.
    pub receipts: Option<Scope>,
    /// Who is typing.
    pub typing: Option<Scope>,
}

/// What is asked of the messages to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToDevice {
    /// The most messages.
    pub limit: usize,
    /// What came before has arrived.
    pub since: Option<store::Position>,
}
