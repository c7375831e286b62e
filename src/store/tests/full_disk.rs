//! RocksDB on a disk that fills under it, without any reserve: the log itself meets the full disk.
//!
//! RocksDB goes on by itself some seconds after there are 64 MiB of room: as much as its memtables may need.
//! The disk is a small one in memory, in a mount namespace of its own, which any user may make with
//! `unshare` of util-linux: the test runs itself there.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store::rocks::{Limits, Rocks};
use store::{Blob, Family, Options, Store, StoreError, SyncMode, Table};

const ROWS: Table<(u32, u64), Blob> = Table::source(Family::Rooms, 1, "rows");
const WRITERS: u32 = 4;
const DISK: &str = "MEYRIN_TEST_DISK";
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn what_was_written_before_the_disk_was_full_is_acknowledged_when_there_is_room() {
    if let Some(disk) = std::env::var_os(DISK) {
        return on_disk(Path::new(&disk));
    }
    let folder = tempfile::tempdir().unwrap();
    let itself = std::env::current_exe().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=160m tmpfs '{}' && exec '{}' --nocapture",
        folder.path().display(),
        itself.display()
    );
    let done = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--"])
        .args(["sh", "-c", &script])
        .env(DISK, folder.path())
        .status()
        .expect("unshare, of util-linux, can be started");
    assert!(done.success(), "user namespaces are needed for this test");
}

fn open(disk: &Path) -> Store {
    let options = Options {
        sync: SyncMode::Always,
        schema: 1,
        migrations: &[],
        reserve_bytes: 0,
        on_fatal: Box::new(|error| {
            eprintln!("a full disk ended the store: {error}");
            std::process::exit(1);
        }),
    };
    let engine = Rocks::open(&disk.join("db"), Limits::default()).unwrap();
    Store::open(Box::new(engine), options).unwrap()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        if begin.elapsed() > LIMIT {
            // Not a panic: writers may wait for ever.
            eprintln!("waited in vain until {what}");
            std::process::exit(1);
        }
        std::thread::yield_now();
    }
}

/// Tells the writers to stop, also when the test has failed.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn on_disk(disk: &Path) {
    let store = open(disk);
    let stop = AtomicBool::new(false);
    let (acknowledged, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let write = |writer: u32| {
        let mut known = Vec::new();
        for n in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let mut txn = store.begin();
            ROWS.put(&mut txn, &(writer, n), &Blob(vec![writer as u8; 3000]));
            match store.commit(txn) {
                Ok(ticket) => {
                    store.wait(ticket).expect("it is acknowledged in the end");
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    known.push((n, true));
                }
                Err(StoreError::Full) => {
                    if refused.fetch_add(1, Ordering::Relaxed) < 1000 {
                        known.push((n, false));
                    }
                    std::thread::yield_now();
                }
                Err(other) => panic!("{other}"),
            }
        }
        known
    };
    let known: Vec<Vec<(u64, bool)>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| scope.spawn(move || write(n)))
            .collect();
        let end = StopAtEnd(&stop);
        for _ in 0..2 {
            let before = acknowledged.load(Ordering::Relaxed);
            until("changes are acknowledged", || {
                acknowledged.load(Ordering::Relaxed) > before + 100
            });
            let filler = disk.join("filler");
            let mut file = File::create(&filler).unwrap();
            let before = refused.load(Ordering::Relaxed);
            until("changes are refused", || {
                // Whatever the database frees meanwhile is taken, too.
                while file.write_all(&[7; 4096]).is_ok() {}
                refused.load(Ordering::Relaxed) > before
            });
            let view = store.view();
            assert!(ROWS.get(&view, &(0, 0)).unwrap().is_some(), "reads go on");
            fs::remove_file(&filler).unwrap();
            drop(file);
        }
        let before = acknowledged.load(Ordering::Relaxed);
        until("changes are acknowledged again", || {
            acknowledged.load(Ordering::Relaxed) > before + 100
        });
        drop(end);
        let ended = writers.into_iter().map(|writer| writer.join());
        ended.map(|known| known.expect("a writer")).collect()
    });
    all_is_as_it_was_said(&store, &known);
    drop(store);
    all_is_as_it_was_said(&open(disk), &known);
}

fn all_is_as_it_was_said(store: &Store, known: &[Vec<(u64, bool)>]) {
    let view = store.view();
    for (writer, known) in (0..).zip(known) {
        for (n, written) in known {
            let there = ROWS.contains(&view, &(writer, *n)).unwrap();
            assert_eq!(there, *written, "row {n} of writer {writer}");
        }
    }
}
