//! Rooms over an in-memory store: made in every version, entered, talked in, upgraded, listed.

use event::auth::Membership;
use event::{Pdu, RoomVersion};
use names::RoomSn;
use rooms::about::About;
use rooms::aliases::{self, Alias};
use rooms::create::NewRoom;
use rooms::directory::{self, Asked};
use rooms::membership::{self, Action, MemberProfile};
use rooms::{
    Error, EventNo, NewEvent, RoomWriter, Sender, event_log, members, send, state, upgrade,
};
use serde_json::{Map, Value, json};
use testkit::{World, public_room};

const ALICE: &str = "@alice:here";
const BOB: &str = "@bob:here";

/// A public room of Alice's.
fn make(world: &mut World, version: RoomVersion, creation_content: Map<String, Value>) -> RoomSn {
    let room = NewRoom {
        name: Some("Tea"),
        topic: Some("Leaves"),
        alias: Some("#tea:here"),
        published: true,
        ..public_room(world.user(ALICE))
    };
    world.create(version, &room, creation_content)
}

/// The content of an entry of the state with an empty key.
fn content(world: &World, room: RoomSn, event_type: &str) -> Value {
    let head = world.store.head();
    let no = state::current(&head, room, event_type, "")
        .unwrap()
        .unwrap();
    let event = event_log::get(&head, room, no).unwrap().unwrap();
    let event: Value = serde_json::from_str(&event.json).unwrap();
    event["content"].clone()
}

#[test]
fn rooms_of_every_version_are_made_of_events_that_other_servers_accept() {
    for version in RoomVersion::ALL {
        let mut world = World::new();
        let room = make(&mut world, version, Map::new());
        assert_eq!(world.act(room, Action::Join, BOB, BOB).unwrap(), 1);
        let bob = world.user(BOB);
        let text = json!({ "body": "hello" }).to_string();
        let mut told = None;
        world
            .change(room, |writer| {
                let new = NewEvent::message(bob, "m.room.message", &text);
                told = Some(send::message(writer, &new)?.1);
                Ok(())
            })
            .unwrap();
        let told = told.unwrap();
        world
            .change(room, |writer| {
                let new = NewEvent {
                    redacts: Some(told.as_str()),
                    ..NewEvent::message(bob, "m.room.redaction", "{}")
                };
                send::redaction(writer, &new).map(drop)
            })
            .unwrap();
        let head = world.store.head();
        let mut count = 0;
        for row in event_log::forwards(&head, room, EventNo::MIN) {
            let (_, event) = row.unwrap();
            let read = Pdu::from_federation(version.rules(), event.json.as_bytes()).unwrap();
            assert_eq!(read.event_id(), &event.event_id, "version {version}");
            assert!(event::hash::content_hash_matches(&event.json));
            count += 1;
        }
        assert_eq!(count, 12, "version {version}");
        let marks = event_log::marks(&head, room, told.as_str()).unwrap();
        assert!(marks.redacted_by.is_some(), "version {version}");
    }
}

#[test]
fn doing_again_what_was_done_last_changes_nothing() {
    let mut world = World::new();
    let room = make(&mut world, RoomVersion::V12, Map::new());
    for (action, by, to) in [
        (Action::Invite, ALICE, BOB),
        (Action::Join, BOB, BOB),
        (Action::Leave, BOB, BOB),
        (Action::Ban, ALICE, BOB),
    ] {
        assert_eq!(world.act(room, action, by, to).unwrap(), 1, "{action:?}");
        assert_eq!(world.act(room, action, by, to).unwrap(), 0, "{action:?}");
    }
    assert_eq!(world.act(room, Action::Unban, ALICE, BOB).unwrap(), 1);
    let again = world.act(room, Action::Unban, ALICE, BOB);
    assert!(matches!(again, Err(Error::Forbidden(_))));
}

#[test]
fn a_room_that_everybody_left_is_not_there_to_be_joined() {
    let mut world = World::new();
    let room = make(&mut world, RoomVersion::V12, Map::new());
    world.act(room, Action::Invite, ALICE, BOB).unwrap();
    world.act(room, Action::Leave, ALICE, ALICE).unwrap();
    let joined = world.act(room, Action::Join, BOB, BOB);
    assert!(matches!(joined, Err(Error::UnknownRoom)));
    // The invitation can still be refused.
    assert_eq!(world.act(room, Action::Leave, BOB, BOB).unwrap(), 1);
}

