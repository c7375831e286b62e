//! The directory of published rooms: which rooms are in it, and pages of it.
//! <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>
//!
//! Rooms are listed by the number of their members, the largest first, and among those by age. A page
//! begins after a room, not at a number, so that what changes meanwhile shifts no page.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use names::RoomSn;
use store::{Direction, Read, Txn};

use crate::about::About;
use crate::schema::{DIRECTORY, NETWORK_DIRECTORY};
use crate::{Result, event_log};

/// Puts a room into the directory or takes it out.
pub fn set_published(txn: &mut Txn, room: RoomSn, published: bool) {
    if published {
        DIRECTORY.put(txn, &room, &());
    } else {
        DIRECTORY.delete(txn, &room);
    }
}

/// Whether a room is in the directory.
pub fn is_published(from: &impl Read, room: RoomSn) -> Result<bool> {
    Ok(DIRECTORY.contains(from, &room)?)
}

/// All rooms in the directory.
pub fn published(from: &impl Read) -> Result<Vec<RoomSn>> {
    let mut found = Vec::new();
    for row in DIRECTORY.scan(from, &(), Direction::Forward) {
        found.push(row?.0);
    }
    Ok(found)
}

/// Puts a room into the directory of an application service's network or takes it out.
pub fn set_published_in(txn: &mut Txn, network: &str, room: RoomSn, published: bool) {
    let key = (network.to_owned(), room);
    if published {
        NETWORK_DIRECTORY.put(txn, &key, &());
    } else {
        NETWORK_DIRECTORY.delete(txn, &key);
    }
}

/// Which directory is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The server's own.
    #[default]
    Own,
    /// That of an application service's network.
    Of(String),
    /// All of them together.
    All,
}

/// What is listed before or after a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    joined: Reverse<u64>,
    room: RoomSn,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// After this room.
    After(Place),
    /// It ends before this room.
    Before(Place),
}

impl Since {
    /// The token of the page, opaque to clients.
    pub fn to_token(self) -> String {
        let (way, place) = match self {
            Since::After(place) => ('n', place),
            Since::Before(place) => ('p', place),
        };
        format!("{way}{}_{}", place.joined.0, place.room.0)
    }

    /// Reads a token.
    pub fn of_token(token: &str) -> Option<Self> {
        let way = token.chars().next()?;
        let (joined, room) = token.get(1..)?.split_once('_')?;
        let place = Place {
            joined: Reverse(joined.parse().ok()?),
            room: RoomSn(room.parse().ok()?),
        };
        match way {
            'n' => Some(Since::After(place)),
            'p' => Some(Since::Before(place)),
            _ => None,
        }
    }
}

/// What of the directory is asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Which directory.
    pub network: Network,
    /// The most rooms on a page.
    pub limit: usize,
    /// Where the page begins.
    pub since: Option<Since>,
    /// What name, topic or alias must contain, in whatever case.
    pub search_term: Option<String>,
    /// The types that rooms may have.
    pub room_types: Option<Vec<Option<String>>>,
}

/// A page of the directory.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The rooms.
    pub rooms: Vec<About>,
    /// Where the next page begins.
    pub next: Option<Since>,
    /// Where the page before ends.
    pub previous: Option<Since>,
    /// How many rooms all pages have together.
    pub total: usize,
}

