//! An engine in memory for tests. Keeps every version of every row, so that snapshots are numbers,
//! and remembers what was synced, so that a power loss can be played.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::{
    Batch, Cursor, Direction, Engine, Family, FamilyStats, Result, Snapshot, Space, StoreError,
};

type Versions = BTreeMap<u64, Option<Vec<u8>>>;

#[derive(Default)]
struct Data {
    rows: BTreeMap<(Family, Vec<u8>), Versions>,
    written: u64,
    synced: u64,
    disk_full: bool,
    fail_syncs: bool,
}

/// The engine. Clones share the same data.
#[derive(Clone, Default)]
pub struct Memory {
    data: Arc<RwLock<Data>>,
}

impl Memory {
    /// What would be left after a power loss now: the synced writes and the first `more` of those
    /// that came after.
    pub fn after_power_loss(&self, more: u64) -> Memory {
        let data = self.data.read();
        let last = (data.synced + more).min(data.written);
        let rows = data
            .rows
            .iter()
            .map(|(key, versions)| {
                let kept = versions
                    .range(..=last)
                    .map(|(n, v)| (*n, v.clone()))
                    .collect();
                (key.clone(), kept)
            })
            .collect();
        let data = Data {
            rows,
            written: last,
            synced: last,
            ..Data::default()
        };
        Memory {
            data: Arc::new(RwLock::new(data)),
        }
    }

    /// From now on writes and syncs fail for want of room (or work again).
    pub fn fill_disk(&self, full: bool) {
        self.data.write().disk_full = full;
    }

    /// From now on syncs fail (or work again).
    pub fn fail_syncs(&self, fail: bool) {
        self.data.write().fail_syncs = fail;
    }
}

struct MemorySnapshot {
    data: Arc<RwLock<Data>>,
    at: u64,
}

impl Data {
    fn get(&self, family: Family, key: &[u8], at: u64) -> Option<Vec<u8>> {
        let versions = self.rows.get(&(family, key.to_vec()))?;
        versions.range(..=at).next_back()?.1.clone()
    }
}

impl Snapshot for MemorySnapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.data.read().get(family, key, self.at))
    }

    fn multi_get(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let data = self.data.read();
        Ok(keys
            .iter()
            .map(|key| data.get(family, key, self.at))
            .collect())
    }

    fn scan<'a>(
        &'a self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Box<dyn Cursor + 'a> {
        let data = self.data.read();
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = data
            .rows
            .range((family, lower.to_vec())..)
            .take_while(|((of, key), _)| {
                *of == family && (upper.is_empty() || key.as_slice() < upper)
            })
            .filter_map(|((_, key), versions)| {
                let value = versions.range(..=self.at).next_back()?.1.clone()?;
                Some((key.clone(), value))
            })
            .collect();
        // Taken from the end.
        if direction == Direction::Forward {
            rows.reverse();
        }
        Box::new(MemoryCursor {
            rows,
            row: Default::default(),
        })
    }
}

struct MemoryCursor {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    row: (Vec<u8>, Vec<u8>),
}

impl Cursor for MemoryCursor {
    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        match self.rows.pop() {
            Some(row) => {
                self.row = row;
                Ok(Some((&self.row.0, &self.row.1)))
            }
            None => Ok(None),
        }
    }
}

impl Engine for Memory {
    fn snapshot(&self) -> Box<dyn Snapshot> {
        let at = self.data.read().written;
        Box::new(MemorySnapshot {
            data: Arc::clone(&self.data),
            at,
        })
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        let mut data = self.data.write();
        if data.disk_full {
            return Err(StoreError::Full);
        }
        data.written += 1;
        let at = data.written;
        for op in &batch.ops {
            let versions = data.rows.entry((op.family, op.key.clone())).or_default();
            versions.insert(at, op.value.clone());
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut data = self.data.write();
        if data.disk_full {
            return Err(StoreError::Full);
        }
        if data.fail_syncs {
            return Err(StoreError::Engine("sync failed".to_owned()));
        }
        data.synced = data.written;
        Ok(())
    }

    fn checkpoint(&self, _: &Path) -> Result<()> {
        Err(StoreError::Engine(
            "a database in memory has no files to copy".to_owned(),
        ))
    }

    fn stats(&self) -> Result<Vec<FamilyStats>> {
        let data = self.data.read();
        Ok(Family::ALL
            .into_iter()
            .map(|family| FamilyStats {
                name: family.name(),
                rows: data.rows.keys().filter(|(of, _)| *of == family).count() as u64,
                ..FamilyStats::default()
            })
            .collect())
    }

    fn space(&self) -> Option<Space> {
        None
    }
}
