//! An engine in memory for tests. Keeps every version of every row, so that snapshots are numbers,
//! and remembers what was synced, so that a power loss can be played.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::{
    Batch, Cursor, Direction, Engine, Family, FamilyStats, Result, Snapshot, Space, StoreError,
};

/// What a row was after each write that changed it, oldest first.
type Versions = Vec<(u64, Option<Vec<u8>>)>;

#[derive(Default)]
struct Data {
    rows: [BTreeMap<Vec<u8>, Versions>; Family::ALL.len()],
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
        let kept = |versions: &Versions| -> Versions {
            let kept = versions.iter().take_while(|(at, _)| *at <= last);
            kept.cloned().collect()
        };
        let rows = std::array::from_fn(|family| {
            data.rows[family]
                .iter()
                .map(|(key, versions)| (key.clone(), kept(versions)))
                .collect()
        });
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

/// The newest version that a snapshot shows.
fn version(versions: &Versions, at: u64) -> Option<&Vec<u8>> {
    let shown = versions.iter().rev().find(|(written, _)| *written <= at);
    shown.and_then(|(_, value)| value.as_ref())
}

impl Data {
    fn get(&self, family: Family, key: &[u8], at: u64) -> Option<Vec<u8>> {
        version(self.rows[family as usize].get(key)?, at).cloned()
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
        Box::new(MemoryCursor {
            snapshot: self,
            family,
            lower: Bound::Included(lower.to_vec()),
            upper: match upper {
                [] => Bound::Unbounded,
                upper => Bound::Excluded(upper.to_vec()),
            },
            direction,
            count: 1,
            rows: VecDeque::new(),
            row: Default::default(),
        })
    }
}

/// The most rows that are read at once.
const MOST_ROWS: usize = 256;

/// Reads a few rows at first, as most scans are for the first row, and then ever more.
struct MemoryCursor<'a> {
    snapshot: &'a MemorySnapshot,
    family: Family,
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    direction: Direction,
    /// How many rows are read next; none when the end was seen.
    count: usize,
    rows: VecDeque<(Vec<u8>, Vec<u8>)>,
    row: (Vec<u8>, Vec<u8>),
}

impl MemoryCursor<'_> {
    fn fill(&mut self) {
        let is_empty = match (&self.lower, &self.upper) {
            (Bound::Included(lower), Bound::Excluded(upper)) => lower >= upper,
            (Bound::Excluded(lower), Bound::Excluded(upper)) => lower >= upper,
            _ => false,
        };
        if self.count == 0 || is_empty {
            return;
        }
        let (at, count) = (self.snapshot.at, self.count);
        let data = self.snapshot.data.read();
        let bounds = (self.lower.as_ref(), self.upper.as_ref());
        let range = data.rows[self.family as usize].range::<Vec<u8>, _>(bounds);
        let shown = |(key, versions): (&Vec<u8>, &Versions)| {
            Some((key.clone(), version(versions, at)?.clone()))
        };
        match self.direction {
            Direction::Forward => self.rows.extend(range.filter_map(shown).take(count)),
            Direction::Backward => self.rows.extend(range.rev().filter_map(shown).take(count)),
        }
        let ended = self.rows.len() < count;
        if let Some((last, _)) = self.rows.back() {
            let beyond = Bound::Excluded(last.clone());
            match self.direction {
                Direction::Forward => self.lower = beyond,
                Direction::Backward => self.upper = beyond,
            }
        }
        self.count = if ended { 0 } else { (count * 4).min(MOST_ROWS) };
    }
}

impl Cursor for MemoryCursor<'_> {
    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if self.rows.is_empty() {
            self.fill();
        }
        match self.rows.pop_front() {
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
            let rows = &mut data.rows[op.family as usize];
            let value = (at, op.value.clone());
            match rows.get_mut(&op.key) {
                // The last of several writes of a key in a batch counts.
                Some(versions) => {
                    versions.pop_if(|(written, _)| *written == at);
                    versions.push(value);
                }
                None => drop(rows.insert(op.key.clone(), vec![value])),
            }
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
                rows: data.rows[family as usize].len() as u64,
                ..FamilyStats::default()
            })
            .collect())
    }

    fn space(&self) -> Option<Space> {
        None
    }
}
