//! A store in memory for the tests of this crate.

use store::memory::Memory;
use store::{Options, Position, Store, SyncMode, Txn};

use crate::Result;

/// An empty store.
pub fn store() -> Store {
    let options = Options {
        sync: SyncMode::Never,
        schema: 1,
        migrations: &[],
        reserve_bytes: 0,
        on_fatal: Box::new(|_| {}),
    };
    Store::open(Box::new(Memory::default()), options).expect("an empty store opens")
}

/// Makes a change and waits until views show it.
pub fn commit(store: &Store, change: impl FnOnce(&mut Txn) -> Result<()>) -> Position {
    let mut txn = store.begin();
    change(&mut txn).expect("the change is made");
    let ticket = store.commit(txn).expect("the change is written");
    store.wait(ticket).expect("the change is shown")
}
