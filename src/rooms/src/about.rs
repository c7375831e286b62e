//! What a room says of itself to those who are not in it: the fields that the directory, the summary and the
//! hierarchy of spaces have in common. <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

use std::borrow::Cow;

use event::json;
use names::RoomSn;
use serde_json::{Map, Value};
use store::Read;

use crate::{Error, Result, RoomHead, StoredEvent, event_log, state};

/// A room as it is described to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The room.
    pub room: RoomSn,
    /// The room's id.
    pub room_id: String,
    /// The room version.
    pub version: String,
    /// How many are joined.
    pub joined: u64,
    /// `m.room.name`.
    pub name: Option<String>,
    /// `m.room.topic` as plain text.
    pub topic: Option<String>,
    /// `alias` of `m.room.canonical_alias`.
    pub canonical_alias: Option<String>,
    /// `url` of `m.room.avatar`.
    pub avatar_url: Option<String>,
    /// `join_rule`; `invite` where nothing is said, as the authorisation rules have it.
    pub join_rule: String,
    /// The content of `m.room.join_rules`, for who asks whom it lets in.
    pub join_rules: String,
    /// Whether the history is open to the world.
    pub world_readable: bool,
    /// Whether guests may join.
    pub guest_can_join: bool,
    /// `type` of the create event.
    pub room_type: Option<String>,
    /// `algorithm` of `m.room.encryption`.
    pub encryption: Option<String>,
}

const KEYS: [(&str, &str); 9] = [
    ("m.room.create", ""),
    ("m.room.name", ""),
    ("m.room.topic", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.avatar", ""),
    ("m.room.join_rules", ""),
    ("m.room.history_visibility", ""),
    ("m.room.guest_access", ""),
    ("m.room.encryption", ""),
];

/// The contents of the state that describes a room, in the order of [`KEYS`]; redacted ones are left out.
struct Contents([Option<StoredEvent>; KEYS.len()]);

impl Contents {
    fn read(from: &impl Read, room: RoomSn) -> Result<Self> {
        let places = state::current_many(from, room, &KEYS)?;
        let mut contents = Contents(std::array::from_fn(|_| None));
        for (slot, place) in contents.0.iter_mut().zip(places) {
            let Some(no) = place else { continue };
            let Some(event) = event_log::get(from, room, no)? else {
                continue;
            };
            let marks = event_log::marks(from, room, event.event_id.as_str())?;
            // Redaction takes everything from these events but what is in force.
            let event_type = json::member(&event.json, "type").and_then(json::string);
            let in_force = matches!(
                event_type.as_deref(),
                Some("m.room.create" | "m.room.join_rules" | "m.room.history_visibility")
            );
            if marks.redacted_by.is_none() || in_force {
                *slot = Some(event);
            }
        }
        Ok(contents)
    }

    fn content(&self, event_type: &str) -> &str {
        let at = KEYS.iter().position(|(of, _)| *of == event_type);
        at.and_then(|at| self.0[at].as_ref())
            .and_then(|event| json::member(&event.json, "content"))
            .unwrap_or("{}")
    }

    fn text(&self, event_type: &str, key: &str) -> Option<Cow<'_, str>> {
        json::member(self.content(event_type), key)
            .and_then(json::string)
            .filter(|text| !text.is_empty())
    }

    fn owned(&self, event_type: &str, key: &str) -> Option<String> {
        self.text(event_type, key).map(Cow::into_owned)
    }
}

impl About {
    /// Reads what a room says of itself.
    ///
    /// # Errors
    /// [`Error::UnknownRoom`].
    pub fn read(from: &impl Read, room: RoomSn) -> Result<Self> {
        let head = event_log::head(from, room)?.ok_or(Error::UnknownRoom)?;
        Self::with_head(from, room, &head)
    }

    /// The same for a room whose head was read.
    ///
    /// # Errors
    /// If the state can't be read.
    pub fn with_head(from: &impl Read, room: RoomSn, head: &RoomHead) -> Result<Self> {
        let of = Contents::read(from, room)?;
        let visibility = of.text("m.room.history_visibility", "history_visibility");
        let guest_access = of.text("m.room.guest_access", "guest_access");
        Ok(About {
            room,
            room_id: names::room_id(from, room)?,
            version: head.version.clone(),
            joined: head.joined,
            name: of.owned("m.room.name", "name"),
            topic: of.owned("m.room.topic", "topic"),
            canonical_alias: of.owned("m.room.canonical_alias", "alias"),
            avatar_url: of.owned("m.room.avatar", "url"),
            join_rule: of
                .owned("m.room.join_rules", "join_rule")
                .unwrap_or_else(|| "invite".to_owned()),
            join_rules: of.content("m.room.join_rules").to_owned(),
            world_readable: visibility.is_some_and(|it| it == "world_readable"),
            guest_can_join: guest_access.is_some_and(|it| it == "can_join"),
            room_type: of.owned("m.room.create", "type"),
            encryption: of.owned("m.room.encryption", "algorithm"),
        })
    }

    /// The room as an entry of the directory (`PublishedRoomsChunk`).
    pub fn to_json(&self) -> Map<String, Value> {
        let mut chunk = Map::new();
        let mut put = |key: &str, value: Value| chunk.insert(key.to_owned(), value);
        put("room_id", self.room_id.as_str().into());
        put("num_joined_members", self.joined.into());
        put("world_readable", self.world_readable.into());
        put("guest_can_join", self.guest_can_join.into());
        put("join_rule", self.join_rule.as_str().into());
        let optional = [
            ("name", &self.name),
            ("topic", &self.topic),
            ("canonical_alias", &self.canonical_alias),
            ("avatar_url", &self.avatar_url),
            ("room_type", &self.room_type),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                put(key, value.as_str().into());
            }
        }
        chunk
    }
}
