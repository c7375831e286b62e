//! The RocksDB engine: column families tuned by how they are read, one block cache with a byte
//! bound for all, a write-ahead log that the store syncs.
//!
//! RocksDB recovers from a full disk by itself: once there is room it writes its memtables out and begins
//! a new log. Until then a log that met the full disk is not touched again, as syncing it would be a
//! failure that RocksDB does not recover from.

mod damage;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, DBRecoveryMode, Options, ReadOptions, SnapshotWithThreadMode, WriteBatch,
    WriteBufferManager, WriteOptions, checkpoint::Checkpoint,
};

use self::damage::SyncedMark;
use crate::{
    Batch, Cursor, Direction, Engine, Family, FamilyStats, Result, Snapshot, Space, StoreError,
};

/// Memory and file bounds of the engine.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the block cache, which holds data, index and filter blocks.
    pub cache_bytes: usize,
    /// Bytes of all memtables together.
    pub write_buffer_bytes: usize,
    /// Files held open.
    pub open_files: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            write_buffer_bytes: 32 << 20,
            open_files: 1024,
        }
    }
}

/// A key of the default family, where nothing is kept.
const NO_KEY: &[u8] = b"";

/// A RocksDB database in a directory.
pub struct Rocks {
    db: Arc<DB>,
    path: PathBuf,
    mark: SyncedMark,
    /// The log met a full disk: what is in it is safe once the memtables are written out.
    log_cut: AtomicBool,
}

impl Rocks {
    /// Opens the database in `path`, making it if it is not there.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open, [`StoreError::Damaged`] if its files are not
    /// what was written. Not every file is read: `meyrin db check` does that.
    pub fn open(path: &Path, limits: Limits) -> Result<Rocks> {
        damage::find_leftovers(path)?;
        let cache = Cache::new_lru_cache(limits.cache_bytes);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_max_total_wal_size(128 << 20);
        options.set_max_open_files(limits.open_files);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(4 << 20);
        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(1 << 20);
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
            limits.write_buffer_bytes,
            false,
        ));
        options.set_stats_dump_period_sec(0);
        let mut families: Vec<ColumnFamilyDescriptor> = Family::ALL
            .map(|family| ColumnFamilyDescriptor::new(family.name(), tuned(family, &cache)))
            .into();
        // What a newer version added is opened too, so that its schema can be read and said.
        for name in DB::list_cf(&options, path).unwrap_or_default() {
            let known = Family::ALL.iter().any(|family| family.name() == name);
            if !known && name != rocksdb::DEFAULT_COLUMN_FAMILY_NAME {
                families.push(ColumnFamilyDescriptor::new(name, Options::default()));
            }
        }
        let db = DB::open_cf_descriptors(&options, path, families)
            .map_err(|error| failed_open(path, &error))?;
        damage::read_beginnings(&db, path)?;
        let mark = SyncedMark::open(path, db.latest_sequence_number())?;
        Ok(Rocks {
            db: Arc::new(db),
            path: path.to_owned(),
            mark,
            log_cut: AtomicBool::new(false),
        })
    }
}

/// Column family options by access pattern.
fn tuned(family: Family, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // In pieces of a block: the filter of a file with a million short rows is larger than a shard of the
    // cache, and would be read anew for every lookup.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(4 << 10);
    table.set_pin_top_level_index_and_filter(true);
    table.set_format_version(6);
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_write_buffer_size(16 << 20);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_compression_type(DBCompressionType::Lz4);
    match family {
        Family::Events => {
            table.set_block_size(16 << 10);
            options.set_compression_type(DBCompressionType::Zstd);
            options.set_target_file_size_base(32 << 20);
        }
        Family::EventIds | Family::Names | Family::Transactions => {
            table.set_block_size(4 << 10);
            // Random keys do not compress.
            options.set_compression_type(DBCompressionType::None);
            options.set_bottommost_compression_type(DBCompressionType::Lz4);
        }
        Family::State | Family::Rooms => {
            table.set_block_size(8 << 10);
        }
        Family::Meta
        | Family::Users
        | Family::Keys
        | Family::ToDevice
        | Family::Media
        | Family::Work => {
            table.set_block_size(4 << 10);
            options.set_write_buffer_size(4 << 20);
        }
    }
    options.set_block_based_table_factory(&table);
    options
}

fn failed_open(path: &Path, error: &rocksdb::Error) -> StoreError {
    let text = error.to_string();
    if text.contains("While lock file") || text.contains("lock hold by") {
        return StoreError::InUse {
            path: path.display().to_string(),
        };
    }
    match error.kind() {
        rocksdb::ErrorKind::Corruption => damage::found(path, text),
        _ => failure(error.clone()),
    }
}

fn failure(error: rocksdb::Error) -> StoreError {
    let text = error.to_string();
    if text.contains("No space left") || text.contains("NoSpace") {
        StoreError::Full
    } else {
        StoreError::Engine(text)
    }
}

