//! Whether the files of a database are what was written, as far as can be told when it is opened.
//!
//! RocksDB itself finds a broken manifest, files that are missing or have another length. Here is what it
//! does not find: a database without its `CURRENT` file, in whose place it would make an empty one; blocks
//! that fail their checksum, of which the first of every family are read; and a log that is broken before
//! its end. RocksDB takes the good part of such a log, because the end of a log may be broken after a power loss;
//! but what was synced is in the good part, and the sequence number that the last sync reached is kept in
//! a file beside the log to prove it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rocksdb::{DB, IteratorMode, ReadOptions};

use super::handle;
use crate::{Family, Result, StoreError};

/// Bytes of each family that are read when a database is opened. Small databases are read whole.
const READ_BYTES: usize = 1 << 20;

/// The file of the mark, in the database's folder.
const MARK_FILE: &str = "SYNCED";

pub(super) fn found(path: &Path, why: String) -> StoreError {
    StoreError::Damaged {
        path: path.display().to_string(),
        why,
    }
}

/// Refuses a folder that holds data and no `CURRENT` file.
pub(super) fn find_leftovers(path: &Path) -> Result<()> {
    if path.join("CURRENT").exists() {
        return Ok(());
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::Engine(error.to_string())),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let kind = Path::new(&name).extension();
        if kind.is_some_and(|kind| kind == "sst" || kind == "log") {
            return Err(found(path, "the file CURRENT is missing".to_owned()));
        }
    }
    Ok(())
}

/// Reads the first rows of every family and its last one, with their checksums.
pub(super) fn read_beginnings(db: &DB, path: &Path) -> Result<()> {
    let damaged = |family: Family, error: rocksdb::Error| {
        found(path, format!("the family {}: {error}", family.name()))
    };
    for family in Family::ALL {
        let handle = handle(db, family)?;
        let options = || {
            let mut options = ReadOptions::default();
            options.fill_cache(false);
            options
        };
        let mut bytes = 0;
        for row in db.iterator_cf_opt(handle, options(), IteratorMode::Start) {
            let (key, value) = row.map_err(|error| damaged(family, error))?;
            bytes += key.len() + value.len();
            if bytes > READ_BYTES {
                break;
            }
        }
        if let Some(last) = db
            .iterator_cf_opt(handle, options(), IteratorMode::End)
            .next()
        {
            last.map_err(|error| damaged(family, error))?;
        }
    }
    Ok(())
}

/// The sequence number up to which everything was synced, in a file of its own. It is written after each
/// sync and never synced itself: so it may lag behind after a power loss, and never runs ahead.
pub(super) struct SyncedMark(File);

impl SyncedMark {
    /// Opens the mark of a database whose log has brought it to `recovered`.
    pub fn open(path: &Path, recovered: u64) -> Result<Self> {
        let attempt = || -> io::Result<(File, u64)> {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let file = options.open(path.join(MARK_FILE))?;
            let mut bytes = [0; 8];
            let synced = match file.read_exact_at(&mut bytes, 0) {
                Ok(()) => u64::from_be_bytes(bytes),
                // New, or cut by a power loss.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(error),
            };
            // Its block is taken now: no sync on a full disk may have to ask for one.
            file.write_all_at(&synced.to_be_bytes(), 0)?;
            Ok((file, synced))
        };
        let (file, synced) = attempt().map_err(failure)?;
        if synced > recovered {
            let why = format!(
                "its log is broken, and changes that were acknowledged are lost ({recovered} of {synced} writes \
                 are left; to go on without the others, remove the file {MARK_FILE} in that folder)"
            );
            return Err(found(path, why));
        }
        Ok(Self(file))
    }

    /// Notes that everything up to `sequence` was synced.
    pub fn raise(&self, sequence: u64) -> Result<()> {
        let written = self.0.write_all_at(&sequence.to_be_bytes(), 0);
        written.map_err(failure)
    }
}

fn failure(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Engine(error.to_string()),
    }
}
