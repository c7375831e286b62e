//! Events as clients see them, sliced out of the stored canonical JSON without a tree.
//!
//! The stored `unsigned`, `hashes`, `signatures`, `auth_events`, `prev_events` and `depth` are never shown. What the
//! server knows at the moment of showing (age, transaction id, bundled relations) comes in as raw members.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#room-event-format>.

use crate::json::{self, ObjectWriter, write_string};
use crate::pdu::room_id_of_create;
use crate::room_version::RoomRules;

/// What to show beside the event itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenderOptions<'a> {
    /// Whether to write `room_id`; `/sync` leaves it out.
    pub with_room_id: bool,
    /// The members of `unsigned` as JSON without the braces (`"age":5,"transaction_id":"x"`); empty for no `unsigned`.
    pub unsigned: &'a str,
}

/// Appends the event in the client-server format to `out`. `event` is the stored JSON or its redaction.
///
/// Redactions name their target both at the top level and in `content`, whichever the room version has: "for
/// compatibility with older clients" and newer ones.
pub fn client_event(
    out: &mut Vec<u8>,
    rules: &RoomRules,
    event_id: &str,
    event: &str,
    options: RenderOptions<'_>,
) {
    let members = ClientMembers::of(event);
    let redacts = members.redacts(rules);
    let mut writer = ObjectWriter::open(out);
    match redacts {
        Some(redacts) if !rules.redaction.redacts_in_content => {
            content_with_redacts(writer.key("content"), members.content, redacts);
        }
        _ => writer.raw("content", members.content),
    }
    write_string(writer.key("event_id"), event_id);
    if let Some(origin_server_ts) = members.origin_server_ts {
        writer.raw("origin_server_ts", origin_server_ts);
    }
    if let Some(redacts) = redacts {
        writer.raw("redacts", redacts);
    }
    if options.with_room_id {
        match members.room_id {
            Some(room_id) => writer.raw("room_id", room_id),
            None => write_string(writer.key("room_id"), &room_id_of_create(event_id)),
        }
    }
    members.write_stripped_tail(&mut writer);
    if !options.unsigned.is_empty() {
        let out = writer.key("unsigned");
        out.push(b'{');
        out.extend_from_slice(options.unsigned.as_bytes());
        out.push(b'}');
    }
    writer.close();
}

/// Appends a state event as stripped state: `content`, `sender`, `state_key` and `type` alone.
/// <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
pub fn stripped_state(out: &mut Vec<u8>, event: &str) {
    let members = ClientMembers::of(event);
    let mut writer = ObjectWriter::open(out);
    writer.raw("content", members.content);
    members.write_stripped_tail(&mut writer);
    writer.close();
}

struct ClientMembers<'a> {
    content: &'a str,
    origin_server_ts: Option<&'a str>,
    top_level_redacts: Option<&'a str>,
    room_id: Option<&'a str>,
    sender: Option<&'a str>,
    state_key: Option<&'a str>,
    event_type: Option<&'a str>,
}

impl<'a> ClientMembers<'a> {
    fn of(event: &'a str) -> Self {
        let mut members = ClientMembers {
            content: "{}",
            origin_server_ts: None,
            top_level_redacts: None,
            room_id: None,
            sender: None,
            state_key: None,
            event_type: None,
        };
        for (key, value) in json::members(event) {
            match key {
                "content" => members.content = value,
                "origin_server_ts" => members.origin_server_ts = Some(value),
                "redacts" => members.top_level_redacts = Some(value),
                "room_id" => members.room_id = Some(value),
                "sender" => members.sender = Some(value),
                "state_key" => members.state_key = Some(value),
                "type" => members.event_type = Some(value),
                _ => {}
            }
        }
        members
    }

    /// The raw target of a redaction.
    fn redacts(&self, rules: &RoomRules) -> Option<&'a str> {
        if self.event_type != Some("\"m.room.redaction\"") {
            return None;
        }
        match rules.redaction.redacts_in_content {
            true => json::member(self.content, "redacts"),
            false => self.top_level_redacts,
        }
    }

    fn write_stripped_tail(&self, writer: &mut ObjectWriter<'_>) {
        let tail = [
            ("sender", self.sender),
            ("state_key", self.state_key),
            ("type", self.event_type),
        ];
        for (key, value) in tail {
            if let Some(value) = value {
                writer.raw(key, value);
            }
        }
    }
}

fn content_with_redacts(out: &mut Vec<u8>, content: &str, redacts: &str) {
    let mut writer = ObjectWriter::open(out);
    for (key, value) in json::members(content) {
        if key != "redacts" {
            writer.raw(key, value);
        }
    }
    writer.raw("redacts", redacts);
    writer.close();
}
