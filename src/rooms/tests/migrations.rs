//! Databases of older schemas, as this one makes them its own.

use event::RoomVersion;
use names::RoomSn;
use rooms::membership::Action;
use serde_json::Map;
use store::{Batch, Direction, Family, Op, Read};
use testkit::{World, public_room};

/// The tables of the graph of auth events: rows of [`Family::State`] that begin with these bytes.
const AUTH_TABLES: [u8; 2] = [5, 6];

fn complaints(world: &World, room: RoomSn) -> Vec<String> {
    let mut found = Vec::new();
    rooms::check::room(&world.store.view(), room, "the room", &mut |what| {
        found.push(what)
    })
    .unwrap();
    found
}

fn auth_rows(world: &World) -> Vec<(Vec<u8>, Vec<u8>)> {
    let view = world.store.view();
    let mut rows = Vec::new();
    for table in AUTH_TABLES {
        let mut cursor = view.scan_raw(Family::State, &[table], &[table + 1], Direction::Forward);
        while let Some((key, value)) = cursor.next().unwrap() {
            rows.push((key.to_vec(), value.to_vec()));
        }
    }
    rows
}

#[test]
fn a_room_from_before_the_graph_of_auth_events_gets_the_one_it_would_have() {
    for version in RoomVersion::ALL {
        let mut world = World::new();
        let room = world.create(version, &public_room(world.user("@owner:here")), Map::new());
        for member in ["@one:here", "@two:here"] {
            world.act(room, Action::Join, member, member).unwrap();
        }
        assert_eq!(complaints(&world, room), [""; 0]);
        let wanted = auth_rows(&world);
        let mut ops = Vec::new();
        for (key, _) in &wanted {
            ops.push(Op {
                family: Family::State,
                key: key.clone(),
                value: None,
                key_position: None,
                value_position: None,
            });
        }
        world.store.commit_batch(Batch { ops }).unwrap();
        assert!(complaints(&world, room).len() > 5);
        for _ in 0..2 {
            rooms::migrations::index_auth_events(&world.store).unwrap();
            assert_eq!(auth_rows(&world), wanted);
        }
        assert_eq!(complaints(&world, room), [""; 0]);
    }
}
