//! A room of 100,000 joined members and 300,000 state events, on RocksDB: what its state costs to keep, to look
//! up and to resolve. Prints medians.
//!
//! `cargo bench -p rooms --bench large_room [-- MEMBERS STATE_EVENTS]`
//!
//! Bars: the state for a send under 1 ms; a state event under 0.2 ms; one entry at an old event under 50 us; a
//! whole old state under 100 ms; under 250 bytes on disk for a change of state; a fork with 100 conflicting events
//! on each side resolved in under 20 ms and 20 MB; a thousand of them flat. Beside it, `ruma-state-res` over the
//! full maps of the same fork.

mod ruma;

use std::time::{Duration, Instant};

use event::{EventDraft, EventId, Pdu, RoomVersion};
use names::RoomSn;
use rooms::ingest::{self, Arrival, Received, Verdict};
use rooms::{EventNo, NewEvent, Point, RoomWriter, event_log, state};
use serde_json::{Map, json};
use store::rocks::{Limits, Rocks};
use testkit::{World, public_room};

/// As the server has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const OWNER: &str = "@owner:here";
const NOTE: &str = "org.example.note";
/// Keys that state events other than members have.
const NOTES: usize = 1_000;
/// Conflicting events on each side of a fork.
const SIDE: usize = 100;

fn main() {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .flat_map(|arg| arg.parse())
        .collect();
    let members = numbers.first().copied().unwrap_or(100_000);
    let events = numbers.get(1).copied().unwrap_or(300_000);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let rocks = Rocks::open(dir.path(), Limits::default()).expect("a database");
    let mut world = World::on(Box::new(rocks));
    let mut random = Random(7);
    let started = Instant::now();
    let room = build(&mut world, members, events, &mut random);
    println!(
        "built {members} members, {events} state events in {:?}",
        started.elapsed()
    );
    sends(&mut world, room, members, &mut random);
    lookups(&world, room, members, &mut random);
    forks(&mut world, room);
    disk(world, dir.path(), events);
}

/// The same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

fn member(n: usize) -> String {
    format!("@member-{n}:here")
}

/// A room in which members join, change their names, and notes are set, all mixed.
fn build(world: &mut World, members: usize, events: usize, random: &mut Random) -> RoomSn {
    let room = world.create(
        RoomVersion::V12,
        &public_room(world.user(OWNER)),
        Map::new(),
    );
    let mut joined = 0;
    let mut made = 0;
    while made < events {
        let users: Vec<String> = (joined..(joined + 50).min(members)).map(member).collect();
        let renamed: Vec<String> = match joined {
            0 => Vec::new(),
            _ => (0..50).map(|_| member(random.below(joined))).collect(),
        };
        let notes: Vec<String> = (0..50)
            .map(|_| format!("note-{}", random.below(NOTES)))
            .collect();
        let [users, renamed] =
            [&users, &renamed].map(|ids| ids.iter().map(|id| world.user(id)).collect::<Vec<_>>());
        let owner = world.user(OWNER);
        let appended = world.change(room, |writer| {
            for user in &users {
                let content =
                    json!({ "membership": "join", "displayname": "A member" }).to_string();
                writer.append(&NewEvent::member(*user, *user, &content))?;
            }
            for user in &renamed {
                let content = json!({ "membership": "join", "displayname": made }).to_string();
                writer.append(&NewEvent::member(*user, *user, &content))?;
            }
            for key in &notes {
                let content = json!({ "text": made }).to_string();
                writer.append(&NewEvent::state(owner, NOTE, key, &content))?;
            }
            Ok(())
        });
        made += appended.expect("allowed");
        joined += users.len();
    }
    room
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn times(count: usize, mut work: impl FnMut()) -> Duration {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        work();
        times.push(begun.elapsed());
    }
    median(times)
}

fn sends(world: &mut World, room: RoomSn, members: usize, random: &mut Random) {
    let state = times(1_000, || {
        let sender = member(random.below(members.min(1_000)));
        let keys = [
            ("m.room.create", ""),
            ("m.room.power_levels", ""),
            ("m.room.member", sender.as_str()),
        ];
        let numbers = state::current_many(&world.store.view(), room, &keys).expect("readable");
        assert!(numbers.iter().all(Option::is_some));
    });
    println!("the current state for a send: {state:?}");
    let owner = world.user(OWNER);
    let mut n = 0;
    let appended = times(1_000, || {
        n += 1;
        let content = json!({ "text": n }).to_string();
        let mut txn = world.store.begin();
        let mut writer = RoomWriter::open(&mut txn, world.context(), room).expect("the room");
        writer
            .append(&NewEvent::state(owner, NOTE, "note-1", &content))
            .expect("allowed");
        writer.finish();
    });
    println!("one new state event, signed, as a change: {appended:?}");
}

fn lookups(world: &World, room: RoomSn, members: usize, random: &mut Random) {
    let view = world.store.view();
    let head = event_log::head(&view, room)
        .expect("readable")
        .expect("there");
    let events = (head.next.0 - EventNo::FIRST.0) as usize;
    let old = |random: &mut Random| EventNo(EventNo::FIRST.0 + random.below(events) as u64);
    let keys: Vec<String> = (0..100).map(|_| member(random.below(members))).collect();
    let look = |random: &mut Random| {
        let place = Point::main(old(random));
        let key = &keys[random.below(keys.len())];
        state::at(&view, room, "m.room.member", key, place).expect("readable");
    };
    (0..10_000).for_each(|_| look(random));
    println!(
        "one entry at an old event: {:?}",
        times(10_000, || look(random))
    );
    let mut entries = 0;
    let whole = times(11, || {
        let place = Point::main(old(random));
        entries += state::all_at(&view, room, place).expect("readable").len();
    });
    println!(
        "a whole old state, {} entries on average: {whole:?}",
        entries / 11
    );
}

