//! A server that enters a room late gets its history piece by piece, below what it has.

use std::collections::BTreeSet;

use event::{EventDraft, EventId, RoomRules, RoomVersion};
use names::RoomSn;
use rooms::backfill::Filled;
use rooms::graph::{self, StateIds};
use rooms::ingest::{self, Answer, Arrival, Entered, Need, Part, Received, Staging, Verified};
use rooms::membership::Action;
use rooms::{EventNo, RoomWriter, StoredEvent, event_log, state};
use serde_json::{Map, json};
use store::memory::Memory;
use testkit::{World, public_room};

const OWNER: &str = "@owner:here";
const LATE: &str = "@late:there";

fn verified(world: &World, rules: &RoomRules, event: &StoredEvent) -> Verified {
    // Every world has the same key.
    let keys = |_: &str, _: &str| Some(world.key.verify_key());
    ingest::verify(rules, event.json.as_bytes(), &keys).unwrap()
}

fn timeline(world: &World, room: RoomSn) -> Vec<(EventNo, StoredEvent)> {
    let view = world.store.view();
    let rows = event_log::forwards(&view, room, EventNo::MIN);
    rows.collect::<rooms::Result<_>>().unwrap()
}

fn ids(events: &[(EventNo, StoredEvent)]) -> Vec<String> {
    events
        .iter()
        .map(|(_, event)| event.event_id.to_string())
        .collect()
}

/// A room with members who come, go and change its topic and name.
fn room_with_history(world: &mut World, version: RoomVersion) -> RoomSn {
    let room = world.create(version, &public_room(world.user(OWNER)), Map::new());
    for n in 0..12 {
        let member = format!("@member{n}:here");
        world.act(room, Action::Join, &member, &member).unwrap();
        world.say(room, &member, "Good morning").unwrap();
        let topic = json!({ "topic": format!("Topic {n}") });
        world
            .set(room, OWNER, ("m.room.topic", ""), &topic)
            .unwrap();
        if n % 3 == 2 {
            world.act(room, Action::Leave, &member, &member).unwrap();
        }
    }
    room
}

/// The state before an event and its auth chain, as events.
fn state_of(world: &World, rules: &RoomRules, room: RoomSn, id: &str) -> (StateIds, Vec<Verified>) {
    let view = world.store.view();
    let ids = graph::state_ids(&view, room, id).unwrap().unwrap();
    let mut events = Vec::new();
    for id in ids.state.iter().chain(&ids.auth_chain) {
        let no = event_log::find_in(&view, room, id).unwrap().unwrap();
        let event = event_log::get(&view, room, no).unwrap().unwrap();
        events.push(verified(world, rules, &event));
    }
    (ids, events)
}

fn number_users(world: &World, need: Need) {
    let Need::Users(users) = need else {
        panic!("{need:?} is all here");
    };
    for user in users {
        world.names.user(&world.store, &user).unwrap();
    }
}

/// The member's join, made by hand on the room as it is.
fn join(world: &World, rules: &RoomRules, room: RoomSn) -> Verified {
    let view = world.store.view();
    let head = event_log::head(&view, room).unwrap().unwrap();
    let room_id = names::room_id(&view, room).unwrap();
    let keys = [
        ("m.room.create", ""),
        ("m.room.power_levels", ""),
        ("m.room.join_rules", ""),
    ];
    let numbers = state::current_many(&view, room, &keys).unwrap();
    let mut auth: Vec<String> = Vec::new();
    for no in numbers.into_iter().flatten() {
        auth.push(
            event_log::get(&view, room, no)
                .unwrap()
                .unwrap()
                .event_id
                .to_string(),
        );
    }
    if rules.version == RoomVersion::V12 {
        auth.remove(0);
    }
    let auth: Vec<&str> = auth.iter().map(String::as_str).collect();
    let pdu = EventDraft {
        room_id: Some(&room_id),
        sender: LATE,
        event_type: "m.room.member",
        state_key: Some(LATE),
        content: r#"{"membership":"join"}"#,
        redacts: None,
        origin_server_ts: world.now_ms as i64,
        prev_events: &[&head.extremities[0].1],
        auth_events: &auth,
        depth: head.depth + 1,
        first_format: None,
    };
    let there = event::SigningKey::generate("there", [7; 32]);
    let pdu = pdu.seal(rules, &there).unwrap();
    let keys = |_: &str, _: &str| Some(world.key.verify_key());
    ingest::verify(rules, pdu.json().as_bytes(), &keys).unwrap()
}

