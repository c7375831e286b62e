//! The law of /sync: a client that follows the tokens ends with what a client that starts anew is told,
//! in the right order, without doubles, whatever happens between its requests.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use event::RoomVersion;
use names::{RoomSn, UserSn};
use proptest::prelude::*;
use rooms::create::NewRoom;
use rooms::membership::Action;
use rooms::receipts::{Receipt, ReceiptKind};
use rooms::{event_log, members, state};
use serde_json::Value;
use sync::{Answer, Memory, Request, StateMode, SyncToken};
use testkit::{World, public_room};
use users::filters::Filter;

const USERS: [&str; 3] = ["@a:here", "@b:here", "@c:here"];

/// The rooms of three users, and what the server remembers beside the database.
struct Scene {
    world: World,
    rooms: Vec<RoomSn>,
    memory: Memory,
}

impl Scene {
    fn new() -> Self {
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
        Scene {
            world,
            rooms,
            memory: Memory::default(),
        }
    }

    fn number(&self, user: usize) -> UserSn {
        self.world.user(USERS[user]).user
    }

    fn sync(
        &self,
        user: usize,
        since: Option<SyncToken>,
        filter: &Filter,
        mode: StateMode,
    ) -> Answer {
        let view = self.world.store.view();
        let rooms = members::rooms_of(&view, self.number(user)).unwrap();
        let request = Request {
            user: self.number(user),
            user_id: USERS[user],
            device: "D",
            since,
            filter,
            full_state: false,
            state_mode: mode,
            now_ms: self.world.now_ms,
        };
        sync::build(&view, &self.memory, &rooms, &|_| true, &request).unwrap()
    }
}

#[derive(Clone, Debug)]
enum Step {
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
    Sync {
        user: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (user, room) = (0..3usize, 0..2usize);
    prop_oneof![
        6 => (user.clone(), room.clone()).prop_map(|(user, room)| Step::Message { user, room }),
        3 => (user.clone(), room.clone(), any::<u8>())
            .prop_map(|(user, room, n)| Step::Topic { user, room, n }),
        5 => (user.clone(), 0..3usize, room.clone(), 0..6u8)
            .prop_map(|(user, target, room, action)| Step::Move { user, target, room, action }),
        1 => (user.clone(), room).prop_map(|(user, room)| Step::Receipt { user, room }),
        4 => user.prop_map(|user| Step::Sync { user }),
    ]
}

/// A client: what it was told, by room.
#[derive(Default)]
struct Client {
    since: Option<SyncToken>,
    joined: BTreeMap<String, ClientRoom>,
    /// The events it was told of the rooms that it is not joined to any more.
    left: BTreeMap<String, HashSet<String>>,
}

#[derive(Default)]
struct ClientRoom {
    state: BTreeMap<(String, String), String>,
    /// Pieces without gaps in them, the newest last.
    pieces: Vec<Vec<String>>,
    seen: HashSet<String>,
}

impl ClientRoom {
    fn set(&mut self, event: &Value) {
        if let Some(key) = event["state_key"].as_str() {
            let entry = (event["type"].as_str().unwrap().to_owned(), key.to_owned());
            self.state
                .insert(entry, event["event_id"].as_str().unwrap().to_owned());
        }
    }
}

impl Client {
    /// A room is not a joined one any more. Gives the events that were told of it.
    fn leave(&mut self, room: &str) -> &mut HashSet<String> {
        let told = self.left.entry(room.to_owned()).or_default();
        if let Some(was) = self.joined.remove(room) {
            *told = was.seen;
        }
        told
    }

    fn take(&mut self, answer: &Answer, mode: StateMode) {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        self.since = Some(answer.next);
        // Invited or knocking is not joined any more: a room stands in one section.
        for section in ["invite", "knock"] {
            for (room, _) in body["rooms"][section].as_object().into_iter().flatten() {
                self.leave(room);
            }
        }
        for (room, part) in body["rooms"]["leave"].as_object().into_iter().flatten() {
            let told = self.leave(room);
            if part["timeline"]["limited"] == true {
                told.clear();
            }
            for event in part["timeline"]["events"].as_array().unwrap() {
                let event_id = event["event_id"].as_str().unwrap().to_owned();
                assert!(told.insert(event_id.clone()), "told twice: {event_id}");
            }
        }
        for (id, part) in body["rooms"]["join"].as_object().into_iter().flatten() {
            let room = self.joined.entry(id.clone()).or_default();
            let state = match mode {
                StateMode::Before => &part["state"]["events"],
                StateMode::After => &part["state_after"]["events"],
            };
            for event in state.as_array().unwrap() {
                room.set(event);
            }
            if part["timeline"]["limited"] == true || room.pieces.is_empty() {
                room.pieces.push(Vec::new());
            }
            for event in part["timeline"]["events"].as_array().unwrap() {
                let event_id = event["event_id"].as_str().unwrap().to_owned();
                assert!(room.seen.insert(event_id.clone()), "told twice: {event_id}");
                room.pieces.last_mut().unwrap().push(event_id);
                if mode == StateMode::Before {
                    room.set(event);
                }
            }
        }
    }

