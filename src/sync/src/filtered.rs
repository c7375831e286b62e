//! Applying filters to stored events without parsing more than the filter asks for.

use std::collections::HashSet;

use event::json;
use names::{RoomSn, UserSn};
use rooms::visibility::Visibility;
use rooms::{EventNo, Flags, StoredEvent, event_log};
use store::Read;
use users::filters::RoomEventFilter;

use crate::Result;

/// Whether the filter shows the event.
pub fn shows(filter: &RoomEventFilter, event: &StoredEvent) -> bool {
    if filter.shows_everything() {
        return true;
    }
    let text = |key| {
        json::member(&event.json, key)
            .and_then(json::string)
            .unwrap_or_default()
    };
    filter.shows(&text("type"), &text("sender"), || {
        let content = json::member(&event.json, "content").unwrap_or("{}");
        json::member(content, "url")
            .and_then(json::string)
            .is_some()
    })
}

/// Events looked at in search of those that a narrow filter shows.
const MOST_LOOKED_AT: usize = 10_000;

/// A piece of a room's timeline.
pub struct Piece {
    /// The events, oldest first.
    pub events: Vec<(EventNo, StoredEvent)>,
    /// There are more before them, within what was asked for; or there is a gap, filled in later or not.
    pub limited: bool,
}

/// The newest events of a range that a user may see and a filter shows, as far as they came without a gap.
pub struct Selection<'a> {
    /// The room.
    pub room: RoomSn,
    /// The first place of the range.
    pub start: EventNo,
    /// The place after the range.
    pub end: EventNo,
    /// The most events.
    pub limit: usize,
    /// What the user may see.
    pub visibility: &'a Visibility,
    /// What the client wants to see.
    pub filter: &'a RoomEventFilter,
    /// Whose messages the user does not want to see.
    pub ignored: &'a HashSet<UserSn>,
}

impl Selection<'_> {
    fn shows(&self, from: &impl Read, no: EventNo, event: &StoredEvent) -> Result<bool> {
        let ignored = self.ignored.contains(&event.sender) && !event.flags.has(Flags::STATE);
        Ok(!ignored && self.visibility.allows(from, no, event)? && shows(self.filter, event))
    }

    /// Reads the piece.
    pub fn read(&self, from: &impl Read) -> Result<Piece> {
        let mut piece = Piece {
            events: Vec::new(),
            limited: false,
        };
        if self.start >= self.end {
            return Ok(piece);
        }
        // What was filled in below is no news, and its state is not that of the time when it came.
        let gap = self.end.previous().stretch_start();
        for (looked_at, row) in event_log::backwards(from, self.room, self.end).enumerate() {
            let (no, event) = row?;
            if no < self.start {
                break;
            }
            if piece.events.len() == self.limit || looked_at == MOST_LOOKED_AT || no < gap {
                piece.limited = true;
                break;
            }
            if self.shows(from, no, &event)? {
                piece.events.push((no, event));
            }
        }
        // Whoever knows all before a gap does not know what is in it.
        piece.limited |= gap > EventNo::FIRST && self.start < gap;
        piece.events.reverse();
        Ok(piece)
    }
}
