//! Tokens: opaque to clients, versioned by their first letter.
//!
//! `s<position>` or `s<position>.<to-device position>` says how far a client has synced;
//! `t<place>` stands between two events of a room: before the event at that place.

use rooms::{EventNo, event_log};
use store::{Position, Read};

use crate::sliding::Pos;

/// `since` and `next_batch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncToken {
    /// Everything up to here was told.
    pub position: Position,
    /// To-device messages up to here were delivered.
    pub to_device: Position,
}

impl SyncToken {
    /// Reads a token; nothing if it is not one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (position, to_device) = match text.strip_prefix('s')?.split_once('.') {
            Some((position, to_device)) => (number(position)?, number(to_device)?),
            None => {
                let position = number(text.strip_prefix('s')?)?;
                (position, position)
            }
        };
        Some(Self {
            position: Position(position),
            to_device: Position(to_device),
        })
    }
}

impl std::fmt::Display for SyncToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.position == self.to_device {
            write!(f, "s{}", self.position)
        } else {
            write!(f, "s{}.{}", self.position, self.to_device)
        }
    }
}

/// A place in a room's history: `prev_batch`, `start`, `end`, `from`, `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaginationToken {
    /// Right before the event at this place.
    Place(EventNo),
    /// Right after everything up to this position, as `next_batch` says.
    Position(Position),
}

impl PaginationToken {
    /// Reads a token; nothing if it is not one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(place) = text.strip_prefix('t') {
            return Some(Self::Place(EventNo(number(place)?)));
        }
        // A position of sliding sync stands where its answer was built.
        if let Some(pos) = Pos::parse(text) {
            return Some(Self::Position(pos.position));
        }
        Some(Self::Position(SyncToken::parse(text)?.position))
    }

    /// The first place after the token.
    pub fn place(self, from: &impl Read, room: names::RoomSn) -> rooms::Result<EventNo> {
        match self {
            Self::Place(place) => Ok(place),
            Self::Position(position) => event_log::after_position(from, room, position),
        }
    }
}

impl std::fmt::Display for PaginationToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Place(place) => write!(f, "t{}", place.0),
            Self::Position(position) => write!(f, "s{position}"),
        }
    }
}

/// Digits alone: no sign, no blanks.
pub fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_token_reads_back(position in any::<u64>(), to_device in any::<u64>()) {
            let token = SyncToken { position: Position(position), to_device: Position(to_device) };
            prop_assert_eq!(SyncToken::parse(&token.to_string()), Some(token));
            let place = PaginationToken::Place(EventNo(position));
            prop_assert_eq!(PaginationToken::parse(&place.to_string()), Some(place));
        }

        #[test]
        fn no_text_makes_a_token_panic(text in "[st]?\\PC{0,30}") {
            let _ = (SyncToken::parse(&text), PaginationToken::parse(&text));
        }
    }

    #[test]
    fn tokens_read_back_and_nothing_else_does() {
        for text in ["s0", "s17", "s17.12"] {
            assert_eq!(SyncToken::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(PaginationToken::parse("t9").unwrap().to_string(), "t9");
        for text in [
            "",
            "s",
            "s-1",
            "s1.",
            "s+1",
            "t",
            "17",
            "sé",
            "s99999999999999999999999",
        ] {
            assert_eq!(SyncToken::parse(text), None, "{text}");
            assert_eq!(PaginationToken::parse(text), None, "{text}");
        }
    }
}
