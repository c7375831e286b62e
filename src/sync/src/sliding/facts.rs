//! What filters ask of rooms and users, kept in memory as folds: true for a view as long as nothing
//! changed between the view and the position it was read at.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use event::json;
use names::{RoomSn, UserSn};
use quick_cache::sync::Cache;
use rooms::{EventNo, UserRoom, event_log, members};
use serde_json::Value;
use store::{Position, Read, View};
use users::account_data;

use crate::Result;
use crate::account::ignored;
use crate::sliding::Changes;
use crate::sliding::state::When;

/// What filters ask of a room.
#[derive(Debug, Default)]
pub struct RoomFacts {
    /// There is an `m.room.encryption` event.
    pub is_encrypted: bool,
    /// `type` of the create event.
    pub room_type: Option<String>,
    /// `m.room.name`, in small letters.
    pub name: Option<String>,
    /// The rooms that a space has as children.
    pub children: HashSet<RoomSn>,
}

impl RoomFacts {
    fn read(view: &View, room: RoomSn, when: When) -> Result<Self> {
        let text = |event_type: &str, key: &str| -> Result<Option<String>> {
            let Some(no) = when.entry(view, room, event_type, "")? else {
                return Ok(None);
            };
            content_text(view, room, no, key)
        };
        let mut facts = Self {
            is_encrypted: when.entry(view, room, "m.room.encryption", "")?.is_some(),
            room_type: text("m.room.create", "type")?,
            name: text("m.room.name", "name")?.map(|name| name.to_lowercase()),
            children: HashSet::new(),
        };
        if facts.room_type.as_deref() == Some("m.space") {
            for child in when.of_type(view, room, "m.space.child")? {
                let Some(event) = event_log::get(view, room, child.event)? else {
                    continue;
                };
                let content = json::member(&event.json, "content").unwrap_or("{}");
                // Without servers to ask it is no child any more.
                let is_child = json::member(content, "via").is_some_and(json::is_array);
                if is_child && let Some(child) = names::room_sn(view, &child.state_key)? {
                    facts.children.insert(child);
                }
            }
        }
        Ok(facts)
    }

    /// What an invitation, or the answer to a knock, says of the room.
    fn stripped(view: &View, user: UserSn, room: RoomSn) -> Result<Self> {
        let stripped = members::stripped_state(view, user, room)?.unwrap_or_default();
        let events: Vec<Value> = serde_json::from_slice(&stripped).unwrap_or_default();
        let text = |event_type: &str, key: &str| {
            let event = events.iter().find(|event| event["type"] == event_type)?;
            Some(event["content"][key].as_str()?.to_owned())
        };
        Ok(Self {
            is_encrypted: events
                .iter()
                .any(|event| event["type"] == "m.room.encryption"),
            room_type: text("m.room.create", "type"),
            name: text("m.room.name", "name").map(|name| name.to_lowercase()),
            children: HashSet::new(),
        })
    }
}

/// A text in the content of an event, if it is not empty and the event was not redacted.
pub fn content_text(view: &View, room: RoomSn, no: EventNo, key: &str) -> Result<Option<String>> {
    let Some(event) = event_log::get(view, room, no)? else {
        return Ok(None);
    };
    let content = json::member(&event.json, "content").unwrap_or("{}");
    let text = json::member(content, key)
        .and_then(json::string)
        .filter(|text| !text.is_empty());
    let Some(text) = text else {
        return Ok(None);
    };
    // Redaction leaves the type of a create event in force.
    let is_create = json::member(&event.json, "type") == Some("\"m.room.create\"");
    if !is_create
        && event_log::marks(view, room, &event.event_id)?
            .redacted_by
            .is_some()
    {
        return Ok(None);
    }
    Ok(Some(text.into_owned()))
}

/// What is asked of a user's account data.
#[derive(Debug, Default)]
pub struct UserFacts {
    as_of: Position,
    /// The rooms of `m.direct`.
    pub direct: Arc<HashSet<RoomSn>>,
    /// The users of `m.ignored_user_list`.
    pub ignored: Arc<HashSet<UserSn>>,
    tags: OnceLock<HashMap<RoomSn, HashSet<String>>>,
}

impl UserFacts {
    /// Whether the user has put one of the tags on the room.
    pub fn has_tag(
        &self,
        view: &View,
        user: UserSn,
        all: impl Iterator<Item = RoomSn>,
        room: RoomSn,
        wanted: &[String],
    ) -> Result<bool> {
        let tags = match self.tags.get() {
            Some(tags) => tags,
            None => {
                let read = read_tags(view, user, all)?;
                self.tags.get_or_init(|| read)
            }
        };
        let Some(tags) = tags.get(&room) else {
            return Ok(false);
        };
        Ok(wanted.iter().any(|tag| tags.contains(tag)))
    }
}

