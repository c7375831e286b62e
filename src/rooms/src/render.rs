//! Events as a client is shown them: redacted if they were, with `unsigned` as the asking device should
//! see it. Stored bytes never change; all of this is laid over them here.
//! <https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events>

use event::render::RenderOptions;
use event::{RoomRules, json};
use names::{RoomSn, UserSn};
use store::Read;

use crate::append::string_member;
use crate::types::Marks;
use crate::visibility::Visibility;
use crate::{Error, EventNo, Flags, Result, StoredEvent, event_log, relations, send, state};

/// Who looks at the events.
#[derive(Clone, Copy, Debug)]
pub struct Viewer<'a> {
    /// The user.
    pub user: UserSn,
    /// The user's id.
    pub user_id: &'a str,
    /// The device, which alone is told its transaction ids.
    pub device: Option<&'a str>,
}

/// The device and transaction id that made an event.
type Transaction = (String, String);

/// Events read and rendered at once in a long list.
const PIECE: usize = 256;

/// Renders events of one room for one viewer.
pub struct Renderer<'a, R: Read> {
    from: &'a R,
    room: RoomSn,
    rules: &'static RoomRules,
    viewer: Viewer<'a>,
    now_ms: u64,
    visibility: &'a Visibility,
    /// Whether events carry their room's id; they don't in /sync.
    pub with_room_id: bool,
    /// Whether relations are bundled.
    pub with_relations: bool,
    /// Whether events are shown as servers exchange them.
    pub federation_format: bool,
}

impl<'a, R: Read> Renderer<'a, R> {
    /// A renderer for a room. `visibility` is the viewer's.
    pub fn new(
        from: &'a R,
        room: RoomSn,
        rules: &'static RoomRules,
        viewer: Viewer<'a>,
        visibility: &'a Visibility,
        now_ms: u64,
    ) -> Self {
        Self {
            from,
            room,
            rules,
            viewer,
            now_ms,
            visibility,
            with_room_id: true,
            with_relations: true,
            federation_format: false,
        }
    }

    /// Appends a JSON list of events to `out`.
    pub fn list(&self, out: &mut Vec<u8>, events: &[(EventNo, StoredEvent)]) -> Result<()> {
        out.push(b'[');
        self.items(out, events)?;
        out.push(b']');
        Ok(())
    }

    /// Appends the events at `places` to `out` as a JSON list, a piece at a time, so that a list of any
    /// length takes no more memory than its JSON.
    pub fn list_at(&self, out: &mut Vec<u8>, places: &[EventNo]) -> Result<()> {
        out.push(b'[');
        let begin = out.len();
        for piece in places.chunks(PIECE) {
            let events = event_log::get_many(self.from, self.room, piece)?;
            if out.len() > begin && !events.is_empty() {
                out.push(b',');
            }
            self.items(out, &events)?;
        }
        out.push(b']');
        Ok(())
    }

