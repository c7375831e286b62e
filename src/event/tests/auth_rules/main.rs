//! The authorisation rules of every room version, rule by rule. `by_number.rs` has a case for each number.

mod auth_events;
mod by_number;
mod create;
mod levels;
mod member_invite;
mod member_join;
mod member_leave;
mod numbers;
mod power_levels;
#[path = "../room/mod.rs"]
mod room;
mod servers;

use event::{Pdu, RoomVersion};
use room::Room;
use serde_json::Value;

fn every_version(test: impl Fn(Room)) {
    for version in RoomVersion::ALL {
        test(Room::new(version));
    }
}

fn versions(from: RoomVersion, to: RoomVersion) -> impl Iterator<Item = RoomVersion> {
    RoomVersion::ALL
        .into_iter()
        .filter(move |version| (from..=to).contains(version))
}

/// An event with one member of its JSON changed, as another server could send it.
fn altered(room: &Room, pdu: &Pdu, change: impl Fn(&mut Value)) -> Pdu {
    let mut tree: Value = serde_json::from_str(pdu.json()).unwrap();
    change(&mut tree);
    Pdu::from_stored(
        room.rules,
        pdu.event_id().clone(),
        tree.to_string().as_bytes(),
    )
    .unwrap()
}
