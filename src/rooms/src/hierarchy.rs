//! Walking down a space: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy>.
//!
//! Depth first, each room once, children in their order; what the viewer may not know of is left out
//! together with what is below it. Pages are cut from one and the same walk. Another server is told one room and its
//! children: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>.

use std::collections::HashSet;

use event::json;
use names::{RoomSn, UserSn};
use store::Read;

use crate::about::About;
use crate::{Result, event_log, members, state, summary};

/// What is asked of a space.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The room at the top.
    pub root: RoomSn,
    /// Who asks.
    pub viewer: UserSn,
    /// How far down to go; the root is at depth 0.
    pub max_depth: Option<u64>,
    /// Only children that the space suggests.
    pub suggested_only: bool,
    /// Rooms of earlier pages.
    pub skip: usize,
    /// The most rooms of this page.
    pub limit: usize,
}

/// A room of the hierarchy.
#[derive(Clone, Debug)]
pub struct Room {
    /// What the room says of itself.
    pub about: About,
    /// Its children, if it is a space, in their order.
    pub children: Vec<Child>,
}

/// A child of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The child's id.
    pub room_id: String,
    /// `order`, if it is a valid one.
    pub order: Option<String>,
    /// When the child was set, in milliseconds since 1970.
    pub origin_server_ts: i64,
    /// The child event as stripped state with its time, JSON.
    pub stripped: String,
}

/// A page of the hierarchy.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The rooms.
    pub rooms: Vec<Room>,
    /// There are more.
    pub more: bool,
}

/// Rooms visited in one walk.
const MOST_VISITED: usize = 10_000;
/// The longest valid `order`.
const MOST_ORDER_BYTES: usize = 50;

/// Reads a page; nothing if the viewer may not know of the root.
pub fn page(from: &impl Read, asked: &Asked) -> Result<Option<Page>> {
    let mut page = Page::default();
    let mut seen = HashSet::new();
    let mut shown = 0;
    let mut to_visit = vec![(asked.root, 0)];
    while let Some((room, depth)) = to_visit.pop() {
        if !seen.insert(room) {
            continue;
        }
        let about = match event_log::head(from, room)? {
            Some(head) => About::with_head(from, room, &head)?,
            None => continue,
        };
        if !summary::may_know(from, &about, Some(asked.viewer))? {
            continue;
        }
        if page.rooms.len() == asked.limit {
            page.more = true;
            break;
        }
        let children = children(from, &about, asked.suggested_only)?;
        if asked.max_depth.is_none_or(|most| depth < most) {
            for child in children.iter().rev() {
                if seen.len() + to_visit.len() < MOST_VISITED
                    && let Some(room) = names::room_sn(from, &child.room_id)?
                {
                    to_visit.push((room, depth + 1));
                }
            }
        }
        if shown >= asked.skip {
            page.rooms.push(Room { about, children });
        }
        shown += 1;
    }
    Ok((shown > 0).then_some(page))
}

/// What another server is told of a space.
#[derive(Clone, Debug)]
pub struct Level {
    /// The space.
    pub room: Room,
    /// Those of its children that this server is in and the other may know of.
    pub children: Vec<About>,
    /// Those that this server is in and the other may not know of.
    pub inaccessible: Vec<String>,
}

/// Children that are looked into for another server.
const MOST_CHILDREN: usize = 1_000;

/// Reads a space and its children for another server; nothing if this server is not in the space, or the other may
/// not know of it.
///
/// # Errors
/// If the rooms can't be read.
pub fn for_server(
    from: &impl Read,
    root: RoomSn,
    server: &str,
    suggested_only: bool,
) -> Result<Option<Level>> {
    let Some(about) = resident(from, root)? else {
        return Ok(None);
    };
    if !summary::may_server_know(from, &about, server)? {
        return Ok(None);
    }
    let mut level = Level {
        children: Vec::new(),
        inaccessible: Vec::new(),
        room: Room {
            children: children(from, &about, suggested_only)?,
            about,
        },
    };
    for child in level.room.children.iter().take(MOST_CHILDREN) {
        let room = names::room_sn(from, &child.room_id)?;
        let about = match room {
            Some(room) => resident(from, room)?,
            None => None,
        };
        match about {
            Some(about) if summary::may_server_know(from, &about, server)? => {
                level.children.push(about);
            }
            Some(about) => level.inaccessible.push(about.room_id),
            None => {}
        }
    }
    Ok(Some(level))
}

/// What a room says of itself, if this server is in it.
fn resident(from: &impl Read, room: RoomSn) -> Result<Option<About>> {
    let Some(head) = event_log::head(from, room)? else {
        return Ok(None);
    };
    match members::is_resident(from, room)? {
        true => Ok(Some(About::with_head(from, room, &head)?)),
        false => Ok(None),
    }
}

