//! Keys as bytes whose order is the order of the values.
//!
//! Numbers are fixed-width big-endian. A string or byte string ends with `00 00`, and a zero byte in
//! it is written `00 FF`, so that it may stand before other components and a prefix sorts first.

use crate::{Position, Result, StoreError};

/// Collects the bytes of a key or of a fixed-layout value.
///
/// Remembers where a [`Position::PENDING`] was written, so that the store can put the real position
/// there when it is known.
#[derive(Default)]
pub struct Encoder {
    pub(crate) bytes: Vec<u8>,
    pub(crate) pending: Option<u16>,
}

impl Encoder {
    /// An encoder that starts after `prefix`.
    pub fn with_prefix(prefix: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(prefix.len() + 32);
        bytes.extend_from_slice(prefix);
        Self {
            bytes,
            pending: None,
        }
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a terminated byte string.
    pub fn terminated(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.bytes.push(byte);
            if byte == 0 {
                self.bytes.push(0xFF);
            }
        }
        self.bytes.extend_from_slice(&[0, 0]);
    }

    /// Appends a position, and remembers its place if it is not known yet. At most one pending
    /// position stands in a key, and one in a value.
    pub fn position(&mut self, position: Position) {
        if position == Position::PENDING {
            debug_assert!(
                self.pending.is_none(),
                "two pending positions in one key or value"
            );
            self.pending = u16::try_from(self.bytes.len()).ok();
        }
        self.raw(&position.0.to_be_bytes());
    }
}

/// Reads what an [`Encoder`] wrote.
pub struct Decoder<'a> {
    rest: &'a [u8],
    table: &'static str,
}

impl<'a> Decoder<'a> {
    /// A decoder of `bytes`; `table` names the table in errors.
    pub fn new(bytes: &'a [u8], table: &'static str) -> Self {
        Self { rest: bytes, table }
    }

    /// The error for a row that does not have the expected form.
    pub fn corrupt(&self, why: &'static str) -> StoreError {
        StoreError::Corrupt {
            table: self.table,
            why,
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.corrupt("too short"))?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next terminated byte string.
    pub fn terminated(&mut self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            let zero = self.rest.iter().position(|byte| *byte == 0);
            let (piece, after) = match zero.and_then(|zero| self.rest.split_at_checked(zero + 1)) {
                Some(split) => split,
                None => return Err(self.corrupt("unterminated string")),
            };
            match after.split_first() {
                Some((0, rest)) => {
                    out.extend_from_slice(&piece[..piece.len() - 1]);
                    self.rest = rest;
                    return Ok(out);
                }
                // A zero byte of the string itself.
                Some((0xFF, rest)) => {
                    out.extend_from_slice(piece);
                    self.rest = rest;
                }
                _ => return Err(self.corrupt("unterminated string")),
            }
        }
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Fails unless everything was read.
    pub fn finish(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.corrupt("too long"))
        }
    }
}

