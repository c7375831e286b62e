//! The tables of this crate. Ids in [`Family::Work`] from 20 on are the outbox's, in
//! [`Family::Keys`] from 200 on the signing keys'.

use names::RoomSn;
use store::{At, Blob, Family, Position, Table, TableInfo};

use crate::keys::{KeptAnswer, KeptKey};
use crate::outbox::{Destination, Outgoing, Progress};

/// (where committed, room, the event's place there): events that go to other servers.
pub(crate) const OUTGOING: Table<(Position, RoomSn, u64), Outgoing> =
    Table::source(Family::Work, 20, "outgoing");
/// Where this server last sent an event into a room that others are in.
pub(crate) const SENT: Table<RoomSn, At<()>> = Table::source(Family::Work, 21, "sent");
/// (server, where committed, number in the change): messages to devices of its users, each the content of an EDU.
pub(crate) const TO_SERVER: Table<(String, Position, u32), Blob> =
    Table::source(Family::Work, 22, "to_server");
/// Servers that something could not be sent to.
pub(crate) const DESTINATIONS: Table<String, Destination> =
    Table::source(Family::Work, 23, "destinations");
/// How far all others are.
pub(crate) const PROGRESS: Table<(), Progress> = Table::source(Family::Work, 24, "outbox_progress");

/// The signing keys of servers: server name and key id.
pub(crate) const SERVER_KEYS: Table<(String, String), KeptKey> =
    Table::source(Family::Keys, 200, "server_keys");
/// What servers last answered when they were asked for their keys, for others who ask here.
pub(crate) const KEY_ANSWERS: Table<String, KeptAnswer> =
    Table::source(Family::Keys, 201, "server_key_answers");

/// All of them.
pub const TABLES: &[TableInfo] = &[
    OUTGOING.info(),
    SENT.info(),
    TO_SERVER.info(),
    DESTINATIONS.info(),
    PROGRESS.info(),
    SERVER_KEYS.info(),
    KEY_ANSWERS.info(),
];
