//! Values as bytes: a version byte and a compact serde encoding, or plain bytes.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Decoder, Encoder, Key, Position, Result};

/// A structured value. Fields may not be reordered or removed without raising the version and
/// writing a migration; tables with golden bytes in the tests keep us honest.
pub trait Record: Serialize + DeserializeOwned {
    /// The layout's version, the first byte of every stored value.
    const VERSION: u8 = 1;
}

/// A type that a table can hold.
pub trait Value: Sized {
    /// Appends the stored form.
    fn encode(&self, out: &mut Encoder);
    /// Reads the stored form.
    fn decode(bytes: &[u8], table: &'static str) -> Result<Self>;
}

impl<T: Record> Value for T {
    fn encode(&self, out: &mut Encoder) {
        out.bytes.push(T::VERSION);
        // Writing to a vector does not fail, and records hold nothing that postcard cannot write.
        match postcard::to_extend(self, std::mem::take(&mut out.bytes)) {
            Ok(bytes) => out.bytes = bytes,
            Err(error) => panic!("a record that cannot be encoded: {error}"),
        }
    }

    fn decode(bytes: &[u8], table: &'static str) -> Result<Self> {
        let from = Decoder::new(bytes, table);
        match bytes.split_first() {
            Some((&version, rest)) if version == T::VERSION => {
                postcard::from_bytes(rest).map_err(|_| from.corrupt("value does not decode"))
            }
            Some(_) => Err(from.corrupt("unknown value version")),
            None => Err(from.corrupt("empty value")),
        }
    }
}

impl Record for () {}
impl Record for bool {}
impl Record for u8 {}
impl Record for u32 {}
impl Record for u64 {}
impl Record for String {}
impl<T: Serialize + DeserializeOwned> Record for Vec<T> {}
impl<A: Serialize + DeserializeOwned, B: Serialize + DeserializeOwned> Record for (A, B) {}
impl<A, B, C> Record for (A, B, C) where (A, B, C): Serialize + DeserializeOwned {}
impl<A, B, C, D> Record for (A, B, C, D) where (A, B, C, D): Serialize + DeserializeOwned {}

/// Bytes stored as they are: JSON above all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Value for Blob {
    fn encode(&self, out: &mut Encoder) {
        out.raw(&self.0);
    }
    fn decode(bytes: &[u8], _: &'static str) -> Result<Self> {
        Ok(Blob(bytes.to_vec()))
    }
}

/// A value together with the position at which it was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// Where the value was committed; [`Position::PENDING`] when written.
    pub position: Position,
    /// The value itself.
    pub value: T,
}

impl<T> At<T> {
    /// A value that takes the position of the change it is written in.
    pub fn now(value: T) -> Self {
        Self {
            position: Position::PENDING,
            value,
        }
    }
}

impl<T: Value> Value for At<T> {
    fn encode(&self, out: &mut Encoder) {
        out.position(self.position);
        self.value.encode(out);
    }
    fn decode(bytes: &[u8], table: &'static str) -> Result<Self> {
        let mut from = Decoder::new(bytes, table);
        let position = Position::decode(&mut from)?;
        Ok(Self {
            position,
            value: T::decode(from.rest(), table)?,
        })
    }
}
