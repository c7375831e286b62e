//! Typed tables: key and value types are said once, where the table is declared.

use std::marker::PhantomData;

use crate::{Cursor, Decoder, Direction, Encoder, Family, Key, PrefixOf, Read, Result, Txn, Value};

/// Whether a table is the truth or can be made anew from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The truth.
    Source,
    /// Made from source tables by the named function; `meyrin db check` compares.
    Derived(&'static str),
}

/// A table: rows of `K` to `V`, in key order, under one byte in one family.
pub struct Table<K, V> {
    family: Family,
    id: u8,
    name: &'static str,
    kind: Kind,
    types: PhantomData<fn() -> (K, V)>,
}

/// A table without its types, for walking over all of them.
#[derive(Clone, Copy)]
pub struct TableInfo {
    /// The column family.
    pub family: Family,
    /// The first byte of every key.
    pub id: u8,
    /// The name, unique in the database.
    pub name: &'static str,
    /// Source or derived.
    pub kind: Kind,
    /// Fails if the row does not have the declared types.
    pub decode: fn(&[u8], &[u8]) -> Result<()>,
}

impl<K: Key, V: Value> Table<K, V> {
    /// A table that is the truth.
    pub const fn source(family: Family, id: u8, name: &'static str) -> Self {
        Self {
            family,
            id,
            name,
            kind: Kind::Source,
            types: PhantomData,
        }
    }

    /// A table that the function `rebuild` can make anew.
    pub const fn derived(
        family: Family,
        id: u8,
        name: &'static str,
        rebuild: &'static str,
    ) -> Self {
        Self {
            family,
            id,
            name,
            kind: Kind::Derived(rebuild),
            types: PhantomData,
        }
    }

    /// The table's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    fn key(&self, key: &impl Key) -> Encoder {
        let mut out = Encoder::with_prefix(&[self.id]);
        key.encode(&mut out);
        out
    }

    /// The row of `key`.
    pub fn get(&self, from: &impl Read, key: &K) -> Result<Option<V>> {
        match from.get_raw(self.family, &self.key(key).bytes)? {
            Some(bytes) => Ok(Some(V::decode(&bytes, self.name)?)),
            None => Ok(None),
        }
    }

    /// True if there is a row of `key`.
    pub fn contains(&self, from: &impl Read, key: &K) -> Result<bool> {
        Ok(from.get_raw(self.family, &self.key(key).bytes)?.is_some())
    }

    /// The rows of many keys, in their order.
    pub fn multi_get(&self, from: &impl Read, keys: &[K]) -> Result<Vec<Option<V>>> {
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| self.key(key).bytes).collect();
        let mut values = Vec::with_capacity(keys.len());
        for bytes in from.multi_get_raw(self.family, &keys)? {
            values.push(match bytes {
                Some(bytes) => Some(V::decode(&bytes, self.name)?),
                None => None,
            });
        }
        Ok(values)
    }

    /// Writes a row.
    pub fn put(&self, txn: &mut Txn, key: &K, value: &V) {
        let key = self.key(key);
        let mut out = Encoder::default();
        value.encode(&mut out);
        txn.put_raw(
            self.family,
            key.bytes,
            Some(out.bytes),
            key.pending,
            out.pending,
        );
    }

    /// Removes a row, if it is there.
    pub fn delete(&self, txn: &mut Txn, key: &K) {
        let key = self.key(key);
        txn.put_raw(self.family, key.bytes, None, key.pending, None);
    }

    /// All rows whose key begins with `prefix`.
    pub fn scan<'a, P: PrefixOf<K>>(
        &self,
        from: &'a impl Read,
        prefix: &P,
        direction: Direction,
    ) -> Scan<'a, K, V> {
        let lower = self.key(prefix).bytes;
        let upper = successor(&lower);
        self.range_raw(from, &lower, &upper, direction)
    }

    /// The rows whose key begins with `prefix` and is at least `start`, smallest first.
    pub fn scan_from<'a, P: PrefixOf<K>>(
        &self,
        from: &'a impl Read,
        prefix: &P,
        start: &K,
    ) -> Scan<'a, K, V> {
        let upper = successor(&self.key(prefix).bytes);
        self.range_raw(from, &self.key(start).bytes, &upper, Direction::Forward)
    }

    /// The rows whose key begins with `prefix` and is less than `end`, largest first.
    pub fn scan_before<'a, P: PrefixOf<K>>(
        &self,
        from: &'a impl Read,
        prefix: &P,
        end: &K,
    ) -> Scan<'a, K, V> {
        let lower = self.key(prefix).bytes;
        self.range_raw(from, &lower, &self.key(end).bytes, Direction::Backward)
    }

    /// The rows with `start <= key < end`.
    pub fn range<'a>(
        &self,
        from: &'a impl Read,
        start: &K,
        end: &K,
        direction: Direction,
    ) -> Scan<'a, K, V> {
        self.range_raw(
            from,
            &self.key(start).bytes,
            &self.key(end).bytes,
            direction,
        )
    }

    fn range_raw<'a>(
        &self,
        from: &'a impl Read,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Scan<'a, K, V> {
        let cursor = from.scan_raw(self.family, lower, upper, direction);
        Scan {
            cursor,
            name: self.name,
            types: PhantomData,
        }
    }

    /// The table without its types.
    pub const fn info(&self) -> TableInfo
    where
        K: Named<K, V>,
    {
        TableInfo {
            family: self.family,
            id: self.id,
            name: self.name,
            kind: self.kind,
            decode: <K as Named<K, V>>::DECODE,
        }
    }
}

