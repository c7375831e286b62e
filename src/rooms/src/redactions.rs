//! Redactions: which of them count, and what they do to the event they name.
//!
//! From room version 3 on any redaction that may be sent is accepted into the graph, and takes effect only if
//! its sender may redact the event: with the level for it, or from the server that sent the event. It may come
//! before the event does.
//! <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>

use event::{Pdu, identifier};
use store::Direction;

use crate::append::string_member;
use crate::schema::{EARLY_REDACTIONS, MARKS};
use crate::writer::Before;
use crate::{EventNo, Result, RoomWriter, StoredEvent, event_log, graph, relations};

/// What follows from an accepted event at `no`, if it is a redaction.
pub(crate) fn follow(
    writer: &mut RoomWriter<'_>,
    no: EventNo,
    pdu: &Pdu,
    before: Before,
) -> Result<()> {
    let Some(target) = pdu
        .redacts()
        .filter(|_| pdu.event_type() == "m.room.redaction")
    else {
        return Ok(());
    };
    let room = writer.room();
    match event_log::find_in(writer.read(), room, target)? {
        Some(place) => redact(writer, no, pdu.sender(), before, target, place),
        None => {
            EARLY_REDACTIONS.put(writer.txn(), &(room, target.to_owned(), no), &());
            Ok(())
        }
    }
}

/// Redactions that came before the event at `place`, which is here now.
pub(crate) fn catch_up(writer: &mut RoomWriter<'_>, event_id: &str, place: EventNo) -> Result<()> {
    let room = writer.room();
    let mut early = Vec::new();
    for row in EARLY_REDACTIONS.scan(
        writer.read(),
        &(room, event_id.to_owned()),
        Direction::Forward,
    ) {
        let ((_, _, no), ()) = row?;
        early.push(no);
    }
    for no in early {
        EARLY_REDACTIONS.delete(writer.txn(), &(room, event_id.to_owned(), no));
        if let Some(redaction) = event_log::get(writer.read(), room, no)?
            && let Some(point) = graph::state_before(no, &redaction)
        {
            let sender = sender_of(&redaction);
            redact(writer, no, &sender, Before::Point(point), event_id, place)?;
        }
    }
    Ok(())
}

fn redact(
    writer: &mut RoomWriter<'_>,
    no: EventNo,
    sender: &str,
    before: Before,
    target: &str,
    place: EventNo,
) -> Result<()> {
    let room = writer.room();
    let Some(event) = event_log::get(writer.read(), room, place)? else {
        return Ok(());
    };
    let allowed = writer.rules().auth.redaction_rule
        || identifier::same_domain(sender, &sender_of(&event))
        || writer.with_power_levels_in(before, |levels| levels.user(sender) >= levels.redact())?;
    if !allowed {
        return Ok(());
    }
    let mut marks = event_log::marks(writer.read(), room, target)?;
    // The first counts: that another one comes changes nothing for those who have seen it.
    if marks.redacted_by.is_none() {
        marks.redacted_by = Some(no);
    }
    MARKS.put(writer.txn(), &(room, target.to_owned()), &marks);
    relations::remove(writer.txn(), room, place, &event)
}

fn sender_of(event: &StoredEvent) -> String {
    string_member(&event.json, "sender")
        .unwrap_or_default()
        .into_owned()
}
