//! Messages from device to device: kept until the receiving device proves that it has them.
//!
//! The law: every message is in every answer to its device from a /sync whose token lies before it, in the
//! order of arrival, until a token that came with it is used; then it is deleted. So it is delivered at
//! least once, and once if no answer is lost. Deletion is a change of its own, made by the shell after
//! the token was seen ([`delete_delivered`]); a read never writes.
//!
//! A send to many is cut into changes of bounded size ([`batches`]); its transaction id is noted with
//! the last of them, so that a send that was cut short is done again.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>.

use event::json::write_string;
use names::UserSn;
use store::{Blob, Direction, Position, Read, Txn};

use crate::schema::{REMOTE_MESSAGES, TO_DEVICE, TO_DEVICE_TRANSACTIONS};
use crate::{Error, Result};

/// The largest message, in bytes as /sync shows it. What federation can carry in one piece.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// How many messages one /sync holds; a few more if they were sent together.
pub const MESSAGES_PER_SYNC: usize = 100;

/// How many bytes of messages one change holds, and one /sync.
const MAX_BATCH_BYTES: usize = 512 * 1024;

/// The longest event type and transaction id, in bytes.
const MAX_NAME_BYTES: usize = 255;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A message as /sync shows it, without its address; one text may go to many devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    json: Vec<u8>,
}

impl Message {
    /// Builds a message; `content` is a JSON object as it came. [`Error::TooLarge`] if it is.
    pub fn new(sender: &str, event_type: &str, content: &str) -> Result<Self> {
        let mut json = Vec::with_capacity(content.len() + sender.len() + event_type.len() + 40);
        json.extend_from_slice(b"{\"type\":");
        write_string(&mut json, event_type);
        json.extend_from_slice(b",\"sender\":");
        write_string(&mut json, sender);
        json.extend_from_slice(b",\"content\":");
        json.extend_from_slice(content.as_bytes());
        json.push(b'}');
        if event_type.len() > MAX_NAME_BYTES || json.len() > MAX_MESSAGE_BYTES {
            return Err(Error::TooLarge(
                format!("a to-device message may have at most {MAX_MESSAGE_BYTES} bytes").into(),
            ));
        }
        Ok(Self { json })
    }
}

/// A message and the device that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed<'a> {
    /// The receiving user.
    pub user: UserSn,
    /// The receiving device.
    pub device: String,
    /// The message.
    pub message: &'a Message,
}

/// Cuts a send into parts that each fit one change.
pub fn batches<'a, 'm>(messages: &'a [Addressed<'m>]) -> Vec<&'a [Addressed<'m>]> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (index, addressed) in messages.iter().enumerate() {
        let size = addressed.message.json.len() + addressed.device.len();
        if index > start && bytes + size > MAX_BATCH_BYTES {
            parts.push(&messages[start..index]);
            start = index;
            bytes = 0;
        }
        bytes += size;
    }
    if start < messages.len() {
        parts.push(&messages[start..]);
    }
    parts
}

/// Puts messages into their devices' queues.
pub fn deliver(txn: &mut Txn, messages: &[Addressed<'_>]) {
    for (number, addressed) in (0..).zip(messages) {
        TO_DEVICE.put(
            txn,
            &(
                addressed.user,
                addressed.device.clone(),
                Position::PENDING,
                number,
            ),
            &Blob(addressed.message.json.clone()),
        );
    }
}

/// A send as its sender names it.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// The sender.
    pub user: UserSn,
    /// The device that sends.
    pub device: &'a str,
    /// The event type in the path.
    pub event_type: &'a str,
    /// The transaction id in the path.
    pub transaction_id: &'a str,
}

impl Transaction<'_> {
    fn row(&self, day: u32) -> (u32, UserSn, String, String, String) {
        (
            day,
            self.user,
            self.device.to_owned(),
            self.event_type.to_owned(),
            self.transaction_id.to_owned(),
        )
    }
}

fn day_of(now_ms: u64) -> u32 {
    u32::try_from(now_ms / DAY_MS).unwrap_or(u32::MAX)
}

