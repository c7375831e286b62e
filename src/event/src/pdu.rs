//! A persistent data unit: one event as servers exchange and store it.
//!
//! A [`Pdu`] owns its canonical JSON once and knows where the fields are in it. It is immutable: redaction and
//! `unsigned` are applied when rendering. Invariants: `json` is canonical, has no `unsigned`, and contains every
//! member the event format of its room version demands, with its type.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#pdus> and the event formats of the room versions.

use std::borrow::Cow;
use std::sync::Arc;

use crate::canonical::{self, CanonicalError};
use crate::event_id::EventId;
use crate::hash;
use crate::identifier;
use crate::json;
use crate::redaction;
use crate::room_version::{EventIdFormat, ReferenceFormat, RoomIdFormat, RoomRules};

/// The complete event with signatures, in canonical JSON, must not be larger.
/// <https://spec.matrix.org/v1.19/client-server-api/#size-limits>
pub const MAX_EVENT_BYTES: usize = 65_536;

/// Received text longer than this is not even parsed. White space, escapes and `unsigned` go away when an event is brought
/// into canonical form, so the limit is far above [`MAX_EVENT_BYTES`].
pub const MAX_RECEIVED_BYTES: usize = 8 * MAX_EVENT_BYTES;

/// Longest `prev_events`.
pub const MAX_PREV_EVENTS: usize = 20;

/// Longest `auth_events`.
pub const MAX_AUTH_EVENTS: usize = 10;

/// Why bytes are no event of this room version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    #[error("an event is a JSON object")]
    NotAnObject,
    #[error("the event has no {0:?}")]
    Missing(&'static str),
    #[error("{0:?} has the wrong type or form")]
    Invalid(&'static str),
    /// A size limit is exceeded (`M_TOO_LARGE`).
    #[error("{0} is too large")]
    TooLarge(&'static str),
}

/// One event. See the file's head for what holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    event_id: EventId,
    json: Arc<str>,
    room_id: Text,
    room_id_present: bool,
    sender: Text,
    event_type: Text,
    state_key: Option<Text>,
    content: Span,
    prev_events: Vec<Text>,
    auth_events: Vec<Text>,
    redacts: Option<Text>,
    depth: u64,
    origin_server_ts: i64,
}

/// A range of the JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

/// A string in the event: a range where nothing is escaped (nearly always), else the unescaped text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    Span(Span),
    Unescaped(Box<str>),
}

impl Pdu {
    /// Reads an event this server stored, whose id it knows. No hash is computed and no limit checked.
    pub fn from_stored(
        rules: &RoomRules,
        event_id: EventId,
        bytes: &[u8],
    ) -> Result<Pdu, FormatError> {
        let text = std::str::from_utf8(bytes).map_err(|_| CanonicalError::Encoding)?;
        Pdu::read(rules, Some(event_id), text.into())
    }