fn handle(db: &DB, family: Family) -> Result<&rocksdb::ColumnFamily> {
    db.cf_handle(family.name())
        .ok_or_else(|| StoreError::Engine(format!("no column family {}", family.name())))
}

type RocksSnapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell::self_cell! {
    struct OwnedSnapshot {
        owner: Arc<DB>,
        #[covariant]
        dependent: RocksSnapshot,
    }
}

impl Snapshot for OwnedSnapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let handle = handle(self.borrow_owner(), family)?;
        self.borrow_dependent().get_cf(handle, key).map_err(failure)
    }

    fn multi_get(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let db = self.borrow_owner();
        let handle = handle(db, family)?;
        let mut options = ReadOptions::default();
        options.set_snapshot(self.borrow_dependent());
        options.set_async_io(false);
        let mut values = Vec::with_capacity(keys.len());
        for value in db.batched_multi_get_cf_opt(handle, keys, false, &options) {
            values.push(value.map_err(failure)?.map(|slice| slice.to_vec()));
        }
        Ok(values)
    }

    fn scan<'a>(
        &'a self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Box<dyn Cursor + 'a> {
        let handle = match handle(self.borrow_owner(), family) {
            Ok(handle) => handle,
            Err(error) => return Box::new(FailedCursor(Some(error))),
        };
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(lower);
        if !upper.is_empty() {
            options.set_iterate_upper_bound(upper);
        }
        let mut rows = self.borrow_dependent().raw_iterator_cf_opt(handle, options);
        match direction {
            Direction::Forward => rows.seek_to_first(),
            Direction::Backward => rows.seek_to_last(),
        }
        Box::new(RocksCursor {
            rows,
            direction,
            started: false,
        })
    }
}

struct FailedCursor(Option<StoreError>);

impl Cursor for FailedCursor {
    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        match self.0.take() {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }
}

struct RocksCursor<'a> {
    rows: DBRawIterator<'a>,
    direction: Direction,
    started: bool,
}

impl Cursor for RocksCursor<'_> {
    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if self.started && self.rows.valid() {
            match self.direction {
                Direction::Forward => self.rows.next(),
                Direction::Backward => self.rows.prev(),
            }
        }
        self.started = true;
        if !self.rows.valid() {
            return self.rows.status().map(|()| None).map_err(failure);
        }
        Ok(self.rows.item())
    }
}

impl Engine for Rocks {
    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(OwnedSnapshot::new(Arc::clone(&self.db), |db| db.snapshot()))
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        let mut writes = WriteBatch::default();
        for op in &batch.ops {
            let handle = handle(&self.db, op.family)?;
            match &op.value {
                Some(value) => writes.put_cf(handle, &op.key, value),
                None => writes.delete_cf(handle, &op.key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(false);
        let written = self.db.write_opt(writes, &options).map_err(failure);
        if matches!(written, Err(StoreError::Full)) {
            self.log_cut.store(true, Ordering::Release);
        }
        written
    }

    fn sync(&self) -> Result<()> {
        let sequence = self.db.latest_sequence_number();
        if self.log_cut.load(Ordering::Acquire) {
            // Fails until RocksDB has recovered. A flush would fail as well, but its work in the background
            // would be in the way of the recovery each time.
            self.db.delete(NO_KEY).map_err(failure)?;
            self.flush_all()?;
            self.log_cut.store(false, Ordering::Release);
        } else {
            // A full disk here is as any failure: nobody knows what the file system dropped.
            self.db
                .flush_wal(true)
                .map_err(|error| StoreError::Engine(error.to_string()))?;
        }
        self.mark.raise(sequence)
    }

    fn checkpoint(&self, target: &Path) -> Result<()> {
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(target))
            .map_err(failure)
    }

    fn stats(&self) -> Result<Vec<FamilyStats>> {
        let mut all = Vec::with_capacity(Family::ALL.len());
        for family in Family::ALL {
            let handle = handle(&self.db, family)?;
            let number = |name: &str| -> Result<u64> {
                let value = self
                    .db
                    .property_int_value_cf(handle, name)
                    .map_err(failure)?;
                Ok(value.unwrap_or(0))
            };
            all.push(FamilyStats {
                name: family.name(),
                rows: number("rocksdb.estimate-num-keys")?,
                disk_bytes: number("rocksdb.total-sst-files-size")?,
                memory_bytes: number("rocksdb.size-all-mem-tables")?,
            });
        }
        Ok(all)
    }

    fn space(&self) -> Option<Space> {
        let stat = rustix::fs::statvfs(&self.path).ok()?;
        Some(Space {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

impl Rocks {
    /// Writes all memtables into files of their own, which are synced.
    fn flush_all(&self) -> Result<()> {
        for family in Family::ALL {
            let handle = handle(&self.db, family)?;
            self.db.flush_cf(handle).map_err(failure)?;
        }
        Ok(())
    }
}

impl Drop for Rocks {
    fn drop(&mut self) {
        // Compactions are cut short: they are begun again at the next start.
        self.db.cancel_all_background_work(true);
    }
}
