//! The tables of this crate: family, id, key and value types, each said once.
//!
//! Ids in [`Family::Rooms`] from 100 on belong to the `users` crate.

use std::cmp::Reverse;

use names::{RoomSn, UserSn};
use store::{At, Blob, Family, Position, Table, TableInfo};

use crate::aliases::Alias;
use crate::held::{Held, HeldTotal};
use crate::outside::Outside;
use crate::partial::Partial;
use crate::receipts::Receipt;
use crate::types::{
    AuthNode, EventNo, Line, Marks, Member, Relation, RoomHead, RoomServer, StateDelta,
    StoredEvent, ThreadSummary, UserRoom,
};

/// Events by place.
pub(crate) const EVENTS: Table<(RoomSn, EventNo), StoredEvent> =
    Table::source(Family::Events, 1, "events");
/// Event ids to numbers: places, or what stands for them with outliers.
pub(crate) const EVENT_IDS: Table<String, (RoomSn, EventNo)> =
    Table::derived(Family::EventIds, 1, "event_ids", "rooms::check");
/// Outliers that got a place in the room's history later.
pub(crate) const PLACES: Table<(RoomSn, EventNo), EventNo> =
    Table::derived(Family::EventIds, 2, "places", "rooms::check");
/// The current state.
pub(crate) const STATE: Table<(RoomSn, String, String), EventNo> =
    Table::derived(Family::State, 1, "state", "rooms::check");
/// The state's history by entry, line and place, newest first: which event sets it; [`EventNo::MIN`] where
/// resolution took the entry away.
pub(crate) const STATE_HISTORY: Table<(RoomSn, String, String, u32, Reverse<EventNo>), EventNo> =
    Table::source(Family::State, 2, "state_history");
/// The state's history by time: what each event changed.
pub(crate) const STATE_LOG: Table<(RoomSn, u32, EventNo), Vec<StateDelta>> =
    Table::derived(Family::State, 3, "state_log", "rooms::check");
/// Where the side lines of the state's history begin.
pub(crate) const LINES: Table<(RoomSn, u32), Line> = Table::source(Family::State, 4, "lines");
/// The graph of `auth_events` among accepted state events.
pub(crate) const AUTH: Table<(RoomSn, EventNo), AuthNode> =
    Table::derived(Family::State, 5, "auth", "rooms::auth_index");
/// The same graph backwards: who names an event, newest first.
pub(crate) const CITATIONS: Table<(RoomSn, EventNo, Reverse<EventNo>), ()> =
    Table::derived(Family::State, 6, "citations", "rooms::auth_index");
/// Where each room has got to.
pub(crate) const HEADS: Table<RoomSn, RoomHead> = Table::source(Family::Rooms, 1, "heads");
/// Members by room, the local ones first.
pub(crate) const MEMBERS: Table<(RoomSn, UserSn), Member> =
    Table::derived(Family::Rooms, 2, "members", "rooms::check");
/// Other servers that are or were in a room.
pub(crate) const ROOM_SERVERS: Table<(RoomSn, String), RoomServer> =
    Table::derived(Family::Rooms, 19, "room_servers", "rooms::check");
/// Rooms by the other servers that are in them.
pub(crate) const ROOMS_OF_SERVER: Table<(String, RoomSn), ()> =
    Table::derived(Family::Rooms, 20, "rooms_of_server", "rooms::check");
/// Rooms by the other servers that were in them and are not any more.
pub(crate) const ROOMS_LEFT: Table<(String, RoomSn), ()> =
    Table::derived(Family::Rooms, 23, "rooms_left", "rooms::check");
/// Rooms to which a user of another server is joined, and where they joined.
pub(crate) const REMOTE_ROOMS: Table<(UserSn, RoomSn), At<()>> =
    Table::source(Family::Rooms, 21, "remote_rooms");
/// Rooms by local user.
pub(crate) const USER_ROOMS: Table<(UserSn, RoomSn), At<UserRoom>> =
    Table::source(Family::Rooms, 3, "user_rooms");
/// What an invited or knocking user may know of the room: a JSON list of stripped state.
pub(crate) const STRIPPED_STATE: Table<(UserSn, RoomSn), Blob> =
    Table::source(Family::Rooms, 4, "stripped_state");
/// Memberships of local users in rooms that this server is not in.
pub(crate) const OUTSIDE: Table<(RoomSn, UserSn), Outside> =
    Table::source(Family::Rooms, 22, "outside");
/// Rooms whose members are not all known.
pub(crate) const PARTIAL: Table<RoomSn, Partial> = Table::source(Family::Rooms, 30, "partial");
/// Rooms that were entered without their members: where these became known.
pub(crate) const COMPLETED: Table<RoomSn, At<()>> = Table::source(Family::Rooms, 31, "completed");
/// Events that are held until the members of their room are known, in the order in which they came.
pub(crate) const HELD: Table<(RoomSn, u64), Held> = Table::source(Family::Rooms, 32, "held");
/// The same by id.
pub(crate) const HELD_IDS: Table<(RoomSn, String), u64> =
    Table::derived(Family::Rooms, 33, "held_ids", "rooms::check");
/// How much is held for a room.
pub(crate) const HELD_TOTALS: Table<RoomSn, HeldTotal> =
    Table::derived(Family::Rooms, 34, "held_totals", "rooms::check");