/// True if this send was done today or yesterday. [`Error::TooLarge`] if the transaction id is.
pub fn is_done(from: &impl Read, transaction: Transaction<'_>, now_ms: u64) -> Result<bool> {
    if transaction.transaction_id.len() > MAX_NAME_BYTES {
        return Err(Error::TooLarge(
            format!("a transaction id may have at most {MAX_NAME_BYTES} bytes").into(),
        ));
    }
    let today = day_of(now_ms);
    Ok(
        TO_DEVICE_TRANSACTIONS.contains(from, &transaction.row(today))?
            || TO_DEVICE_TRANSACTIONS.contains(from, &transaction.row(today.saturating_sub(1)))?,
    )
}

/// Notes that a send is done.
pub fn note_done(txn: &mut Txn, transaction: Transaction<'_>, now_ms: u64) {
    TO_DEVICE_TRANSACTIONS.put(txn, &transaction.row(day_of(now_ms)), &());
}

/// True if this message of another server was taken in today or yesterday.
///
/// # Errors
/// [`Error::TooLarge`] if its id is.
pub fn is_received(from: &impl Read, server: &str, message_id: &str, now_ms: u64) -> Result<bool> {
    if message_id.len() > MAX_NAME_BYTES {
        return Err(Error::TooLarge(
            format!("a message id may have at most {MAX_NAME_BYTES} bytes").into(),
        ));
    }
    let today = day_of(now_ms);
    let row = |day| (day, server.to_owned(), message_id.to_owned());
    Ok(REMOTE_MESSAGES.contains(from, &row(today))?
        || REMOTE_MESSAGES.contains(from, &row(today.saturating_sub(1)))?)
}

/// Notes that a message of another server was taken in.
pub fn note_received(txn: &mut Txn, server: &str, message_id: &str, now_ms: u64) {
    let row = (day_of(now_ms), server.to_owned(), message_id.to_owned());
    REMOTE_MESSAGES.put(txn, &row, &());
}

/// Forgets up to `limit` sends, and as many messages of other servers, that were done before yesterday; true if there
/// may be more.
pub fn forget_done(txn: &mut Txn, now_ms: u64, limit: usize) -> Result<bool> {
    let sends = forget_sends(txn, now_ms, limit)?;
    Ok(forget_received(txn, now_ms, limit)? | sends)
}

fn forget_received(txn: &mut Txn, now_ms: u64, limit: usize) -> Result<bool> {
    let end = (
        day_of(now_ms).saturating_sub(1),
        String::new(),
        String::new(),
    );
    let start = (0, String::new(), String::new());
    let mut rows = Vec::new();
    for row in REMOTE_MESSAGES
        .range(txn, &start, &end, Direction::Forward)
        .take(limit)
    {
        rows.push(row?.0);
    }
    for row in &rows {
        REMOTE_MESSAGES.delete(txn, row);
    }
    Ok(rows.len() == limit)
}

fn forget_sends(txn: &mut Txn, now_ms: u64, limit: usize) -> Result<bool> {
    let yesterday = day_of(now_ms).saturating_sub(1);
    let mut rows = Vec::new();
    for row in TO_DEVICE_TRANSACTIONS
        .scan(txn, &(), Direction::Forward)
        .take(limit)
    {
        rows.push(row?.0);
    }
    let full = rows.len() == limit;
    let mut more = full;
    for row in rows {
        if row.0 >= yesterday {
            more = false;
            break;
        }
        TO_DEVICE_TRANSACTIONS.delete(txn, &row);
    }
    Ok(more)
}

/// What a /sync brings to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The messages as JSON texts, oldest first.
    pub messages: Vec<Vec<u8>>,
    /// All messages up to here are in `messages` or were delivered: what the next token must say of
    /// this stream. Less than the view's position if more messages wait.
    pub upto: Position,
    /// True if more wait: the next /sync need not.
    pub more: bool,
}