    /// Reads an event received from another server: brings it into canonical form, drops `unsigned` (anyone may
    /// have written it), checks the format and the size limits, and computes the event id.
    ///
    /// Signatures and hashes are [`crate::signature::verify_event`]'s work.
    pub fn from_federation(rules: &RoomRules, bytes: &[u8]) -> Result<Pdu, FormatError> {
        if bytes.len() > MAX_RECEIVED_BYTES {
            return Err(FormatError::TooLarge("event"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| CanonicalError::Encoding)?;
        let canonical = canonical::from_text(text, rules.numbers)?;
        if !json::is_object(&canonical) {
            return Err(FormatError::NotAnObject);
        }
        let event = without_unsigned(canonical)?;
        if event.len() > MAX_EVENT_BYTES {
            return Err(FormatError::TooLarge("event"));
        }
        let pdu = Pdu::read(rules, None, event.as_ref().into())?;
        pdu.check_limits(rules)?;
        Ok(pdu)
    }

    /// The event as it is once redacted; its id stays, since the reference hash covers what redaction keeps.
    pub fn redacted(&self, rules: &RoomRules) -> Result<Pdu, FormatError> {
        let redacted = redaction::redact(rules, &self.json);
        Pdu::from_stored(rules, self.event_id.clone(), &redacted)
    }

    pub(crate) fn read(
        rules: &RoomRules,
        event_id: Option<EventId>,
        event: Arc<str>,
    ) -> Result<Pdu, FormatError> {
        if !json::is_object(&event) {
            return Err(FormatError::NotAnObject);
        }
        // Spans are 32 bits wide; an event this long can't be stored either.
        if event.len() > u32::MAX as usize {
            return Err(FormatError::TooLarge("event"));
        }
        let found = Found::of(&event);
        let text = |value: Option<&str>, name| match value {
            Some(value) => Text::of(&event, value)
                .ok_or(FormatError::Invalid(name))
                .map(Some),
            None => Ok(None),
        };
        let integer = |value: Option<&str>, name| {
            let value = value.ok_or(FormatError::Missing(name))?;
            json::integer(value).ok_or(FormatError::Invalid(name))
        };
        let object = |value: Option<&str>, name| {
            let value = value.ok_or(FormatError::Missing(name))?;
            json::is_object(value)
                .then_some(Span::of(&event, value))
                .ok_or(FormatError::Invalid(name))
        };
        let event_type = text(found.event_type, "type")?.ok_or(FormatError::Missing("type"))?;
        let is_create = event_type.get(&event) == "m.room.create";
        let content = object(found.content, "content")?;
        object(found.hashes, "hashes")?;
        object(found.signatures, "signatures")?;
        let event_id = match (event_id, rules.event_id) {
            (Some(known), _) => known,
            (None, EventIdFormat::Chosen) => {
                let chosen = found.event_id.ok_or(FormatError::Missing("event_id"))?;
                json::string(chosen)
                    .map(Cow::into_owned)
                    .ok_or(FormatError::Invalid("event_id"))?
                    .into()
            }
            (None, _) => hash::event_id(rules, &hash::reference_hash(rules, &event)),
        };
        let (room_id, room_id_present) = match text(found.room_id, "room_id")? {
            Some(room_id) => (room_id, true),
            None if is_create && rules.room_id == RoomIdFormat::CreateHash => {
                (Text::Unescaped(room_id_of_create(&event_id).into()), false)
            }
            None => return Err(FormatError::Missing("room_id")),
        };
        let redacts = match rules.redaction.redacts_in_content {
            _ if event_type.get(&event) != "m.room.redaction" => None,
            true => json::member(content.get(&event), "redacts"),
            false => found.redacts,
        };
        Ok(Pdu {
            room_id,
            room_id_present,
            sender: text(found.sender, "sender")?.ok_or(FormatError::Missing("sender"))?,
            state_key: text(found.state_key, "state_key")?,
            prev_events: references(rules, &event, found.prev_events, "prev_events")?,
            auth_events: references(rules, &event, found.auth_events, "auth_events")?,
            redacts: redacts.and_then(|value| Text::of(&event, value)),
            depth: u64::try_from(integer(found.depth, "depth")?)
                .map_err(|_| FormatError::Invalid("depth"))?,
            origin_server_ts: integer(found.origin_server_ts, "origin_server_ts")?,
            event_type,
            content,
            event_id,
            json: event,
        })
    }

    /// The limits of events received or about to be sent.
    pub(crate) fn check_limits(&self, rules: &RoomRules) -> Result<(), FormatError> {
        if self.json.len() > MAX_EVENT_BYTES {
            return Err(FormatError::TooLarge("event"));
        }
        let fields = [
            ("type", self.event_type()),
            ("state_key", self.state_key().unwrap_or_default()),
            ("sender", self.sender()),
            ("room_id", self.room_id()),
            ("event_id", self.event_id()),
        ];
        for (name, value) in fields {
            let length = match rules.sizes_in_bytes {
                true => value.len(),
                false => value.chars().count(),
            };
            if length > identifier::MAX_BYTES {
                return Err(FormatError::TooLarge(name));
            }
        }
        if !identifier::is_user_id(self.sender()) {
            return Err(FormatError::Invalid("sender"));
        }
        let room_id_fits = match rules.room_id {
            RoomIdFormat::Domain => identifier::is_room_id_with_domain(self.room_id()),
            RoomIdFormat::CreateHash => identifier::is_room_id_with_hash(self.room_id()),
        };
        if !room_id_fits {
            return Err(FormatError::Invalid("room_id"));
        }
        if rules.event_id == EventIdFormat::Chosen
            && !(identifier::is_event_id(self.event_id())
                && identifier::domain(self.event_id()).is_some_and(identifier::is_server_name))
        {
            return Err(FormatError::Invalid("event_id"));
        }
        if self.prev_events.len() > MAX_PREV_EVENTS {
            return Err(FormatError::TooLarge("prev_events"));
        }
        if self.auth_events.len() > MAX_AUTH_EVENTS {
            return Err(FormatError::TooLarge("auth_events"));
        }
        if self.depth > rules.max_depth {
            return Err(FormatError::Invalid("depth"));
        }
        Ok(())
    }

    pub fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// The event in canonical JSON, as it goes over federation.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The same, shared.
    pub fn shared_json(&self) -> Arc<str> {
        self.json.clone()
    }

    /// The room the event belongs to; where the create event has no `room_id`, the id it gives the room.
    pub fn room_id(&self) -> &str {
        self.room_id.get(&self.json)
    }

    /// Whether the event itself says which room it belongs to.
    pub fn has_room_id(&self) -> bool {
        self.room_id_present
    }

    pub fn sender(&self) -> &str {
        self.sender.get(&self.json)
    }

    /// `type`.
    pub fn event_type(&self) -> &str {
        self.event_type.get(&self.json)
    }

    /// `None` for message events.
    pub fn state_key(&self) -> Option<&str> {
        self.state_key.as_ref().map(|text| text.get(&self.json))
    }

    /// Whether this is the state event of that type and key.
    pub fn is_state(&self, event_type: &str, state_key: &str) -> bool {
        self.event_type() == event_type && self.state_key() == Some(state_key)
    }

    /// `content` as raw canonical JSON, an object.
    pub fn content(&self) -> &str {
        self.content.get(&self.json)
    }

    /// A string member of `content`.
    pub fn content_str(&self, key: &str) -> Option<Cow<'_, str>> {
        json::member(self.content(), key).and_then(json::string)
    }

    pub fn prev_events(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.prev_events.iter().map(|text| text.get(&self.json))
    }

    pub fn auth_events(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.auth_events.iter().map(|text| text.get(&self.json))
    }

    /// The event that an `m.room.redaction` redacts, wherever the room version puts it.
    pub fn redacts(&self) -> Option<&str> {
        self.redacts.as_ref().map(|text| text.get(&self.json))
    }

    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// Milliseconds since 1970, as the sending server claims.
    pub fn origin_server_ts(&self) -> i64 {
        self.origin_server_ts
    }
}

/// The room id that a create event gives its room in room versions that hash it.
pub(crate) fn room_id_of_create(event_id: &str) -> String {
    format!("!{}", event_id.strip_prefix('$').unwrap_or(event_id))
}

/// The members of an event this crate looks at, raw.
#[derive(Default)]
struct Found<'a> {
    auth_events: Option<&'a str>,
    content: Option<&'a str>,
    depth: Option<&'a str>,
    event_id: Option<&'a str>,
    hashes: Option<&'a str>,
    origin_server_ts: Option<&'a str>,
    prev_events: Option<&'a str>,
    redacts: Option<&'a str>,
    room_id: Option<&'a str>,
    sender: Option<&'a str>,
    signatures: Option<&'a str>,
    state_key: Option<&'a str>,
    event_type: Option<&'a str>,
}