/// A state event on top of `prev`, at `depth`.
fn note(world: &World, room_id: &str, prev: &str, depth: u64, auth: &[String], n: usize) -> Pdu {
    let key = format!("note-{n}");
    let content = json!({ "text": "the other side" }).to_string();
    let auth: Vec<&str> = auth.iter().map(String::as_str).collect();
    EventDraft {
        room_id: Some(room_id),
        sender: OWNER,
        event_type: NOTE,
        state_key: Some(&key),
        content: &content,
        redacts: None,
        origin_server_ts: world.now_ms as i64,
        prev_events: &[prev],
        auth_events: &auth,
        depth,
        first_format: None,
    }
    .seal(RoomVersion::V12.rules(), &world.key)
    .expect("an event")
}

/// How long one side takes to be built, and each event of the other side to come in.
struct Fork {
    first_side: Duration,
    arrivals: Vec<Duration>,
}

fn fork(world: &mut World, room: RoomSn) -> Fork {
    let room_id = names::room_id(&world.store.view(), room).expect("an id");
    let head = event_log::head(&world.store.view(), room)
        .expect("readable")
        .expect("there");
    let (_, fork_id) = head.extremities[0].clone();
    let owner = world.user(OWNER);
    let begun = Instant::now();
    world
        .change(room, |writer| {
            for n in 0..SIDE {
                let content = json!({ "text": "this side" }).to_string();
                let key = format!("note-{n}");
                writer.append(&NewEvent::state(owner, NOTE, &key, &content))?;
            }
            Ok(())
        })
        .expect("allowed");
    let first_side = begun.elapsed();
    let auth: Vec<String> = {
        let view = world.store.view();
        let keys = [("m.room.power_levels", ""), ("m.room.member", OWNER)];
        let numbers = state::current_many(&view, room, &keys).expect("readable");
        let numbers: Vec<EventNo> = numbers.into_iter().flatten().collect();
        let events = event_log::get_many(&view, room, &numbers).expect("readable");
        events
            .into_iter()
            .map(|(_, event)| event.event_id.to_string())
            .collect()
    };
    let mut prev: EventId = fork_id.as_str().into();
    let mut arrivals = Vec::with_capacity(SIDE);
    for n in 0..SIDE {
        world.now_ms += 1;
        let pdu = note(world, &room_id, &prev, head.depth + 1 + n as u64, &auth, n);
        prev = pdu.event_id().clone();
        let keys = |_: &str, _: &str| Some(world.key.verify_key());
        let event = ingest::verify(RoomVersion::V12.rules(), pdu.json().as_bytes(), &keys);
        let event = event.expect("signed");
        let begun = Instant::now();
        let mut txn = world.store.begin();
        let mut writer = RoomWriter::open(&mut txn, world.context(), room).expect("the room");
        let received = writer.receive(&event, Arrival::Live).expect("of this room");
        assert!(
            matches!(
                received,
                Received::Stored {
                    verdict: Verdict::Accepted,
                    ..
                }
            ),
            "{received:?}"
        );
        writer.finish();
        world.store.commit(txn).expect("a commit");
        arrivals.push(begun.elapsed());
    }
    Fork {
        first_side,
        arrivals,
    }
}

fn join_the_sides(world: &mut World, room: RoomSn) {
    world.say(room, OWNER, "Both sides").expect("allowed");
}

fn forks(world: &mut World, room: RoomSn) {
    let first = fork(world, room);
    println!(
        "a fork of {SIDE} against {SIDE}: this side {:?}, the other side in {:?}, its last event {:?}",
        first.first_side,
        first.arrivals.iter().sum::<Duration>(),
        first.arrivals[SIDE - 1]
    );
    ruma::compare(world, room);
    join_the_sides(world, room);
    let (mut last, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..1_000 {
        reset_peak();
        let before = memory_kb("VmRSS");
        let fork = fork(world, room);
        last.push(fork.arrivals[SIDE - 1]);
        memory.push(memory_kb("VmHWM").saturating_sub(before));
        join_the_sides(world, room);
    }
    for (name, piece) in [("first", 0..100), ("last", 900..1_000)] {
        println!(
            "the {name} hundred of 1000 forks: last event {:?}, {} kB more at the peak",
            median(last[piece.clone()].to_vec()),
            memory[piece].iter().max().unwrap_or(&0)
        );
    }
}

fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
}

fn memory_kb(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .expect("a line");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number")
}

/// Opens the database anew, so that what is in its log is in files, and compacted.
fn disk(world: World, dir: &std::path::Path, events: usize) {
    drop(world);
    let rocks = Rocks::open(dir, Limits::default()).expect("a database");
    let world = World::on(Box::new(rocks));
    let stats = world.store.stats().expect("readable");
    let state = stats
        .iter()
        .find(|of| of.name == "state")
        .expect("the family");
    let changes = events + 1_000 * SIDE * 3;
    println!(
        "state, its history and the graph of auth events: {} MB on disk and {} MB in memory, {} bytes for each of {changes} changes",
        state.disk_bytes / 1_000_000,
        state.memory_bytes / 1_000_000,
        (state.disk_bytes + state.memory_bytes) / changes as u64
    );
}
