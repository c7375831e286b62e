//! What an answer to /sync costs the core: anew and from a token, for an account in many rooms, on RocksDB.
//!
//! `cargo bench -p sync`

use std::collections::HashSet;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use event::RoomVersion;
use names::RoomSn;
use rooms::create::NewRoom;
use rooms::members;
use serde_json::Map;
use store::rocks::{Limits, Rocks};
use sync::{Answer, Memory, Request, StateMode, SyncToken};
use testkit::{World, public_room};
use users::filters::Filter;

const OWNER: &str = "@owner:here";
const ROOMS: usize = 1000;
const MESSAGES: usize = 20;

struct Scene {
    world: World,
    memory: Memory,
    filter: Filter,
}

impl Scene {
    /// `changed` says which rooms have news, as the node knows it from memory.
    fn sync(&self, since: Option<SyncToken>, changed: &dyn Fn(RoomSn) -> bool) -> Answer {
        let view = self.world.store.view();
        let user = self.world.user(OWNER).user;
        let rooms = members::rooms_of(&view, user).expect("rows");
        let request = Request {
            user,
            user_id: OWNER,
            device: "D",
            since,
            filter: &self.filter,
            full_state: false,
            state_mode: StateMode::Before,
            now_ms: self.world.now_ms,
        };
        sync::build(&view, &self.memory, &rooms, changed, &request).expect("an answer")
    }
}

fn build(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let rocks = Rocks::open(dir.path(), Limits::default()).expect("a database");
    let mut world = World::on(Box::new(rocks));
    let rooms: Vec<RoomSn> = (0..ROOMS)
        .map(|_| {
            let room = NewRoom {
                name: Some("A room"),
                ..public_room(world.user(OWNER))
            };
            let room = world.create(RoomVersion::V12, &room, Map::new());
            for _ in 0..MESSAGES {
                world.say(room, OWNER, "Good morning").expect("allowed");
            }
            room
        })
        .collect();
    let filter = r#"{"room":{"timeline":{"limit":20},"state":{"lazy_load_members":true}}}"#;
    let mut scene = Scene {
        world,
        memory: Memory::default(),
        filter: Filter::parse(filter.as_bytes()).expect("a filter"),
    };
    let mut group = criterion.benchmark_group(format!("sync, {ROOMS} rooms"));
    group.sample_size(10);
    group.bench_function("first, lazy members", |bench| {
        bench.iter(|| scene.sync(None, &|_| true).body.len());
    });
    group.sample_size(100);
    let since = scene.sync(None, &|_| true).next;
    group.bench_function("nothing new", |bench| {
        bench.iter(|| black_box(scene.sync(Some(since), &|_| false)).news);
    });
    scene
        .world
        .say(rooms[7], OWNER, "Good evening")
        .expect("allowed");
    let with_news = HashSet::from([rooms[7]]);
    group.bench_function("one message", |bench| {
        bench.iter(|| black_box(scene.sync(Some(since), &|room| with_news.contains(&room))).news);
    });
    group.finish();
}

criterion_group!(benches, build);
criterion_main!(benches);
