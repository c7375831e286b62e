//! A change in the making: reads see the base view and the change's own writes.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;

use crate::{Batch, Cursor, Direction, Family, Op, Position, Read, Result, View};

struct Pending {
    value: Option<Vec<u8>>,
    key_position: Option<u16>,
    value_position: Option<u16>,
}

/// Collects the writes of one request. The last write of a key counts.
///
/// A key that holds the pending position sorts after every committed one, so that a scan through the
/// change sees its own rows where they will be.
pub struct Txn {
    base: View,
    writes: BTreeMap<(Family, Vec<u8>), Pending>,
}

impl Txn {
    /// An empty change over `base`.
    pub fn new(base: View) -> Self {
        Self {
            base,
            writes: BTreeMap::new(),
        }
    }

    /// The view that the change was begun on.
    pub fn base(&self) -> &View {
        &self.base
    }

    /// True if nothing was written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(crate) fn put_raw(
        &mut self,
        family: Family,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
        key_position: Option<u16>,
        value_position: Option<u16>,
    ) {
        self.writes.insert(
            (family, key),
            Pending {
                value,
                key_position,
                value_position,
            },
        );
    }

    /// The finished change.
    pub fn into_batch(self) -> Batch {
        let ops = self
            .writes
            .into_iter()
            .map(|((family, key), pending)| Op {
                family,
                key,
                value: pending.value,
                key_position: pending.key_position,
                value_position: pending.value_position,
            })
            .collect();
        Batch { ops }
    }
}

impl Read for Txn {
    fn get_raw(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if !self.writes.is_empty()
            && let Some(pending) = self.writes.get(&(family, key.to_vec()))
        {
            return Ok(pending.value.clone());
        }
        self.base.get_raw(family, key)
    }

    fn multi_get_raw(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut values = self.base.multi_get_raw(family, keys)?;
        if !self.writes.is_empty() {
            for (key, value) in keys.iter().zip(&mut values) {
                if let Some(pending) = self.writes.get(&(family, key.clone())) {
                    value.clone_from(&pending.value);
                }
            }
        }
        Ok(values)
    }

    fn scan_raw<'a>(
        &'a self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Box<dyn Cursor + 'a> {
        let base = self.base.scan_raw(family, lower, upper, direction);
        if self.writes.is_empty() {
            return base;
        }
        let from = Bound::Included((family, lower.to_vec()));
        let to = if upper.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded((family, upper.to_vec()))
        };
        let mut own = Own {
            family,
            rows: self.writes.range((from, to)),
            direction,
            next: None,
        };
        own.step();
        if own.next.is_none() {
            return base;
        }
        Box::new(Merge {
            base,
            own,
            direction,
            ahead: None,
            base_done: false,
            row: Default::default(),
        })
    }

    fn position(&self) -> Position {
        self.base.position
    }
}

type Row = (Vec<u8>, Vec<u8>);

/// The change's own rows of one range, one after the other: a change may be large, and most scans end early.
struct Own<'a> {
    family: Family,
    rows: Range<'a, (Family, Vec<u8>), Pending>,
    direction: Direction,
    next: Option<(&'a [u8], Option<&'a [u8]>)>,
}

impl<'a> Own<'a> {
    /// Goes on to the next row and gives the one that was it before.
    fn step(&mut self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        // A range without an end goes on into the families after this one.
        let of_family = |row: &(&'a (Family, Vec<u8>), &'a Pending)| row.0.0 == self.family;
        let row = match self.direction {
            Direction::Forward => self.rows.next().filter(of_family),
            Direction::Backward => self.rows.by_ref().rev().find(of_family),
        };
        let next = row.map(|((_, key), pending)| (key.as_slice(), pending.value.as_deref()));
        std::mem::replace(&mut self.next, next)
    }
}

/// The base's rows with the change's own laid over them.
struct Merge<'a> {
    base: Box<dyn Cursor + 'a>,
    own: Own<'a>,
    direction: Direction,
    ahead: Option<Row>,
    base_done: bool,
    row: Row,
}

impl Merge<'_> {
    fn own_comes_first(&self, own: &[u8], base: &[u8]) -> bool {
        match self.direction {
            Direction::Forward => own <= base,
            Direction::Backward => own >= base,
        }
    }
}

impl Cursor for Merge<'_> {
    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        loop {
            if self.ahead.is_none() && !self.base_done {
                self.ahead = self
                    .base
                    .next()?
                    .map(|(key, value)| (key.to_vec(), value.to_vec()));
                self.base_done = self.ahead.is_none();
            }
            let own_first = match (&self.own.next, &self.ahead) {
                (None, None) => return Ok(None),
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((own, _)), Some((base, _))) => self.own_comes_first(own, base),
            };
            if !own_first {
                self.row = self.ahead.take().unwrap_or_default();
                return Ok(Some((&self.row.0, &self.row.1)));
            }
            let Some((key, value)) = self.own.step() else {
                continue;
            };
            if self.ahead.as_ref().is_some_and(|(base, _)| base == key) {
                self.ahead = None;
            }
            if let Some(value) = value {
                return Ok(Some((key, value)));
            }
        }
    }
}
