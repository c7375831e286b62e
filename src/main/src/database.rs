//! The database as a whole: how it is opened, and every table that is in it.

use config::Config;
use store::rocks::{Limits, Rocks};
use store::{Migration, Options, Store, StoreError, SyncMode, TableInfo};

/// The schema that this binary writes. It grows with every change of stored bytes, together with a migration.
pub const SCHEMA: u32 = 2;

const MIGRATIONS: &[Migration] = &[Migration {
    to: 2,
    run: rooms::migrations::index_auth_events,
}];

/// Left free on the disk, so that compaction and the log of the database can go on when writes are refused.
const RESERVE_BYTES: u64 = 256 << 20;

/// Opens the database, or makes it.
///
/// # Errors
/// [`StoreError::InUse`] when a server runs on it.
pub fn open(config: &Config) -> Result<Store, StoreError> {
    let storage = &config.storage;
    let limits = Limits {
        cache_bytes: usize::try_from(storage.block_cache.bytes()).unwrap_or(usize::MAX),
        write_buffer_bytes: usize::try_from(storage.write_buffer.bytes()).unwrap_or(usize::MAX),
        open_files: i32::try_from(storage.max_open_files).unwrap_or(i32::MAX),
    };
    let engine = Rocks::open(&config.database_dir(), limits)?;
    let sync = match storage.sync {
        config::SyncMode::Always => SyncMode::Always,
        config::SyncMode::Interval => SyncMode::Interval(storage.sync_interval),
        config::SyncMode::Never => SyncMode::Never,
    };
    let options = Options {
        sync,
        schema: SCHEMA,
        migrations: MIGRATIONS,
        reserve_bytes: RESERVE_BYTES,
        on_fatal: Box::new(end_process),
    };
    Store::open(Box::new(engine), options)
}

/// After a failed sync nobody knows what is on the disk: only a new start, which reads it, can tell.
fn end_process(error: &StoreError) {
    tracing::error!(%error, "a sync of the database failed; the server ends at once");
    std::process::exit(1);
}

/// Every table of every crate.
pub fn tables() -> Vec<TableInfo> {
    let mut all = vec![store::META_TABLE];
    for tables in [
        names::TABLES,
        users::TABLES,
        rooms::TABLES,
        media::TABLES,
        servers::TABLES,
        node::jobs::TABLES,
    ] {
        all.extend_from_slice(tables);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tables_have_the_same_place_or_name() {
        let tables = tables();
        for (index, table) in tables.iter().enumerate() {
            for other in &tables[..index] {
                let same_place = table.family == other.family && table.id == other.id;
                assert!(!same_place, "{} and {}", table.name, other.name);
                assert_ne!(table.name, other.name);
            }
        }
    }
}
