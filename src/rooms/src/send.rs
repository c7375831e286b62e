//! Sending events into a room that exists: messages, state, redactions; and transaction ids, by which
//! a request repeated has the effect of one.

use event::{EventId, canonical, json};
use names::{RoomSn, UserSn};
use store::{At, Direction, Position, Read, Txn};

use crate::append::{NewEvent, string_member};
use crate::membership::must_be_joined;
use crate::schema::{EVENT_TRANSACTIONS, TRANSACTION_AGES, TRANSACTIONS};
use crate::{Error, EventNo, Result, RoomWriter, event_log, relations};

/// How long a transaction id is remembered at least, in milliseconds.
pub const TRANSACTION_LIFETIME_MS: u64 = 24 * 3600 * 1000;

/// A client's transaction: unique for a device and an endpoint with its path.
#[derive(Clone, Debug)]
pub struct Transaction<'a> {
    /// The user.
    pub user: UserSn,
    /// The device.
    pub device: &'a str,
    /// The endpoint and the parts of its path that count.
    pub scope: &'a str,
    /// The transaction id.
    pub id: &'a str,
}

impl Transaction<'_> {
    fn key(&self) -> (UserSn, String, String, String) {
        (
            self.user,
            self.device.to_owned(),
            self.scope.to_owned(),
            self.id.to_owned(),
        )
    }

    /// What the transaction made, if it was done before.
    pub fn result(&self, from: &impl Read) -> Result<Option<String>> {
        Ok(TRANSACTIONS.get(from, &self.key())?.map(|made| made.value))
    }

    /// Remembers what the transaction made.
    pub fn record(&self, txn: &mut Txn, made: &str, now_ms: u64) {
        TRANSACTIONS.put(txn, &self.key(), &At::now(made.to_owned()));
        TRANSACTION_AGES.put(txn, &(now_ms, Position::PENDING), &self.key());
    }

    /// Remembers which event the transaction made, so that the device is told its id beside the event.
    pub fn record_event(&self, txn: &mut Txn, room: RoomSn, no: EventNo, made: &str, now_ms: u64) {
        self.record(txn, made, now_ms);
        let of = (self.device.to_owned(), self.id.to_owned());
        EVENT_TRANSACTIONS.put(txn, &(room, no), &of);
    }
}

/// The device and transaction id that made an event, if it was made here and lately.
pub fn transaction_of(
    from: &impl Read,
    room: RoomSn,
    no: EventNo,
) -> Result<Option<(String, String)>> {
    Ok(EVENT_TRANSACTIONS.get(from, &(room, no))?)
}

/// The device and transaction id that made each of many events.
pub fn transactions_of(
    from: &impl Read,
    room: RoomSn,
    nos: &[EventNo],
) -> Result<Vec<Option<(String, String)>>> {
    let keys: Vec<_> = nos.iter().map(|no| (room, *no)).collect();
    Ok(EVENT_TRANSACTIONS.multi_get(from, &keys)?)
}

/// Forgets at most `most` transactions from before `before_ms`; says whether there may be more.
pub fn forget_transactions(txn: &mut Txn, before_ms: u64, most: usize) -> Result<bool> {
    let mut old = Vec::new();
    for row in TRANSACTION_AGES
        .scan(txn, &(), Direction::Forward)
        .take(most)
    {
        let (age, key) = row?;
        if age.0 >= before_ms {
            break;
        }
        old.push((age, key));
    }
    for (age, key) in &old {
        if let Some(made) = TRANSACTIONS.get(txn, key)?
            && let Some((room, no)) = event_log::find(txn, &made.value)?
        {
            EVENT_TRANSACTIONS.delete(txn, &(room, no));
        }
        TRANSACTIONS.delete(txn, key);
        TRANSACTION_AGES.delete(txn, age);
    }
    Ok(old.len() == most)
}