    fn items(&self, out: &mut Vec<u8>, events: &[(EventNo, StoredEvent)]) -> Result<()> {
        let marks = event_log::marks_of(
            self.from,
            self.room,
            events.iter().map(|(_, e)| &e.event_id),
        )?;
        let own = events.iter().filter(|(_, event)| self.is_own(event));
        let own: Vec<EventNo> = own.map(|(no, _)| *no).collect();
        let mut transactions = send::transactions_of(self.from, self.room, &own)?.into_iter();
        for (index, ((no, event), marks)) in events.iter().zip(&marks).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let transaction = match self.is_own(event) {
                true => transactions.next().flatten(),
                false => None,
            };
            self.marked(out, *no, event, marks, transaction)?;
        }
        Ok(())
    }

    /// Appends one event to `out`.
    pub fn event(&self, out: &mut Vec<u8>, no: EventNo, event: &StoredEvent) -> Result<()> {
        let marks = event_log::marks(self.from, self.room, &event.event_id)?;
        self.marked(out, no, event, &marks, self.transaction(no, event)?)
    }

    /// Sent by the viewer, who alone is told transaction ids.
    fn is_own(&self, event: &StoredEvent) -> bool {
        event.sender == self.viewer.user && self.viewer.device.is_some()
    }

    fn transaction(&self, no: EventNo, event: &StoredEvent) -> Result<Option<Transaction>> {
        match self.is_own(event) {
            true => send::transaction_of(self.from, self.room, no),
            false => Ok(None),
        }
    }

    fn marked(
        &self,
        out: &mut Vec<u8>,
        no: EventNo,
        event: &StoredEvent,
        marks: &Marks,
        transaction: Option<Transaction>,
    ) -> Result<()> {
        let mut unsigned = String::with_capacity(64);
        self.write_unsigned(&mut unsigned, no, event, marks, transaction)?;
        let options = RenderOptions {
            with_room_id: self.with_room_id,
            unsigned: &unsigned,
        };
        if self.federation_format {
            return self.as_federated(out, event, marks, &unsigned);
        }
        if marks.redacted_by.is_some() {
            let redacted = event::redaction::redact(self.rules, &event.json);
            let redacted = std::str::from_utf8(&redacted).map_err(|_| self.damaged())?;
            event::render::client_event(out, self.rules, &event.event_id, redacted, options);
        } else {
            event::render::client_event(out, self.rules, &event.event_id, &event.json, options);
        }
        Ok(())
    }

    /// The whole event, with its id and `unsigned`.
    fn as_federated(
        &self,
        out: &mut Vec<u8>,
        event: &StoredEvent,
        marks: &Marks,
        unsigned: &str,
    ) -> Result<()> {
        let redacted;
        let whole = if marks.redacted_by.is_some() {
            redacted = event::redaction::redact(self.rules, &event.json);
            std::str::from_utf8(&redacted).map_err(|_| self.damaged())?
        } else {
            &event.json
        };
        out.push(b'{');
        for (key, value) in json::members(whole) {
            if key != "unsigned" && key != "event_id" {
                out.push(b'"');
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(b"\":");
                out.extend_from_slice(value.as_bytes());
                out.push(b',');
            }
        }
        out.extend_from_slice(b"\"event_id\":");
        json::write_string(out, &event.event_id);
        out.extend_from_slice(b",\"unsigned\":{");
        out.extend_from_slice(unsigned.as_bytes());
        out.extend_from_slice(b"}}");
        Ok(())
    }

    fn damaged(&self) -> Error {
        Error::Damaged {
            room: self.room.0,
            why: "an event can't be shown",
        }
    }

    fn write_unsigned(
        &self,
        unsigned: &mut String,
        no: EventNo,
        event: &StoredEvent,
        marks: &Marks,
        transaction: Option<Transaction>,
    ) -> Result<()> {
        let sent_ms = json::member(&event.json, "origin_server_ts").and_then(json::integer);
        let age = (self.now_ms as i64).saturating_sub(sent_ms.unwrap_or(0));
        unsigned.push_str("\"age\":");
        unsigned.push_str(&age.to_string());
        let membership = match self.visibility.membership_at(no) {
            event::auth::Membership::Join => "join",
            event::auth::Membership::Invite => "invite",
            event::auth::Membership::Knock => "knock",
            event::auth::Membership::Ban => "ban",
            _ => "leave",
        };
        unsigned.push_str(",\"membership\":\"");
        unsigned.push_str(membership);
        unsigned.push('"');
        if let Some((of, id)) = transaction
            && self.viewer.device == Some(&of)
        {
            unsigned.push_str(",\"transaction_id\":");
            push_string(unsigned, &id);
        }
        if event.flags.has(Flags::STATE) {
            self.write_replaced_state(unsigned, no, event)?;
        }
        if let Some(by) = marks.redacted_by {
            self.write_redaction(unsigned, by)?;
        } else if self.with_relations && (marks.replaced || marks.threaded || marks.referenced) {
            self.write_relations(unsigned, event, marks)?;
        }
        Ok(())
    }

    /// What a state event set anew.
    fn write_replaced_state(
        &self,
        unsigned: &mut String,
        no: EventNo,
        event: &StoredEvent,
    ) -> Result<()> {
        let Some(point) = event.state_after(no) else {
            return Ok(());
        };
        let number = Some(event.number(no));
        let changes = state::change_of(self.from, self.room, point)?;
        let own = changes.iter().find(|change| change.after == number);
        let Some(before) = own.and_then(|change| change.before) else {
            return Ok(());
        };
        let Some(replaced) = event_log::get(self.from, self.room, before)? else {
            return Ok(());
        };
        let content = self.content(&replaced)?;
        let sender = json::member(&replaced.json, "sender").unwrap_or("\"\"");
        unsigned.push_str(",\"prev_content\":");
        unsigned.push_str(&content);
        unsigned.push_str(",\"prev_sender\":");
        unsigned.push_str(sender);
        unsigned.push_str(",\"replaces_state\":");
        push_string(unsigned, &replaced.event_id);
        Ok(())
    }

    fn write_redaction(&self, unsigned: &mut String, by: EventNo) -> Result<()> {
        let Some(redaction) = event_log::get(self.from, self.room, by)? else {
            return Ok(());
        };
        let mut out = Vec::with_capacity(256);
        let options = RenderOptions {
            with_room_id: self.with_room_id,
            unsigned: "",
        };
        let id = &redaction.event_id;
        event::render::client_event(&mut out, self.rules, id, &redaction.json, options);
        unsigned.push_str(",\"redacted_because\":");
        unsigned.push_str(std::str::from_utf8(&out).map_err(|_| self.damaged())?);
        unsigned.push_str(",\"redacted_by\":");
        push_string(unsigned, id);
        Ok(())
    }

    fn write_relations(
        &self,
        unsigned: &mut String,
        event: &StoredEvent,
        marks: &Marks,
    ) -> Result<()> {
        let mut parts: Vec<String> = Vec::new();
        if marks.replaced
            && !event.flags.has(Flags::STATE)
            && let Some((no, replacement)) = self.latest_replacement(event)?
        {
            parts.push(format!("\"m.replace\":{}", self.bundled(no, &replacement)?));
        }
        if marks.referenced {
            let mut chunk: Vec<String> = Vec::new();
            for (no, relation) in relations::of(self.from, self.room, &event.event_id)? {
                if relation.rel_type == "m.reference"
                    && let Some(from) = event_log::get(self.from, self.room, no)?
                    && self.visibility.allows(self.from, no, &from)?
                {
                    chunk.push(format!("{{\"event_id\":\"{}\"}}", from.event_id));
                }
            }
            if !chunk.is_empty() {
                parts.push(format!(
                    "\"m.reference\":{{\"chunk\":[{}]}}",
                    chunk.join(",")
                ));
            }
        }
        if marks.threaded
            && let Some(thread) = relations::thread(self.from, self.room, &event.event_id)?
            && let Some(latest) = event_log::get(self.from, self.room, thread.latest)?
        {
            let root = &event.event_id;
            let participated = event.sender == self.viewer.user
                || relations::has_participated(self.from, self.room, root, self.viewer.user)?;
            parts.push(format!(
                "\"m.thread\":{{\"count\":{},\"current_user_participated\":{participated},\"latest_event\":{}}}",
                thread.count,
                self.bundled(thread.latest, &latest)?,
            ));
        }
        if !parts.is_empty() {
            unsigned.push_str(",\"m.relations\":{");
            unsigned.push_str(&parts.join(","));
            unsigned.push('}');
        }
        Ok(())
    }

    /// An event inside another's bundle. Its own edits are bundled, nothing deeper.
    fn bundled(&self, no: EventNo, event: &StoredEvent) -> Result<String> {
        let mut marks = event_log::marks(self.from, self.room, &event.event_id)?;
        marks.threaded = false;
        marks.referenced = false;
        let mut out = Vec::with_capacity(512);
        let transaction = self.transaction(no, event)?;
        self.marked(&mut out, no, event, &marks, transaction)?;
        String::from_utf8(out).map_err(|_| self.damaged())
    }

    /// The content that an event has now: what is left of it, if it was redacted.
    pub fn content(&self, event: &StoredEvent) -> Result<String> {
        let marks = event_log::marks(self.from, self.room, &event.event_id)?;
        let content = if marks.redacted_by.is_some() {
            let redacted = event::redaction::redact(self.rules, &event.json);
            let redacted = String::from_utf8(redacted).map_err(|_| self.damaged())?;
            json::member(&redacted, "content").map(str::to_owned)
        } else {
            json::member(&event.json, "content").map(str::to_owned)
        };
        Ok(content.unwrap_or_else(|| "{}".to_owned()))
    }

    /// The newest valid edit: same sender, same type, not itself an edit, with `m.new_content`.
    /// <https://spec.matrix.org/v1.19/client-server-api/#validity-of-replacement-events>
    fn latest_replacement(&self, event: &StoredEvent) -> Result<Option<(EventNo, StoredEvent)>> {
        let kind = string_member(&event.json, "type").unwrap_or_default();
        let own = json::member(&event.json, "content").and_then(relations::parse);
        if own.is_some_and(|own| own.rel_type == "m.replace") {
            return Ok(None);
        }
        let all = relations::of(self.from, self.room, &event.event_id)?;
        let valid = all.iter().rev().filter(|(_, relation)| {
            relation.rel_type == "m.replace"
                && relation.event_type == kind
                && relation.sender == event.sender
        });
        for (no, _) in valid {
            let Some(edit) = event_log::get(self.from, self.room, *no)? else {
                continue;
            };
            let is_state = edit.flags.has(Flags::STATE);
            let content = json::member(&edit.json, "content").unwrap_or("{}");
            let encrypted = kind == "m.room.encrypted";
            if !is_state && (encrypted || json::member(content, "m.new_content").is_some()) {
                return Ok(Some((*no, edit)));
            }
        }
        Ok(None)
    }
}

fn push_string(out: &mut String, text: &str) {
    let mut bytes = Vec::with_capacity(text.len() + 2);
    json::write_string(&mut bytes, text);
    // It was written from a string.
    out.push_str(&String::from_utf8_lossy(&bytes));
}
