//! The list of events that a user was notified of.
//! <https://spec.matrix.org/v1.19/client-server-api/#listing-notifications>
//!
//! Nothing is kept for it: the push rules are asked again about the newest events of the user's rooms.
//! A page ends where the first of the rooms has been looked at as far as one page goes, so that what it
//! shows is complete.

use std::cmp::Reverse;

use event::auth::Membership;
use event::json;
use names::{RoomSn, UserSn};
use rooms::render::{Renderer, Viewer};
use rooms::visibility::Visibility;
use rooms::{EventNo, StoredEvent, UserRoom, event_log, receipts};
use serde_json::{Value, json as value};
use store::{At, Position, View};
use users::push::{Actions, Ruleset};
use users::unread::Receipts;

use crate::unread::{RoomFacts, Subject};
use crate::{Memory, Result};

/// Events of one room looked at for one page.
const MOST_OF_ROOM: usize = 200;

/// What is asked for.
pub struct Asked<'a> {
    /// The user.
    pub user: UserSn,
    /// The user's id.
    pub user_id: &'a str,
    /// The device that asks.
    pub device: &'a str,
    /// Only events before this position.
    pub before: Option<Position>,
    /// The most events.
    pub limit: usize,
    /// Only events that highlight.
    pub only_highlight: bool,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

struct Notified {
    position: Position,
    no: EventNo,
    event: StoredEvent,
    actions: Actions,
    read: bool,
    /// The room, by its place in the list of rooms.
    room: usize,
}

struct Room {
    room: RoomSn,
    room_id: String,
    rules: &'static event::RoomRules,
    visibility: Visibility,
}

/// Builds a page of notifications, newest first.
pub fn notifications(
    view: &View,
    memory: &Memory,
    rooms: &[(RoomSn, At<UserRoom>)],
    asked: &Asked<'_>,
) -> Result<Vec<u8>> {
    let (_, rules) = memory.unread.ruleset(view, asked.user)?;
    let mut looked_at = Vec::new();
    let mut found = Vec::new();
    // What is older has not been looked at in every room.
    let mut floor = Position::ZERO;
    for (room, of) in rooms {
        if of.value.membership() != Membership::Join {
            continue;
        }
        let reached = look(view, *room, asked, &rules, &mut looked_at, &mut found)?;
        floor = floor.max(reached);
    }
    found.retain(|notified| notified.position >= floor);
    found.sort_by_key(|notified| Reverse(notified.position));
    let next = if found.len() > asked.limit {
        found.truncate(asked.limit);
        found.last().map(|last| last.position)
    } else {
        (floor > Position::ZERO).then_some(floor)
    };
    render(view, asked, &looked_at, &found, next)
}

/// Looks at the newest events of a room. Returns the position down to which it looked, zero for all.
fn look(
    view: &View,
    room: RoomSn,
    asked: &Asked<'_>,
    rules: &Ruleset,
    rooms: &mut Vec<Room>,
    found: &mut Vec<Notified>,
) -> Result<Position> {
    let Some(head) = event_log::head(view, room)? else {
        return Ok(Position::ZERO);
    };
    let Some(room_rules) = head.rules() else {
        return Ok(Position::ZERO);
    };
    let visibility = Visibility::of(view, room, Some((asked.user, asked.user_id)))?;
    let joined_at = visibility.joined_since().unwrap_or(head.next);
    let room_id = names::room_id(view, room)?;
    let mut read = Receipts::default();
    for (_, thread, receipt) in receipts::own(view, room, asked.user)? {
        read.add(thread.as_deref(), receipt.event.0);
    }
    let end = match asked.before {
        Some(before) => {
            event_log::after_position(view, room, Position(before.0.saturating_sub(1)))?
        }
        None => head.next,
    };
    let subject = Subject {
        user: asked.user,
        user_id: asked.user_id,
        room,
        room_id: &room_id,
        head: &head,
        joined_at,
    };
    let facts = RoomFacts::read(view, &subject)?;
    let mut reached = Position::ZERO;
    let mut last = Position(u64::MAX);
    for (n, row) in event_log::backwards(view, room, end).enumerate() {
        let (no, event) = row?;
        if no <= joined_at {
            break;
        }
        if n == MOST_OF_ROOM {
            reached = Position(last.0.saturating_add(1));
            break;
        }
        if no.is_past() {
            // It was never news.
            continue;
        }
        last = event.position;
        if event.sender == asked.user || !visibility.allows(view, no, &event)? {
            continue;
        }
        let actions = facts.actions(&subject, rules, &event);
        if actions.notify && (actions.highlight || !asked.only_highlight) {
            found.push(Notified {
                position: event.position,
                no,
                actions: actions.clone(),
                read: read.is_read(no.0, event.thread_root.as_deref()),
                event,
                room: rooms.len(),
            });
        }
    }
    rooms.push(Room {
        room,
        room_id,
        rules: room_rules,
        visibility,
    });
    Ok(reached)
}

fn render(
    view: &View,
    asked: &Asked<'_>,
    rooms: &[Room],
    found: &[Notified],
    next: Option<Position>,
) -> Result<Vec<u8>> {
    let viewer = Viewer {
        user: asked.user,
        user_id: asked.user_id,
        device: Some(asked.device),
    };
    let mut out = Vec::with_capacity(64 + 768 * found.len());
    out.extend_from_slice(b"{\"notifications\":[");
    let begin = out.len();
    for notified in found {
        let Some(room) = rooms.get(notified.room) else {
            continue;
        };
        if out.len() > begin {
            out.push(b',');
        }
        let actions = actions_json(&notified.actions);
        out.extend_from_slice(format!("{{\"actions\":{actions},\"event\":").as_bytes());
        let (sn, visibility) = (room.room, &room.visibility);
        let renderer = Renderer::new(view, sn, room.rules, viewer, visibility, asked.now_ms);
        renderer.event(&mut out, notified.no, &notified.event)?;
        let sent_ms = json::member(&notified.event.json, "origin_server_ts").unwrap_or("0");
        let read = notified.read;
        out.extend_from_slice(format!(",\"read\":{read},\"ts\":{sent_ms},\"room_id\":").as_bytes());
        json::write_string(&mut out, &room.room_id);
        out.push(b'}');
    }
    out.push(b']');
    if let Some(next) = next {
        out.extend_from_slice(format!(",\"next_token\":\"n{}\"", next.0).as_bytes());
    }
    out.push(b'}');
    Ok(out)
}

fn actions_json(actions: &Actions) -> Value {
    let mut list = vec![value!("notify")];
    for (name, value) in &actions.tweaks {
        list.push(if *value == value!(true) {
            value!({ "set_tweak": name })
        } else {
            value!({ "set_tweak": name, "value": value })
        });
    }
    list.into()
}
