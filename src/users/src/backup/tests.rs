//! Backups: the replacement rule, versions, parts.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use store::Store;

use super::*;
use crate::testing::{commit, store};

const ALICE: UserSn = UserSn(1);
const ALGORITHM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";

fn key(is_verified: bool, first_message_index: u64, forwarded_count: u64) -> BackedUpKey {
    BackedUpKey {
        is_verified,
        first_message_index,
        forwarded_count,
        session_data: format!("{{\"of\":{first_message_index}}}"),
    }
}

fn placed(room_id: &str, session_id: &str, key: BackedUpKey) -> PlacedKey {
    PlacedKey {
        room_id: room_id.to_owned(),
        session_id: session_id.to_owned(),
        key,
    }
}

fn create_version(store: &Store) -> u64 {
    let mut version = 0;
    commit(store, |txn| {
        version = create(txn, ALICE, ALGORITHM, "{\"public_key\":\"a\"}")?;
        Ok(())
    });
    version
}

fn put(store: &Store, version: u64, keys: &[PlacedKey]) -> Totals {
    let mut totals = None;
    commit(store, |txn| {
        totals = Some(put_keys(txn, ALICE, version, keys)?);
        Ok(())
    });
    totals.unwrap()
}

fn rendered(store: &Store, version: u64, scope: Scope<'_>) -> Value {
    let json = render_keys(&store.view(), ALICE, version, scope).unwrap();
    serde_json::from_slice(&json).unwrap()
}

#[test]
fn a_key_replaces_another_only_if_the_rule_says_so() {
    let present = [
        (true, 10, 5),
        (false, 10, 5),
        (false, 0, 0),
        (true, 0, 0),
        (false, 10, 0),
    ];
    // is_verified, first_message_index, forwarded_count of the new key; whether it replaces each of the
    // present ones.
    let table = [
        ((true, 10, 5), [false, true, true, false, true]),
        ((true, 9, 9), [true, true, true, false, true]),
        ((true, 10, 4), [true, true, true, false, true]),
        ((true, 11, 0), [false, true, true, false, true]),
        ((false, 0, 0), [false, true, false, false, true]),
        ((false, 10, 4), [false, true, false, false, false]),
        ((false, 10, 6), [false, false, false, false, false]),
        ((false, 9, 9), [false, true, false, false, true]),
        ((false, 11, 0), [false, false, false, false, false]),
    ];
    for (new, expected) in table {
        for (old, expected) in present.into_iter().zip(expected) {
            let store = store();
            let version = create_version(&store);
            let old = key(old.0, old.1, old.2);
            let new = key(new.0, new.1, new.2);
            let before = put(&store, version, &[placed("!r:x", "s", old.clone())]);
            let after = put(&store, version, &[placed("!r:x", "s", new.clone())]);
            let kept = if expected { &new } else { &old };
            let shown = rendered(&store, version, Scope::Session("!r:x", "s"));
            assert_eq!(
                shown,
                json!({
                    "is_verified": kept.is_verified,
                    "first_message_index": kept.first_message_index,
                    "forwarded_count": kept.forwarded_count,
                    "session_data": {"of": kept.first_message_index},
                }),
                "{new:?} against {old:?}"
            );
            assert_eq!(after.count, 1);
            assert_eq!(after.etag > before.etag, expected);
        }
    }
}

#[test]
fn keys_are_shown_by_scope_and_counted() {
    let store = store();
    let version = create_version(&store);
    assert_eq!(rendered(&store, version, Scope::All), json!({"rooms": {}}));
    let keys = [
        placed("!a:x", "1", key(true, 0, 0)),
        placed("!a:x", "2", key(true, 0, 0)),
        placed("!b:x", "1", key(true, 0, 0)),
    ];
    assert_eq!(put(&store, version, &keys), Totals { count: 3, etag: 1 });
    let all = rendered(&store, version, Scope::All);
    let rooms: BTreeMap<&String, usize> = all["rooms"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(room, keys)| (room, keys["sessions"].as_object().unwrap().len()))
        .collect();
    assert_eq!(
        rooms,
        BTreeMap::from([(&"!a:x".to_owned(), 2), (&"!b:x".to_owned(), 1)])
    );
    let room = rendered(&store, version, Scope::Room("!a:x"));
    assert_eq!(room["sessions"].as_object().unwrap().len(), 2);
    assert_eq!(
        rendered(&store, version, Scope::Room("!c:x")),
        json!({"sessions": {}})
    );
    assert!(matches!(
        render_keys(&store.view(), ALICE, version, Scope::Session("!a:x", "9")),
        Err(Error::NotFound(_))
    ));
    commit(&store, |txn| {
        let (totals, more) = delete_keys(txn, ALICE, version, Scope::Room("!a:x"))?;
        assert_eq!((totals, more), (Totals { count: 1, etag: 2 }, false));
        let (totals, _) = delete_keys(txn, ALICE, version, Scope::Session("!a:x", "1"))?;
        assert_eq!(totals, Totals { count: 1, etag: 2 });
        Ok(())
    });
    assert_eq!(current(&store.view(), ALICE).unwrap().unwrap().1.count, 1);
}

