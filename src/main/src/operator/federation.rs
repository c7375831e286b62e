//! What the operator sees of other servers: those that something waits for, and one of them more closely.

use node::{DestinationStatus, Node, NodeError};
use serde_json::{Value, json};

use super::output::Output;

/// Prints a line for each server that something waits for: name, since when it fails and when it is tried again (seconds
/// since 1970, `-` if it does not fail), failures in a row, rooms with news for it, messages to devices.
pub fn list(node: &Node, json: bool, out: Output<'_>) -> Result<(), NodeError> {
    for status in node.outgoing_status()? {
        let line = match json {
            true => object(&status).to_string(),
            false => format!(
                "{}\t{}\t{}\t{}\t{}\t{}",
                status.server,
                seconds(status.failing_since_ms),
                seconds(status.retry_at_ms),
                status.failures,
                status.rooms,
                status.to_device
            ),
        };
        if !out.print(line) {
            break;
        }
    }
    Ok(())
}

/// Prints how it stands with a server.
pub fn show(node: &Node, server: &str, json: bool, out: Output<'_>) -> Result<(), NodeError> {
    let (status, rooms) = node.outgoing_status_of(server)?;
    let view = node.view();
    let mut room_ids = Vec::with_capacity(rooms.len());
    for room in rooms {
        room_ids.push(names::room_id(&view, room)?);
    }
    if json {
        let mut object = object(&status);
        object["shared_rooms"] = room_ids.into();
        out.print(object.to_string());
        return Ok(());
    }
    let line = |name: &str, value: String| out.print(format!("{name:<22} {value}"));
    line("server", status.server);
    line("failing since (s)", seconds(status.failing_since_ms));
    line("tried again at (s)", seconds(status.retry_at_ms));
    line("failures in a row", status.failures.to_string());
    // What the other server says is quoted: no control character reaches the terminal.
    let error = status
        .error
        .map_or_else(|| "-".to_owned(), |error| format!("{error:?}"));
    line("last failure", error);
    line("given up", status.is_given_up.to_string());
    line("catching up", status.is_catching_up.to_string());
    line("rooms with news", status.rooms.to_string());
    line("messages to devices", status.to_device.to_string());
    line("shared rooms", room_ids.len().to_string());
    for room_id in room_ids {
        if !out.print(format!("  {}", room_id.escape_debug())) {
            break;
        }
    }
    Ok(())
}

fn seconds(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| (ms / 1000).to_string())
}

fn object(status: &DestinationStatus) -> Value {
    json!({
        "server": status.server,
        "failing_since_ms": status.failing_since_ms,
        "retry_at_ms": status.retry_at_ms,
        "failures": status.failures,
        "error": status.error,
        "is_given_up": status.is_given_up,
        "is_catching_up": status.is_catching_up,
        "rooms": status.rooms,
        "to_device": status.to_device,
    })
}
