//! What other servers are given of a room: events that they may see whole, all others redacted.

use event::RoomVersion;
use names::RoomSn;
use rooms::membership::Action;
use rooms::served::{ServerVisibility, write_events, write_numbers};
use rooms::{EventNo, event_log, graph};
use serde_json::{Map, Value, json};
use testkit::{World, public_room};

const ALICE: &str = "@alice:here";
const BOB: &str = "@bob:there";

/// A room whose history shows what this says.
fn room_with(world: &mut World, visibility: &str) -> RoomSn {
    let room = public_room(world.user(ALICE));
    let room = world.create(RoomVersion::V11, &room, Map::new());
    let content = json!({ "history_visibility": visibility });
    let key = ("m.room.history_visibility", "");
    // Where that is so already, nothing changes.
    world.set(room, ALICE, key, &content).unwrap();
    room
}

/// The texts of the room's messages, as the server is given them; nothing where they are redacted.
fn texts(world: &World, room: RoomSn, server: &str) -> Vec<Option<String>> {
    let view = world.store.view();
    let all: rooms::Result<Vec<_>> = event_log::forwards(&view, room, EventNo::FIRST).collect();
    let visibility = ServerVisibility::of(&view, room, server).unwrap();
    let mut out = Vec::new();
    let rules = RoomVersion::V11.rules();
    write_events(&mut out, &view, (room, rules), &all.unwrap(), &visibility).unwrap();
    let events: Vec<Value> = serde_json::from_slice(&out).unwrap();
    let messages = events
        .iter()
        .filter(|event| event["type"] == "m.room.message");
    messages
        .map(|event| event["content"]["body"].as_str().map(str::to_owned))
        .collect()
}

/// Somebody of the other server comes, goes, and comes again; a word is said each time.
fn told(visibility: &str) -> Vec<Option<String>> {
    let mut world = World::new();
    let room = room_with(&mut world, visibility);
    world.say(room, ALICE, "before").unwrap();
    world.act(room, Action::Join, BOB, BOB).unwrap();
    world.say(room, ALICE, "while there").unwrap();
    world.act(room, Action::Leave, BOB, BOB).unwrap();
    world.say(room, ALICE, "while away").unwrap();
    world.act(room, Action::Invite, ALICE, BOB).unwrap();
    world.say(room, ALICE, "while invited").unwrap();
    world.act(room, Action::Join, BOB, BOB).unwrap();
    world.say(room, ALICE, "now").unwrap();
    texts(&world, room, "there")
}

fn these(texts: [&str; 5]) -> Vec<Option<String>> {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    texts.into_iter().map(given).collect()
}

#[test]
fn a_server_sees_what_its_users_saw() {
    let all = [
        "before",
        "while there",
        "while away",
        "while invited",
        "now",
    ];
    assert_eq!(told("shared"), these(all));
    assert_eq!(told("world_readable"), these(all));
    let invited = ["", "while there", "", "while invited", "now"];
    assert_eq!(told("invited"), these(invited));
    let joined = ["", "while there", "", "", "now"];
    assert_eq!(told("joined"), these(joined));
}

#[test]
fn states_and_auth_chains_are_lists_of_whole_events() {
    let mut world = World::new();
    let room = room_with(&mut world, "joined");
    let view = world.store.view();
    let (_, last) = event_log::backwards(&view, room, EventNo::MAX)
        .next()
        .unwrap()
        .unwrap();
    let found = graph::state_before_event(&view, room, &last.event_id).unwrap();
    let found = found.unwrap();
    let mut out = Vec::new();
    let rules = RoomVersion::V11.rules();
    write_numbers(&mut out, &view, (room, rules), &found.state).unwrap();
    let events: Vec<Value> = serde_json::from_slice(&out).unwrap();
    assert_eq!(events.len(), found.state.len());
    assert!(events.iter().any(|event| event["type"] == "m.room.create"));
    let chain = graph::auth_chain(&view, room, &last.event_id).unwrap();
    assert!(chain.unwrap().len() >= 3);
    assert_eq!(graph::auth_chain(&view, room, "$none").unwrap(), None);
}
