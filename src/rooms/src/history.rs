//! Reading a room's history page by page, in either direction.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages>
//!
//! A page is one scan over the events by place. Who may see what, and what a client wants to see, is
//! the caller's to say; the work is bounded however little of the room is accepted.

use std::collections::BTreeSet;

use names::RoomSn;
use store::Read;

use crate::{EventNo, Result, StoredEvent, backfill, event_log};

/// Which way a page goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Towards what is newer.
    Forward,
    /// Towards what is older.
    Backward,
}

/// A piece of a room's history.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The room.
    pub room: RoomSn,
    /// Where the page begins: forwards with the event at this place, backwards with the one before it.
    pub start: EventNo,
    /// Where the history ends that is asked for; forwards the first place not to be read, backwards the
    /// first one to be read.
    pub end: EventNo,
    /// Which way.
    pub way: Way,
    /// The most events.
    pub limit: usize,
}

impl Span {
    /// The same up to a gap.
    pub fn up_to(self, gap: EventNo) -> Self {
        Span {
            end: gap.stretch_floor(),
            ..self
        }
    }
}

/// The first gap in the room's history that a page would cross, but for those that are `crossed`: the first place of the
/// stretch after it. The history's beginning is none.
///
/// # Errors
/// If the room can't be read.
pub fn gap_ahead(
    from: &impl Read,
    span: Span,
    crossed: &BTreeSet<EventNo>,
) -> Result<Option<EventNo>> {
    let (low, high) = match span.way {
        Way::Forward => (span.start, span.end),
        Way::Backward => (span.end, span.start),
    };
    if high.previous().stretch_start() == EventNo::FIRST {
        return Ok(None);
    }
    let gaps = backfill::gaps(from, span.room)?.into_keys();
    let mut gaps = gaps.filter(|gap| {
        let floor = gap.stretch_floor();
        *gap > EventNo::FIRST && !crossed.contains(gap) && low <= floor && floor <= high
    });
    Ok(match span.way {
        Way::Forward => gaps.next(),
        Way::Backward => gaps.next_back(),
    })
}

/// Events in the order in which they were read.
#[derive(Debug)]
pub struct Page {
    /// The events.
    pub events: Vec<(EventNo, StoredEvent)>,
    /// Where the next page begins; nothing if there is no more.
    pub next: Option<EventNo>,
}

/// Events looked at for one page.
const MOST_LOOKED_AT: usize = 10_000;
/// Events looked at after a full page, to learn whether there is another one.
const MOST_LOOKED_AHEAD: usize = 100;

/// Reads a page of the events that `accept` is true of.
pub fn page(
    from: &impl Read,
    span: Span,
    accept: impl FnMut(EventNo, &StoredEvent) -> Result<bool>,
) -> Result<Page> {
    match span.way {
        Way::Forward => {
            let rows = event_log::forwards(from, span.room, span.start);
            read(rows, span, accept)
        }
        Way::Backward => {
            let rows = event_log::backwards(from, span.room, span.start);
            read(rows, span, accept)
        }
    }
}

fn read(
    rows: impl Iterator<Item = Result<(EventNo, StoredEvent)>>,
    span: Span,
    mut accept: impl FnMut(EventNo, &StoredEvent) -> Result<bool>,
) -> Result<Page> {
    let mut page = Page {
        events: Vec::with_capacity(span.limit.min(100)),
        next: None,
    };
    // Where a page begins that goes on after what was read so far.
    let mut reached = span.start;
    let mut left = MOST_LOOKED_AT;
    for row in rows {
        let (no, event) = row?;
        let beyond = match span.way {
            Way::Forward => no >= span.end,
            Way::Backward => no < span.end,
        };
        if beyond {
            return Ok(page);
        }
        if left == 0 {
            page.next = Some(reached);
            return Ok(page);
        }
        left -= 1;
        let accepted = accept(no, &event)?;
        if page.events.len() == span.limit {
            if accepted {
                page.next = Some(reached);
                return Ok(page);
            }
            continue;
        }
        reached = match span.way {
            Way::Forward => no.next(),
            Way::Backward => no,
        };
        if accepted {
            page.events.push((no, event));
            if page.events.len() == span.limit {
                left = left.min(MOST_LOOKED_AHEAD);
            }
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use event::EventId;
    use names::UserSn;
    use store::Position;

    use super::*;
    use crate::{Flags, StateAfter};

    fn event(no: u64) -> (EventNo, StoredEvent) {
        let event = StoredEvent {
            position: Position(no),
            flags: Flags::default(),
            state: StateAfter::Line(0),
            outlier: None,
            sender: UserSn(1),
            event_id: EventId::from(format!("${no}").as_str()),
            thread_root: None,
            json: "{}".into(),
        };
        (EventNo(no), event)
    }

    fn span(way: Way, start: u64, end: u64, limit: usize) -> Span {
        Span {
            room: RoomSn(1),
            start: EventNo(start),
            end: EventNo(end),
            way,
            limit,
        }
    }

    fn read_of(
        span: Span,
        places: impl Iterator<Item = u64>,
        accept: impl Fn(u64) -> bool,
    ) -> (Vec<u64>, Option<u64>) {
        let rows = places.map(|no| Ok(event(no)));
        let page = read(rows, span, |no, _| Ok(accept(no.0))).unwrap();
        let places = page.events.iter().map(|(no, _)| no.0).collect();
        (places, page.next.map(|next| next.0))
    }

    #[test]
    fn pages_follow_each_other_and_the_last_one_says_so() {
        let back = |start| read_of(span(Way::Backward, start, 0, 2), (1..start).rev(), |_| true);
        assert_eq!(back(6), (vec![5, 4], Some(4)));
        assert_eq!(back(4), (vec![3, 2], Some(2)));
        assert_eq!(back(2), (vec![1], None));
        assert_eq!(back(3), (vec![2, 1], None));
        let ahead = |start| read_of(span(Way::Forward, start, 99, 2), start..6, |_| true);
        assert_eq!(ahead(1), (vec![1, 2], Some(3)));
        assert_eq!(ahead(5), (vec![5], None));
    }

    #[test]
    fn a_page_ends_where_it_is_told_to() {
        let back = read_of(span(Way::Backward, 9, 5, 10), (1..9).rev(), |_| true);
        assert_eq!(back, (vec![8, 7, 6, 5], None));
        let ahead = read_of(span(Way::Forward, 2, 5, 10), 2..9, |_| true);
        assert_eq!(ahead, (vec![2, 3, 4], None));
    }

    #[test]
    fn work_is_bounded_and_goes_on_where_it_stopped() {
        let last = MOST_LOOKED_AT as u64 * 2;
        let rare = |no| no == 7;
        let (found, next) = read_of(span(Way::Backward, last, 0, 5), (1..last).rev(), rare);
        assert!(found.is_empty());
        let start = next.unwrap();
        assert_eq!(start, last - MOST_LOOKED_AT as u64);
        let (found, next) = read_of(span(Way::Backward, start, 0, 5), (1..start).rev(), rare);
        assert_eq!((found, next), (vec![7], None));
    }

    #[test]
    fn what_nobody_may_see_behind_a_full_page_is_not_searched_for_ever() {
        let (found, next) = read_of(span(Way::Backward, 50_000, 0, 1), (1..50_000).rev(), |no| {
            no == 49_999
        });
        assert_eq!((found, next), (vec![49_999], Some(49_999)));
    }
}
