//! A client that follows the positions of a sliding sync knows, of the rooms in its windows, what a client
//! that begins anew is told; also when answers get lost and rules change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use event::auth::Membership;
use proptest::prelude::*;
use rooms::{EventNo, event_log, members, state};
use serde_json::Value;
use sync::sliding::request::{Dialect, Extensions, List, RoomConfig, Rules};
use sync::sliding::required_state::{Element, RequiredState, Selection};
use sync::sliding::{Answer, Asked, Changes, Request, State, build};

use crate::scene::{Scene, Step, USERS, perform, step};

/// How a client asks.
#[derive(Clone, Copy)]
struct Style {
    /// The last place of the window; no limit without one.
    last: Option<u64>,
    lazy: bool,
}

fn request(style: Style, timeline_limit: u64) -> Request {
    let selection = Selection {
        include: vec![Element::default()],
        lazy_members: style.lazy,
        ..Selection::default()
    };
    let list = List {
        config: RoomConfig {
            timeline_limit,
            required_state: RequiredState::new(selection),
        },
        ranges: style.last.map(|last| vec![(0, last)]),
        ..List::default()
    };
    Request {
        dialect: Dialect::Stable,
        connection: String::new(),
        rules: Arc::new(Rules {
            lists: vec![("all".to_owned(), list)],
            subscriptions: BTreeMap::new(),
        }),
        extensions: Extensions::default(),
    }
}

#[derive(Default)]
struct Client {
    base: Option<State>,
    rooms: BTreeMap<String, Room>,
}

#[derive(Default)]
struct Room {
    membership: String,
    joined_count: u64,
    bump_stamp: u64,
    state: BTreeMap<(String, String), String>,
    /// Pieces without gaps in them, the newest last.
    pieces: Vec<Vec<String>>,
}

