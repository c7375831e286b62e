//! Rooms of a few users, and what happens in them.

use std::collections::HashMap;

use event::{EventDraft, EventId, RoomVersion};
use names::{RoomSn, UserSn};
use proptest::prelude::*;
use rooms::backfill::Filled;
use rooms::create::NewRoom;
use rooms::ingest::{self, Arrival, Received, Verified};
use rooms::membership::Action;
use rooms::receipts::{Receipt, ReceiptKind};
use rooms::{EventNo, RoomWriter, event_log, state};
use store::{Position, Read};
use sync::Memory;
use testkit::{World, public_room};

pub const USERS: [&str; 3] = ["@a:here", "@b:here", "@c:here"];

/// The rooms of three users, and what the server remembers beside the database.
pub struct Scene {
    pub world: World,
    pub rooms: Vec<RoomSn>,
    pub memory: Memory,
    /// Where something last happened in each room, and to any user.
    pub rooms_changed: HashMap<RoomSn, Position>,
    pub users_changed: Position,
    /// Events that were missed, by room.
    missed: HashMap<RoomSn, Vec<Verified>>,
}

impl Scene {
    pub fn new() -> Self {
        let mut world = World::new();
        let mut create = |creator, version| {
            let room = NewRoom {
                topic: Some("t"),
                ..public_room(world.user(creator))
            };
            world.create(version, &room, Default::default())
        };
        let rooms = vec![
            create(USERS[0], RoomVersion::V12),
            create(USERS[1], RoomVersion::V10),
        ];
        let position = world.store.view().position();
        Scene {
            world,
            rooms_changed: rooms.iter().map(|room| (*room, position)).collect(),
            users_changed: position,
            rooms,
            memory: Memory::default(),
            missed: HashMap::new(),
        }
    }

    pub fn number(&self, user: usize) -> UserSn {
        self.world.user(USERS[user]).user
    }
}

#[derive(Clone, Debug)]
pub enum Step {
    Message {
        user: usize,
        room: usize,
    },
    Topic {
        user: usize,
        room: usize,
        n: u8,
    },
    Move {
        user: usize,
        target: usize,
        room: usize,
        action: u8,
    },
    Receipt {
        user: usize,
        room: usize,
    },
    /// An event comes after one that was missed, and after a topic of which nothing but the state tells.
    Gap {
        room: usize,
    },
    /// What was missed is filled in.
    Fill {
        room: usize,
    },
    Sync {
        user: usize,
    },
}

pub fn step() -> impl Strategy<Value = Step> {
    let (user, room) = (0..3usize, 0..2usize);
    prop_oneof![
        6 => (user.clone(), room.clone()).prop_map(|(user, room)| Step::Message { user, room }),
        3 => (user.clone(), room.clone(), any::<u8>())
            .prop_map(|(user, room, n)| Step::Topic { user, room, n }),
        5 => (user.clone(), 0..3usize, room.clone(), 0..6u8)
            .prop_map(|(user, target, room, action)| Step::Move { user, target, room, action }),
        1 => (user.clone(), room.clone()).prop_map(|(user, room)| Step::Receipt { user, room }),
        1 => room.clone().prop_map(|room| Step::Gap { room }),
        1 => room.prop_map(|room| Step::Fill { room }),
        4 => user.prop_map(|user| Step::Sync { user }),
    ]
}

/// Does something to a room, and notes where it changed.
pub fn perform(scene: &mut Scene, step: &Step) {
    let room = match *step {
        Step::Message { room, .. }
        | Step::Topic { room, .. }
        | Step::Move { room, .. }
        | Step::Receipt { room, .. }
        | Step::Gap { room }
        | Step::Fill { room } => scene.rooms[room],
        Step::Sync { .. } => return,
    };
    act(scene, step);
    let position = scene.world.store.view().position();
    scene.rooms_changed.insert(room, position);
    if matches!(step, Step::Move { .. }) {
        scene.users_changed = position;
    }
}

/// What is not allowed changes nothing.
fn act(scene: &mut Scene, step: &Step) {
    let (world, rooms) = (&mut scene.world, &scene.rooms);
    // Refusals are part of the histories.
    let _ = match *step {
        Step::Message { user, room } => world.say(rooms[room], USERS[user], "x"),
        Step::Topic { user, room, n } => {
            let topic = serde_json::json!({ "topic": n.to_string() });
            world.set(rooms[room], USERS[user], ("m.room.topic", ""), &topic)
        }
        Step::Move {
            user,
            target,
            room,
            action,
        } => {
            let (by, other) = (USERS[user], USERS[target]);
            let (action, target) = match action {
                0 | 1 => (Action::Join, by),
                2 => (Action::Leave, by),
                3 => (Action::Invite, other),
                4 => (Action::Kick, other),
                _ => (Action::Ban, other),
            };
            world.act(rooms[room], action, by, target)
        }
        Step::Receipt { user, room } => {
            read_all(scene, user, scene.rooms[room]);
            return;
        }
        Step::Gap { room } => {
            gap(scene, scene.rooms[room], USERS[room]);
            return;
        }
        Step::Fill { room } => {
            fill(scene, scene.rooms[room]);
            return;
        }
        Step::Sync { .. } => return,
    };
}

