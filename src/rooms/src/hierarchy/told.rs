//! What another server tells of a space, and of rooms that this server is not in.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>
//!
//! Of what it says only fields of the specification are kept, of their types. Whether a user here may know of a room
//! is judged by what it says of the room, and by what is known here of the user.

use std::collections::{HashMap, HashSet};

use event::auth::Membership;
use event::{identifier, json};
use names::UserSn;
use serde_json::{Map, Value};
use store::Read;

use super::{Child, child, sort};
use crate::{Result, members};

/// A room that another server tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The room's id.
    pub room_id: String,
    /// What it says of itself: `PublishedRoomsChunk`, and what summaries have besides.
    pub fields: Map<String, Value>,
    /// Its children in their order; only of the room that was asked about.
    pub children: Vec<Child>,
}

/// A space that another server tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldLevel {
    /// The space.
    pub room: Told,
    /// Those of its children that the server tells of, by id.
    pub children: HashMap<String, Told>,
    /// Those that this server can't enter.
    pub inaccessible: HashSet<String>,
}

/// Children that are believed.
const MOST_CHILDREN: usize = 1_000;

const TEXTS: [&str; 8] = [
    "name",
    "topic",
    "canonical_alias",
    "avatar_url",
    "join_rule",
    "room_type",
    "room_version",
    "encryption",
];

impl Told {
    /// Reads a summary; nothing if it names no room.
    fn of_json(summary: &str) -> Option<Self> {
        let room_id = json::member(summary, "room_id").and_then(json::string)?;
        if !identifier::is_room_id(&room_id) {
            return None;
        }
        let mut fields = Map::new();
        fields.insert("room_id".to_owned(), room_id.as_ref().into());
        let joined = json::member(summary, "num_joined_members").and_then(json::integer);
        fields.insert(
            "num_joined_members".to_owned(),
            joined.unwrap_or(0).max(0).into(),
        );
        for key in ["world_readable", "guest_can_join"] {
            let is_set = json::member(summary, key) == Some("true");
            fields.insert(key.to_owned(), is_set.into());
        }
        for key in TEXTS {
            if let Some(text) = json::member(summary, key).and_then(json::string) {
                fields.insert(key.to_owned(), text.as_ref().into());
            }
        }
        let allowed = json::member(summary, "allowed_room_ids").filter(|list| json::is_array(list));
        if let Some(allowed) = allowed {
            let ids = json::elements(allowed).filter_map(json::string);
            let ids: Value = ids.map(|id| Value::from(id.as_ref())).collect();
            fields.insert("allowed_room_ids".to_owned(), ids);
        }
        let events = json::member(summary, "children_state").filter(|list| json::is_array(list));
        let events = events.into_iter().flat_map(json::elements);
        let events = events.filter(|event| json::is_object(event));
        let mut children: Vec<Child> = events.take(MOST_CHILDREN).filter_map(child).collect();
        sort(&mut children);
        Some(Self {
            room_id: room_id.into_owned(),
            fields,
            children,
        })
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key)?.as_str()
    }

    /// Whether it is a space.
    pub fn is_space(&self) -> bool {
        self.text("room_type") == Some("m.space")
    }

    /// Whether a user may know of the room; nobody in particular without one.
    ///
    /// # Errors
    /// If the store fails.
    pub fn may_be_known(&self, from: &impl Read, viewer: Option<UserSn>) -> Result<bool> {
        let rule = self.text("join_rule").unwrap_or("public");
        let is_open = matches!(rule, "public" | "knock" | "knock_restricted");
        if is_open || self.fields.get("world_readable") == Some(&Value::Bool(true)) {
            return Ok(true);
        }
        let Some(user) = viewer else {
            return Ok(false);
        };
        let allowed = self.fields.get("allowed_room_ids");
        let allowed = allowed.and_then(Value::as_array).into_iter().flatten();
        for room_id in allowed.filter_map(Value::as_str) {
            if let Some(room) = names::room_sn(from, room_id)?
                && members::membership(from, room, user)? == Membership::Join
            {
                return Ok(true);
            }
        }
        let Some(room) = names::room_sn(from, &self.room_id)? else {
            return Ok(false);
        };
        let entry = members::room_of(from, user, room)?;
        Ok(entry.is_some_and(|entry| {
            matches!(
                entry.value.membership(),
                Membership::Join | Membership::Invite | Membership::Knock
            )
        }))
    }
}

impl ToldLevel {
    /// Reads an answer about the room; nothing if it is about another, or none at all. With `suggested_only` other
    /// children are left out, whether or not the server did that.
    pub fn of_json(room_id: &str, answer: &str, suggested_only: bool) -> Option<Self> {
        // Taken apart below is what has no white space.
        let answer = serde_json::from_str::<Value>(answer).ok()?.to_string();
        let answer = answer.as_str();
        let room = json::member(answer, "room").filter(|room| json::is_object(room))?;
        let mut room = Told::of_json(room).filter(|room| room.room_id == room_id)?;
        room.children
            .retain(|child| child.suggested || !suggested_only);
        let list = |key| {
            let list = json::member(answer, key).filter(|list| json::is_array(list));
            list.into_iter()
                .flat_map(json::elements)
                .take(MOST_CHILDREN)
        };
        let children = list("children").filter(|child| json::is_object(child));
        let children = children.filter_map(Told::of_json);
        let inaccessible = list("inaccessible_children").filter_map(json::string);
        Some(Self {
            room,
            children: children
                .map(|child| (child.room_id.clone(), child))
                .collect(),
            inaccessible: inaccessible.map(|id| id.into_owned()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"room":{"room_id":"!s:x","num_joined_members":3,"name":7,"topic":"T","join_rule":"invite",
        "room_type":"m.space","world_readable":true,"extra":1,"allowed_room_ids":["!a:x",2],"children_state":[
        {"type":"m.space.child","state_key":"!c:x","sender":"@a:x","origin_server_ts":1,"content":{"via":["x"]}},
        {"type":"m.space.child","state_key":"!d:x","content":{}},5]},
        "children":[{"room_id":"!c:x","join_rule":"public"},{"room_id":"c"},[]],
        "inaccessible_children":["!e:x",4]}"#;

    #[test]
    fn only_what_the_specification_knows_is_kept() {
        let level = ToldLevel::of_json("!s:x", ANSWER, false).unwrap();
        let expected = serde_json::json!({
            "room_id": "!s:x", "num_joined_members": 3, "topic": "T", "join_rule": "invite",
            "room_type": "m.space", "world_readable": true, "guest_can_join": false,
            "allowed_room_ids": ["!a:x"],
        });
        assert_eq!(Value::from(level.room.fields.clone()), expected);
        let ids = level.room.children.iter().map(|child| &*child.room_id);
        assert_eq!(ids.collect::<Vec<_>>(), ["!c:x"]);
        assert_eq!(level.children.keys().collect::<Vec<_>>(), ["!c:x"]);
        assert!(level.inaccessible.contains("!e:x") && level.room.is_space());
    }

    #[test]
    fn an_answer_about_another_room_is_none() {
        assert!(ToldLevel::of_json("!other:x", ANSWER, false).is_none());
        for none in ["", "{", "{}", "[]", "7", r#"{"room":{}}"#, r#"{"room":[]}"#] {
            assert!(ToldLevel::of_json("!s:x", none, false).is_none(), "{none}");
        }
    }
}