fn read_tags(
    view: &View,
    user: UserSn,
    all: impl Iterator<Item = RoomSn>,
) -> Result<HashMap<RoomSn, HashSet<String>>> {
    let mut found = HashMap::new();
    for room in all {
        let tags = account_data::tag_names(view, user, room)?;
        if !tags.is_empty() {
            found.insert(room, tags.into_iter().collect());
        }
    }
    Ok(found)
}

/// The rooms of `m.direct`: user ids with lists of room ids.
fn read_direct(view: &View, user: UserSn) -> Result<HashSet<RoomSn>> {
    let mut found = HashSet::new();
    let Some(content) = account_data::get(view, user, "m.direct")? else {
        return Ok(found);
    };
    let Ok(Value::Object(by_user)) = serde_json::from_slice::<Value>(&content) else {
        return Ok(found);
    };
    for id in by_user.values().filter_map(Value::as_array).flatten() {
        if let Some(id) = id.as_str()
            && let Some(room) = names::room_sn(view, id)?
        {
            found.insert(room);
        }
    }
    Ok(found)
}

/// Facts of rooms and users as far as they were asked for.
pub struct Facts {
    rooms: Cache<RoomSn, (Position, Arc<RoomFacts>)>,
    users: Cache<UserSn, Arc<UserFacts>>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            rooms: Cache::new(100_000),
            users: Cache::new(20_000),
        }
    }
}

impl Facts {
    /// What filters ask of a room that the user is in.
    pub fn room(&self, view: &View, room: RoomSn, changes: &Changes<'_>) -> Result<Arc<RoomFacts>> {
        let position = view.position();
        if let Some((as_of, facts)) = self.rooms.get(&room)
            && !changes.room(room, as_of.min(position))
        {
            return Ok(facts);
        }
        let facts = Arc::new(RoomFacts::read(view, room, When::Now)?);
        self.rooms.insert(room, (position, Arc::clone(&facts)));
        Ok(facts)
    }

    /// What filters ask of a room that the user is invited to, or has knocked on.
    pub fn invited(&self, view: &View, user: UserSn, room: RoomSn) -> Result<Arc<RoomFacts>> {
        Ok(Arc::new(RoomFacts::stripped(view, user, room)?))
    }

    /// What filters ask of a room that the user has left: as it was then.
    pub fn left(&self, view: &View, room: RoomSn, of: &UserRoom) -> Result<Arc<RoomFacts>> {
        let facts = RoomFacts::read(view, room, When::After(of.place))?;
        Ok(Arc::new(facts))
    }

    /// What is asked of a user's account data.
    pub fn user(
        &self,
        view: &View,
        user: UserSn,
        user_id: &str,
        changes: &Changes<'_>,
    ) -> Result<Arc<UserFacts>> {
        let position = view.position();
        let kept = self.users.get(&user);
        let facts = match &kept {
            Some(kept) => {
                let since = kept.as_of.min(position);
                if !changes.user(since) {
                    return Ok(Arc::clone(kept));
                }
                let changed = account_data::since(view, user, user_id, since)?;
                let has = |kind: &str| changed.global.iter().any(|item| item.kind == kind);
                // A view from before what is kept is read anew.
                let back = position < kept.as_of;
                UserFacts {
                    as_of: position,
                    direct: match back || has("m.direct") {
                        true => Arc::new(read_direct(view, user)?),
                        false => Arc::clone(&kept.direct),
                    },
                    ignored: match back || has(account_data::IGNORED_USER_LIST) {
                        true => Arc::new(ignored(view, user)?),
                        false => Arc::clone(&kept.ignored),
                    },
                    tags: match back || !changed.rooms.is_empty() {
                        true => OnceLock::new(),
                        false => kept.tags.clone(),
                    },
                }
            }
            None => UserFacts {
                as_of: position,
                direct: Arc::new(read_direct(view, user)?),
                ignored: Arc::new(ignored(view, user)?),
                tags: OnceLock::new(),
            },
        };
        let facts = Arc::new(facts);
        if kept.is_none_or(|kept| kept.as_of <= position) {
            self.users.insert(user, Arc::clone(&facts));
        }
        Ok(facts)
    }
}
