//! Measures the writer: changes of the size of a message, committed by many threads that each wait until
//! theirs is durable. Prints the cost of one sync of this disk beside it.
//!
//! `cargo run --release -p store --example writer [SECONDS]`

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store::rocks::{Limits, Rocks};
use store::{Blob, Family, Options, Position, Store, SyncMode, Table};

const EVENTS: Table<(u32, u64), Blob> = Table::source(Family::Events, 1, "events");
const IDS: Table<String, u64> = Table::source(Family::EventIds, 1, "ids");
const HEADS: Table<u32, Blob> = Table::source(Family::Rooms, 1, "heads");
const LOG: Table<(u32, Position), ()> = Table::source(Family::Rooms, 2, "log");

fn main() {
    let seconds = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    let dir = tempfile::tempdir_in(".").expect("a directory for the measurement");
    print_sync_cost(dir.path());
    for (name, sync) in [("always", SyncMode::Always), ("never", SyncMode::Never)] {
        for (writers, rooms) in [(1, 1), (32, 1), (32, 1000)] {
            let path = dir.path().join(format!("{name}-{writers}-{rooms}"));
            let rocks = Rocks::open(&path, Limits::default()).expect("a database");
            let options = Options {
                sync,
                schema: 1,
                migrations: &[],
                reserve_bytes: 0,
                on_fatal: Box::new(|error| panic!("{error}")),
            };
            let store = Arc::new(Store::open(Box::new(rocks), options).expect("a store"));
            let what = format!("sync {name}, {writers} writers, {rooms} rooms");
            measure(&store, &what, writers, rooms, Duration::from_secs(seconds));
        }
    }
}

fn print_sync_cost(dir: &std::path::Path) {
    let mut file = File::create(dir.join("sync")).expect("a file");
    let mut times: Vec<Duration> = (0..300)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[1; 1024]).expect("a write");
            file.sync_data().expect("a sync");
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!(
        "one fdatasync of this disk: p50 {:?}, p99 {:?}",
        times[150], times[297]
    );
}

fn measure(store: &Arc<Store>, what: &str, writers: usize, rooms: u64, time: Duration) {
    let numbers = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let workers: Vec<_> = (0..writers)
        .map(|_| {
            let (store, numbers) = (Arc::clone(store), Arc::clone(&numbers));
            std::thread::spawn(move || {
                let mut times = Vec::new();
                while start.elapsed() < time {
                    let n = numbers.fetch_add(1, Ordering::Relaxed);
                    let begin = Instant::now();
                    commit(&store, (n % rooms) as u32, n);
                    times.push(begin.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times: Vec<Duration> = workers
        .into_iter()
        .flat_map(|worker| worker.join().expect("a worker"))
        .collect();
    times.sort_unstable();
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{what}: {rate:.0} changes/s, p50 {p50:?}, p99 {p99:?}");
}

fn commit(store: &Store, room: u32, n: u64) {
    let mut txn = store.begin();
    EVENTS.put(&mut txn, &(room, n), &Blob(vec![7; 700]));
    IDS.put(&mut txn, &format!("${n:043}"), &n);
    HEADS.put(&mut txn, &room, &Blob(vec![1; 120]));
    LOG.put(&mut txn, &(room, Position::PENDING), &());
    let ticket = store.commit(txn).expect("a commit");
    store.wait(ticket).expect("durable");
}
