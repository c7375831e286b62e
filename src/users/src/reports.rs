//! Reports of events, rooms and users, kept for the administrators (client-server API, "Reporting
//! Content").

use names::{RoomSn, UserSn};
use serde::{Deserialize, Serialize};
use store::{Position, Read, Record, Txn};

use crate::schema::REPORTS;
use crate::{Error, Result};

/// The longest reason, in bytes.
pub const MAX_REASON_BYTES: usize = 16 * 1024;

/// What is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// An event in a room.
    Event(RoomSn, String),
    /// A room.
    Room(RoomSn),
    /// A user.
    User(UserSn),
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who reports.
    pub by: UserSn,
    /// What.
    pub subject: Subject,
    /// Why, in the reporter's words.
    pub reason: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

impl Record for Report {}

/// Keeps a report. One per change.
///
/// # Errors
/// [`Error::TooLarge`] for the reason.
pub fn add(txn: &mut Txn, report: &Report) -> Result<()> {
    let bytes = report.reason.as_deref().map_or(0, str::len);
    if bytes > MAX_REASON_BYTES {
        return Err(Error::TooLarge("The reason has at most 16 KiB".into()));
    }
    REPORTS.put(txn, &Position::PENDING, report);
    Ok(())
}

/// Up to `limit` reports after `after`, oldest first.
pub fn list(from: &impl Read, after: Position, limit: usize) -> Result<Vec<(Position, Report)>> {
    let start = Position(after.0.saturating_add(1));
    Ok(REPORTS
        .scan_from(from, &(), &start)
        .take(limit)
        .collect::<store::Result<_>>()?)
}
