//! What waits for one server, in memory: references to what is in the log, oldest first, as many as are worth
//! keeping. The rest is found in the log again.
//!
//! Invariants:
//! - Everything in the log that concerns the server was sent, or is at work, or waits here, or comes after
//!   [`Queue::behind`]. So nothing is lost when the queue overflows, or fails, or the process ends.
//! - References are in the order of the log.

use std::collections::VecDeque;

use names::{RoomSn, UserSn};
use store::Position;

/// References that wait; those after them are left in the log.
const MOST_WAITING: usize = 200;

/// A reference to something that a server is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// An event, by its place in the room.
    Event {
        /// The room.
        room: RoomSn,
        /// The place.
        place: u64,
    },
    /// A device of a local user changed.
    Device {
        /// Whose.
        user: UserSn,
        /// Which.
        device: Box<str>,
    },
    /// The cross-signing keys of a local user changed.
    CrossSigning(UserSn),
    /// The server has to know the devices of a local user, and may not.
    Devices(UserSn),
}

/// A reference and where it is in the log.
pub type Item = (Position, News);

/// What waits for one server.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Item>,
    at_work: Vec<Item>,
    behind: Option<Position>,
    seen: Position,
}

fn before(position: Position) -> Position {
    Position(position.0.saturating_sub(1))
}

impl Queue {
    /// A queue of which nothing is known but that everything up to `cursor` was sent.
    pub fn from_log(cursor: Position) -> Self {
        Self {
            behind: Some(cursor),
            ..Self::default()
        }
    }

    /// Adds what was put into the log. Left in the log where the queue is full, or follows the log.
    pub fn push(&mut self, position: Position, news: News) {
        if self.behind.is_some() || position <= self.seen {
            return;
        }
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back((position, news));
            return;
        }
        while self.waiting.back().is_some_and(|last| last.0 == position) {
            self.waiting.pop_back();
        }
        self.behind = Some(before(position));
    }

    /// Adds what is not in the log at its place, before what the log has after [`Queue::behind`].
    pub fn push_ahead(&mut self, news: impl IntoIterator<Item = News>) {
        let position = self.behind.unwrap_or(self.seen);
        let items = news.into_iter().map(|news| (position, news));
        self.waiting.extend(items);
    }

    /// After which position the log has more; nothing if all of it is here.
    pub fn behind(&self) -> Option<Position> {
        self.behind
    }

    /// Where to go on reading the log: nothing while something waits, or nothing is left there.
    pub fn wants_log(&self) -> Option<Position> {
        self.behind
            .filter(|_| self.waiting.is_empty() && self.at_work.is_empty())
    }

    /// Adds what the log has after [`Queue::behind`] up to `upto`, whole positions. `is_all` says that what comes after
    /// that will be pushed.
    pub fn read(&mut self, found: Vec<Item>, upto: Position, is_all: bool) {
        self.waiting.extend(found);
        self.behind = Some(upto);
        if is_all {
            self.behind = None;
            self.seen = upto;
        }
    }

    /// What to send now: what was at work and failed, or else the next ones, at most so many events and others.
    pub fn take(&mut self, events: usize, others: usize) -> &[Item] {
        if self.at_work.is_empty() {
            let (mut events, mut others) = (events, others);
            while let Some((_, news)) = self.waiting.front() {
                let left = match news {
                    News::Event { .. } => &mut events,
                    _ => &mut others,
                };
                if *left == 0 {
                    break;
                }
                *left -= 1;
                self.at_work.extend(self.waiting.pop_front());
            }
        }
        &self.at_work
    }

    /// What was taken was sent.
    pub fn sent(&mut self) {
        self.at_work.clear();
    }

    /// It was not: it stays at work, to be sent again; what waits is left in the log, where everything up to
    /// `dispatched` was pushed from.
    pub fn failed(&mut self, dispatched: Position) {
        let first = self.waiting.front().map(|first| before(first.0));
        let resume = first.or(self.behind).unwrap_or(dispatched);
        self.waiting.clear();
        self.behind = Some(resume);
    }

    /// Gives up everything up to `position` and follows the log from there.
    pub fn skip_to(&mut self, position: Position) {
        *self = Self::from_log(position);
    }

    /// Everything up to here was sent; `dispatched` if nothing waits.
    pub fn cursor(&self, dispatched: Position) -> Position {
        let first = self.at_work.first().or(self.waiting.front());
        let first = first.map(|first| before(first.0));
        let behind = self.behind.unwrap_or(dispatched);
        first.map_or(behind, |first| first.min(behind))
    }

    /// Nothing is left to be sent, here or in the log.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.at_work.is_empty() && self.behind.is_none()
    }
}