/// Reads a page. Without a filter only the page's rooms are looked into; the order needs every published
/// room's head.
///
/// # Errors
/// If the rooms can't be read.
pub fn page(from: &impl Read, asked: &Asked) -> Result<Page> {
    let filtered = asked.search_term.is_some() || asked.room_types.is_some();
    let mut listed: Vec<(Place, Option<About>)> = Vec::new();
    for room in rooms_of(from, &asked.network)? {
        let Some(head) = event_log::head(from, room)?.filter(|head| head.joined > 0) else {
            continue;
        };
        let place = Place {
            joined: Reverse(head.joined),
            room,
        };
        if !filtered {
            listed.push((place, None));
            continue;
        }
        let about = About::with_head(from, room, &head)?;
        if matches(&about, asked) {
            listed.push((place, Some(about)));
        }
    }
    listed.sort_by_key(|(place, _)| *place);
    let total = listed.len();
    let (start, end) = bounds(&listed, asked);
    let mut page = Page {
        total,
        ..Page::default()
    };
    if start > 0 {
        page.previous = listed.get(start).map(|(place, _)| Since::Before(*place));
    }
    if end < total {
        let last = end.checked_sub(1).and_then(|last| listed.get(last));
        page.next = last.map(|(place, _)| Since::After(*place));
    }
    for (place, about) in listed.drain(start..end) {
        page.rooms.push(match about {
            Some(about) => about,
            None => About::read(from, place.room)?,
        });
    }
    Ok(page)
}

fn bounds(listed: &[(Place, Option<About>)], asked: &Asked) -> (usize, usize) {
    match asked.since {
        Some(Since::Before(before)) => {
            let end = listed.partition_point(|(place, _)| *place < before);
            (end.saturating_sub(asked.limit), end)
        }
        since => {
            let start = match since {
                Some(Since::After(after)) => listed.partition_point(|(place, _)| *place <= after),
                _ => 0,
            };
            (start, listed.len().min(start.saturating_add(asked.limit)))
        }
    }
}

fn rooms_of(from: &impl Read, network: &Network) -> Result<BTreeSet<RoomSn>> {
    let mut found = BTreeSet::new();
    if !matches!(network, Network::Of(_)) {
        found.extend(published(from)?);
    }
    match network {
        Network::Own => {}
        Network::Of(network) => {
            let of = (network.clone(),);
            for row in NETWORK_DIRECTORY.scan(from, &of, Direction::Forward) {
                found.insert(row?.0.1);
            }
        }
        Network::All => {
            for row in NETWORK_DIRECTORY.scan(from, &(), Direction::Forward) {
                found.insert(row?.0.1);
            }
        }
    }
    Ok(found)
}

fn matches(about: &About, asked: &Asked) -> bool {
    if let Some(types) = &asked.room_types
        && !types.contains(&about.room_type)
    {
        return false;
    }
    let Some(term) = &asked.search_term else {
        return true;
    };
    let term = term.to_lowercase();
    [&about.name, &about.topic, &about.canonical_alias]
        .into_iter()
        .flatten()
        .any(|text| text.to_lowercase().contains(&term))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(count: u32) -> Vec<(Place, Option<About>)> {
        (0..count)
            .map(|n| {
                let place = Place {
                    joined: Reverse(u64::from(100 - n)),
                    room: RoomSn(n),
                };
                (place, None)
            })
            .collect()
    }

    fn asked(limit: usize, since: Option<Since>) -> Asked {
        Asked {
            limit,
            since,
            ..Asked::default()
        }
    }

    #[test]
    fn pages_follow_each_other_and_lead_back() {
        let rooms = listed(5);
        assert_eq!(bounds(&rooms, &asked(2, None)), (0, 2));
        assert_eq!(
            bounds(&rooms, &asked(2, Some(Since::After(rooms[1].0)))),
            (2, 4)
        );
        assert_eq!(
            bounds(&rooms, &asked(2, Some(Since::Before(rooms[2].0)))),
            (0, 2)
        );
        assert_eq!(
            bounds(&rooms, &asked(9, Some(Since::After(rooms[4].0)))),
            (5, 5)
        );
    }

    #[test]
    fn a_token_reads_as_it_was_written_and_another_does_not() {
        let place = listed(1)[0].0;
        for since in [Since::After(place), Since::Before(place)] {
            assert_eq!(Since::of_token(&since.to_token()), Some(since));
        }
        for bad in ["", "n", "x1_2", "n1", "na_b", "né_1", "n1_99999999999"] {
            assert_eq!(Since::of_token(bad), None, "{bad}");
        }
    }
}
