//! A database whose files are not what was written is not opened as if nothing were wrong.

use std::fs;
use std::path::{Path, PathBuf};

use store::rocks::{Limits, Rocks};
use store::{Batch, Family, Op, Options, Store, StoreError, SyncMode, Table};
use tempfile::TempDir;

const NUMBERS: Table<u64, u64> = Table::source(Family::Rooms, 1, "numbers");

fn open(path: &Path, sync: SyncMode, schema: u32) -> Result<Store, StoreError> {
    let options = Options {
        sync,
        schema,
        migrations: &[],
        reserve_bytes: 0,
        on_fatal: Box::new(|_| {}),
    };
    Store::open(Box::new(Rocks::open(path, Limits::default())?), options)
}

fn put(store: &Store, n: u64) {
    let mut txn = store.begin();
    NUMBERS.put(&mut txn, &n, &n);
    let ticket = store.commit(txn).unwrap();
    store.wait(ticket).unwrap();
}

/// What is on the disk while the store runs, as a kill would leave it.
fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

fn files(of: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(of)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == ending))
        .collect();
    found.sort();
    found
}

fn assert_damaged(path: &Path) {
    for _ in 0..2 {
        match open(path, SyncMode::Always, 1) {
            Err(error @ StoreError::Damaged { .. }) => {
                assert!(error.to_string().contains("backup"), "{error}");
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was opened"),
        }
    }
}

#[test]
fn a_log_that_lost_acknowledged_changes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), SyncMode::Always, 1).unwrap();
    for n in 0..100 {
        put(&store, n);
    }
    for cut in [true, false] {
        let copy = copy(folder.path());
        let log = files(copy.path(), "log").pop().unwrap();
        let mut bytes = fs::read(&log).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        if cut {
            bytes.truncate(used / 2);
        } else {
            bytes[used / 2] ^= 0xFF;
        }
        fs::write(&log, bytes).unwrap();
        assert_damaged(copy.path());
        fs::remove_file(copy.path().join("SYNCED")).unwrap();
        let rest = open(copy.path(), SyncMode::Always, 1).unwrap();
        assert_eq!(NUMBERS.get(&rest.view(), &0).unwrap(), Some(0));
        assert_eq!(NUMBERS.get(&rest.view(), &99).unwrap(), None);
    }
}

#[test]
fn a_log_whose_end_was_never_synced_may_be_cut_by_a_power_loss() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), SyncMode::Never, 1).unwrap();
    for n in 0..100 {
        put(&store, n);
    }
    let copy = copy(folder.path());
    let log = files(copy.path(), "log").pop().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes.truncate(used - 3);
    fs::write(&log, bytes).unwrap();
    let again = open(copy.path(), SyncMode::Always, 1).unwrap();
    assert_eq!(NUMBERS.get(&again.view(), &98).unwrap(), Some(98));
    assert_eq!(NUMBERS.get(&again.view(), &99).unwrap(), None);
}

#[test]
fn a_database_is_opened_again_whenever_its_process_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), SyncMode::Always, 1).unwrap();
    for n in 0..50 {
        put(&store, n);
        if n % 10 == 0 {
            let copy = copy(folder.path());
            for _ in 0..3 {
                let again = open(copy.path(), SyncMode::Always, 1).unwrap();
                assert_eq!(NUMBERS.get(&again.view(), &n).unwrap(), Some(n));
            }
        }
    }
}

#[test]
fn broken_missing_and_short_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), SyncMode::Always, 1).unwrap();
    for n in 0..1000 {
        let mut txn = store.begin();
        NUMBERS.put(&mut txn, &n, &n);
        store.commit(txn).unwrap();
    }
    drop(store);
    // Opened again, what is in the log goes to files of its own.
    drop(open(folder.path(), SyncMode::Always, 1).unwrap());
    let harms: [fn(&Path); 5] = [
        |path| fs::remove_file(path.join("CURRENT")).unwrap(),
        |path| fs::write(path.join("CURRENT"), "").unwrap(),
        |path| fs::remove_file(files(path, "sst").pop().unwrap()).unwrap(),
        |path| {
            let file = files(path, "sst").pop().unwrap();
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        },
        |path| {
            for file in files(path, "sst") {
                let mut bytes = fs::read(&file).unwrap();
                bytes[..16].fill(0xA5);
                fs::write(&file, bytes).unwrap();
            }
        },
    ];
    for harm in harms {
        let copy = copy(folder.path());
        harm(copy.path());
        assert_damaged(copy.path());
    }
}

#[test]
fn a_newer_schema_is_named_even_if_it_has_more_families() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), SyncMode::Always, 1).unwrap());
    let mut more = rocksdb::DB::open_cf(
        &rocksdb::Options::default(),
        folder.path(),
        Family::ALL.map(Family::name),
    )
    .unwrap();
    more.create_cf("of_the_future", &rocksdb::Options::default())
        .unwrap();
    drop(more);
    // Of the same schema it is not in the way.
    let store = open(folder.path(), SyncMode::Always, 1).unwrap();
    let ticket = store.commit_batch(Batch {
        ops: vec![Op {
            family: Family::Meta,
            key: b"\x01schema".to_vec(),
            value: Some(9u64.to_be_bytes().to_vec()),
            key_position: None,
            value_position: None,
        }],
    });
    store.wait(ticket.unwrap()).unwrap();
    drop(store);
    match open(folder.path(), SyncMode::Always, 1) {
        Err(StoreError::NewerSchema { found: 9, known: 1 }) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}
