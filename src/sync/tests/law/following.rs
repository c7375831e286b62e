//! A client that follows the tokens of /sync ends with what a client that starts anew is told, in the
//! right order, without doubles.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use rooms::{event_log, members, state};
use serde_json::Value;
use sync::{Answer, Request, StateMode, SyncToken};
use users::filters::Filter;

use crate::scene::{Scene, Step, USERS, check_tables, perform, step};

fn sync(
    scene: &Scene,
    user: usize,
    since: Option<SyncToken>,
    filter: &Filter,
    mode: StateMode,
) -> Answer {
    let view = scene.world.store.view();
    let rooms = members::rooms_of(&view, scene.number(user)).unwrap();
    let request = Request {
        user: scene.number(user),
        user_id: USERS[user],
        device: "D",
        since,
        filter,
        full_state: false,
        state_mode: mode,
        now_ms: scene.world.now_ms,
    };
    sync::build(&view, &scene.memory, &rooms, &|_| true, &request).unwrap()
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
                .map(|row| row.unwrap().1)
                .filter(|event| event.flags.is_visible())
                .map(|event| event.event_id.to_string())
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

fn run(steps: &[Step], filter: &str, mode: StateMode) {
    let filter = Filter::parse(filter.as_bytes()).unwrap();
    let lazy = filter.room.state.lazy_load_members;
    let mut scene = Scene::new();
    let mut clients: [Client; 3] = Default::default();
    for step in steps {
        perform(&mut scene, step);
        if let Step::Sync { user } = *step {
            let answer = sync(&scene, user, clients[user].since, &filter, mode);
            clients[user].take(&answer, mode);
            clients[user].check(&scene, user, lazy);
        }
    }
    check_tables(&scene.world);
    for (user, client) in clients.iter_mut().enumerate() {
        let answer = sync(&scene, user, client.since, &filter, mode);
        client.take(&answer, mode);
        client.check(&scene, user, lazy);
        let again = sync(&scene, user, client.since, &filter, mode);
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