/// The messages for a device after `since`: about `limit` of them, always all that were sent in one
/// change, so that a position is enough to say how far a device has come.
pub fn since(
    from: &impl Read,
    user: UserSn,
    device: &str,
    since: Position,
    limit: usize,
) -> Result<Waiting> {
    let mut waiting = Waiting {
        messages: Vec::new(),
        upto: from.position(),
        more: false,
    };
    let start = (
        user,
        device.to_owned(),
        Position(since.0.saturating_add(1)),
        0,
    );
    let mut last = since;
    let mut bytes = 0;
    for row in TO_DEVICE.scan_from(from, &(user, device.to_owned()), &start) {
        let ((_, _, position, _), message) = row?;
        let enough = waiting.messages.len() >= limit || bytes > MAX_BATCH_BYTES;
        if enough && position != last {
            waiting.upto = last;
            waiting.more = true;
            break;
        }
        last = position;
        bytes += message.0.len();
        waiting.messages.push(message.0);
    }
    Ok(waiting)
}

/// True if messages wait that a token with `upto` proves to be delivered: [`delete_delivered`] has
/// something to do.
pub fn has_delivered(from: &impl Read, user: UserSn, device: &str, upto: Position) -> Result<bool> {
    let oldest = TO_DEVICE
        .scan(from, &(user, device.to_owned()), Direction::Forward)
        .next()
        .transpose()?;
    Ok(oldest.is_some_and(|((_, _, position, _), _)| position <= upto))
}

/// Deletes the messages up to `upto`, which a token that the device used proves to be delivered.
pub fn delete_delivered(txn: &mut Txn, user: UserSn, device: &str, upto: Position) -> Result<()> {
    let mut rows = Vec::new();
    for row in TO_DEVICE.scan(txn, &(user, device.to_owned()), Direction::Forward) {
        let (key, _) = row?;
        if key.2 > upto {
            break;
        }
        rows.push(key);
    }
    for row in rows {
        TO_DEVICE.delete(txn, &row);
    }
    Ok(())
}

