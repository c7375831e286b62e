//! The rules about whose server an event is of: `m.federate`, and aliases.

use crate::room::{CREATOR, MEMBER, Room, STRANGER};
use crate::versions;
use event::RoomVersion;
use event::auth::Rule;
use serde_json::json;

#[test]
fn a_closed_room_takes_no_events_of_other_servers() {
    for version in RoomVersion::ALL {
        let mut room = Room::created_with(version, json!({"m.federate": false}));
        assert_eq!(room.message(CREATOR, "m.room.message"), Ok(()));
        assert_eq!(
            room.message(MEMBER, "m.room.message"),
            Err(Rule::NotFederated)
        );
        assert_eq!(
            room.member(STRANGER, STRANGER, "join"),
            Err(Rule::NotFederated)
        );
        let mut room = Room::created_with(version, json!({"m.federate": true}));
        assert_eq!(room.message(MEMBER, "m.room.message"), Ok(()));
    }
}

#[test]
fn aliases_belong_to_the_senders_server_up_to_version_5() {
    for version in versions(RoomVersion::V1, RoomVersion::V5) {
        let mut room = Room::new(version);
        // Not even membership is asked for.
        assert_eq!(
            room.state(STRANGER, "m.room.aliases", "c.org", json!({})),
            Ok(())
        );
        assert_eq!(
            room.state(STRANGER, "m.room.aliases", "a.org", json!({})),
            Err(Rule::AliasesOtherDomain)
        );
        assert_eq!(
            room.message(STRANGER, "m.room.aliases"),
            Err(Rule::AliasesNoStateKey)
        );
    }
    for version in versions(RoomVersion::V6, RoomVersion::V12) {
        let mut room = Room::new(version);
        assert_eq!(
            room.state(STRANGER, "m.room.aliases", "c.org", json!({})),
            Err(Rule::SenderNotJoined)
        );
        assert_eq!(
            room.state(MEMBER, "m.room.aliases", "b.org", json!({})),
            Err(Rule::RequiredLevel)
        );
    }
}