/// A type that can stand in a key.
pub trait Key: Sized {
    /// Appends the bytes; their order is the order of the values.
    fn encode(&self, out: &mut Encoder);
    /// Reads back what [`Key::encode`] wrote.
    fn decode(from: &mut Decoder<'_>) -> Result<Self>;
}

/// Says that the encoding of `Self` begins the encoding of every `K` with the same leading parts.
pub trait PrefixOf<K>: Key {}

impl<K: Key> PrefixOf<K> for () {}

impl Key for () {
    fn encode(&self, _: &mut Encoder) {}
    fn decode(_: &mut Decoder<'_>) -> Result<Self> {
        Ok(())
    }
}

macro_rules! number_keys {
    ($($number:ty),*) => {$(
        impl Key for $number {
            fn encode(&self, out: &mut Encoder) {
                out.raw(&self.to_be_bytes());
            }
            fn decode(from: &mut Decoder<'_>) -> Result<Self> {
                Ok(<$number>::from_be_bytes(from.array()?))
            }
        }
    )*};
}
number_keys!(u8, u16, u32, u64);

impl Key for bool {
    fn encode(&self, out: &mut Encoder) {
        out.raw(&[u8::from(*self)]);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        let [byte] = from.array()?;
        Ok(byte != 0)
    }
}

impl<const N: usize> Key for [u8; N] {
    fn encode(&self, out: &mut Encoder) {
        out.raw(self);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        from.array()
    }
}

impl Key for Position {
    fn encode(&self, out: &mut Encoder) {
        out.position(*self);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        Ok(Position(u64::decode(from)?))
    }
}

/// Newest first: a smaller key for a larger number.
impl<T: Key + InvertedKey> Key for std::cmp::Reverse<T> {
    fn encode(&self, out: &mut Encoder) {
        self.0.invert().encode(out);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        Ok(std::cmp::Reverse(T::decode(from)?.invert()))
    }
}

/// Numbers whose order can be turned round by inverting them.
pub trait InvertedKey {
    /// The number as far from the largest as this one is from zero.
    fn invert(&self) -> Self;
}

impl InvertedKey for u32 {
    fn invert(&self) -> Self {
        !self
    }
}

impl InvertedKey for u64 {
    fn invert(&self) -> Self {
        !self
    }
}

impl Key for String {
    fn encode(&self, out: &mut Encoder) {
        out.terminated(self.as_bytes());
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        let bytes = from.terminated()?;
        String::from_utf8(bytes).map_err(|_| from.corrupt("not UTF-8"))
    }
}

impl Key for Vec<u8> {
    fn encode(&self, out: &mut Encoder) {
        out.terminated(self);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        from.terminated()
    }
}

macro_rules! tuple_keys {
    ($($part:ident),+) => {
        impl<$($part: Key),+> Key for ($($part,)+) {
            #[allow(non_snake_case)]
            fn encode(&self, out: &mut Encoder) {
                let ($($part,)+) = self;
                $($part.encode(out);)+
            }
            fn decode(from: &mut Decoder<'_>) -> Result<Self> {
                Ok(($($part::decode(from)?,)+))
            }
        }
    };
}
tuple_keys!(A);
tuple_keys!(A, B);
tuple_keys!(A, B, C);
tuple_keys!(A, B, C, D);
tuple_keys!(A, B, C, D, E);

impl<A: Key, B: Key> PrefixOf<(A, B)> for (A,) {}
impl<A: Key, B: Key, C: Key> PrefixOf<(A, B, C)> for (A,) {}
impl<A: Key, B: Key, C: Key> PrefixOf<(A, B, C)> for (A, B) {}
impl<A: Key, B: Key, C: Key, D: Key> PrefixOf<(A, B, C, D)> for (A,) {}
impl<A: Key, B: Key, C: Key, D: Key> PrefixOf<(A, B, C, D)> for (A, B) {}
impl<A: Key, B: Key, C: Key, D: Key> PrefixOf<(A, B, C, D)> for (A, B, C) {}
impl<A: Key, B: Key, C: Key, D: Key, E: Key> PrefixOf<(A, B, C, D, E)> for (A,) {}
impl<A: Key, B: Key, C: Key, D: Key, E: Key> PrefixOf<(A, B, C, D, E)> for (A, B) {}
impl<A: Key, B: Key, C: Key, D: Key, E: Key> PrefixOf<(A, B, C, D, E)> for (A, B, C) {}
impl<A: Key, B: Key, C: Key, D: Key, E: Key> PrefixOf<(A, B, C, D, E)> for (A, B, C, D) {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(key: &impl Key) -> Vec<u8> {
        let mut out = Encoder::default();
        key.encode(&mut out);
        out.bytes
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_values_and_read_back(
            a in any::<(u32, String, u64)>(), b in any::<(u32, String, u64)>(),
        ) {
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
            prop_assert_eq!(<(u32, String, u64)>::decode(&mut Decoder::new(&bytes(&a), "t")).unwrap(), a);
        }

        #[test]
        fn byte_strings_with_zeros_sort_as_slices(
            a in proptest::collection::vec(0u8..3, 0..6), b in proptest::collection::vec(0u8..3, 0..6),
        ) {
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
        }

        #[test]
        fn decoding_random_bytes_never_panics(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = <(u32, String, Vec<u8>)>::decode(&mut Decoder::new(&raw, "t"));
        }
    }

    #[test]
    fn a_pending_position_is_remembered_by_its_offset() {
        let mut out = Encoder::with_prefix(&[7]);
        (9u32, Position::PENDING).encode(&mut out);
        assert_eq!(out.pending, Some(5));
    }
}