/// Deletes everything that waits for a device.
pub(crate) fn remove(txn: &mut Txn, user: UserSn, device: &str) -> Result<()> {
    delete_delivered(txn, user, device, Position::PENDING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{commit, store};
    use proptest::prelude::*;
    use store::Store;

    const BOB: UserSn = UserSn(2);

    fn send(store: &Store, texts: &[&str]) -> Position {
        let messages: Vec<_> = texts
            .iter()
            .map(|text| Message::new("@a:x", "t", &format!("{{\"n\":\"{text}\"}}")).unwrap())
            .collect();
        commit(store, |txn| {
            let addressed: Vec<_> = messages.iter().map(to_bob).collect();
            deliver(txn, &addressed);
            Ok(())
        })
    }

    fn to_bob(message: &Message) -> Addressed<'_> {
        Addressed {
            user: BOB,
            device: "D".to_owned(),
            message,
        }
    }

    fn texts(waiting: &Waiting) -> Vec<String> {
        waiting
            .messages
            .iter()
            .map(|json| {
                let value: serde_json::Value = serde_json::from_slice(json).unwrap();
                assert_eq!(
                    (&value["type"], &value["sender"]),
                    (&"t".into(), &"@a:x".into())
                );
                value["content"]["n"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    #[test]
    fn messages_wait_in_order_until_a_token_proves_their_receipt() {
        let store = store();
        send(&store, &["1"]);
        send(&store, &["2"]);
        let first = since(&store.view(), BOB, "D", Position::ZERO, 100).unwrap();
        assert_eq!(texts(&first), ["1", "2"]);
        assert!(!first.more && first.upto == store.view().position());
        // The answer was lost: the same token brings the same and what came since.
        send(&store, &["3"]);
        let again = since(&store.view(), BOB, "D", Position::ZERO, 100).unwrap();
        assert_eq!(texts(&again), ["1", "2", "3"]);
        // The first answer's token proves 1 and 2.
        assert!(has_delivered(&store.view(), BOB, "D", first.upto).unwrap());
        commit(&store, |txn| delete_delivered(txn, BOB, "D", first.upto));
        assert!(!has_delivered(&store.view(), BOB, "D", first.upto).unwrap());
        for from in [first.upto, Position::ZERO] {
            let next = since(&store.view(), BOB, "D", from, 100).unwrap();
            assert_eq!(texts(&next), ["3"]);
        }
        assert!(
            since(&store.view(), BOB, "E", Position::ZERO, 100)
                .unwrap()
                .messages
                .is_empty()
        );
    }

    #[test]
    fn a_long_queue_comes_in_parts_that_never_cut_one_change() {
        let store = store();
        send(&store, &["1", "2", "3"]);
        let second = send(&store, &["4"]);
        send(&store, &["5"]);
        let part = since(&store.view(), BOB, "D", Position::ZERO, 2).unwrap();
        assert_eq!(texts(&part), ["1", "2", "3"]);
        assert!(part.more);
        let part = since(&store.view(), BOB, "D", part.upto, 1).unwrap();
        assert_eq!(
            (texts(&part), part.upto, part.more),
            (vec!["4".into()], second, true)
        );
        let part = since(&store.view(), BOB, "D", part.upto, 1).unwrap();
        assert_eq!((texts(&part), part.more), (vec!["5".into()], false));
    }

    #[test]
    fn a_send_is_done_once_within_a_day_and_forgotten_after_two() {
        let store = store();
        let transaction = Transaction {
            user: UserSn(1),
            device: "A",
            event_type: "t",
            transaction_id: "x",
        };
        let evening = 10 * DAY_MS - 1;
        commit(&store, |txn| {
            note_done(txn, transaction, evening);
            Ok(())
        });
        let view = store.view();
        assert!(is_done(&view, transaction, evening + DAY_MS).unwrap());
        let other = Transaction {
            device: "B",
            ..transaction
        };
        assert!(!is_done(&view, other, evening).unwrap());
        commit(&store, |txn| {
            assert!(!forget_done(txn, evening + DAY_MS, 10)?);
            Ok(())
        });
        assert!(is_done(&store.view(), transaction, evening + DAY_MS).unwrap());
        commit(&store, |txn| {
            assert!(forget_done(txn, evening + 2 * DAY_MS, 1)?);
            assert!(!forget_done(txn, evening + 2 * DAY_MS, 1)?);
            Ok(())
        });
        assert!(!is_done(&store.view(), transaction, evening).unwrap());
    }

    #[test]
    fn a_message_that_is_too_large_is_refused() {
        let content = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_MESSAGE_BYTES));
        assert!(matches!(
            Message::new("@a:x", "t", &content),
            Err(Error::TooLarge(_))
        ));
    }

    proptest! {
        #[test]
        fn batches_hold_every_message_once_in_order_and_are_bounded(
            sizes in proptest::collection::vec(1usize..60_000, 0..40),
        ) {
            let messages: Vec<_> = sizes
                .iter()
                .map(|size| Message::new("@a:x", "t", &format!("\"{}\"", "x".repeat(*size))).unwrap())
                .collect();
            let addressed: Vec<_> = messages.iter().map(to_bob).collect();
            let parts = batches(&addressed);
            prop_assert_eq!(parts.concat(), addressed.clone());
            for part in parts {
                let bytes: usize = part.iter().map(|a| a.message.json.len()).sum();
                prop_assert!(part.len() == 1 || bytes <= MAX_BATCH_BYTES);
            }
        }

        /// A device that loses answers, in any mix with sends, sees every message, in order.
        #[test]
        fn every_message_reaches_a_device_that_loses_answers(
            steps in proptest::collection::vec(0u8..4, 1..40),
        ) {
            let store = store();
            let (mut token, mut seen, mut sent) = (Position::ZERO, Vec::new(), Vec::new());
            let read = |token: &mut Position, seen: &mut Vec<String>, lost: bool| {
                commit(&store, |txn| delete_delivered(txn, BOB, "D", *token));
                let waiting = since(&store.view(), BOB, "D", *token, 2).unwrap();
                if !lost {
                    seen.extend(texts(&waiting));
                    *token = waiting.upto;
                }
                waiting.more
            };
            for step in steps {
                match step {
                    0 | 1 => {
                        sent.push(sent.len().to_string());
                        send(&store, &[sent.last().unwrap()]);
                    }
                    step => {
                        read(&mut token, &mut seen, step == 3);
                    }
                }
            }
            while read(&mut token, &mut seen, false) {}
            prop_assert_eq!(seen, sent);
        }
    }
}
