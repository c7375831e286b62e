//! One-time keys under concurrency, as the shell uses them: each claim under the owner's lock, on the newest
//! written state, answered when it is durable.

use std::collections::BTreeSet;
use std::sync::Mutex;

use names::UserSn;
use serde_json::json;
use store::memory::Memory;
use store::{Options, Store, SyncMode};
use users::keys::one_time::{self, NamedKey};

const ALGORITHM: &str = "signed_curve25519";

fn open() -> Store {
    let options = Options {
        sync: SyncMode::Always,
        schema: 1,
        migrations: &[],
        reserve_bytes: 0,
        on_fatal: Box::new(|_| {}),
    };
    Store::open(Box::new(Memory::default()), options).expect("an empty store opens")
}

fn upload(store: &Store, owner: &Mutex<()>, numbers: std::ops::Range<u32>) {
    let keys: Vec<_> = numbers
        .map(|n| NamedKey::new(&format!("{ALGORITHM}:{n:04}"), &json!({"key": n})).expect("a key"))
        .collect();
    let guard = owner.lock().expect("the lock");
    let mut txn = store.begin();
    one_time::upload(&mut txn, UserSn(1), "D", &keys).expect("uploaded");
    let ticket = store.commit(txn).expect("committed");
    drop(guard);
    store.wait(ticket).expect("durable");
}

fn claim(store: &Store, owner: &Mutex<()>) -> Option<String> {
    let guard = owner.lock().expect("the lock");
    let mut txn = store.begin();
    let key = one_time::claim(&mut txn, UserSn(1), "D", ALGORITHM).expect("claimed");
    let ticket = store.commit(txn).expect("committed");
    drop(guard);
    store.wait(ticket).expect("durable");
    key.map(|key| key.name())
}

#[test]
fn many_claims_at_once_get_each_key_once_and_in_order_of_upload() {
    let store = open();
    let owner = Mutex::new(());
    upload(&store, &owner, 0..100);
    let claimed: Vec<Vec<String>> = std::thread::scope(|scope| {
        let uploader = scope.spawn(|| {
            for batch in 1..4 {
                upload(&store, &owner, batch * 100..(batch + 1) * 100);
            }
        });
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..40).filter_map(|_| claim(&store, &owner)).collect()))
            .collect();
        uploader.join().expect("uploaded");
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a claiming thread"))
            .collect()
    });
    for one in &claimed {
        assert!(one.is_sorted(), "one claimer sees older keys first");
    }
    let number = claimed.iter().map(Vec::len).sum::<usize>();
    let distinct: BTreeSet<&String> = claimed.iter().flatten().collect();
    assert_eq!(distinct.len(), number, "no key is given out twice");
    let rest: Vec<String> = std::iter::from_fn(|| claim(&store, &owner)).collect();
    assert_eq!(number + rest.len(), 400, "every key is given out");
    assert!(rest.is_sorted());
    assert!(
        distinct.iter().all(|key| *key < &rest[0]),
        "older keys are given out before newer ones"
    );
}