#[test]
fn a_member_event_of_the_clients_own_making_is_a_join_like_any_other() {
    let mut world = World::new();
    let allowed = make(&mut world, RoomVersion::V11, Map::new());
    world
        .change(allowed, |writer| aliases::remove(writer.txn(), "#tea:here"))
        .unwrap();
    let room = make(&mut world, RoomVersion::V12, Map::new());
    let bob = world.user(BOB);
    let allowed_id = names::room_id(&world.store.head(), allowed).unwrap();
    let rules = json!({
        "join_rule": "restricted",
        "allow": [{ "type": "m.room_membership", "room_id": allowed_id }],
    });
    world
        .set(room, ALICE, ("m.room.join_rules", ""), &rules)
        .unwrap();
    let joined = json!({
        "membership": "join", "org.example": 1, "join_authorised_via_users_server": "@x:here",
    });
    let joined = joined.to_string();
    let join =
        |writer: &mut RoomWriter<'_>| membership::put(writer, bob, bob, &joined, false).map(drop);
    assert!(matches!(world.change(room, join), Err(Error::Forbidden(_))));
    world.act(allowed, Action::Join, BOB, BOB).unwrap();
    assert_eq!(world.change(room, join).unwrap(), 1);
    let head = world.store.head();
    let member = members::get(&head, room, bob.user).unwrap().unwrap();
    let event = event_log::get(&head, room, member.event).unwrap().unwrap();
    let event: Value = serde_json::from_str(&event.json).unwrap();
    assert_eq!(
        event["content"],
        json!({
            "membership": "join", "org.example": 1, "join_authorised_via_users_server": ALICE,
        })
    );
}

