//! The law of /sync: a client that follows the tokens ends with what a client that starts anew is told,
//! in the right order, without doubles, whatever happens between its requests.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use event::{RoomVersion, SigningKey};
use names::{Names, RoomSn, UserSn};
use proptest::prelude::*;
use rooms::create::{NewRoom, Preset};
use rooms::membership::{Action, Change, MemberProfile};
use rooms::receipts::{Receipt, ReceiptKind};
use rooms::{Cache, Context, NewEvent, RoomWriter, Sender, event_log, members, state};
use serde_json::Value;
use store::memory::Memory as Engine;
use store::{Options, Store, SyncMode};
use sync::{Answer, Memory, Request, StateMode, SyncToken};
use users::filters::Filter;

const USERS: [&str; 3] = ["@a:here", "@b:here", "@c:here"];

struct World {
    store: Store,
    names: Names,
    key: SigningKey,
    cache: Cache,
    users: Vec<UserSn>,
    rooms: Vec<RoomSn>,
    now_ms: u64,
    memory: Memory,
}

impl World {
    fn new() -> Self {
        let options = Options {
            sync: SyncMode::Never,
            schema: 1,
            migrations: &[],
            reserve_bytes: 0,
            on_fatal: Box::new(|_| {}),
        };
        let store = Store::open(Box::new(Engine::default()), options).unwrap();
        let names = Names::open(&store, "here").unwrap();
        let users = USERS
            .iter()
            .map(|id| names.user(&store, id).unwrap())
            .collect();
        World {
            store,
            names,
            key: SigningKey::generate("here", [7; 32]),
            cache: Cache::default(),
            users,
            rooms: Vec::new(),
            now_ms: 1000,
            memory: Memory::default(),
        }
    }

    fn sender(&self, user: usize) -> Sender<'static> {
        Sender {
            user: self.users[user],
            user_id: USERS[user],
        }
    }

    fn create(&mut self, creator: usize, version: RoomVersion) {
        self.now_ms += 1;
        let room = NewRoom {
            creator: self.sender(creator),
            profile: MemberProfile::default(),
            preset: Preset::PublicChat,
            name: None,
            topic: Some("t"),
            alias: None,
            published: false,
            invite: Vec::new(),
            is_direct: false,
            initial_state: Vec::new(),
            power_level_override: Default::default(),
        };
        let mut random = [0; 18];
        random[0] = self.rooms.len() as u8;
        let create = rooms::create::create_event(
            version,
            &self.key,
            &room,
            Default::default(),
            random,
            self.now_ms,
        )
        .unwrap();
        let number = self.names.room(&self.store, create.room_id()).unwrap();
        let mut txn = self.store.begin();
        let context = Context {
            cache: &self.cache,
            key: &self.key,
            now_ms: self.now_ms,
        };
        let creator = room.creator.user;
        let mut writer =
            RoomWriter::begin(&mut txn, context, version.rules(), number, creator, &create)
                .unwrap();
        rooms::create::build(&mut writer, &room).unwrap();
        writer.finish();
        self.store.commit(txn).unwrap();
        self.rooms.push(number);
    }

    /// Does something to a room; what is not allowed changes nothing.
    fn act(&mut self, room: usize, act: impl FnOnce(&mut RoomWriter<'_>) -> rooms::Result<()>) {
        self.now_ms += 1;
        let mut txn = self.store.begin();
        let context = Context {
            cache: &self.cache,
            key: &self.key,
            now_ms: self.now_ms,
        };
        let mut writer = RoomWriter::open(&mut txn, context, self.rooms[room]).unwrap();
        if act(&mut writer).is_ok() {
            writer.finish();
            self.store.commit(txn).unwrap();
        }
    }

    fn sync(
        &self,
        user: usize,
        since: Option<SyncToken>,
        filter: &Filter,
        mode: StateMode,
    ) -> Answer {
        let view = self.store.view();
        let rooms = members::rooms_of(&view, self.users[user]).unwrap();
        let request = Request {
            user: self.users[user],
            user_id: USERS[user],
            device: "D",
            since,
            filter,
            full_state: false,
            state_mode: mode,
            now_ms: self.now_ms,
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
    fn take(&mut self, answer: &Answer, mode: StateMode) {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        self.since = Some(answer.next);
        // Invited or knocking is not joined any more: a room stands in one section.
        for section in ["invite", "knock"] {
            for (room, _) in body["rooms"][section].as_object().into_iter().flatten() {
                self.joined.remove(room);
            }
        }
        for (room, part) in body["rooms"]["leave"].as_object().into_iter().flatten() {
            assert!(part["timeline"]["events"].is_array());
            self.joined.remove(room);
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
    fn check(&self, world: &World, user: usize, lazy: bool) {
        let view = world.store.view();
        let mut expected_rooms = BTreeSet::new();
        for room in members::joined_rooms(&view, world.users[user]).unwrap() {
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

fn perform(world: &mut World, step: &Step) {
    match *step {
        Step::Message { user, room } => {
            let sender = world.sender(user);
            world.act(room, |writer| {
                let content = r#"{"msgtype":"m.text","body":"x"}"#;
                let new = NewEvent::message(sender, "m.room.message", content);
                rooms::send::message(writer, &new).map(|_| ())
            });
        }
        Step::Topic { user, room, n } => {
            let sender = world.sender(user);
            world.act(room, |writer| {
                let content = format!(r#"{{"topic":"{n}"}}"#);
                let new = NewEvent::state(sender, "m.room.topic", "", &content);
                rooms::send::state(writer, &new).map(|_| ())
            });
        }
        Step::Move {
            user,
            target,
            room,
            action,
        } => {
            let (sender, target) = (world.sender(user), world.sender(target));
            let (action, target) = match action {
                0 | 1 => (Action::Join, sender),
                2 => (Action::Leave, sender),
                3 => (Action::Invite, target),
                4 => (Action::Kick, target),
                _ => (Action::Ban, target),
            };
            world.act(room, |writer| {
                let change = Change {
                    action,
                    sender,
                    target,
                    profile: MemberProfile::default(),
                    reason: None,
                    is_guest: false,
                    is_direct: false,
                    custom: None,
                };
                rooms::membership::change(writer, &change).map(|_| ())
            });
        }
        Step::Receipt { user, room } => {
            let room = world.rooms[room];
            let view = world.store.view();
            let Some(row) = event_log::backwards(&view, room, rooms::EventNo::MAX).next() else {
                return;
            };
            let (no, event) = row.unwrap();
            let receipt = Receipt {
                event: no,
                event_id: event.event_id.to_string(),
                ts_ms: 1,
            };
            let mut txn = world.store.begin();
            let (user, kind) = (world.users[user], ReceiptKind::Public);
            rooms::receipts::put(&mut txn, room, user, kind, None, receipt).unwrap();
            world.store.commit(txn).unwrap();
        }
        Step::Sync { .. } => {}
    }
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
    let mut world = World::new();
    world.create(0, RoomVersion::V12);
    world.create(1, RoomVersion::V10);
    let mut clients: [Client; 3] = Default::default();
    for step in steps {
        perform(&mut world, step);
        if let Step::Sync { user } = *step {
            let answer = world.sync(user, clients[user].since, &filter, mode);
            clients[user].take(&answer, mode);
            clients[user].check(&world, user, lazy);
        }
    }
    check_tables(&world);
    for (user, client) in clients.iter_mut().enumerate() {
        let answer = world.sync(user, client.since, &filter, mode);
        client.take(&answer, mode);
        client.check(&world, user, lazy);
        let again = world.sync(user, client.since, &filter, mode);
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
