//! What every engine must do, and what the store makes of it: one suite, two engines.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use store::memory::Memory;
use store::rocks::{Limits, Rocks};
use store::{
    At, Batch, Blob, Direction, Engine, Family, Options, Position, Read, Store, StoreError,
    SyncMode, Table,
};

const NUMBERS: Table<(u32, String), u64> = Table::source(Family::Rooms, 1, "numbers");
const LOG: Table<(u32, Position), Blob> = Table::source(Family::Rooms, 2, "log");
const PLACED: Table<u32, At<String>> = Table::source(Family::Users, 1, "placed");
const NEWEST: Table<(u32, Reverse<u64>), ()> = Table::source(Family::State, 1, "newest");

fn options(sync: SyncMode) -> Options {
    Options {
        sync,
        schema: 1,
        migrations: &[],
        reserve_bytes: 0,
        on_fatal: Box::new(|_| {}),
    }
}

/// Runs the test on both engines.
fn on_both(test: impl Fn(Store)) {
    test(Store::open(Box::new(Memory::default()), options(SyncMode::Always)).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let rocks = Rocks::open(dir.path(), Limits::default()).unwrap();
    test(Store::open(Box::new(rocks), options(SyncMode::Always)).unwrap());
}

#[test]
fn a_change_reads_its_own_writes_and_becomes_visible_whole() {
    on_both(|store| {
        let mut txn = store.begin();
        NUMBERS.put(&mut txn, &(1, "b".into()), &2);
        NUMBERS.put(&mut txn, &(1, "a".into()), &1);
        NUMBERS.put(&mut txn, &(2, "c".into()), &3);
        assert_eq!(NUMBERS.get(&txn, &(1, "a".into())).unwrap(), Some(1));
        assert_eq!(NUMBERS.get(&store.view(), &(1, "a".into())).unwrap(), None);
        let ticket = store.commit(txn).unwrap();
        let position = store.wait(ticket).unwrap();
        let view = store.view();
        assert!(view.position() >= position);
        let rows: Vec<_> = NUMBERS
            .scan(&view, &(1,), Direction::Forward)
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(rows, [((1, "a".into()), 1), ((1, "b".into()), 2)]);

        let mut txn = store.begin();
        NUMBERS.delete(&mut txn, &(1, "a".into()));
        NUMBERS.put(&mut txn, &(1, "aa".into()), &9);
        for direction in [Direction::Forward, Direction::Backward] {
            let mut keys: Vec<_> = NUMBERS
                .scan(&txn, &(1,), direction)
                .map(|row| row.unwrap().0.1)
                .collect();
            if direction == Direction::Backward {
                keys.reverse();
            }
            assert_eq!(keys, ["aa", "b"]);
        }
        assert_eq!(
            NUMBERS
                .multi_get(&txn, &[(1, "a".into()), (1, "b".into()), (1, "aa".into())])
                .unwrap(),
            [None, Some(2), Some(9)]
        );
    });
}

#[test]
fn a_commit_puts_its_position_into_keys_and_values() {
    on_both(|store| {
        let mut positions = Vec::new();
        for n in 0..3u8 {
            let mut txn = store.begin();
            LOG.put(&mut txn, &(7, Position::PENDING), &Blob(vec![n]));
            PLACED.put(&mut txn, &u32::from(n), &At::now("x".to_owned()));
            positions.push(store.commit(txn).unwrap().position);
        }
        assert!(positions.is_sorted());
        let head = store.head();
        let log: Vec<_> = LOG
            .scan(&head, &(7,), Direction::Forward)
            .collect::<Result<_, _>>()
            .unwrap();
        let expected: Vec<_> = positions
            .iter()
            .zip(0..)
            .map(|(p, n)| ((7, *p), Blob(vec![n])))
            .collect();
        assert_eq!(log, expected);
        let placed = PLACED.get(&head, &1).unwrap().unwrap();
        assert_eq!(
            placed,
            At {
                position: positions[1],
                value: "x".to_owned()
            }
        );
    });
}

#[test]
fn scans_have_exact_bounds_both_ways() {
    on_both(|store| {
        let mut txn = store.begin();
        for n in [1u64, 5, 9] {
            NEWEST.put(&mut txn, &(1, Reverse(n)), &());
            LOG.put(&mut txn, &(1, Position(n)), &Blob(vec![]));
        }
        LOG.put(&mut txn, &(2, Position(0)), &Blob(vec![]));
        store.commit(txn).unwrap();
        let head = store.head();
        let newest = |from: u64| {
            NEWEST
                .scan_from(&head, &(1,), &(1, Reverse(from)))
                .next()
                .map(|row| row.unwrap().0.1.0)
        };
        assert_eq!(
            [newest(9), newest(8), newest(4), newest(0)],
            [Some(9), Some(5), Some(1), None]
        );
        let before: Vec<_> = LOG
            .scan_before(&head, &(1,), &(1, Position(9)))
            .map(|row| row.unwrap().0.1.0)
            .collect();
        assert_eq!(before, [5, 1]);
        let range: Vec<_> = LOG
            .range(
                &head,
                &(1, Position(2)),
                &(1, Position(9)),
                Direction::Forward,
            )
            .map(|row| row.unwrap().0.1.0)
            .collect();
        assert_eq!(range, [5]);
    });
}

#[test]
fn a_view_does_not_change_while_others_write() {
    on_both(|store| {
        let mut txn = store.begin();
        NUMBERS.put(&mut txn, &(1, "a".into()), &1);
        let first = store.commit(txn).unwrap();
        store.wait(first).unwrap();
        let view = store.view();
        let mut txn = store.begin();
        NUMBERS.put(&mut txn, &(1, "a".into()), &2);
        let second = store.commit(txn).unwrap();
        store.wait(second).unwrap();
        assert_eq!(NUMBERS.get(&view, &(1, "a".into())).unwrap(), Some(1));
        assert_eq!(
            NUMBERS.get(&store.view(), &(1, "a".into())).unwrap(),
            Some(2)
        );
    });
}

#[test]
fn positions_grow_over_ticks_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let rocks = Rocks::open(dir.path(), Limits::default()).unwrap();
        Store::open(Box::new(rocks), options(SyncMode::Always)).unwrap()
    };
    let mut last = Position::ZERO;
    for _ in 0..3 {
        let store = open();
        for _ in 0..5 {
            let ticket = store.tick(|_| {}).unwrap();
            assert!(ticket.position > last);
            assert_eq!(store.wait(ticket).unwrap(), ticket.position);
            let mut txn = store.begin();
            NUMBERS.put(&mut txn, &(0, String::new()), &0);
            let ticket = store.commit(txn).unwrap();
            last = store.wait(ticket).unwrap();
        }
    }
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = Rocks::open(dir.path(), Limits::default()).unwrap();
    assert!(matches!(
        Rocks::open(dir.path(), Limits::default()),
        Err(StoreError::InUse { .. })
    ));
    drop(first);
    Rocks::open(dir.path(), Limits::default()).unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_nothing_is_changed() {
    let memory = Memory::default();
    let newer = Options {
        schema: 2,
        ..options(SyncMode::Always)
    };
    drop(Store::open(Box::new(memory.clone()), newer).unwrap());
    assert!(matches!(
        Store::open(Box::new(memory), options(SyncMode::Always)),
        Err(StoreError::NewerSchema { found: 2, known: 1 })
    ));
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
    let memory = Memory::default();
    let store = Store::open(Box::new(memory.clone()), options(SyncMode::Always)).unwrap();
    memory.fill_disk(true);
    let mut txn = store.begin();
    NUMBERS.put(&mut txn, &(1, "a".into()), &1);
    assert!(matches!(store.commit(txn), Err(StoreError::Full)));
    assert_eq!(NUMBERS.get(&store.head(), &(1, "a".into())).unwrap(), None);
    memory.fill_disk(false);
    let mut txn = store.begin();
    NUMBERS.put(&mut txn, &(1, "a".into()), &1);
    let ticket = store.commit(txn).unwrap();
    store.wait(ticket).unwrap();
}

