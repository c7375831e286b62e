//! `meyrin room list`: the rooms, the largest first.

use std::cmp::Reverse;

use names::RoomSn;
use node::Node;
use rooms::about::About;
use rooms::{RoomHead, inspect};
use serde_json::json;
use store::View;

use super::text::printable;
use super::{Order, RoomError};
use crate::operator::output::Output;

/// Prints a line for each room, at most `limit`.
pub fn list(
    node: &Node,
    by: Order,
    limit: usize,
    json: bool,
    out: Output<'_>,
) -> Result<(), RoomError> {
    let view = node.view();
    let mut largest: Vec<(u64, RoomSn)> = Vec::new();
    for row in inspect::rooms(&view) {
        let (room, head) = row?;
        largest.push((size(&view, room, by, &head)?, room));
    }
    let all = largest.len();
    largest.sort_unstable_by_key(|(size, room)| (Reverse(*size), *room));
    largest.truncate(limit);
    if !json {
        out.print(format!(
            "{:>10} {:>8} {:>8} {:>11} {:>10} {:>7}  room",
            "events", "joined", "invited", "extremities", "side lines", "version"
        ));
    }
    let shown = largest.len();
    for (_, room) in largest {
        let Some(head) = rooms::event_log::head(&view, room)? else {
            continue;
        };
        let about = About::with_head(&view, room, &head)?;
        let events = inspect::places(&view, room, &head)?;
        if !out.print(line(events, &head, &about, json)) {
            return Ok(());
        }
    }
    if !json && shown < all {
        out.print(format!("{} more rooms; --limit", all - shown));
    }
    Ok(())
}

fn size(view: &View, room: RoomSn, by: Order, head: &RoomHead) -> Result<u64, RoomError> {
    Ok(match by {
        Order::Events => inspect::places(view, room, head)?,
        Order::Members => head.joined,
        Order::Extremities => head.extremities.len() as u64,
        Order::SideLines => head.side_lines.into(),
    })
}

fn line(events: u64, head: &RoomHead, about: &About, json: bool) -> String {
    let extremities = head.extremities.len();
    if json {
        let room = json!({
            "room_id": about.room_id,
            "name": about.name,
            "canonical_alias": about.canonical_alias,
            "version": head.version,
            "events": events,
            "joined": head.joined,
            "invited": head.invited,
            "extremities": extremities,
            "side_lines": head.side_lines,
        });
        return printable(&room.to_string()).into_owned();
    }
    let name = about.name.as_deref().or(about.canonical_alias.as_deref());
    let line = format!(
        "{events:>10} {:>8} {:>8} {extremities:>11} {:>10} {:>7}  {}  {}",
        head.joined,
        head.invited,
        head.side_lines,
        head.version,
        about.room_id,
        name.unwrap_or_default()
    );
    printable(line.trim_end()).into_owned()
}
