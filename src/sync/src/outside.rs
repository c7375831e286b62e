//! The end of a membership in a room that this server is not in: the leaving is all that there is to tell.

use event::json;
use event::render::{RenderOptions, client_event};
use rooms::outside::Outside;
use users::filters::EventFormat;

use crate::Result;
use crate::fields::Fields;
use crate::response::{Request, StateMode};

/// Appends the part of a room that the user has left.
pub fn left(out: &mut Vec<u8>, request: &Request<'_>, outside: &Outside) -> Result<()> {
    let filter = &request.filter.room;
    let sender = outside.sender();
    let mut event = Vec::new();
    event.push(b'[');
    match request.filter.event_format {
        EventFormat::Federation => event.extend_from_slice(outside.json().as_bytes()),
        EventFormat::Client => write_event(&mut event, outside, request.now_ms),
    }
    event.push(b']');
    if let Some(paths) = &request.filter.event_fields {
        Fields::new(paths).choose(&mut event, 0);
    }
    let shown = |shows: bool| if shows { event.as_slice() } else { b"[]" };
    let in_timeline = filter.timeline.shows(MEMBER, &sender, || false);
    out.extend_from_slice(b"{\"timeline\":{\"events\":");
    out.extend_from_slice(shown(in_timeline));
    out.extend_from_slice(b",\"limited\":false}");
    match request.state_mode {
        StateMode::Before => out.extend_from_slice(b",\"state\":{\"events\":[]}"),
        StateMode::After => {
            // Clients that take the state from there alone learn of the leaving there.
            let in_state = filter.state.shows(MEMBER, &sender, || false);
            for name in ["state_after", "org.matrix.msc4222.state_after"] {
                out.extend_from_slice(format!(",\"{name}\":{{\"events\":").as_bytes());
                out.extend_from_slice(shown(in_state));
                out.push(b'}');
            }
        }
    }
    out.extend_from_slice(b",\"account_data\":{\"events\":[]}}");
    Ok(())
}

/// Appends the member event as clients see it.
pub fn write_event(out: &mut Vec<u8>, outside: &Outside, now_ms: u64) {
    let Some(rules) = outside.rules() else {
        out.extend_from_slice(b"{}");
        return;
    };
    let sent_ms = json::member(outside.json(), "origin_server_ts")
        .and_then(json::integer)
        .unwrap_or_default();
    let age = format!("\"age\":{}", (now_ms as i64).saturating_sub(sent_ms));
    let options = RenderOptions {
        with_room_id: false,
        unsigned: &age,
    };
    client_event(out, rules, &outside.event_id(), outside.json(), options);
}

const MEMBER: &str = "m.room.member";
