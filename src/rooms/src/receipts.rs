//! Read receipts: public, private and by thread.
//! <https://spec.matrix.org/v1.19/client-server-api/#receipts>
//!
//! One row for each user, kind and thread, and one in the room's log, at the position of the last
//! change; so what is new since a position is one range scan. A receipt never goes backwards.

use std::collections::BTreeMap;

use event::json;
use names::{RoomSn, UserSn};
use serde::{Deserialize, Serialize};
use store::{At, Direction, Position, Read, Record, Txn};

use crate::schema::{RECEIPT_LOG, RECEIPTS};
use crate::{EventNo, Result};

/// `m.read` or `m.read.private`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ReceiptKind {
    /// Shown to the room.
    Public = 0,
    /// Shown to the user alone.
    Private = 1,
}

/// How far a user has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The event's place.
    pub event: EventNo,
    /// The event's id.
    pub event_id: String,
    /// When, in milliseconds since 1970.
    pub ts_ms: u64,
}

impl Record for Receipt {}

/// What a receipt is for: the whole room, the main timeline, or a thread.
pub type ThreadId = Option<String>;

fn thread_key(thread: Option<&str>) -> String {
    thread.unwrap_or_default().to_owned()
}

/// Sets a receipt. Says whether it went forward; nothing is changed otherwise.
pub fn put(
    txn: &mut Txn,
    room: RoomSn,
    user: UserSn,
    kind: ReceiptKind,
    thread: Option<&str>,
    receipt: Receipt,
) -> Result<bool> {
    let key = (room, user, kind as u8, thread_key(thread));
    if let Some(before) = RECEIPTS.get(txn, &key)? {
        if before.value.event >= receipt.event {
            return Ok(false);
        }
        RECEIPT_LOG.delete(txn, &(room, before.position, user, key.2, key.3.clone()));
    }
    RECEIPT_LOG.put(
        txn,
        &(room, Position::PENDING, user, key.2, key.3.clone()),
        &(),
    );
    RECEIPTS.put(txn, &key, &At::now(receipt));
    Ok(true)
}

/// A user's own receipts in a room: kind, thread, receipt.
pub fn own(
    from: &impl Read,
    room: RoomSn,
    user: UserSn,
) -> Result<Vec<(ReceiptKind, ThreadId, Receipt)>> {
    let mut found = Vec::new();
    for row in RECEIPTS.scan(from, &(room, user), Direction::Forward) {
        let ((_, _, kind, thread), receipt) = row?;
        let kind = if kind == 0 {
            ReceiptKind::Public
        } else {
            ReceiptKind::Private
        };
        found.push((kind, (!thread.is_empty()).then_some(thread), receipt.value));
    }
    Ok(found)
}

/// One receipt as others, or the user, see it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Whose.
    pub user: UserSn,
    /// Of which kind.
    pub kind: ReceiptKind,
    /// Of which thread.
    pub thread: ThreadId,
    /// Where.
    pub receipt: Receipt,
}

/// The receipts of a room that `viewer` may see and that changed after `since`; all without one.
pub fn since(
    from: &impl Read,
    room: RoomSn,
    viewer: UserSn,
    since: Option<Position>,
) -> Result<Vec<Shown>> {
    let mut keys = Vec::new();
    let start = since.map_or(Position::ZERO, |since| Position(since.0.saturating_add(1)));
    let start = (room, start, UserSn(0), 0, String::new());
    for row in RECEIPT_LOG.scan_from(from, &(room,), &start) {
        let (_, _, user, kind, thread) = row?.0;
        if kind == ReceiptKind::Public as u8 || user == viewer {
            keys.push((room, user, kind, thread));
        }
    }
    let receipts = RECEIPTS.multi_get(from, &keys)?;
    let mut found = Vec::with_capacity(keys.len());
    for ((_, user, kind, thread), receipt) in keys.into_iter().zip(receipts) {
        let Some(receipt) = receipt else { continue };
        let kind = if kind == 0 {
            ReceiptKind::Public
        } else {
            ReceiptKind::Private
        };
        let thread = (!thread.is_empty()).then_some(thread);
        found.push(Shown {
            user,
            kind,
            thread,
            receipt: receipt.value,
        });
    }
    Ok(found)
}

/// Appends an `m.receipt` event to `out`; `name` gives the user ids.
pub fn render(
    out: &mut Vec<u8>,
    receipts: &[Shown],
    mut name: impl FnMut(UserSn) -> Result<String>,
) -> Result<()> {
    let mut by_event: BTreeMap<&str, BTreeMap<ReceiptKind, Vec<&Shown>>> = BTreeMap::new();
    for shown in receipts {
        let kinds = by_event.entry(&shown.receipt.event_id).or_default();
        kinds.entry(shown.kind).or_default().push(shown);
    }
    out.extend_from_slice(b"{\"type\":\"m.receipt\",\"content\":{");
    for (n, (event_id, kinds)) in by_event.iter().enumerate() {
        separate(out, n);
        json::write_string(out, event_id);
        out.extend_from_slice(b":{");
        for (n, (kind, all)) in kinds.iter().enumerate() {
            separate(out, n);
            out.extend_from_slice(match kind {
                ReceiptKind::Public => b"\"m.read\":{",
                ReceiptKind::Private => b"\"m.read.private\":{",
            });
            // One receipt a user, event and kind can be shown: the one for the whole room if there is.
            let mut users: BTreeMap<UserSn, &Shown> = BTreeMap::new();
            for shown in all {
                let kept = users.entry(shown.user).or_insert(shown);
                if shown.thread.is_none() {
                    *kept = shown;
                }
            }
            for (n, (user, shown)) in users.into_iter().enumerate() {
                separate(out, n);
                json::write_string(out, &name(user)?);
                out.extend_from_slice(b":{\"ts\":");
                out.extend_from_slice(shown.receipt.ts_ms.to_string().as_bytes());
                if let Some(thread) = &shown.thread {
                    out.extend_from_slice(b",\"thread_id\":");
                    json::write_string(out, thread);
                }
                out.push(b'}');
            }
            out.push(b'}');
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"}}");
    Ok(())
}

fn separate(out: &mut Vec<u8>, n: usize) {
    if n > 0 {
        out.push(b',');
    }
}
