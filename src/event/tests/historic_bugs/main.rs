//! Bugs that homeservers have had in what this crate decides: each test tells what went wrong, and shows that here it
//! does not. Those of state resolution are in `state_resolution_cases`, with the other stories.

mod format;
mod power_levels;
#[path = "../room/mod.rs"]
mod room;
mod rules;
mod signatures;

use event::{FormatError, Pdu, RoomVersion, VerifyKey};
use room::{Room, key};
use serde_json::Value;

fn tree(pdu: &Pdu) -> Value {
    serde_json::from_str(pdu.json()).unwrap()
}

fn receive(room: &Room, tree: &Value) -> Result<Pdu, FormatError> {
    Pdu::from_federation(room.rules, tree.to_string().as_bytes())
}

fn own_keys(server: &str, id: &str) -> Option<VerifyKey> {
    (server == "a.org" && id == key().key_id()).then(|| key().verify_key())
}

fn versions_from(first: RoomVersion) -> impl Iterator<Item = RoomVersion> {
    RoomVersion::ALL
        .into_iter()
        .filter(move |version| *version >= first)
}
