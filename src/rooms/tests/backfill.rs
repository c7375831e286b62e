//! A server that enters a room late gets its history piece by piece, below what it has.

use std::collections::{BTreeMap, BTreeSet};

use event::{EventDraft, EventId, RoomRules, RoomVersion};
use names::RoomSn;
use rooms::backfill::Filled;
use rooms::graph::{self, StateIds};
use rooms::ingest::{self, Answer, Arrival, Entered, Need, Part, Received, Staging, Verified};
use rooms::membership::Action;
use rooms::{Effects, EventNo, RoomWriter, StoredEvent, backfill, event_log, state};
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
    world.say(room, OWNER, "That is all").unwrap();
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

/// A room on its server, and on one that entered it late.
struct Both {
    world: World,
    room: RoomSn,
    late: World,
    late_room: RoomSn,
    rules: &'static RoomRules,
}

impl Both {
    fn new(version: RoomVersion) -> Self {
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
        Both {
            world,
            room,
            late,
            late_room,
            rules,
        }
    }

    fn here(&self) -> Vec<(EventNo, StoredEvent)> {
        timeline(&self.world, self.room)
    }

    fn there(&self) -> Vec<(EventNo, StoredEvent)> {
        timeline(&self.late, self.late_room)
    }

    fn gaps(&self) -> BTreeMap<EventNo, Vec<EventId>> {
        backfill::gaps(&self.late.store.view(), self.late_room).unwrap()
    }

