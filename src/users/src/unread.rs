//! Unread counts: a fold over the events after a user's receipts (client-server API, "Receiving
//! notifications" and "Threaded read receipts").
//!
//! Events are numbered in the order in which receipts count. A receipt without a thread reads
//! everything up to its event; one with a thread reads that thread only.

use std::collections::{BTreeMap, HashMap};

use crate::push::{Actions, EventFacts, Ruleset, UserFacts, evaluate};

/// How far a user has read a room, public and private receipts taken together: the larger counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipts {
    /// The event up to which everything is read.
    pub unthreaded: Option<u64>,
    /// The event up to which the main timeline (thread id `main`) is read.
    pub main: Option<u64>,
    /// The events up to which threads are read, by thread root.
    pub threads: HashMap<String, u64>,
}

impl Receipts {
    /// Notes a receipt for the event `number`; `thread_id` is `main`, a thread root, or absent.
    pub fn add(&mut self, thread_id: Option<&str>, number: u64) {
        let place = match thread_id {
            None => &mut self.unthreaded,
            Some("main") => &mut self.main,
            Some(root) => {
                let read = self.threads.entry(root.to_owned()).or_default();
                *read = number.max(*read);
                return;
            }
        };
        *place = number.max(place.unwrap_or(0)).into();
    }

    /// Whether the event `number` is read; `thread` is the root of its thread, if it is in one.
    pub fn is_read(&self, number: u64, thread: Option<&str>) -> bool {
        let in_thread = match thread {
            None => self.main,
            Some(root) => self.threads.get(root).copied(),
        };
        self.unthreaded
            .max(in_thread)
            .is_some_and(|read| number <= read)
    }

    /// Every event up to this one is read, whatever thread it is in.
    pub fn everything_read_to(&self) -> u64 {
        self.unthreaded.unwrap_or(0)
    }
}

/// Unread events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Those that notify.
    pub notification_count: u64,
    /// Those that highlight.
    pub highlight_count: u64,
}

impl Count {
    /// Counts an event with these actions.
    pub fn add(&mut self, actions: &Actions) {
        self.notification_count += u64::from(actions.notify);
        self.highlight_count += u64::from(actions.highlight);
    }

    fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// The unread events of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Those in the main timeline.
    pub main: Count,
    /// Those in threads, by thread root; only threads that have some.
    pub threads: BTreeMap<String, Count>,
}

impl Unread {
    /// Those of the whole room, for clients that do not ask for threads.
    pub fn total(&self) -> Count {
        let mut total = self.main;
        for count in self.threads.values() {
            total.notification_count += count.notification_count;
            total.highlight_count += count.highlight_count;
        }
        total
    }

    /// Counts an unread event.
    pub fn add(&mut self, thread: Option<&str>, actions: &Actions) {
        let mut count = Count::default();
        count.add(actions);
        if count.is_zero() {
            return;
        }
        match thread {
            None => self.main.add(actions),
            Some(root) => self
                .threads
                .entry(root.to_owned())
                .or_default()
                .add(actions),
        }
    }
}

/// An event that may be unread.
pub struct Event<'a> {
    /// Its number in the order in which receipts count.
    pub number: u64,
    /// The root of its thread, if it is in one.
    pub thread: Option<&'a str>,
    /// What rules may ask.
    pub facts: EventFacts<'a>,
}

/// Counts the unread events among `events`.
pub fn count<'a>(
    events: impl IntoIterator<Item = Event<'a>>,
    receipts: &Receipts,
    rules: &Ruleset,
    me: &UserFacts<'_>,
) -> Unread {
    let mut unread = Unread::default();
    for event in events {
        if !receipts.is_read(event.number, event.thread) {
            unread.add(event.thread, evaluate(rules, &event.facts, me));
        }
    }
    unread
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::rules::UserRules;

    const CONTENT: &[u8] = br#"{"msgtype":"m.text","body":"hi"}"#;
    const LOUD: &[u8] = br#"{"body":"hi","m.mentions":{"user_ids":["@me:x"]}}"#;

    /// The room of the specification's example: threads of A and B, the rest in the main timeline.
    const ROOM: [(&str, Option<&str>); 9] = [
        ("A", None),
        ("B", None),
        ("C", Some("A")),
        ("D", Some("B")),
        ("E", Some("A")),
        ("F", Some("B")),
        ("G", Some("A")),
        ("H", Some("A")),
        ("I", None),
    ];

    fn unread(receipts: &Receipts) -> (u64, u64, u64) {
        let events = ROOM.iter().zip(1..).map(|((_, thread), number)| Event {
            number,
            thread: *thread,
            facts: EventFacts::new("!r:x", "m.room.message", "@you:x", None, CONTENT),
        });
        let me = UserFacts {
            user_id: "@me:x",
            display_name: None,
        };
        let rules = Ruleset::new(&UserRules::default());
        let unread = count(events, receipts, &rules, &me);
        let thread = |root| unread.threads.get(root).copied().unwrap_or_default();
        (
            unread.main.notification_count,
            thread("A").notification_count,
            thread("B").notification_count,
        )
    }

    fn read(thread_id: Option<&str>, event: &str) -> Receipts {
        let mut receipts = Receipts::default();
        let number = ROOM.iter().position(|(name, _)| *name == event).unwrap() as u64 + 1;
        receipts.add(thread_id, number);
        receipts
    }

    #[test]
    fn receipts_read_what_the_specification_shows() {
        assert_eq!(unread(&Receipts::default()), (3, 4, 2));
        assert_eq!(unread(&read(Some("main"), "I")), (0, 4, 2));
        assert_eq!(unread(&read(Some("A"), "E")), (3, 2, 2));
        assert_eq!(unread(&read(None, "D")), (1, 3, 1));
    }

    #[test]
    fn a_receipt_behind_another_changes_nothing() {
        let mut receipts = read(Some("A"), "G");
        receipts.add(Some("A"), 3);
        receipts.add(None, 1);
        assert_eq!(unread(&receipts), (2, 1, 2));
        assert_eq!(receipts.everything_read_to(), 1);
    }

    #[test]
    fn highlights_are_counted_beside_notifications_and_own_events_are_not() {
        let me = UserFacts {
            user_id: "@me:x",
            display_name: None,
        };
        let rules = Ruleset::new(&UserRules::default());
        let event = |number, sender, content| Event {
            number,
            thread: None,
            facts: EventFacts::new("!r:x", "m.room.message", sender, None, content),
        };
        let events = [
            event(1, "@you:x", CONTENT),
            event(2, "@you:x", LOUD),
            event(3, "@me:x", LOUD),
        ];
        let unread = count(events, &Receipts::default(), &rules, &me);
        let expected = Count {
            notification_count: 2,
            highlight_count: 1,
        };
        assert_eq!((unread.main, unread.total()), (expected, expected));
        assert!(unread.threads.is_empty());
    }
}
