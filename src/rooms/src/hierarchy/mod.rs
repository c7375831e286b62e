//! Spaces: rooms that name others as their children.
//! <https://spec.matrix.org/v1.19/client-server-api/#spaces>
//!
//! [`walk`] goes down a space for a user of this server, [`for_server`] tells another server of one space, and [`told`]
//! reads what another server tells.

pub mod for_server;
pub mod told;
pub mod walk;

use event::json;
use store::Read;

use crate::about::About;
use crate::{Result, event_log, state};

/// A room that this server is in.
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
    /// Servers that are likely to be in it.
    pub via: Vec<String>,
    /// `order`, if it is a valid one.
    pub order: Option<String>,
    /// Whether the space suggests it.
    pub suggested: bool,
    /// When the child was set, in milliseconds since 1970.
    pub origin_server_ts: i64,
    /// The child event as stripped state with its time, JSON.
    pub stripped: String,
}

/// The longest valid `order`.
const MOST_ORDER_BYTES: usize = 50;

/// The most servers that a child is looked for at.
const MOST_VIA: usize = 5;

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
        found.extend(child(&event.json).filter(|child| child.suggested || !suggested_only));
    }
    sort(&mut found);
    Ok(found)
}

/// A child event, if it makes a child: "if `via` is missing or not a list of servers, it is none".
fn child(event: &str) -> Option<Child> {
    let content = json::member(event, "content")?;
    let via = json::member(content, "via").filter(|via| json::is_array(via))?;
    if json::elements(via).next().is_none() || json::elements(via).any(|it| !it.starts_with('"')) {
        return None;
    }
    let servers = json::elements(via).take(MOST_VIA).filter_map(json::string);
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
        via: servers.map(|server| server.into_owned()).collect(),
        suggested: json::member(content, "suggested") == Some("true"),
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
        .filter_map(|(room, content, ts)| child(&event(room, content, ts)))
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
            assert_eq!(child(&event("!r:x", content, 1)), None, "{content}");
        }
        let suggested = event("!r:x", r#"{"suggested":true,"via":["x"]}"#, 1);
        assert!(child(&suggested).is_some_and(|child| child.suggested));
        let other = child(&event("!r:x", r#"{"via":["x"]}"#, 1)).unwrap();
        assert!(!other.suggested);
        assert_eq!(other.via, ["x"]);
    }

    #[test]
    fn a_child_is_shown_as_stripped_state_with_its_time() {
        let child = child(&event("!r:x", r#"{"via":["x"]}"#, 7)).unwrap();
        assert_eq!(
            child.stripped,
            r#"{"content":{"via":["x"]},"sender":"@a:x","state_key":"!r:x","type":"m.space.child","origin_server_ts":7}"#
        );
    }
}