fn enter(late: &World, rules: &'static RoomRules, room: RoomSn, answer: &Answer<'_>) {
    loop {
        let mut txn = late.store.begin();
        match ingest::enter(&mut txn, late.context(), rules, room, answer).unwrap() {
            Entered::Need(need) => number_users(late, need),
            Entered::Done(effects) => {
                assert_eq!(effects.appended.len(), 1);
                late.store.commit(txn).unwrap();
                return;
            }
        }
    }
}

#[test]
fn a_room_that_is_brought_here_in_pieces_is_entered_as_if_it_had_come_at_once() {
    for version in [RoomVersion::V6, RoomVersion::V11, RoomVersion::V12] {
        let rules = version.rules();
        let mut world = World::new();
        let room = room_with_history(&mut world, version);
        let join = join(&world, rules, room);
        world.names.user(&world.store, LATE).unwrap();
        let mut txn = world.store.begin();
        let mut writer = RoomWriter::open(&mut txn, world.context(), room).unwrap();
        writer.receive(&join, Arrival::Live).unwrap();
        writer.finish();
        world.store.commit(txn).unwrap();
        let (at_join, events) = state_of(&world, rules, room, join.pdu().event_id());
        let is_create = |event: &&Verified| event.pdu().event_type() == "m.room.create";
        let create = events.iter().find(is_create).unwrap();
        let parts = events.iter().enumerate().map(|(n, event)| Part {
            event: event.clone(),
            is_state: n < at_join.state.len(),
        });
        // What authorises an event comes after it, mostly.
        let parts: Vec<Part> = parts.rev().collect();

        let late = World::named("there", Box::new(Memory::default()));
        let room_id = names::room_id(&world.store.view(), room).unwrap();
        let late_room = late.names.room(&late.store, &room_id).unwrap();
        let mut begun = Staging::new(create.clone());
        stage(
            &late,
            rules,
            late_room,
            &mut begun,
            &parts[..parts.len() / 2],
        );
        assert!(
            event_log::head(&late.store.view(), late_room)
                .unwrap()
                .is_none()
        );
        // It is begun anew, after a restart.
        let mut staging = Staging::new(create.clone());
        for piece in parts.chunks(3) {
            stage(&late, rules, late_room, &mut staging, piece);
        }
        assert_eq!(staging.state_count(), at_join.state.len());
        assert_eq!(staging.waiting_count(), 0);
        assert!(
            event_log::head(&late.store.view(), late_room)
                .unwrap()
                .is_none()
        );

        late.names.user(&late.store, LATE).unwrap();
        let mut txn = late.store.begin();
        let context = late.context();
        let entered = ingest::enter_staged(&mut txn, context, rules, late_room, &staging, &join);
        assert!(matches!(entered.unwrap(), Entered::Done(_)));
        late.store.commit(txn).unwrap();
        let here = state::all_current(&world.store.view(), room).unwrap();
        let there = state::all_current(&late.store.view(), late_room).unwrap();
        assert_eq!(there.len(), here.len());
        let mut problems = Vec::new();
        let mut say = |what| problems.push(what);
        rooms::check::room(&late.store.view(), late_room, &room_id, &mut say).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
    }
}

#[test]
fn what_nothing_authorises_is_left_out_of_a_room_that_is_entered() {
    let version = RoomVersion::V11;
    let rules = version.rules();
    let mut world = World::new();
    let room = room_with_history(&mut world, version);
    let last = timeline(&world, room).pop().unwrap().1;
    let (_, events) = state_of(&world, rules, room, &last.event_id);
    let of = |event_type: &str| {
        let mut those = events.iter();
        those
            .find(|event| event.pdu().event_type() == event_type)
            .unwrap()
            .clone()
    };
    let parts = ["m.room.create", "m.room.topic"].map(|event_type| Part {
        event: of(event_type),
        is_state: true,
    });
    let late = World::named("there", Box::new(Memory::default()));
    let room_id = names::room_id(&world.store.view(), room).unwrap();
    let late_room = late.names.room(&late.store, &room_id).unwrap();
    let mut staging = Staging::new(of("m.room.create"));
    stage(&late, rules, late_room, &mut staging, &parts);
    assert_eq!((staging.state_count(), staging.waiting_count()), (1, 1));
}

fn stage(
    late: &World,
    rules: &'static RoomRules,
    room: RoomSn,
    staging: &mut Staging,
    parts: &[Part],
) {
    let events = parts.iter().map(|part| &part.event);
    let users = ingest::users_without_number(&late.store.view(), events).unwrap();
    late.names.number_users(&late.store, &users).unwrap();
    let mut txn = late.store.begin();
    staging
        .keep(&mut txn, late.context(), rules, room, parts.to_vec())
        .unwrap();
    late.store.commit(txn).unwrap();
}