/// Appends a message event or redaction that a client sends.
///
/// # Errors
/// Those of [`RoomWriter::append`]; [`Error::DuplicateAnnotation`] for a reaction sent before.
pub fn message(writer: &mut RoomWriter<'_>, new: &NewEvent<'_>) -> Result<(EventNo, EventId)> {
    // What is not canonical yet may have white space; what never will be is refused below.
    let content = canonical::from_text(new.content, writer.rules().numbers);
    if let Some(relates_to) = content.ok().and_then(|content| relations::parse(&content)) {
        check_relation(writer, new, &relates_to)?;
    }
    writer.append(new)
}

fn check_relation(
    writer: &mut RoomWriter<'_>,
    new: &NewEvent<'_>,
    relates_to: &relations::RelatesTo,
) -> Result<()> {
    let room = writer.room();
    match relates_to.rel_type.as_str() {
        "m.annotation" => {
            let Some(key) = &relates_to.key else {
                return Ok(());
            };
            let (parent, of) = (&relates_to.event_id, new.event_type);
            let user = new.sender.user;
            if relations::has_annotation(writer.txn(), room, parent, of, user, key)? {
                return Err(Error::DuplicateAnnotation);
            }
        }
        "m.thread" => {
            let Some(no) = event_log::find_in(writer.txn(), room, &relates_to.event_id)? else {
                return Ok(());
            };
            let Some(root) = event_log::get(writer.txn(), room, no)? else {
                return Ok(());
            };
            let content = json::member(&root.json, "content").unwrap_or("{}");
            if relations::parse(content).is_some() {
                let why = "a thread can't begin at an event that refers to another";
                return Err(Error::Invalid(why.to_owned()));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Sets an entry of the state. The same sender setting the same content again changes nothing.
///
/// # Errors
/// Those of [`RoomWriter::append`], and those of the checks on `m.room.canonical_alias`;
/// [`Error::Invalid`] for `m.room.create`.
pub fn state(writer: &mut RoomWriter<'_>, new: &NewEvent<'_>) -> Result<EventId> {
    if new.event_type == "m.room.create" {
        let room = writer.room();
        must_be_joined(writer.txn(), room, new.sender)?;
        return Err(Error::Invalid("a room is created once".to_owned()));
    }
    let state_key = new.state_key.unwrap_or_default();
    if let Some(current) = writer.state_event(new.event_type, state_key)? {
        let current = current.pdu();
        let numbers = writer.rules().numbers;
        let same = canonical::from_text(new.content, numbers)
            .is_ok_and(|content| content == current.content());
        if same && current.sender() == new.sender.user_id && new.event_type != "m.room.member" {
            return Ok(current.event_id().clone());
        }
    }
    if new.event_type == "m.room.canonical_alias" {
        crate::aliases::check_canonical(writer, new.content)?;
    }
    Ok(writer.append(new)?.1)
}

/// Redacts an event.
///
/// # Errors
/// [`Error::UnknownEvent`]; [`Error::Forbidden`] if the event is another's and the sender's level
/// does not suffice.
pub fn redaction(writer: &mut RoomWriter<'_>, new: &NewEvent<'_>) -> Result<(EventNo, EventId)> {
    let target = new.redacts.unwrap_or_default();
    let room = writer.room();
    let Some(no) = event_log::find_in(writer.txn(), room, target)? else {
        // Other servers may have it; each judges the redaction when it has both.
        return match crate::servers::any_known(writer.txn(), room)? {
            true => writer.append(new),
            false => Err(Error::UnknownEvent),
        };
    };
    let event = event_log::get(writer.txn(), room, no)?.ok_or(Error::UnknownEvent)?;
    let kind = string_member(&event.json, "type").unwrap_or_default();
    if kind == "m.room.create" {
        return Err(Error::Forbidden("create events can't be redacted"));
    }
    if kind == "m.room.server_acl" {
        return Err(Error::Forbidden("server ACL events can't be redacted"));
    }
    if event.sender != new.sender.user {
        let user_id = new.sender.user_id;
        let allowed = writer.with_power_levels(|levels| levels.user(user_id) >= levels.redact())?;
        if !allowed {
            return Err(Error::Forbidden(
                "redacting other users' events needs a higher level",
            ));
        }
    }
    writer.append(new)
}
