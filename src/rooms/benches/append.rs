//! What one event costs the core, from the room's head to the batch: a message and a state event, in a
//! room of two and in one of a thousand, on RocksDB without syncing its log.
//!
//! `cargo bench -p rooms`

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use event::RoomVersion;
use names::RoomSn;
use rooms::membership::Action;
use serde_json::{Map, json};
use store::rocks::{Limits, Rocks};
use testkit::{World, public_room};

const OWNER: &str = "@owner:here";

fn room_of(world: &mut World, members: usize) -> RoomSn {
    let room = world.create(
        RoomVersion::V12,
        &public_room(world.user(OWNER)),
        Map::new(),
    );
    for n in 1..members {
        let user_id = format!("@member{n}:here");
        world
            .act(room, Action::Join, &user_id, &user_id)
            .expect("the room is public");
    }
    room
}

fn append(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let rocks = Rocks::open(dir.path(), Limits::default()).expect("a database");
    let mut world = World::on(Box::new(rocks));
    let mut group = criterion.benchmark_group("append");
    for members in [2, 1000] {
        let room = room_of(&mut world, members);
        group.bench_function(BenchmarkId::new("a message, members", members), |bench| {
            bench.iter(|| world.say(room, OWNER, "Good morning").expect("allowed"));
        });
        let mut topic = 0;
        group.bench_function(BenchmarkId::new("a topic, members", members), |bench| {
            bench.iter(|| {
                topic += 1;
                let content = json!({ "topic": topic.to_string() });
                world
                    .set(room, OWNER, ("m.room.topic", ""), &content)
                    .expect("allowed")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
