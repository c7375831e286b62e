//! A database made by the crate's own functions is clean; every kind of harm done to it is found.

use names::{Names, RoomSn, UserSn};
use serde_json::json;
use store::memory::Memory;
use store::{At, Blob, Options, Position, Store, SyncMode, Txn};

use super::*;
use crate::accounts::{self, Account, Kind};
use crate::keys::one_time::{self, NamedKey};
use crate::keys::user_signatures::UserSignature;
use crate::keys::{Owner, device_keys, device_lists};
use crate::push::rules;
use crate::pushers::{self, Pusher};
use crate::testing::commit;
use crate::{account_data, backup, devices, directory, profile, tokens};

const ALICE: &str = "@alice:here";

fn problems(store: &Store) -> Vec<String> {
    let mut found = Vec::new();
    all(&store.view(), &mut |problem| found.push(problem)).unwrap();
    found
}

fn one_time_key(id: &str) -> NamedKey {
    NamedKey::new(&format!("signed_curve25519:{id}"), &json!({"key": id})).unwrap()
}

/// An account with something in every table, and its number.
fn house() -> (Store, UserSn) {
    let options = Options {
        sync: SyncMode::Never,
        schema: 1,
        migrations: &[],
        reserve_bytes: 0,
        on_fatal: Box::new(|_| {}),
    };
    let store = Store::open(Box::new(Memory::default()), options).unwrap();
    let names = Names::open(&store, "here").unwrap();
    let alice = names.user(&store, ALICE).unwrap();
    commit(&store, |txn| {
        accounts::create(txn, alice, &Account::new(Kind::User, 1, None))?;
        devices::log_in(txn, alice, "D", None, 1)?;
        tokens::issue(txn, alice, "D", [1; 32], Some([2; 32]), None);
        tokens::put_login(txn, [3; 32], alice, 100);
        tokens::put_openid(txn, [4; 32], alice, 100);
        profile::set(txn, alice, profile::DISPLAYNAME, json!("Alice Z"))?;
        directory::add(txn, alice, ALICE)?;
        account_data::put(txn, alice, "a.type", b"{}")?;
        account_data::put_room(txn, alice, RoomSn(5), "a.type", b"{}")?;
        rules::update(txn, alice, |_| Ok(()))?;
        pushers::set(txn, alice, "app", "key", &pusher(), false).map(drop)
    });
    commit(&store, |txn| {
        let owner = Owner {
            user: alice,
            user_id: ALICE,
        };
        let keys = json!({
            "user_id": ALICE, "device_id": "D", "algorithms": [], "keys": {}, "signatures": {},
        });
        device_keys::upload(txn, owner, "D", &keys.to_string())?;
        one_time::upload(txn, alice, "D", &[one_time_key("a"), one_time_key("b")])?;
        one_time::upload_fallback(txn, alice, "D", &[one_time_key("f")])?;
        device_lists::mark_changed(txn, alice)?;
        let signature = UserSignature {
            master_key: "key".to_owned(),
            key_id: "ed25519:key".to_owned(),
            signature: "signature".to_owned(),
        };
        USER_SIGNATURES.put(txn, &(alice, alice), &At::now(signature));
        USER_SIGNATURE_LOG.put(txn, &(alice, Position::PENDING, alice), &());
        let version = backup::create(txn, alice, "m.megolm_backup.v1", "{}")?;
        let key = backup::PlacedKey {
            room_id: "!room:here".to_owned(),
            session_id: "session".to_owned(),
            key: backup::BackedUpKey {
                is_verified: true,
                first_message_index: 0,
                forwarded_count: 0,
                session_data: "{}".to_owned(),
            },
        };
        backup::put_keys(txn, alice, version, &[key]).map(drop)
    });
    commit(&store, |txn| {
        one_time::claim(txn, alice, "D", "signed_curve25519")?;
        account_data::put(txn, alice, "a.type", b"{\"again\":1}")
    });
    (store, alice)
}

fn pusher() -> Pusher {
    Pusher {
        kind: "http".to_owned(),
        app_display_name: "App".to_owned(),
        device_display_name: "Phone".to_owned(),
        profile_tag: None,
        lang: "en".to_owned(),
        data: "{}".to_owned(),
        device: "D".to_owned(),
        since_ms: 1,
    }
}