fn ask(scene: &Scene, client: &Client, user: usize, request: &Request, generation: u64) -> Answer {
    let view = scene.world.store.view();
    let rooms = members::rooms_of(&view, scene.number(user)).unwrap();
    let changes = Changes {
        rooms: &|room, since| scene.rooms_changed.get(&room).is_some_and(|at| *at > since),
        user: &|since| scene.users_changed > since,
    };
    let asked = Asked {
        user: scene.number(user),
        user_id: USERS[user],
        device: "D",
        request,
        generation,
        now_ms: scene.world.now_ms,
    };
    build(
        &view,
        &scene.memory,
        &changes,
        &rooms,
        client.base.as_ref(),
        &asked,
    )
    .unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

impl Client {
    fn take(&mut self, answer: Answer) {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        self.base = Some(answer.state);
        for (id, part) in body["rooms"].as_object().unwrap() {
            if part["initial"] == true {
                self.rooms.insert(id.clone(), Room::default());
            }
            let room = self
                .rooms
                .get_mut(id)
                .expect("an unknown room is told anew");
            room.membership = text(&part["membership"]);
            if let Some(count) = part["joined_count"].as_u64() {
                room.joined_count = count;
            }
            if let Some(stamp) = part["bump_stamp"].as_u64() {
                room.bump_stamp = stamp;
            }
            for event in list(&part["required_state"]) {
                let key = (text(&event["type"]), text(&event["state_key"]));
                room.state.insert(key, text(&event["event_id"]));
            }
            let begins = part["limited"] == true || part["expanded_timeline"] == true;
            if begins || room.pieces.is_empty() {
                room.pieces.push(Vec::new());
            }
            let events: Vec<String> = list(&part["timeline"])
                .map(|event| text(&event["event_id"]))
                .collect();
            let live = part["num_live"].as_u64().unwrap_or_default();
            assert!(live <= events.len() as u64);
            room.pieces.last_mut().unwrap().extend(events);
        }
    }

    /// After an answer: of the rooms in the window the client knows what the server does.
    fn check(&self, scene: &Scene, user: usize, style: Style) {
        let view = scene.world.store.view();
        let joined = members::joined_rooms(&view, scene.number(user)).unwrap();
        let mut by_activity: Vec<_> = joined
            .into_iter()
            .map(|room| {
                let newest = event_log::backwards(&view, room, EventNo::MAX).next();
                (newest.unwrap().unwrap().1.position, room)
            })
            .collect();
        by_activity.sort_by(|a, b| b.cmp(a));
        // Rooms that are not joined may stand in the window, too.
        let window = match style.last {
            None => by_activity.len(),
            Some(_) => 0,
        };
        for (_, room) in by_activity.into_iter().take(window) {
            let id = names::room_id(&view, room).unwrap();
            let told = self.rooms.get(&id).expect("a joined room was told");
            assert_eq!(told.membership, "join");
            check_room(&view, room, told, style);
        }
        for (id, told) in &self.rooms {
            let room = names::room_sn(&view, id).unwrap().unwrap();
            let is = members::membership(&view, room, scene.number(user)).unwrap();
            let same = (told.membership == "join") == (is == Membership::Join);
            assert!(
                same || style.last.is_some(),
                "{id} is {is:?}, not {}",
                told.membership
            );
        }
    }
}

fn check_room(view: &store::View, room: names::RoomSn, told: &Room, style: Style) {
    let mut expected = BTreeMap::new();
    for entry in state::all_current(view, room).unwrap() {
        let event = event_log::get(view, room, entry.event).unwrap().unwrap();
        let key = (entry.event_type, entry.state_key);
        expected.insert(key, event.event_id.to_string());
    }
    let mut known = told.state.clone();
    if style.lazy {
        expected.retain(|(of, _), _| of != "m.room.member");
        known.retain(|(of, _), _| of != "m.room.member");
    }
    assert_eq!(known, expected);
    let head = event_log::head(view, room).unwrap().unwrap();
    assert_eq!(told.joined_count, head.joined);
    let mut all = Vec::new();
    let mut bump = 0;
    for row in event_log::forwards(view, room, EventNo::MIN) {
        let (no, event) = row.unwrap();
        if !event.flags.is_visible() {
            continue;
        }
        let bumps = ["\"m.room.message\"", "\"m.room.create\""];
        if !no.is_past() && bumps.iter().any(|of| event.json.contains(of)) {
            bump = event.position.0;
        }
        all.push(event.event_id.to_string());
    }
    assert_eq!(told.bump_stamp, bump);
    for piece in told.pieces.iter().filter(|piece| !piece.is_empty()) {
        let from = all.iter().position(|id| *id == piece[0]).expect("an event");
        assert_eq!(&all[from..from + piece.len()], piece.as_slice());
    }
    let last = told.pieces.last().and_then(|piece| piece.last());
    assert_eq!(last, all.last(), "the newest event was told");
    let distinct: BTreeSet<_> = told.pieces.last().into_iter().flatten().collect();
    let newest = told.pieces.last().map_or(0, Vec::len);
    assert_eq!(distinct.len(), newest, "a piece tells an event once");
}

fn run(steps: &[Step], style: Style) {
    let mut scene = Scene::new();
    let mut clients: [Client; 3] = Default::default();
    for (generation, step) in (1..).zip(steps) {
        perform(&mut scene, step);
        match *step {
            Step::Sync { user } => {
                let request = request(style, 3);
                let answer = ask(&scene, &clients[user], user, &request, generation);
                clients[user].take(answer);
                clients[user].check(&scene, user, style);
            }
            // With every topic an answer gets lost; with some receipts the client asks for more.
            Step::Topic { user, .. } => {
                ask(&scene, &clients[user], user, &request(style, 2), generation);
            }
            Step::Receipt { user, room } => {
                let request = request(style, 1 + 5 * room as u64);
                let answer = ask(&scene, &clients[user], user, &request, generation);
                clients[user].take(answer);
                clients[user].check(&scene, user, style);
            }
            _ => {}
        }
    }
    for (user, client) in clients.iter_mut().enumerate() {
        let all = Style {
            last: None,
            ..style
        };
        let request = request(all, 3);
        let answer = ask(&scene, client, user, &request, 1000);
        client.take(answer);
        client.check(&scene, user, all);
        let again = ask(&scene, client, user, &request, 1001);
        assert!(!again.news, "{}", String::from_utf8_lossy(&again.body));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn following_positions_is_the_same_as_beginning_anew(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        run(&steps, Style { last: None, lazy: false });
    }

    #[test]
    fn so_it_is_with_lazy_members(steps in proptest::collection::vec(step(), 1..60)) {
        run(&steps, Style { last: None, lazy: true });
    }

    #[test]
    fn so_it_is_when_rooms_drop_out_of_the_window(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        run(&steps, Style { last: Some(0), lazy: false });
    }
}
