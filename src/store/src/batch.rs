//! A batch is a value: an ordered list of puts and deletes that can be written, kept, shipped and
//! replayed. Pending positions are filled in when the store gives the batch its place.

use serde::{Deserialize, Serialize};

use crate::{Family, Position, Result, StoreError};

/// One put (with a value) or delete (without).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// The column family.
    pub family: Family,
    /// The whole key, table id included.
    pub key: Vec<u8>,
    /// The new value, or nothing for a delete.
    pub value: Option<Vec<u8>>,
    /// Where in the key the batch's position belongs.
    pub key_position: Option<u16>,
    /// Where in the value the batch's position belongs.
    pub value_position: Option<u16>,
}

/// Puts and deletes that are applied whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// In the order they are applied.
    pub ops: Vec<Op>,
}

impl Batch {
    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Puts `position` wherever the batch left room for its own.
    pub(crate) fn place(&mut self, position: Position) {
        let bytes = position.0.to_be_bytes();
        for op in &mut self.ops {
            if let Some(at) = op.key_position.take() {
                op.key[at as usize..at as usize + 8].copy_from_slice(&bytes);
            }
            if let (Some(at), Some(value)) = (op.value_position.take(), &mut op.value) {
                value[at as usize..at as usize + 8].copy_from_slice(&bytes);
            }
        }
    }

    /// The batch as bytes, to be kept or shipped.
    pub fn to_bytes(&self) -> Vec<u8> {
        match postcard::to_stdvec(self) {
            Ok(bytes) => bytes,
            Err(error) => panic!("a batch that cannot be encoded: {error}"),
        }
    }

    /// Reads [`Batch::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        postcard::from_bytes(bytes).map_err(|_| StoreError::Corrupt {
            table: "batch",
            why: "does not decode",
        })
    }
}