#[test]
fn what_the_functions_of_this_crate_write_is_clean() {
    let (store, alice) = house();
    assert_eq!(problems(&store), [""; 0]);
    commit(&store, |txn| {
        devices::delete_all(txn, alice, None).map(drop)
    });
    commit(&store, |txn| account_data::clear(txn, alice));
    commit(&store, |txn| directory::remove(txn, alice));
    assert_eq!(problems(&store), [""; 0]);
}

type Harm = Box<dyn Fn(&mut Txn, UserSn)>;

/// Deletes the first row of a table.
fn lose<K: Key + 'static, V: Value + 'static>(table: &'static Table<K, V>) -> Harm {
    Box::new(move |txn, _| {
        let first = table.scan(txn, &(), Direction::Forward).next();
        let (key, _) = first.expect("a row").expect("a good row");
        table.delete(txn, &key);
    })
}

#[test]
fn every_harm_is_found_and_named() {
    let harms: Vec<(&str, Harm)> = vec![
        ("device_tokens: a row is missing", lose(&DEVICE_TOKENS)),
        ("token_expiries: a row is missing", lose(&TOKEN_EXPIRIES)),
        (
            "account_data_log: a row is missing",
            lose(&ACCOUNT_DATA_LOG),
        ),
        ("pushers_by_key: a row is missing", lose(&PUSHERS_BY_KEY)),
        ("directory_words: a row is missing", lose(&DIRECTORY_WORDS)),
        (
            "one_time_key_ids: a row is missing",
            lose(&ONE_TIME_KEY_IDS),
        ),
        ("key_counts: a row is missing", lose(&KEY_COUNTS)),
        (
            "user_signature_log: a row is missing",
            lose(&USER_SIGNATURE_LOG),
        ),
        ("device_list_log: a row is missing", lose(&DEVICE_LIST_LOG)),
        ("device_tokens: a row has no source", lose(&ACCESS_TOKENS)),
        ("device_tokens: a row has no source", lose(&REFRESH_TOKENS)),
        ("token_expiries: a row has no source", lose(&LOGIN_TOKENS)),
        ("token_expiries: a row has no source", lose(&OPENID_TOKENS)),
        ("account_data_log: a row has no source", lose(&ACCOUNT_DATA)),
        (
            "account_data_log: a row has no source",
            lose(&ROOM_ACCOUNT_DATA),
        ),
        ("account_data_log: a row has no source", lose(&PUSH_RULES)),
        ("pushers_by_key: a row has no source", lose(&PUSHERS)),
        (
            "directory_words: a row has no source",
            lose(&DIRECTORY_ENTRIES),
        ),
        (
            "one_time_key_ids: a row has no source",
            lose(&ONE_TIME_KEYS),
        ),
        (
            "key_counts: a row does not count the keys",
            lose(&FALLBACK_KEYS),
        ),
        (
            "user_signature_log: a row has no source",
            lose(&USER_SIGNATURES),
        ),
        ("device_list_log: a row has no source", lose(&DEVICE_LISTS)),
        ("backup_keys: keys of a backup", lose(&BACKUPS)),
        ("backups: a backup lacks all its keys", lose(&BACKUP_KEYS)),
        ("access_tokens: a row of a device", lose(&DEVICES)),
        ("devices: a row of an account", lose(&ACCOUNTS)),
        (
            "to_device: a row of a position",
            Box::new(|txn, user| {
                let later = (user, "D".to_owned(), Position(1 << 60), 0);
                TO_DEVICE.put(txn, &later, &Blob(b"{}".to_vec()));
            }),
        ),
        (
            "accounts: an account without a name",
            Box::new(|txn, _| {
                let account = Account::new(Kind::User, 1, None);
                ACCOUNTS.put(txn, &UserSn(99), &account);
            }),
        ),
        (
            "key_counts: a row does not count the keys",
            Box::new(|txn, user| {
                let counts = At::now(Counts::default());
                KEY_COUNTS.put(txn, &(user, "D".to_owned()), &counts);
            }),
        ),
    ];
    for (expected, harm) in harms {
        let (store, alice) = house();
        commit(&store, |txn| {
            harm(txn, alice);
            Ok(())
        });
        let found = problems(&store);
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "wanted {expected:?}, found {found:#?}"
        );
    }
}