/// Gives the function that decodes a row of given types, in a constant.
pub trait Named<K, V> {
    /// Decodes a key (without its table id) and a value.
    const DECODE: fn(&[u8], &[u8]) -> Result<()>;
}

impl<K: Key, V: Value> Named<K, V> for K {
    const DECODE: fn(&[u8], &[u8]) -> Result<()> = |key, value| {
        let mut from = Decoder::new(key, "");
        K::decode(&mut from)?;
        from.finish()?;
        V::decode(value, "")?;
        Ok(())
    };
}

/// The first key after all that begin with `prefix`.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return next;
        }
        next.pop();
    }
    next
}

/// Rows of a range, decoded one by one.
pub struct Scan<'a, K, V> {
    cursor: Box<dyn Cursor + 'a>,
    name: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Value> Iterator for Scan<'_, K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = match self.cursor.next() {
            Ok(Some(row)) => row,
            Ok(None) => return None,
            Err(error) => return Some(Err(error)),
        };
        let mut from = Decoder::new(key.get(1..).unwrap_or_default(), self.name);
        let row = K::decode(&mut from).and_then(|key| {
            from.finish()?;
            Ok((key, V::decode(value, self.name)?))
        });
        Some(row)
    }
}

/// Walks over all rows of `tables` and of the families they are in; `report` hears of every row that
/// does not decode and of every row that belongs to no table. Returns the number of rows seen.
pub fn check_rows(
    from: &impl Read,
    tables: &[TableInfo],
    mut report: impl FnMut(String),
) -> Result<u64> {
    let mut rows = 0;
    for family in Family::ALL {
        let mut cursor = from.scan_raw(family, &[], &[], Direction::Forward);
        while let Some((key, value)) = cursor.next()? {
            rows += 1;
            let Some((&id, rest)) = key.split_first() else {
                report(format!("{}: a row without a key", family.name()));
                continue;
            };
            match tables
                .iter()
                .find(|table| table.family == family && table.id == id)
            {
                Some(table) => {
                    if let Err(error) = (table.decode)(rest, value) {
                        report(format!("{}: {error}", table.name));
                    }
                }
                None => report(format!("{}: a row of unknown table {id}", family.name())),
            }
        }
    }
    Ok(rows)
}