#[test]
fn only_the_newest_kept_version_is_written_to_and_numbers_are_not_reused() {
    let store = store();
    let first = create_version(&store);
    let second = create_version(&store);
    let keys = [placed("!a:x", "1", key(true, 0, 0))];
    let try_put = |version| put_keys(&mut store.begin(), ALICE, version, &keys);
    assert!(matches!(
        try_put(first),
        Err(Error::WrongBackupVersion { current }) if current == second
    ));
    assert!(matches!(try_put(77), Err(Error::NotFound(_))));
    put(&store, second, &keys);
    commit(&store, |txn| delete(txn, ALICE, second));
    assert!(matches!(
        get(&store.view(), ALICE, second),
        Err(Error::NotFound(_))
    ));
    assert!(matches!(
        render_keys(&store.view(), ALICE, second, Scope::All),
        Err(Error::NotFound(_))
    ));
    assert_eq!(current(&store.view(), ALICE).unwrap().unwrap().0, first);
    commit(&store, |txn| delete(txn, ALICE, second));
    assert!(matches!(
        delete(&mut store.begin(), ALICE, 77),
        Err(Error::NotFound(_))
    ));
    assert_eq!(create_version(&store), second + 1);
    commit(&store, |txn| delete(txn, ALICE, second + 1));
    commit(&store, |txn| delete(txn, ALICE, first));
    assert!(current(&store.view(), ALICE).unwrap().is_none());
    assert!(matches!(try_put(first), Err(Error::NotFound(_))));
}

#[test]
fn only_auth_data_of_a_version_can_be_changed() {
    let store = store();
    let version = create_version(&store);
    let mut txn = store.begin();
    assert!(matches!(
        update(&mut txn, ALICE, version, "other", "{}"),
        Err(Error::Invalid(_))
    ));
    assert!(matches!(
        update(&mut txn, ALICE, version + 1, ALGORITHM, "{}"),
        Err(Error::NotFound(_))
    ));
    commit(&store, |txn| {
        update(txn, ALICE, version, ALGORITHM, "{\"new\":1}")
    });
    assert_eq!(
        get(&store.view(), ALICE, version).unwrap().auth_data,
        "{\"new\":1}"
    );
}

#[test]
fn the_keys_of_deleted_versions_are_swept_in_parts_and_no_others() {
    let store = store();
    let kept = create_version(&store);
    let keys = [placed("!a:x", "1", key(true, 0, 0))];
    put(&store, kept, &keys);
    let gone = create_version(&store);
    for part in 0..3 {
        let keys: Vec<_> = (0..MAX_DELETED / 2)
            .map(|n| placed("!a:x", &format!("{part} {n}"), key(true, 0, 0)))
            .collect();
        put(&store, gone, &keys);
    }
    commit(&store, |txn| delete(txn, ALICE, gone));
    let mut rounds = 1;
    loop {
        let mut more = false;
        commit(&store, |txn| {
            more = sweep(txn, ALICE)?;
            Ok(())
        });
        if !more {
            break;
        }
        rounds += 1;
    }
    assert_eq!(rounds, 2);
    let left = BACKUP_KEYS
        .scan(&store.view(), &(ALICE,), Direction::Forward)
        .count();
    assert_eq!(left, 1);
    assert_eq!(
        rendered(&store, kept, Scope::Room("!a:x"))["sessions"]
            .as_object()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn names_and_data_that_are_too_large_are_refused() {
    let long = "x".repeat(300);
    let mut large = key(true, 0, 0);
    large.session_data = format!("\"{}\"", "x".repeat(MAX_DATA_BYTES));
    for bad in [
        placed(&long, "s", key(true, 0, 0)),
        placed("!a:x", &long, key(true, 0, 0)),
        placed("!a:x", "s", large),
    ] {
        assert!(matches!(check_keys(&[bad]), Err(Error::TooLarge(_))));
    }
}

proptest! {
    #[test]
    fn parts_hold_every_key_once_in_order_and_are_bounded(
        sizes in proptest::collection::vec(0usize..60_000, 0..30),
    ) {
        let keys: Vec<_> = sizes
            .iter()
            .map(|size| {
                let mut key = key(true, 0, 0);
                key.session_data = "x".repeat(*size);
                placed("!a:x", "s", key)
            })
            .collect();
        let parts = parts(&keys);
        prop_assert_eq!(parts.concat(), keys.clone());
        for part in parts {
            let bytes: usize = part.iter().map(|placed| placed.key.session_data.len()).sum();
            prop_assert!(part.len() <= 1 || bytes <= MAX_PART_BYTES);
        }
    }
}
