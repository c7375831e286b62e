//! The tables of other servers: every key and value type, said once.
//!
//! Table ids are unique within a family: this crate takes Keys 200..219.

use store::{Family, Table};

use crate::keys::{KeptAnswer, KeptKey};

/// The signing keys of servers: server name and key id.
pub const SERVER_KEYS: Table<(String, String), KeptKey> =
    Table::source(Family::Keys, 200, "server_keys");
/// What servers last answered when they were asked for their keys, for others who ask here.
pub const KEY_ANSWERS: Table<String, KeptAnswer> =
    Table::source(Family::Keys, 201, "server_key_answers");
