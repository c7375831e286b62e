//! Rule 1 of every version: the create event; rule 2 of version 12: the room id.

use crate::room::{CREATOR, MEMBER, Room};
use crate::{altered, every_version};
use event::auth::Rule;
use event::{AuthEvent, RoomIdFormat, RoomVersion};
use serde_json::json;

#[test]
fn create_has_no_previous_events() {
    every_version(|room| {
        let create = room.state[0].pdu();
        assert_eq!(room.check(create), Ok(()));
        let references = match room.rules.references {
            event::ReferenceFormat::Plain => json!(["$a"]),
            event::ReferenceFormat::WithHash => json!([["$a:b", {"sha256": "x"}]]),
        };
        let child = altered(&room, create, |tree| {
            tree["prev_events"] = references.clone()
        });
        assert_eq!(room.check(&child), Err(Rule::CreateHasPrevEvents));
    });
}

#[test]
fn create_has_the_room_id_its_version_wants() {
    every_version(|room| {
        let elsewhere = altered(&room, room.state[0].pdu(), |tree| {
            tree["room_id"] = "!x:other.org".into()
        });
        let expected = match room.rules.room_id {
            RoomIdFormat::Domain => Rule::CreateRoomIdDomain,
            RoomIdFormat::CreateHash => Rule::CreateHasRoomId,
        };
        assert_eq!(room.check(&elsewhere), Err(expected));
    });
}

#[test]
fn create_names_a_known_room_version() {
    every_version(|room| {
        for bad in [json!("unknown"), json!(10), json!(null)] {
            let event = altered(&room, room.state[0].pdu(), |tree| {
                tree["content"]["room_version"] = bad.clone()
            });
            assert_eq!(room.check(&event), Err(Rule::CreateRoomVersion));
        }
    });
}

#[test]
fn create_names_the_creator_up_to_version_10() {
    every_version(|room| {
        let without = altered(&room, room.state[0].pdu(), |tree| {
            tree["content"].as_object_mut().unwrap().remove("creator");
        });
        let expected = match room.rules.auth.creator_is_sender {
            true => Ok(()),
            false => Err(Rule::CreateNoCreator),
        };
        assert_eq!(room.check(&without), expected);
    });
}

#[test]
fn additional_creators_are_user_ids_in_version_12() {
    every_version(|room| {
        for bad in [
            json!("@a:b"),
            json!([1]),
            json!(["a"]),
            json!([null]),
            json!({}),
        ] {
            let event = altered(&room, room.state[0].pdu(), |tree| {
                tree["content"]["additional_creators"] = bad.clone()
            });
            let expected = match room.rules.auth.creators_privileged {
                true => Err(Rule::CreateAdditionalCreators),
                false => Ok(()),
            };
            assert_eq!(room.check(&event), expected, "{bad}");
        }
    });
}

#[test]
fn the_room_id_is_that_of_an_accepted_create_event_in_version_12() {
    let mut room = Room::new(RoomVersion::V12);
    let message = room.event(MEMBER, "m.room.message", None, json!({}));
    assert_eq!(room.check(&message), Ok(()));
    room.state[0] = AuthEvent::rejected(room.rules, room.state[0].pdu().clone());
    assert_eq!(room.check(&message), Err(Rule::RoomIdNotCreate));
    let other = Room::created_with(RoomVersion::V12, json!({"x": 1}));
    assert_eq!(other.check(&message), Err(Rule::RoomIdNotCreate));
}

#[test]
fn without_a_create_event_nothing_is_allowed() {
    every_version(|mut room| {
        room.unset("m.room.create", "");
        assert_eq!(
            room.message(CREATOR, "m.room.message"),
            Err(Rule::NoCreateEvent)
        );
    });
}