impl<'a> Found<'a> {
    fn of(event: &'a str) -> Self {
        let mut found = Found::default();
        for (key, value) in json::members(event) {
            let field = match key {
                "auth_events" => &mut found.auth_events,
                "content" => &mut found.content,
                "depth" => &mut found.depth,
                "event_id" => &mut found.event_id,
                "hashes" => &mut found.hashes,
                "origin_server_ts" => &mut found.origin_server_ts,
                "prev_events" => &mut found.prev_events,
                "redacts" => &mut found.redacts,
                "room_id" => &mut found.room_id,
                "sender" => &mut found.sender,
                "signatures" => &mut found.signatures,
                "state_key" => &mut found.state_key,
                "type" => &mut found.event_type,
                _ => continue,
            };
            *field = Some(value);
        }
        found
    }
}

impl Span {
    /// Where `part`, a slice of `event`, lies in it.
    fn of(event: &str, part: &str) -> Span {
        let start = part.as_ptr().addr().wrapping_sub(event.as_ptr().addr());
        Span {
            start: start as u32,
            end: (start + part.len()) as u32,
        }
    }

    fn get(self, event: &str) -> &str {
        event
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

impl Text {
    /// The string `value`, a slice of `event`; `None` if it is no string.
    fn of(event: &str, value: &str) -> Option<Text> {
        Some(match json::string(value)? {
            Cow::Borrowed(inner) => Text::Span(Span::of(event, inner)),
            Cow::Owned(unescaped) => Text::Unescaped(unescaped.into()),
        })
    }

    fn get<'a>(&'a self, event: &'a str) -> &'a str {
        match self {
            Text::Span(span) => span.get(event),
            Text::Unescaped(text) => text,
        }
    }
}

fn references(
    rules: &RoomRules,
    event: &str,
    value: Option<&str>,
    name: &'static str,
) -> Result<Vec<Text>, FormatError> {
    let value = value.ok_or(FormatError::Missing(name))?;
    if !json::is_array(value) {
        return Err(FormatError::Invalid(name));
    }
    json::elements(value)
        .map(|reference| {
            let id = match rules.references {
                ReferenceFormat::Plain => reference,
                ReferenceFormat::WithHash => json::elements(reference)
                    .next()
                    .ok_or(FormatError::Invalid(name))?,
            };
            Text::of(event, id).ok_or(FormatError::Invalid(name))
        })
        .collect()
}

fn without_unsigned(event: Cow<'_, str>) -> Result<Cow<'_, str>, FormatError> {
    if json::member(&event, "unsigned").is_none() {
        return Ok(event);
    }
    let event = json::without_member(&event, "unsigned");
    Ok(Cow::Owned(
        String::from_utf8(event).map_err(|_| CanonicalError::Encoding)?,
    ))
}
