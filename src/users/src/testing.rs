//! A store in memory for the tests of this crate.

use store::memory::Memory;
use store::{Options, Store, SyncMode};

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