#[test]
fn a_sync_that_meets_a_full_disk_waits_for_room_and_then_acknowledges() {
    let memory = Memory::default();
    let mut asked = options(SyncMode::Interval(Duration::from_millis(1)));
    asked.on_fatal = Box::new(|error| panic!("a full disk ended the store: {error}"));
    let store = Store::open(Box::new(memory.clone()), asked).unwrap();
    let mut txn = store.begin();
    NUMBERS.put(&mut txn, &(1, "a".into()), &1);
    store.commit(txn).unwrap();
    memory.fill_disk(true);
    let mut txn = store.begin();
    NUMBERS.put(&mut txn, &(1, "b".into()), &2);
    assert!(matches!(store.commit(txn), Err(StoreError::Full)));
    assert_eq!(
        NUMBERS.get(&store.view(), &(1, "a".into())).unwrap(),
        Some(1)
    );
    memory.fill_disk(false);
    drop(store);
    let store = Store::open(
        Box::new(memory.after_power_loss(0)),
        options(SyncMode::Always),
    )
    .unwrap();
    assert_eq!(
        NUMBERS.get(&store.view(), &(1, "a".into())).unwrap(),
        Some(1)
    );
    assert_eq!(NUMBERS.get(&store.view(), &(1, "b".into())).unwrap(), None);
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_reports_once() {
    let memory = Memory::default();
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    let store = Store::open(
        Box::new(memory.clone()),
        Options {
            on_fatal: Box::new(move |_| assert!(!tell.swap(true, Ordering::SeqCst))),
            ..options(SyncMode::Always)
        },
    )
    .unwrap();
    memory.fail_syncs(true);
    let before = store.view().position();
    let mut txn = store.begin();
    NUMBERS.put(&mut txn, &(1, "a".into()), &1);
    let ticket = store.commit(txn).unwrap();
    assert!(store.wait(ticket).is_err());
    assert_eq!(store.view().position(), before);
    drop(store);
    assert!(told.load(Ordering::SeqCst));
}

#[test]
fn a_batch_survives_being_shipped() {
    let memory = Memory::default();
    let store = Store::open(Box::new(memory), options(SyncMode::Always)).unwrap();
    let mut txn = store.begin();
    LOG.put(&mut txn, &(7, Position::PENDING), &Blob(vec![1]));
    let batch = txn.into_batch();
    assert_eq!(Batch::from_bytes(&batch.to_bytes()).unwrap(), batch);
    assert!(Batch::from_bytes(&[0xFF; 9]).is_err());
}

#[test]
fn a_checkpoint_is_a_database_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let rocks = Rocks::open(&dir.path().join("db"), Limits::default()).unwrap();
    let store = Store::open(Box::new(rocks), options(SyncMode::Always)).unwrap();
    let put = |n: u64| {
        let mut txn = store.begin();
        NUMBERS.put(&mut txn, &(1, n.to_string()), &n);
        let ticket = store.commit(txn).unwrap();
        store.wait(ticket).unwrap();
    };
    put(1);
    store.checkpoint(&dir.path().join("copy")).unwrap();
    put(2);
    let copy = Rocks::open(&dir.path().join("copy"), Limits::default()).unwrap();
    let copy = Store::open(Box::new(copy), options(SyncMode::Always)).unwrap();
    assert_eq!(
        NUMBERS.get(&copy.view(), &(1, "1".into())).unwrap(),
        Some(1)
    );
    assert_eq!(NUMBERS.get(&copy.view(), &(1, "2".into())).unwrap(), None);
}

