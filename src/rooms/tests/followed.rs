//! A user of another server is followed from when they and a user of ours are in a room until one of them leaves.

use event::RoomVersion;
use names::{RoomSn, UserSn};
use rooms::followed::{self, OurStays};
use rooms::membership::Action;
use serde_json::Map;
use store::{Position, Read};
use testkit::{World, public_room};

const OWNER: &str = "@owner:here";
const GUEST: &str = "@guest:here";
const ANN: &str = "@ann:there";

fn since(world: &World, user: UserSn) -> Option<Position> {
    let view = world.store.view();
    let mut problems = Vec::new();
    rooms::check::all(&view, &mut |what| problems.push(what), &mut |_| ()).unwrap();
    assert_eq!(problems, [""; 0]);
    followed::since(&view, user, &mut OurStays::default(), Position::ZERO).unwrap()
}

fn new_room(world: &mut World) -> RoomSn {
    let owner = world.user(OWNER);
    world.create(RoomVersion::V11, &public_room(owner), Map::new())
}

#[test]
fn the_time_of_following_begins_with_the_later_of_both_and_ends_with_the_first_to_leave() {
    let mut world = World::new();
    let room = new_room(&mut world);
    let ann = world.user(ANN).user;
    assert_eq!(since(&world, ann), None);
    world.act(room, Action::Join, ANN, ANN).unwrap();
    let joined = since(&world, ann).unwrap();
    assert_eq!(joined, world.store.view().position());
    world.say(room, ANN, "Hello").unwrap();
    assert_eq!(since(&world, ann), Some(joined));

    // Who comes later does not make it shorter, and one of ours is enough.
    world.act(room, Action::Join, GUEST, GUEST).unwrap();
    assert_eq!(since(&world, ann), Some(joined));
    world.act(room, Action::Leave, OWNER, OWNER).unwrap();
    assert!(since(&world, ann).unwrap() > joined);
    world.act(room, Action::Leave, GUEST, GUEST).unwrap();
    assert_eq!(since(&world, ann), None);
}

#[test]
fn who_leaves_and_comes_back_is_followed_anew_unless_another_room_is_shared() {
    let mut world = World::new();
    let (one, other) = (new_room(&mut world), new_room(&mut world));
    let ann = world.user(ANN).user;
    for room in [one, other] {
        world.act(room, Action::Join, ANN, ANN).unwrap();
    }
    let first = since(&world, ann).unwrap();
    world.act(other, Action::Leave, ANN, ANN).unwrap();
    world.act(other, Action::Join, ANN, ANN).unwrap();
    assert_eq!(since(&world, ann), Some(first));
    let view = world.store.view();
    let rooms: Vec<RoomSn> = followed::rooms_of(&view, ann)
        .map(|row| row.unwrap().0)
        .collect();
    assert_eq!(rooms, [one, other]);

    world.act(one, Action::Leave, ANN, ANN).unwrap();
    assert!(since(&world, ann).unwrap() > first);
    world.act(other, Action::Leave, ANN, ANN).unwrap();
    assert_eq!(since(&world, ann), None);
}
