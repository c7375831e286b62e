//! Which servers are in a room follows who is joined.

use event::RoomVersion;
use names::RoomSn;
use rooms::membership::Action;
use rooms::{event_log, servers};
use serde_json::Map;
use testkit::{World, public_room};

const OWNER: &str = "@owner:here";
const ANN: &str = "@ann:there";
const BEN: &str = "@ben:there";
const CAT: &str = "@cat:elsewhere:8448";

fn checked(world: &World, room: RoomSn) -> Vec<String> {
    let view = world.store.view();
    let mut problems = Vec::new();
    rooms::check::all(&view, &mut |what| problems.push(what), &mut |_| ()).unwrap();
    assert_eq!(problems, [""; 0]);
    servers::joined(&view, room).unwrap()
}

#[test]
fn a_server_is_in_a_room_from_its_first_user_to_its_last() {
    let mut world = World::new();
    let room = world.create(
        RoomVersion::V11,
        &public_room(world.user(OWNER)),
        Map::new(),
    );
    assert!(!servers::any_known(&world.store.view(), room).unwrap());
    assert_eq!(checked(&world, room), [""; 0]);
    for user in [ANN, BEN, CAT] {
        world.act(room, Action::Join, user, user).unwrap();
    }
    assert_eq!(checked(&world, room), ["elsewhere:8448", "there"]);
    world.act(room, Action::Leave, ANN, ANN).unwrap();
    assert_eq!(checked(&world, room), ["elsewhere:8448", "there"]);
    world.act(room, Action::Kick, OWNER, BEN).unwrap();
    assert_eq!(checked(&world, room), ["elsewhere:8448"]);

    let view = world.store.view();
    assert!(!servers::is_joined(&view, room, "there").unwrap());
    let shared: Vec<RoomSn> = servers::rooms_with(&view, "elsewhere:8448")
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(shared, [room]);
    assert_eq!(servers::rooms_with(&view, "there").count(), 0);
    assert_eq!(servers::rooms_with(&view, "elsewhere").count(), 0);

    let head = event_log::head(&view, room).unwrap().unwrap();
    let (kick, _) = head.extremities[0];
    let left = |world: &World| -> Vec<_> {
        let view = world.store.view();
        let left = servers::rooms_left_after(&view, "there", RoomSn(0));
        left.collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(left(&world), [(room, kick)]);
    world.act(room, Action::Join, ANN, ANN).unwrap();
    assert_eq!(left(&world), []);
}

#[test]
fn an_event_concerns_the_servers_that_were_there_before_or_after_it() {
    let mut world = World::new();
    let room = world.create(
        RoomVersion::V11,
        &public_room(world.user(OWNER)),
        Map::new(),
    );
    world.act(room, Action::Join, ANN, ANN).unwrap();
    world.say(room, OWNER, "Good morning").unwrap();
    let last = |world: &World| {
        let head = event_log::head(&world.store.view(), room).unwrap().unwrap();
        head.next.previous()
    };
    let said = last(&world);
    world.act(room, Action::Ban, OWNER, ANN).unwrap();
    let banned = last(&world);
    world.act(room, Action::Join, CAT, CAT).unwrap();
    let joined = last(&world);
    world.say(room, OWNER, "Good evening").unwrap();
    let after = last(&world);

    let view = world.store.view();
    let concerned = |place| servers::concerned(&view, room, place).unwrap();
    assert_eq!(concerned(said), ["there"]);
    assert_eq!(concerned(banned), ["there"]);
    assert_eq!(concerned(joined), ["elsewhere:8448"]);
    assert_eq!(concerned(after), ["elsewhere:8448"]);
    assert!(servers::is_concerned(&view, room, "there", banned).unwrap());
    assert!(!servers::is_concerned(&view, room, "there", after).unwrap());
    assert!(!servers::is_concerned(&view, room, "nowhere", said).unwrap());
}