/// Rules 3 to 7 in one: many threads commit; whatever a power loss leaves is a prefix of the order of
/// positions, holds everything acknowledged, and no view ever showed a gap.
#[test]
fn a_power_loss_keeps_a_prefix_with_everything_acknowledged() {
    for seed in 0..20u64 {
        let memory = Memory::default();
        let store =
            Arc::new(Store::open(Box::new(memory.clone()), options(SyncMode::Always)).unwrap());
        let done = Arc::new(AtomicBool::new(false));
        let watcher = {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            std::thread::spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    let view = store.view();
                    let log: Vec<u64> = LOG
                        .scan(&view, &(0,), Direction::Forward)
                        .map(|row| row.unwrap().0.1.0)
                        .collect();
                    assert!(log.last().is_none_or(|last| *last <= view.position().0));
                    assert!(log.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{log:?}");
                }
            })
        };
        let writers: Vec<_> = (0..4u8)
            .map(|writer| {
                let store = Arc::clone(&store);
                std::thread::spawn(move || {
                    let mut acknowledged = Vec::new();
                    for n in 0..25u8 {
                        let mut txn = store.begin();
                        LOG.put(&mut txn, &(0, Position::PENDING), &Blob(vec![writer, n]));
                        let ticket = store.commit(txn).unwrap();
                        if !(u64::from(n) + seed).is_multiple_of(3) {
                            acknowledged.push(store.wait(ticket).unwrap());
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        let mut acknowledged = Vec::new();
        let loss = memory.after_power_loss(seed);
        let loss_store = Store::open(Box::new(loss), options(SyncMode::Always)).unwrap();
        let left: Vec<u64> = LOG
            .scan(&loss_store.view(), &(0,), Direction::Forward)
            .map(|row| row.unwrap().0.1.0)
            .collect();
        assert!(left.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        for writer in writers {
            acknowledged.extend(writer.join().unwrap());
        }
        done.store(true, Ordering::SeqCst);
        watcher.join().unwrap();
        let loss = memory.after_power_loss(0);
        let loss_store = Store::open(Box::new(loss), options(SyncMode::Always)).unwrap();
        for position in acknowledged {
            assert!(LOG.contains(&loss_store.view(), &(0, position)).unwrap());
        }
    }
}

#[test]
fn weaker_modes_publish_at_once() {
    for sync in [SyncMode::Interval(Duration::from_secs(5)), SyncMode::Never] {
        let store = Store::open(Box::new(Memory::default()), options(sync)).unwrap();
        let mut txn = store.begin();
        NUMBERS.put(&mut txn, &(1, "a".into()), &1);
        let ticket = store.commit(txn).unwrap();
        assert_eq!(store.view().position(), ticket.position);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Both engines agree with a plain map over random puts, deletes and scans.
    #[test]
    fn engines_agree_with_a_map(
        ops in proptest::collection::vec((0u32..3, "[a-c]{0,3}", proptest::option::of(any::<u64>())), 0..60)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let engines: [Box<dyn Engine>; 2] = [
            Box::new(Memory::default()),
            Box::new(Rocks::open(dir.path(), Limits::default()).unwrap()),
        ];
        for engine in engines {
            let store = Store::open(engine, options(SyncMode::Never)).unwrap();
            let mut map = std::collections::BTreeMap::new();
            for chunk in ops.chunks(7) {
                let mut txn = store.begin();
                for (room, name, value) in chunk {
                    let key = (*room, name.clone());
                    match value {
                        Some(value) => {
                            NUMBERS.put(&mut txn, &key, value);
                            map.insert(key, *value);
                        }
                        None => {
                            NUMBERS.delete(&mut txn, &key);
                            map.remove(&key);
                        }
                    }
                }
                let through: Vec<_> = NUMBERS
                    .scan(&txn, &(1,), Direction::Backward).collect::<Result<_, _>>().unwrap();
                let expected: Vec<_> = map.iter().rev()
                    .filter(|((room, _), _)| *room == 1)
                    .map(|(key, value)| (key.clone(), *value)).collect();
                prop_assert_eq!(through, expected);
                store.commit(txn).unwrap();
            }
            let rows: Vec<_> = NUMBERS
                .scan(&store.head(), &(), Direction::Forward).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(rows, map.into_iter().collect::<Vec<_>>());
        }
    }
}
