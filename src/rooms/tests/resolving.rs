//! Resolving large conflicts: in steps, between which other rooms' work may go first.

use std::sync::atomic::{AtomicUsize, Ordering};

use event::{EventDraft, EventId, Pdu, RoomVersion};
use names::RoomSn;
use rooms::ingest::{self, Arrival, Received, Verdict};
use rooms::{Context, EventNo, NewEvent, RoomWriter, event_log, state};
use serde_json::{Map, json};
use testkit::{World, public_room};

const OWNER: &str = "@owner:here";
const NOTE: &str = "org.example.note";

/// The ids of the owner's power and membership: what authorises the notes.
fn authority(world: &World, room: RoomSn) -> Vec<String> {
    let view = world.store.view();
    let keys = [("m.room.power_levels", ""), ("m.room.member", OWNER)];
    let numbers = state::current_many(&view, room, &keys).unwrap();
    let numbers: Vec<EventNo> = numbers.into_iter().flatten().collect();
    let events = event_log::get_many(&view, room, &numbers).unwrap();
    let ids = events.iter().map(|(_, event)| event.event_id.to_string());
    ids.collect()
}

fn receive(world: &World, room: RoomSn, pdu: &Pdu, pause: &(dyn Fn() + Sync)) {
    let keys = |_: &str, _: &str| Some(world.key.verify_key());
    let event = ingest::verify(RoomVersion::V12.rules(), pdu.json().as_bytes(), &keys).unwrap();
    let context = Context {
        pause,
        ..world.context()
    };
    let mut txn = world.store.begin();
    let mut writer = RoomWriter::open(&mut txn, context, room).unwrap();
    let received = writer.receive(&event, Arrival::Live).unwrap();
    let Received::Stored { verdict, .. } = received else {
        panic!("{received:?}");
    };
    assert_eq!(verdict, Verdict::Accepted);
    writer.finish();
    world.store.commit(txn).unwrap();
}

/// Two sides of a room that each set as many entries; gives the pauses that resolving them made.
fn fork(world: &mut World, room: RoomSn, count: usize) -> usize {
    let room_id = names::room_id(&world.store.view(), room).unwrap();
    let head = event_log::head(&world.store.view(), room).unwrap().unwrap();
    let owner = world.user(OWNER);
    world
        .change(room, |writer| {
            for n in 0..count {
                let (key, content) = (n.to_string(), r#"{"side":"this"}"#);
                writer.append(&NewEvent::state(owner, NOTE, &key, content))?;
            }
            Ok(())
        })
        .unwrap();
    let auth = authority(world, room);
    let auth: Vec<&str> = auth.iter().map(String::as_str).collect();
    let mut prev: EventId = head.extremities[0].1.as_str().into();
    let pauses = AtomicUsize::new(0);
    let pause = || {
        pauses.fetch_add(1, Ordering::Relaxed);
    };
    for n in 0..count {
        let (key, content) = (n.to_string(), json!({ "side": "other" }).to_string());
        let draft = EventDraft {
            room_id: Some(&room_id),
            sender: OWNER,
            event_type: NOTE,
            state_key: Some(&key),
            content: &content,
            redacts: None,
            origin_server_ts: world.now_ms as i64 + n as i64,
            prev_events: &[&prev],
            auth_events: &auth,
            depth: head.depth + 1 + n as u64,
            first_format: None,
        };
        let pdu = draft.seal(RoomVersion::V12.rules(), &world.key).unwrap();
        prev = pdu.event_id().clone();
        receive(world, room, &pdu, &pause);
    }
    world.say(room, OWNER, "Both sides").unwrap();
    pauses.into_inner()
}

#[test]
fn a_large_conflict_is_resolved_in_steps() {
    let mut world = World::new();
    let room = public_room(world.user(OWNER));
    let room = world.create(RoomVersion::V12, &room, Map::new());
    assert_eq!(fork(&mut world, room, 20), 0);
    let large = 400;
    let pauses = fork(&mut world, room, large);
    assert!(pauses > large, "{pauses} pauses");
}