#[test]
fn an_alias_that_is_removed_leaves_the_canonical_alias_if_its_maker_may_change_that() {
    let mut world = World::new();
    let room = make(&mut world, RoomVersion::V12, Map::new());
    world.act(room, Action::Join, BOB, BOB).unwrap();
    let (alice, bob) = (world.user(ALICE), world.user(BOB));
    let more = Alias {
        room,
        creator: bob.user,
    };
    world
        .change(room, |writer| {
            aliases::add(writer.txn(), "#more:here", more)
        })
        .unwrap();
    let named = json!({ "alias": "#tea:here", "alt_aliases": ["#more:here"] });
    let entry = ("m.room.canonical_alias", "");
    world.set(room, ALICE, entry, &named).unwrap();
    // Those of other servers are asked for before, by who can ask.
    for wrong in ["#none:here", "tea:here"] {
        let refused = world.set(room, ALICE, entry, &json!({ "alias": wrong }));
        assert!(matches!(refused, Err(Error::BadAlias(..))), "{wrong}");
    }
    let retract = |by: Sender<'static>, alias: &'static str| {
        move |writer: &mut RoomWriter<'_>| {
            aliases::remove(writer.txn(), alias)?;
            aliases::retract(writer, by, alias)
        }
    };
    assert_eq!(world.change(room, retract(bob, "#more:here")).unwrap(), 0);
    assert_eq!(world.change(room, retract(alice, "#more:here")).unwrap(), 1);
    assert_eq!(
        content(&world, room, "m.room.canonical_alias"),
        json!({ "alias": "#tea:here" })
    );
    assert_eq!(world.change(room, retract(alice, "#tea:here")).unwrap(), 1);
    assert_eq!(content(&world, room, "m.room.canonical_alias"), json!({}));
    assert!(
        aliases::of_room(&world.store.head(), room)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn every_version_can_be_upgraded_to_every_other_with_what_belongs_to_the_room() {
    for (from, to) in [
        (RoomVersion::V1, RoomVersion::V12),
        (RoomVersion::V10, RoomVersion::V11),
        (RoomVersion::V12, RoomVersion::V11),
        (RoomVersion::V12, RoomVersion::V12),
    ] {
        let mut world = World::new();
        let kind = json!({ "type": "m.space", "m.federate": false });
        let old_room = make(&mut world, from, serde_json::from_value(kind).unwrap());
        world.act(old_room, Action::Ban, ALICE, BOB).unwrap();
        let alice = world.user(ALICE);
        world.now_ms += 1;
        let mut txn = world.store.begin();
        let mut writer = RoomWriter::open(&mut txn, world.context(), old_room).unwrap();
        let old = upgrade::read(&mut writer, alice).unwrap();
        upgrade::close(&mut writer, alice, &old, "!new:here").unwrap();
        writer.finish();
        let kind = old.creation_content.clone();
        let new_room = world.begin(&mut txn, to, alice, kind, |writer| {
            upgrade::build(writer, alice, &MemberProfile::default(), &old, &[])
        });
        world.store.commit(txn).unwrap();
        let head = world.store.head();
        let old_id = names::room_id(&head, old_room).unwrap();
        let about = About::read(&head, new_room).unwrap();
        assert_eq!(about.name.as_deref(), Some("Tea"), "{from} to {to}");
        assert_eq!(about.topic.as_deref(), Some("Leaves"));
        assert_eq!(about.canonical_alias.as_deref(), Some("#tea:here"));
        assert_eq!(about.room_type.as_deref(), Some("m.space"));
        assert_eq!(
            (about.version, about.join_rule),
            (to.to_string(), "public".to_owned())
        );
        let create = content(&world, new_room, "m.room.create");
        assert_eq!(create["predecessor"]["room_id"], old_id.as_str());
        assert_eq!(create["m.federate"], false);
        let bob = world.user(BOB).user;
        let membership = members::membership(&head, new_room, bob).unwrap();
        assert_eq!(membership, Membership::Ban);
        let levels = content(&world, new_room, "m.room.power_levels");
        let expected = if to == RoomVersion::V12 {
            Value::Null
        } else {
            json!(100)
        };
        assert_eq!(
            levels["users"].get(ALICE).cloned().unwrap_or_default(),
            expected
        );
        let tombstone = content(&world, old_room, "m.room.tombstone");
        assert_eq!(tombstone["replacement_room"], "!new:here");
        let levels = content(&world, old_room, "m.room.power_levels");
        assert_eq!(
            (&levels["events_default"], &levels["invite"]),
            (&json!(50), &json!(50))
        );
    }
}

#[test]
fn an_upgrade_needs_the_power_to_put_a_tombstone() {
    let mut world = World::new();
    let room = make(&mut world, RoomVersion::V11, Map::new());
    world.act(room, Action::Join, BOB, BOB).unwrap();
    let bob = world.user(BOB);
    let refused = world.change(room, |writer| upgrade::read(writer, bob).map(drop));
    assert!(matches!(refused, Err(Error::Forbidden(_))));
}

#[test]
fn the_directory_lists_the_largest_room_first_and_none_that_is_empty() {
    let mut world = World::new();
    let mut rooms = Vec::new();
    for _ in 0..3 {
        let room = make(&mut world, RoomVersion::V12, Map::new());
        world
            .change(room, |writer| aliases::remove(writer.txn(), "#tea:here"))
            .unwrap();
        rooms.push(room);
    }
    world.act(rooms[1], Action::Join, BOB, BOB).unwrap();
    world.act(rooms[2], Action::Leave, ALICE, ALICE).unwrap();
    let head = world.store.head();
    let asked = |limit, since| Asked {
        limit,
        since,
        ..Asked::default()
    };
    let all = directory::page(&head, &asked(10, None)).unwrap();
    let listed: Vec<RoomSn> = all.rooms.iter().map(|about| about.room).collect();
    assert_eq!((listed, all.total), (vec![rooms[1], rooms[0]], 2));
    assert!(all.next.is_none() && all.previous.is_none());
    let first = directory::page(&head, &asked(1, None)).unwrap();
    assert_eq!(first.rooms[0].room, rooms[1]);
    let second = directory::page(&head, &asked(1, first.next)).unwrap();
    assert_eq!(second.rooms[0].room, rooms[0]);
    assert!(second.next.is_none());
    let back = directory::page(&head, &asked(1, second.previous)).unwrap();
    assert_eq!(back.rooms[0].room, rooms[1]);
    let term = |term: &str| Asked {
        search_term: Some(term.to_owned()),
        ..asked(10, None)
    };
    assert_eq!(directory::page(&head, &term("LEAVES")).unwrap().total, 2);
    assert_eq!(directory::page(&head, &term("coffee")).unwrap().total, 0);
    let spaces = Asked {
        room_types: Some(vec![Some("m.space".to_owned())]),
        ..asked(10, None)
    };
    assert_eq!(directory::page(&head, &spaces).unwrap().total, 0);
}

#[test]
fn white_space_in_what_a_client_sends_makes_no_difference() {
    let mut world = World::new();
    let room = make(&mut world, RoomVersion::V11, Map::new());
    let alice = world.user(ALICE);
    let reaction =
        r#"{ "m.relates_to" : { "rel_type": "m.annotation", "event_id": "$x", "key": "+" } }"#;
    let mut react = || {
        world.change(room, |writer| {
            let new = NewEvent::message(alice, "m.reaction", reaction);
            send::message(writer, &new).map(drop)
        })
    };
    react().unwrap();
    assert!(matches!(react(), Err(Error::DuplicateAnnotation)));
    let named = world.change(room, |writer| {
        let content = r##"{ "alias" : "#elsewhere:here" }"##;
        let new = NewEvent::state(alice, "m.room.canonical_alias", "", content);
        send::state(writer, &new).map(drop)
    });
    assert!(matches!(named, Err(Error::BadAlias(..))), "{named:?}");
}