/// An event of the room's creator, as another server would send it.
fn make(
    world: &World,
    room: RoomSn,
    creator: &str,
    (event_type, state_key, content): (&str, Option<&str>, &str),
    prev_events: &[&str],
) -> Verified {
    let view = world.store.view();
    let head = event_log::head(&view, room).unwrap().unwrap();
    let rules = head.rules().unwrap();
    let mut keys = vec![("m.room.power_levels", ""), ("m.room.member", creator)];
    if rules.version != RoomVersion::V12 {
        keys.push(("m.room.create", ""));
    }
    let numbers = state::current_many(&view, room, &keys).unwrap();
    let numbers: Vec<EventNo> = numbers.into_iter().flatten().collect();
    let auth = event_log::get_many(&view, room, &numbers).unwrap();
    let auth: Vec<&str> = auth
        .iter()
        .map(|(_, event)| event.event_id.as_str())
        .collect();
    let draft = EventDraft {
        room_id: Some(&names::room_id(&view, room).unwrap()),
        sender: creator,
        event_type,
        state_key,
        content,
        redacts: None,
        origin_server_ts: head.next.0 as i64,
        prev_events,
        auth_events: &auth,
        depth: head.depth + 1,
        first_format: None,
    };
    let pdu = draft.seal(rules, &world.key).unwrap();
    let keys = |_: &str, _: &str| Some(world.key.verify_key());
    ingest::verify(rules, pdu.json().as_bytes(), &keys).unwrap()
}

fn gap(scene: &mut Scene, room: RoomSn, creator: &str) {
    let world = &scene.world;
    let view = world.store.view();
    let head = event_log::head(&view, room).unwrap().unwrap();
    let newest: Vec<&str> = head.extremities.iter().map(|(_, id)| id.as_str()).collect();
    let text = ("m.room.message", None, r#"{"body":"missed"}"#);
    let missed = make(world, room, creator, text, &newest);
    let topic = format!(r#"{{"topic":"{}"}}"#, head.next);
    let topic = ("m.room.topic", Some(""), topic.as_str());
    let topic = make(world, room, creator, topic, &["$unknown"]);
    let text = ("m.room.message", None, r#"{"body":"after"}"#);
    let after = make(world, room, creator, text, &[missed.pdu().event_id()]);
    let mut given: Vec<EventId> = vec![topic.pdu().event_id().clone()];
    for entry in state::all_current(&view, room).unwrap() {
        if entry.event_type != "m.room.topic" {
            let event = event_log::get(&view, room, entry.event).unwrap().unwrap();
            given.push(event.event_id);
        }
    }
    let mut txn = world.store.begin();
    let mut writer = RoomWriter::open(&mut txn, world.context(), room).unwrap();
    writer.receive(&topic, Arrival::Outlier).unwrap();
    let arrival = Arrival::AfterGap { state: &given };
    let received = writer.receive(&after, arrival).unwrap();
    assert!(matches!(received, Received::Stored { .. }), "{received:?}");
    writer.finish();
    world.store.commit(txn).unwrap();
    scene.missed.entry(room).or_default().push(missed);
}

fn fill(scene: &mut Scene, room: RoomSn) {
    let world = &scene.world;
    for missed in scene.missed.remove(&room).into_iter().flatten() {
        let mut txn = world.store.begin();
        let mut writer = RoomWriter::open(&mut txn, world.context(), room).unwrap();
        let filled = writer.backfill(&[missed], &[]).unwrap();
        assert!(matches!(filled, Filled::Stored(_)), "{filled:?}");
        writer.finish();
        world.store.commit(txn).unwrap();
    }
}

fn read_all(scene: &Scene, user: usize, room: RoomSn) {
    let store = &scene.world.store;
    let newest = event_log::backwards(&store.view(), room, rooms::EventNo::MAX).next();
    let (no, event) = newest.expect("a room has events").unwrap();
    let receipt = Receipt {
        event: no,
        event_id: event.event_id.to_string(),
        ts_ms: 1,
    };
    let mut txn = store.begin();
    let (user, kind) = (scene.number(user), ReceiptKind::Public);
    rooms::receipts::put(&mut txn, room, user, kind, None, receipt).unwrap();
    store.commit(txn).unwrap();
}

/// Every table is what the events make of it.
pub fn check_tables(world: &World) {
    let mut wrong = Vec::new();
    let mut report = |what| wrong.push(what);
    rooms::check::all(&world.store.view(), &mut report, &mut |_| {}).unwrap();
    assert_eq!(wrong, Vec::<String>::new());
}