#[test]
fn history_is_filled_in_below_what_is_here_in_its_order_and_with_its_states() {
    for version in [RoomVersion::V6, RoomVersion::V11, RoomVersion::V12] {
        let rules = version.rules();
        let mut world = World::new();
        let room = room_with_history(&mut world, version);
        let join = join(&world, rules, room);
        world.names.user(&world.store, LATE).unwrap();
        let mut txn = world.store.begin();
        let mut writer = RoomWriter::open(&mut txn, world.context(), room).unwrap();
        let received = writer.receive(&join, Arrival::Live).unwrap();
        assert!(matches!(received, Received::Stored { .. }), "{received:?}");
        writer.finish();
        world.store.commit(txn).unwrap();

        let late = World::named("there", Box::new(Memory::default()));
        let room_id = names::room_id(&world.store.view(), room).unwrap();
        let late_room = late.names.room(&late.store, &room_id).unwrap();
        let (at_join, events) = state_of(&world, rules, room, join.pdu().event_id());
        let (state, auth_chain) = events.split_at(at_join.state.len());
        let answer = Answer {
            state,
            auth_chain,
            join: &join,
        };
        enter(&late, rules, late_room, &answer);
        let here = ids(&timeline(&world, room));
        let state_at_entry = state::all_current(&late.store.view(), late_room)
            .unwrap()
            .len();
        assert_eq!(
            state_at_entry,
            state::all_current(&world.store.view(), room).unwrap().len()
        );

        let states_before = |world: &World, room, id: &str| {
            let ids = graph::state_ids(&world.store.view(), room, id)
                .unwrap()
                .unwrap();
            let sorted = |ids: Vec<EventId>| ids.into_iter().collect::<BTreeSet<_>>();
            (sorted(ids.state), sorted(ids.auth_chain))
        };
        let join_id = join.pdu().event_id();
        let state_before_entry = states_before(&world, room, join_id);
        assert_eq!(states_before(&late, late_room, join_id), state_before_entry);

        let mut pieces = 0;
        loop {
            let gaps = graph::backward_extremities(&late.store.view(), late_room).unwrap();
            if gaps.is_empty() {
                break;
            }
            pieces += 1;
            let from: Vec<EventId> = gaps.iter().map(|(id, _)| id.as_str().into()).collect();
            let piece = graph::backfill(&world.store.view(), room, &from, 10).unwrap();
            let oldest = piece.last().unwrap().1.event_id.clone();
            let (state, events) = state_of(&world, rules, room, &oldest);
            let piece: Vec<Verified> = piece
                .iter()
                .map(|(_, event)| verified(&world, rules, event))
                .collect();
            let mut txn = late.store.begin();
            let mut writer = RoomWriter::open(&mut txn, late.context(), late_room).unwrap();
            for event in &events {
                match writer.receive(event, Arrival::Outlier).unwrap() {
                    Received::Need(need) => panic!("{need:?}"),
                    Received::Known(_) | Received::Stored { .. } => {}
                }
            }
            match writer.backfill(&piece, &state.state).unwrap() {
                Filled::Stored(stored) => assert_eq!(stored, piece.len()),
                Filled::Need(need) => panic!("{need:?}"),
            }
            let effects = writer.finish();
            assert!(effects.appended.is_empty() && effects.memberships.is_empty());
            late.store.commit(txn).unwrap();
            // What was known stays where it was: the newest events are the same in the same order.
            let there = ids(&timeline(&late, late_room));
            assert_eq!(there, here[here.len() - there.len()..]);
            assert_eq!(states_before(&late, late_room, join_id), state_before_entry);
        }
        assert!(pieces > 3, "{pieces}");
        let there = timeline(&late, late_room);
        assert_eq!(ids(&there), here);
        let (ours, theirs) = (world.store.view(), late.store.view());
        for (_, event) in &there {
            let by = |view, room| {
                let ids = graph::state_ids(view, room, &event.event_id)
                    .unwrap()
                    .unwrap();
                let sorted = |ids: Vec<EventId>| ids.into_iter().collect::<BTreeSet<_>>();
                (sorted(ids.state), sorted(ids.auth_chain))
            };
            assert_eq!(
                by(&theirs, late_room),
                by(&ours, room),
                "before {}",
                event.json
            );
        }
        for (world, room) in [(&world, room), (&late, late_room)] {
            let mut found = Vec::new();
            rooms::check::room(&world.store.view(), room, &room_id, &mut |what| {
                found.push(what)
            })
            .unwrap();
            assert_eq!(found, [""; 0]);
        }
    }
}
