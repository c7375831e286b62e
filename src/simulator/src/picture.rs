//! What a failure looks like: the difference between two states in words, the graph as text and for Graphviz.

use std::fmt::Write;

use crate::reference::{Entry, Reference, State};

/// In which entries two states differ.
pub fn difference(
    reference: &Reference,
    (first_name, first): (&str, &State),
    (second_name, second): (&str, &State),
) -> String {
    let mut out = String::new();
    let mut keys: Vec<_> = first.keys().chain(second.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let (a, b) = (first.get(key), second.get(key));
        if a != b {
            let (event_type, state_key) = key;
            let (a, b) = (name(reference, a), name(reference, b));
            let _ = write!(
                out,
                "\n  ({event_type}, {state_key:?}): {first_name} has {a}, {second_name} has {b}"
            );
        }
    }
    out
}

fn name(reference: &Reference, number: Option<&usize>) -> String {
    number.map_or("nothing".to_owned(), |number| {
        format!("#{number} {}", reference.entry(*number).pdu().event_id())
    })
}

/// The events in the order they were made, one a line: number, place in the graph, what it is, what became of it, and
/// what the state after it has that the state before it has not.
pub fn text(reference: &Reference) -> String {
    let mut out = String::new();
    for (number, entry) in reference.entries().iter().enumerate() {
        let pdu = entry.pdu();
        let _ = writeln!(
            out,
            "#{number} {} prev {:?} auth {:?} depth {} ts {} {} by {}: {} [{}]",
            pdu.event_id(),
            entry.prev,
            entry.auth,
            pdu.depth(),
            pdu.origin_server_ts(),
            kind(entry),
            pdu.sender(),
            pdu.content(),
            verdict(entry),
        );
        for prev in entry.prev.iter().filter(|_| entry.prev.len() > 1) {
            let after = &reference.entry(*prev).after;
            let told = difference(
                reference,
                ("the state before", &entry.before),
                ("one of those merged", after),
            );
            let _ = writeln!(out, "  merges #{prev}:{told}");
        }
    }
    out
}

/// The graph for Graphviz.
pub fn graphviz(reference: &Reference) -> String {
    let mut out = "digraph room {\n  rankdir=BT; node [shape=box fontsize=10];\n".to_owned();
    for (number, entry) in reference.entries().iter().enumerate() {
        let style = match &entry.rejected {
            Some(_) => " style=dashed color=red",
            None if entry.pdu().state_key().is_some() => " style=bold",
            None => "",
        };
        let label = format!(
            "#{number} {}\n{}\n{}",
            kind(entry),
            entry.pdu().sender(),
            entry.intent
        );
        let _ = writeln!(out, "  e{number} [label={label:?}{style}];");
        for prev in &entry.prev {
            let _ = writeln!(out, "  e{number} -> e{prev};");
        }
    }
    out.push_str("}\n");
    out
}

fn kind(entry: &Entry) -> String {
    let pdu = entry.pdu();
    match pdu.state_key() {
        Some(state_key) => format!("{}({state_key})", pdu.event_type()),
        None => pdu.event_type().to_owned(),
    }
}

fn verdict(entry: &Entry) -> String {
    let published = if entry.published {
        ""
    } else {
        ", never safe on a disk"
    };
    match &entry.rejected {
        Some(error) => format!("{}: rejected, {error}{published}", entry.intent),
        None => format!("{}: accepted{published}", entry.intent),
    }
}