/// Rooms that this server left before their members were known.
pub(crate) const ABANDONED: Table<RoomSn, Partial> = Table::source(Family::Rooms, 35, "abandoned");
/// Events that refer to an event, by the id of that.
pub(crate) const RELATIONS: Table<(RoomSn, String, EventNo), Relation> =
    Table::derived(Family::Rooms, 5, "relations", "rooms::check");
/// Threads by root.
pub(crate) const THREADS: Table<(RoomSn, String), ThreadSummary> =
    Table::derived(Family::Rooms, 6, "threads", "rooms::check");
/// Thread roots by newest event, newest first.
pub(crate) const THREAD_ORDER: Table<(RoomSn, Reverse<EventNo>), String> =
    Table::derived(Family::Rooms, 7, "thread_order", "rooms::check");
/// Who has written in a thread.
pub(crate) const THREAD_SENDERS: Table<(RoomSn, String, UserSn), ()> =
    Table::derived(Family::Rooms, 8, "thread_senders", "rooms::check");
/// What later events did to an event, by its id; only for events to which something was done.
pub(crate) const MARKS: Table<(RoomSn, String), Marks> = Table::source(Family::Rooms, 9, "marks");
/// Events that others name in `prev_events` and that are not here, by who names them: the edge of what is
/// known of the room's history.
pub(crate) const MISSING: Table<(RoomSn, String, EventNo), ()> =
    Table::derived(Family::Rooms, 17, "missing", "rooms::check");
/// Redactions whose event is not here yet, by its id.
pub(crate) const EARLY_REDACTIONS: Table<(RoomSn, String, EventNo), ()> =
    Table::source(Family::Rooms, 18, "early_redactions");
/// Events by `origin_server_ts`.
pub(crate) const TIMESTAMPS: Table<(RoomSn, u64, EventNo), ()> =
    Table::derived(Family::Rooms, 10, "timestamps", "rooms::check");
/// Local aliases.
pub(crate) const ALIASES: Table<String, Alias> = Table::source(Family::Rooms, 11, "aliases");
/// Local aliases by room.
pub(crate) const ROOM_ALIASES: Table<(RoomSn, String), ()> =
    Table::derived(Family::Rooms, 12, "room_aliases", "rooms::check");
/// Rooms in the public directory.
pub(crate) const DIRECTORY: Table<RoomSn, ()> = Table::source(Family::Rooms, 13, "directory");
/// Rooms in the directories of application services' networks.
pub(crate) const NETWORK_DIRECTORY: Table<(String, RoomSn), ()> =
    Table::source(Family::Rooms, 16, "network_directory");
/// Read receipts by room, user, kind and thread.
pub(crate) const RECEIPTS: Table<(RoomSn, UserSn, u8, String), At<Receipt>> =
    Table::source(Family::Rooms, 14, "receipts");
/// Read receipts by their last change.
pub(crate) const RECEIPT_LOG: Table<(RoomSn, Position, UserSn, u8, String), ()> =
    Table::derived(Family::Rooms, 15, "receipt_log", "rooms::check");
/// Transaction ids of a device: what they made. The second part tells endpoints apart.
pub(crate) const TRANSACTIONS: Table<(UserSn, String, String, String), At<String>> =
    Table::source(Family::Transactions, 1, "transactions");
/// The device and transaction id that made an event.
pub(crate) const EVENT_TRANSACTIONS: Table<(RoomSn, EventNo), (String, String)> =
    Table::source(Family::Transactions, 3, "event_transactions");
/// Transaction ids by age, so that old ones can go.
pub(crate) const TRANSACTION_AGES: Table<(u64, Position), (UserSn, String, String, String)> =
    Table::derived(
        Family::Transactions,
        2,
        "transaction_ages",
        "from transactions",
    );

/// All of them.
pub const TABLES: &[TableInfo] = &[
    EVENTS.info(),
    EVENT_IDS.info(),
    PLACES.info(),
    STATE.info(),
    STATE_HISTORY.info(),
    STATE_LOG.info(),
    LINES.info(),
    AUTH.info(),
    CITATIONS.info(),
    HEADS.info(),
    MEMBERS.info(),
    ROOM_SERVERS.info(),
    ROOMS_OF_SERVER.info(),
    ROOMS_LEFT.info(),
    REMOTE_ROOMS.info(),
    USER_ROOMS.info(),
    STRIPPED_STATE.info(),
    OUTSIDE.info(),
    PARTIAL.info(),
    COMPLETED.info(),
    HELD.info(),
    HELD_IDS.info(),
    HELD_TOTALS.info(),
    ABANDONED.info(),
    RELATIONS.info(),
    THREADS.info(),
    THREAD_ORDER.info(),
    THREAD_SENDERS.info(),
    MARKS.info(),
    MISSING.info(),
    EARLY_REDACTIONS.info(),
    TIMESTAMPS.info(),
    ALIASES.info(),
    ROOM_ALIASES.info(),
    DIRECTORY.info(),
    NETWORK_DIRECTORY.info(),
    RECEIPTS.info(),
    RECEIPT_LOG.info(),
    TRANSACTIONS.info(),
    TRANSACTION_AGES.info(),
    EVENT_TRANSACTIONS.info(),
];