/// The children of a space, ordered.
fn children(from: &impl Read, about: &About, suggested_only: bool) -> Result<Vec<Child>> {
    if about.room_type.as_deref() != Some("m.space") {
        return Ok(Vec::new());
    }
    let entries = state::current_of_type(from, about.room, "m.space.child")?;
    let places: Vec<_> = entries.iter().map(|entry| entry.event).collect();
    let events = event_log::get_many(from, about.room, &places)?;
    let ids = events.iter().map(|(_, event)| &event.event_id);
    let marks = event_log::marks_of(from, about.room, ids)?;
    let mut found = Vec::new();
    for ((_, event), marks) in events.iter().zip(marks) {
        if marks.redacted_by.is_some() {
            continue;
        }
        found.extend(child(&event.json, suggested_only));
    }
    sort(&mut found);
    Ok(found)
}

/// A child event, if it makes a child: "if `via` is missing or not a list of servers, it is none".
fn child(event: &str, suggested_only: bool) -> Option<Child> {
    let content = json::member(event, "content")?;
    let via = json::member(content, "via").filter(|via| json::is_array(via))?;
    if json::elements(via).next().is_none() || json::elements(via).any(|it| !it.starts_with('"')) {
        return None;
    }
    if suggested_only && json::member(content, "suggested") != Some("true") {
        return None;
    }
    let room_id = json::member(event, "state_key").and_then(json::string)?;
    let order = json::member(content, "order")
        .and_then(json::string)
        .filter(|order| is_order(order));
    let origin_server_ts = json::member(event, "origin_server_ts").and_then(json::integer);
    let origin_server_ts = origin_server_ts.unwrap_or(0);
    let mut stripped = Vec::with_capacity(256);
    event::render::stripped_state(&mut stripped, event);
    let mut stripped = String::from_utf8(stripped).ok()?;
    stripped.pop();
    stripped.push_str(&format!(",\"origin_server_ts\":{origin_server_ts}}}"));
    Some(Child {
        room_id: room_id.into_owned(),
        order: order.map(|order| order.into_owned()),
        origin_server_ts,
        stripped,
    })
}

fn is_order(order: &str) -> bool {
    order.len() <= MOST_ORDER_BYTES && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

/// Those with an `order` first, by it; then by time; then by id.
fn sort(children: &mut [Child]) {
    children.sort_by(|a, b| {
        let key = |child: &Child| (child.order.is_none(), child.origin_server_ts);
        (a.order.is_none(), &a.order)
            .cmp(&(b.order.is_none(), &b.order))
            .then_with(|| key(a).cmp(&key(b)))
            .then_with(|| a.room_id.cmp(&b.room_id))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(room: &str, content: &str, ts: i64) -> String {
        format!(
            r#"{{"content":{content},"origin_server_ts":{ts},"sender":"@a:x","state_key":"{room}","type":"m.space.child"}}"#
        )
    }

    #[test]
    fn children_with_an_order_come_first_then_the_older_ones() {
        let mut children: Vec<Child> = [
            ("!late:x", r#"{"via":["x"]}"#, 9),
            ("!early:x", r#"{"via":["x"]}"#, 1),
            ("!b:x", r#"{"order":"b","via":["x"]}"#, 5),
            ("!a2:x", r#"{"order":"a","via":["x"]}"#, 7),
            ("!a1:x", r#"{"order":"a","via":["x"]}"#, 6),
            ("!twin:x", r#"{"via":["x"]}"#, 9),
            ("!wrong:x", r#"{"order":"é","via":["x"]}"#, 0),
        ]
        .into_iter()
        .filter_map(|(room, content, ts)| child(&event(room, content, ts), false))
        .collect();
        sort(&mut children);
        let ids: Vec<&str> = children
            .iter()
            .map(|child| child.room_id.as_str())
            .collect();
        let expected = [
            "!a1:x", "!a2:x", "!b:x", "!wrong:x", "!early:x", "!late:x", "!twin:x",
        ];
        assert_eq!(ids, expected);
    }

    #[test]
    fn what_names_no_server_is_no_child() {
        for content in ["{}", r#"{"via":[]}"#, r#"{"via":"x"}"#, r#"{"via":[1]}"#] {
            assert_eq!(child(&event("!r:x", content, 1), false), None, "{content}");
        }
        let suggested = event("!r:x", r#"{"suggested":true,"via":["x"]}"#, 1);
        assert!(child(&suggested, true).is_some());
        assert!(child(&event("!r:x", r#"{"via":["x"]}"#, 1), true).is_none());
    }

    #[test]
    fn a_child_is_shown_as_stripped_state_with_its_time() {
        let child = child(&event("!r:x", r#"{"via":["x"]}"#, 7), false).unwrap();
        assert_eq!(
            child.stripped,
            r#"{"content":{"via":["x"]},"sender":"@a:x","state_key":"!r:x","type":"m.space.child","origin_server_ts":7}"#
        );
    }
}
