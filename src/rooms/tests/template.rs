//! What other servers are given to finish and sign, comes back as an event of the room.

use event::{RoomVersion, SigningKey, canonical, json};
use names::RoomSn;
use rooms::ingest::{self, Arrival, Received, Verdict, Verified};
use rooms::{Error, Outline, RoomWriter, template};
use serde_json::{Map, Value, json};
use testkit::{World, public_room};

const OWNER: &str = "@owner:here";
const GUEST: &str = "@guest:there";
const JOIN: &str = r#"{"membership":"join"}"#;

fn template_of(world: &World, room: RoomSn, user: &str, content: &str) -> rooms::Result<String> {
    let mut txn = world.store.begin();
    let mut writer = RoomWriter::open(&mut txn, world.context(), room)?;
    template::template(&mut writer, &Outline::member(user, user, content))
}

/// What the other server makes of a template.
fn finished(version: RoomVersion, template: &str, key: &SigningKey) -> Verified {
    let rules = version.rules();
    let mut event: Value = serde_json::from_str(template).unwrap();
    if rules.event_id == event::EventIdFormat::Chosen {
        event["event_id"] = "$chosen:there".into();
    }
    let signed = event::hash_and_sign(rules, &event.to_string(), key).unwrap();
    let keys = |server: &str, _: &str| (server == "there").then(|| key.verify_key());
    ingest::verify(rules, signed.as_bytes(), &keys).unwrap()
}

#[test]
fn a_finished_template_is_accepted_in_every_room_version() {
    let key = SigningKey::generate("there", [9; 32]);
    for version in RoomVersion::ALL {
        let mut world = World::new();
        let room = world.create(version, &public_room(world.user(OWNER)), Map::new());
        let template = template_of(&world, room, GUEST, JOIN).unwrap();
        for absent in ["hashes", "signatures", "event_id", "unsigned"] {
            assert!(json::member(&template, absent).is_none(), "{absent}");
        }
        assert_eq!(json::member(&template, "origin"), Some("\"here\""));
        let canonical = canonical::from_text(&template, version.rules().numbers).unwrap();
        assert_eq!(canonical, template);
        let event = finished(version, &template, &key);
        world.user(GUEST);
        world
            .change(room, |writer| {
                let received = writer.receive(&event, Arrival::Live)?;
                let accepted = matches!(
                    received,
                    Received::Stored {
                        verdict: Verdict::Accepted,
                        ..
                    }
                );
                assert!(accepted, "version {version}: {received:?}");
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn what_the_room_does_not_allow_is_given_no_template_and_nobody_a_number() {
    let mut world = World::new();
    let room = world.create(
        RoomVersion::V11,
        &public_room(world.user(OWNER)),
        Map::new(),
    );
    let rule = json!({ "join_rule": "invite" });
    world
        .set(room, OWNER, ("m.room.join_rules", ""), &rule)
        .unwrap();
    let refused = template_of(&world, room, GUEST, JOIN);
    assert!(matches!(refused, Err(Error::NotAllowed(_))), "{refused:?}");
    let known = world.names.known_user(&world.store.head(), GUEST);
    assert_eq!(known.unwrap(), None);
}