    /// Does something on the late server with the state before one event, all of which is given to it.
    fn with_state(&self, id: &str, then: impl FnOnce(&mut RoomWriter<'_>, &[EventId])) -> Effects {
        let (state, events) = state_of(&self.world, self.rules, self.room, id);
        let users = ingest::users_without_number(&self.late.store.view(), &events).unwrap();
        self.late
            .names
            .number_users(&self.late.store, &users)
            .unwrap();
        let mut txn = self.late.store.begin();
        let mut writer = RoomWriter::open(&mut txn, self.late.context(), self.late_room).unwrap();
        for event in &events {
            match writer.receive(event, Arrival::Outlier).unwrap() {
                Received::Need(need) => panic!("{need:?}"),
                Received::Known(_) | Received::Stored { .. } => {}
            }
        }
        then(&mut writer, &state.state);
        let effects = writer.finish();
        self.late.store.commit(txn).unwrap();
        effects
    }

    /// The late server gets the newest event, whatever it missed before.
    fn give_newest(&self) {
        let newest = self.here().pop().unwrap().1;
        let event = verified(&self.world, self.rules, &newest);
        let users = ingest::users_without_number(&self.late.store.view(), [&event]).unwrap();
        self.late
            .names
            .number_users(&self.late.store, &users)
            .unwrap();
        self.with_state(&newest.event_id, |writer, state| {
            let received = writer.receive(&event, Arrival::AfterGap { state }).unwrap();
            assert!(matches!(received, Received::Stored { .. }), "{received:?}");
        });
    }

    /// Fills in a piece of what leads to a gap.
    fn fill(&self, missing: &[EventId], limit: usize) {
        let piece = graph::backfill(&self.world.store.view(), self.room, missing, limit).unwrap();
        let oldest = piece.last().unwrap().1.event_id.clone();
        let piece: Vec<Verified> = piece
            .iter()
            .map(|(_, event)| verified(&self.world, self.rules, event))
            .collect();
        let users = ingest::users_without_number(&self.late.store.view(), &piece).unwrap();
        self.late
            .names
            .number_users(&self.late.store, &users)
            .unwrap();
        let effects = self.with_state(&oldest, |writer, state| {
            match writer.backfill(&piece, state).unwrap() {
                Filled::Stored(stored) => assert!(stored > 0),
                Filled::Need(need) => panic!("{need:?}"),
            }
        });
        assert!(effects.appended.is_empty() && effects.memberships.is_empty());
    }

    /// State and auth chain before an event.
    fn states_before(world: &World, room: RoomSn, id: &str) -> [BTreeSet<EventId>; 2] {
        let view = world.store.view();
        let ids = graph::state_ids(&view, room, id).unwrap().unwrap();
        [ids.state, ids.auth_chain].map(|ids| ids.into_iter().collect())
    }

    /// Both servers have the same, and tell the same of it.
    fn assert_same(&self) {
        let there = self.there();
        assert_eq!(ids(&there), ids(&self.here()));
        for (_, event) in &there {
            assert_eq!(
                Self::states_before(&self.late, self.late_room, &event.event_id),
                Self::states_before(&self.world, self.room, &event.event_id),
                "before {}",
                event.json
            );
        }
        self.assert_sound();
    }

    fn assert_sound(&self) {
        for (world, room) in [(&self.world, self.room), (&self.late, self.late_room)] {
            let view = world.store.view();
            let room_id = names::room_id(&view, room).unwrap();
            let mut found = Vec::new();
            rooms::check::room(&view, room, &room_id, &mut |what| found.push(what)).unwrap();
            assert_eq!(found, [""; 0]);
        }
    }
}

#[test]
fn history_is_filled_in_below_what_is_here_in_its_order_and_with_its_states() {
    for version in [RoomVersion::V6, RoomVersion::V11, RoomVersion::V12] {
        let both = Both::new(version);
        let here = ids(&both.here());
        let current = |world: &World, room| {
            let all = state::all_current(&world.store.view(), room).unwrap();
            all.len()
        };
        assert_eq!(
            current(&both.late, both.late_room),
            current(&both.world, both.room)
        );
        let join = here.last().unwrap();
        let at_join = Both::states_before(&both.world, both.room, join);
        let mut pieces = 0;
        while let Some(missing) = both.gaps().get(&EventNo::FIRST) {
            assert_eq!(
                Both::states_before(&both.late, both.late_room, join),
                at_join
            );
            pieces += 1;
            both.fill(missing, 10);
            // What was known stays where it was: the newest events are the same in the same order.
            let there = ids(&both.there());
            assert_eq!(there, here[here.len() - there.len()..]);
        }
        assert!(pieces > 3, "{pieces}");
        both.assert_same();
    }
}

/// What comes late, by whichever way, leads to the beginning of what follows it, and not to a gap of its own.
#[test]
fn what_comes_late_leaves_the_gap_where_it_was() {
    let mut both = Both::new(RoomVersion::V11);
    let here = both.here();
    let before_join = verified(&both.world, both.rules, &here[here.len() - 2].1);
    both.with_state(before_join.pdu().event_id(), |writer, state| {
        let arrival = Arrival::AfterGap { state };
        let received = writer.receive(&before_join, arrival).unwrap();
        assert!(matches!(received, Received::Stored { .. }), "{received:?}");
    });
    assert!(
        both.there()
            .iter()
            .all(|(no, _)| no.stretch_start() == EventNo::FIRST)
    );
    both.world
        .say(both.room, OWNER, "After the late one")
        .unwrap();
    both.give_newest();
    while let Some(missing) = both.gaps().get(&EventNo::FIRST) {
        both.fill(missing, 10);
        both.assert_sound();
    }
    assert!(both.gaps().is_empty());
    let there = both.there();
    assert_eq!(there.len(), both.here().len());
    let is_past = |(no, _): &&(EventNo, StoredEvent)| no.is_past();
    assert_eq!(there.iter().filter(is_past).count(), there.len() - 3);
    let view = both.late.store.view();
    let user = Some((both.late.user(LATE).user, LATE));
    let visibility = rooms::visibility::Visibility::of(&view, both.late_room, user).unwrap();
    for (no, event) in &there {
        assert!(
            visibility.allows(&view, *no, event).unwrap(),
            "{}",
            event.json
        );
    }
}

/// What is missed in the middle of the history is filled in where it belongs, whichever gap is read first.
#[test]
fn gaps_in_the_middle_are_filled_in_where_they_are() {
    for version in [RoomVersion::V6, RoomVersion::V11, RoomVersion::V12] {
        for (first, limit) in [(0, 10), (1, 10), (2, 10), (2, 100)] {
            let mut both = Both::new(version);
            for outage in 0..2 {
                for n in 0..8 {
                    let member = format!("@member{n}:here");
                    let topic = json!({ "topic": format!("Outage {outage}, {n}") });
                    both.world
                        .act(both.room, Action::Join, &member, &member)
                        .unwrap();
                    both.world
                        .set(both.room, OWNER, ("m.room.topic", ""), &topic)
                        .unwrap();
                    both.world
                        .say(both.room, &member, "Is anybody there?")
                        .unwrap();
                }
                both.give_newest();
                // One that follows what is there.
                both.world.say(both.room, OWNER, "Welcome back").unwrap();
                both.give_newest();
            }
            let came: Vec<EventNo> = both.there().iter().map(|(no, _)| *no).collect();
            let stretches: Vec<EventNo> = both.gaps().into_keys().collect();
            assert_eq!(stretches.len(), 3);
            assert_eq!(stretches, [came[0].stretch_start(), came[1], came[3]]);
            assert!(came.iter().all(|no| !no.is_past()));
            assert_eq!([came[1], came[2]].map(|no| no.to_string()), ["1:0", "1:1"]);
            let order = ids(&both.here());
            let mut next = first;
            while !both.gaps().is_empty() {
                let gaps: Vec<_> = both.gaps().into_iter().collect();
                let (_, missing) = &gaps[next.min(gaps.len() - 1)];
                both.fill(missing, limit);
                next = first;
                both.assert_sound();
                let there = ids(&both.there());
                let in_order: Vec<_> = order
                    .iter()
                    .filter(|id| there.contains(id))
                    .cloned()
                    .collect();
                assert_eq!(there, in_order);
                let now: Vec<EventNo> = both.there().iter().map(|(no, _)| *no).collect();
                assert!(came.iter().all(|no| now.contains(no)));
            }
            both.assert_same();
            // Who knows everything up to one of the events that came goes on with what follows it.
            let view = both.late.store.view();
            for (no, event) in both.there().iter().filter(|(no, _)| !no.is_past()) {
                let place =
                    event_log::after_position(&view, both.late_room, event.position).unwrap();
                assert_eq!(place, no.next());
            }
        }
    }
}