    /// After a sync: the client's rooms and their state are the server's, and each piece is without a gap.
    fn check(&self, scene: &Scene, user: usize, lazy: bool) {
        let view = scene.world.store.view();
        let mut expected_rooms = BTreeSet::new();
        for room in members::joined_rooms(&view, scene.number(user)).unwrap() {
            let id = names::room_id(&view, room).unwrap();
            let client = self.joined.get(&id).expect("a joined room was told");
            let mut expected = BTreeMap::new();
            for entry in state::all_current(&view, room).unwrap() {
                let event = event_log::get(&view, room, entry.event).unwrap().unwrap();
                expected.insert(
                    (entry.event_type, entry.state_key),
                    event.event_id.to_string(),
                );
            }
            if lazy {
                for (key, event) in &client.state {
                    assert_eq!(expected.get(key), Some(event), "{key:?}");
                }
                expected.retain(|(of, _), _| of != "m.room.member");
                let mut told = client.state.clone();
                told.retain(|(of, _), _| of != "m.room.member");
                assert_eq!(told, expected);
            } else {
                assert_eq!(client.state, expected);
            }
            let all: Vec<String> = event_log::forwards(&view, room, rooms::EventNo::MIN)
                .map(|row| row.unwrap().1.event_id.to_string())
                .collect();
            let mut at = 0;
            for piece in client.pieces.iter().filter(|piece| !piece.is_empty()) {
                let from = at
                    + all[at..]
                        .iter()
                        .position(|id| *id == piece[0])
                        .expect("in order");
                assert_eq!(&all[from..from + piece.len()], piece.as_slice());
                at = from + piece.len();
            }
            if let Some(last) = client.pieces.last().and_then(|piece| piece.last()) {
                assert_eq!(Some(last), all.last(), "the newest event was told");
            }
            expected_rooms.insert(id);
        }
        let told: BTreeSet<String> = self.joined.keys().cloned().collect();
        assert_eq!(told, expected_rooms);
    }
}

/// Does something to a room; what is not allowed changes nothing.
fn perform(scene: &mut Scene, step: &Step) {
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
        Step::Sync { .. } => return,
    };
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
fn check_tables(world: &World) {
    let mut wrong = Vec::new();
    let mut report = |what| wrong.push(what);
    rooms::check::all(&world.store.view(), &mut report, &mut |_| {}).unwrap();
    assert_eq!(wrong, Vec::<String>::new());
}

fn run(steps: &[Step], filter: &str, mode: StateMode) {
    let filter = Filter::parse(filter.as_bytes()).unwrap();
    let lazy = filter.room.state.lazy_load_members;
    let mut scene = Scene::new();
    let mut clients: [Client; 3] = Default::default();
    for step in steps {
        perform(&mut scene, step);
        if let Step::Sync { user } = *step {
            let answer = scene.sync(user, clients[user].since, &filter, mode);
            clients[user].take(&answer, mode);
            clients[user].check(&scene, user, lazy);
        }
    }
    check_tables(&scene.world);
    for (user, client) in clients.iter_mut().enumerate() {
        let answer = scene.sync(user, client.since, &filter, mode);
        client.take(&answer, mode);
        client.check(&scene, user, lazy);
        let again = scene.sync(user, client.since, &filter, mode);
        assert!(!again.news, "{}", String::from_utf8_lossy(&again.body));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn following_tokens_is_the_same_as_starting_anew(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        run(&steps, r#"{"room":{"timeline":{"limit":3}}}"#, StateMode::Before);
    }

    #[test]
    fn so_it_is_with_state_after(steps in proptest::collection::vec(step(), 1..60)) {
        run(&steps, r#"{"room":{"timeline":{"limit":2}}}"#, StateMode::After);
    }

    #[test]
    fn so_it_is_with_lazy_members(steps in proptest::collection::vec(step(), 1..60)) {
        let filter = r#"{"room":{"timeline":{"limit":3},"state":{"lazy_load_members":true}}}"#;
        run(&steps, filter, StateMode::Before);
    }
}
