//! `meyrin room graph`: a room's events by what they follow, for Graphviz.
//!
//! Time flows downwards. State events are boxes, the others are round; extremities have a double line; rejected events
//! are red, soft-failed ones orange; events that are not here are dashed, those outside of what was asked for dotted.
//! The filling tells the line of the state history that the state after an event is on: white is the current state of its
//! time. The same database gives the same text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use node::Node;
use rooms::inspect::{self, Window};
use rooms::{EventNo, Flags, event_log};

use super::{Found, RoomError, find};
use crate::operator::output::Output;

/// The most events that are drawn; Graphviz takes very long for more.
const MOST_EVENTS: usize = 10_000;
/// The most letters of a name on a node.
const MOST_LETTERS: usize = 48;
/// Fillings of the side lines.
const COLOURS: [&str; 6] = [
    "#cfe8ff", "#ffe9b3", "#d5f5d0", "#f3d4f0", "#e4dccf", "#c9efea",
];

/// Prints the last events, or those around one: its id, and how many on each side.
pub fn graph(
    node: &Node,
    name: &str,
    last: usize,
    around: Option<(String, usize)>,
    out: Output<'_>,
) -> Result<(), RoomError> {
    let found = find(node, name)?;
    let window = match &around {
        Some((event, span)) => {
            let id = found.event_id(event)?;
            match event_log::find_in(&found.view, found.room, &id)? {
                Some(no) => Window::Around(no, (*span).min(MOST_EVENTS / 2)),
                None => return Err(found.no_event(&id)?),
            }
        }
        None => Window::Last(last.min(MOST_EVENTS)),
    };
    let nodes = inspect::nodes(&found.view, found.room, found.rules()?, window)?;
    draw(&found, &nodes, &|line: String| {
        out.print(line);
    });
    Ok(())
}

fn draw(found: &Found, nodes: &[inspect::Node], print: &dyn Fn(String)) {
    let title = format!("{}, {} events", found.room_id, nodes.len());
    print(format!("digraph {} {{", quoted(&found.room_id)));
    print(format!("  label={};", quoted(&title)));
    print("  rankdir=BT;".to_owned());
    print("  node [style=filled, fillcolor=white, fontsize=10];".to_owned());
    for node in nodes {
        print(event(found, node));
    }
    // What is followed and not among them, with whether it is here.
    let drawn: BTreeSet<EventNo> = nodes.iter().map(|node| node.no).collect();
    let mut others: BTreeMap<&str, bool> = BTreeMap::new();
    for node in nodes {
        for (id, place) in &node.follows {
            if !place.is_some_and(|place| drawn.contains(&place)) {
                others.insert(id, place.is_some());
            }
        }
    }
    for (id, here) in others {
        let (style, what) = match here {
            true => ("dotted", "earlier"),
            false => ("dashed", "missing"),
        };
        let label = lines(&[&short(id), what]);
        print(format!("  {} [label={label}, style={style}];", quoted(id)));
    }
    for node in nodes {
        for (id, _) in &node.follows {
            let (from, to) = (quoted(&node.event.event_id), quoted(id));
            print(format!("  {from} -> {to};"));
        }
    }
    print("}".to_owned());
}

fn event(found: &Found, node: &inspect::Node) -> String {
    let (pdu, flags) = (&node.pdu, node.event.flags);
    let name = match pdu.state_key() {
        Some("") | None => short(pdu.event_type()),
        Some(key) => format!("{} {}", short(pdu.event_type()), short(key)),
    };
    let at = format!("place {}, depth {}", node.no, pdu.depth());
    let mut label = vec![name, short(pdu.sender()), short(pdu.event_id()), at];
    let mut attributes = String::new();
    let line = node
        .event
        .state_after(node.no)
        .map_or(0, |point| point.line);
    if line > 0 {
        label.push(format!("line {line}"));
        let colour = COLOURS[line as usize % COLOURS.len()];
        // Writing to a string does not fail.
        let _ = write!(attributes, ", fillcolor=\"{colour}\"");
    }
    if flags.has(Flags::STATE) {
        attributes.push_str(", shape=box");
    }
    for (flag, colour, what) in [
        (Flags::REJECTED, "red", "rejected"),
        (Flags::SOFT_FAILED, "orange", "soft-failed"),
    ] {
        if flags.has(flag) {
            let _ = write!(
                attributes,
                ", color={colour}, fontcolor={colour}, penwidth=2"
            );
            label.push(what.to_owned());
        }
    }
    if found.head.extremities.iter().any(|(no, _)| *no == node.no) {
        attributes.push_str(", peripheries=2");
        label.push("extremity".to_owned());
    }
    let label: Vec<&str> = label.iter().map(String::as_str).collect();
    format!(
        "  {} [label={}{attributes}];",
        quoted(pdu.event_id()),
        lines(&label)
    )
}

/// The beginning of a long name.
fn short(text: &str) -> String {
    match text.char_indices().nth(MOST_LETTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A label of some lines.
fn lines(lines: &[&str]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| escaped(line)).collect();
    format!("\"{}\"", lines.join("\\n"))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// `text` as Graphviz reads it between quotes: with backslashes it means something else, `&` begins an entity, and control
/// characters are left out of what is drawn.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '&' => out.push_str("&amp;"),
            letter if letter.is_control() => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_their_quotes() {
        assert_eq!(quoted("a\"]; b\\"), r#""a\"]; b\\""#);
        assert_eq!(quoted("a & b\n"), "\"a &amp; b\u{fffd}\"");
        assert_eq!(lines(&["a", "b\\n"]), r#""a\nb\\n""#);
    }

    #[test]
    fn long_names_are_cut_between_letters() {
        let long = "é".repeat(MOST_LETTERS + 1);
        assert_eq!(short(&long), format!("{}…", "é".repeat(MOST_LETTERS)));
        assert_eq!(short("short"), "short");
    }
}
