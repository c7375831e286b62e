//! The network between the servers: what is under way, when it arrives, and what never does.
//!
//! Every message gets a delay of its own, so that they overtake each other. While servers are apart nothing passes between
//! the two sides. A message may be lost or arrive twice.

use std::collections::BTreeMap;
use std::rc::Rc;

use event::EventId;

use crate::random::Random;
use crate::wire::Wire;

/// What one server tells or asks another.
#[derive(Clone)]
pub enum Message {
    /// Events, as in a transaction.
    Push(Vec<Rc<Wire>>),
    /// A request, for the sake of the event that needs something.
    Ask {
        for_event: EventId,
        question: Question,
    },
    /// What was found.
    Answer { for_event: EventId, answer: Answer },
}

/// What is asked.
#[derive(Clone)]
pub enum Question {
    /// `/get_missing_events`: what lies between what one has and an event.
    Missing {
        latest: Vec<EventId>,
        earliest: Vec<EventId>,
    },
    /// `/backfill`: what is before some events.
    Backfill(Vec<EventId>),
    /// `/state_ids`: the state before an event, and its auth chain.
    StateIds(EventId),
    /// `/event` for several; whether they are wanted as outliers.
    Events {
        ids: Vec<EventId>,
        as_outliers: bool,
    },
}

/// What is answered.
#[derive(Clone)]
pub enum Answer {
    /// Events; whether they are for outliers.
    Events {
        events: Vec<Rc<Wire>>,
        as_outliers: bool,
    },
    /// State and auth chain, if they are known.
    StateIds(Option<(Vec<EventId>, Vec<EventId>)>),
}

/// A message with its two ends.
#[derive(Clone)]
pub struct Parcel {
    /// Who sent it.
    pub from: usize,
    /// Who is to have it.
    pub to: usize,
    /// What it says.
    pub message: Message,
}

/// Messages under way, by arrival.
#[derive(Default)]
pub struct Network {
    under_way: BTreeMap<(u64, u64), Parcel>,
    sent: u64,
    /// The side of each server while they are apart.
    sides: Vec<bool>,
    /// Of a thousand messages, how many are lost.
    pub lost: u64,
    /// Of a thousand messages, how many come twice.
    pub doubled: u64,
}

impl Network {
    /// A network that loses and doubles so many of a thousand messages.
    pub fn new(lost: u64, doubled: u64) -> Self {
        Network {
            lost,
            doubled,
            ..Network::default()
        }
    }

    /// Sends a message. It is lost at once if it will be.
    pub fn send(&mut self, random: &mut Random, now_ms: u64, parcel: Parcel) {
        if self.are_apart(parcel.from, parcel.to) || random.chance(self.lost) {
            return;
        }
        let copies = if random.chance(self.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = match random.below(10) {
                0 => 100 + random.below(3000),
                1..=3 => 20 + random.below(200),
                _ => 1 + random.below(20),
            };
            self.sent += 1;
            self.under_way
                .insert((now_ms + delay as u64, self.sent), parcel.clone());
        }
    }

    /// The next to arrive, and when.
    pub fn next(&mut self) -> Option<(u64, Parcel)> {
        let ((at_ms, _), parcel) = self.under_way.pop_first()?;
        Some((at_ms, parcel))
    }

    /// How many messages are under way.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Parts the servers into two sides. What is under way between them is lost.
    pub fn part(&mut self, sides: Vec<bool>) {
        self.sides = sides;
        let parcels = std::mem::take(&mut self.under_way);
        self.under_way = parcels
            .into_iter()
            .filter(|(_, parcel)| !self.are_apart(parcel.from, parcel.to))
            .collect();
    }

    /// Brings the servers together again.
    pub fn heal(&mut self) {
        self.sides.clear();
    }

    /// Whether nothing passes between two servers.
    pub fn are_apart(&self, from: usize, to: usize) -> bool {
        self.sides.get(from) != self.sides.get(to)
    }
}
