//! A room in memory for the tests: state events made by the crate itself, checked against by hand.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod graph;

use event::auth::{self, Rule};
use event::{
    AuthEvent, EventDraft, EventIdFormat, FirstFormat, Pdu, RoomIdFormat, RoomRules, RoomVersion,
    SigningKey,
};
use serde_json::{Value, json};

/// The creator; level 100, or above all in version 12.
pub const CREATOR: &str = "@creator:a.org";
/// Level 50.
pub const MODERATOR: &str = "@moderator:a.org";
/// Joined, level 0.
pub const MEMBER: &str = "@member:b.org";
/// Not in the room.
pub const STRANGER: &str = "@stranger:c.org";

/// A room: its rules and its current state.
#[derive(Clone)]
pub struct Room {
    pub rules: &'static RoomRules,
    pub room_id: String,
    pub state: Vec<AuthEvent>,
    serial: u64,
}

pub fn key() -> SigningKey {
    SigningKey::generate("a.org", [1; 32])
}

impl Room {
    /// Creator, moderator and member are joined; the join rule is `public`.
    pub fn new(version: RoomVersion) -> Room {
        Room::created_with(version, json!({}))
    }

    pub fn created_with(version: RoomVersion, mut content: Value) -> Room {
        let rules = version.rules();
        content["room_version"] = version.as_str().into();
        content["creator"] = CREATOR.into();
        let mut room = Room {
            rules,
            room_id: "!room:a.org".into(),
            state: Vec::new(),
            serial: 0,
        };
        let create = room.event(CREATOR, "m.room.create", Some(""), content);
        room.room_id = create.room_id().to_owned();
        room.state.push(AuthEvent::new(rules, create));
        let member = json!({"membership": "join"});
        for user in [CREATOR, MODERATOR, MEMBER] {
            room.set(user, "m.room.member", user, member.clone());
        }
        room.set_levels(json!({}));
        room.set(
            CREATOR,
            "m.room.join_rules",
            "",
            json!({"join_rule": "public"}),
        );
        room
    }

    /// Sets power levels: the usual ones with `changes` on top; `null` removes.
    pub fn set_levels(&mut self, changes: Value) {
        let content = self.levels(changes);
        self.set(CREATOR, "m.room.power_levels", "", content);
    }

    pub fn levels(&self, changes: Value) -> Value {
        let mut users = json!({MODERATOR: 50});
        if self.rules.room_id == RoomIdFormat::Domain {
            users[CREATOR] = 100.into();
        }
        let mut content = json!({
            "users": users, "events": {"m.room.name": 50}, "notifications": {"room": 50}, "ban": 50, "kick": 50,
            "redact": 50, "invite": 0, "events_default": 0, "state_default": 50, "users_default": 0
        });
        for (key, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(content.as_object_mut().unwrap().remove(key)),
                value => content[key] = value.clone(),
            }
        }
        content
    }

    pub fn set_member(&mut self, user: &str, membership: &str) {
        self.set(
            user,
            "m.room.member",
            user,
            json!({"membership": membership}),
        );
    }

    pub fn set_join_rule(&mut self, rule: &str) {
        self.set(CREATOR, "m.room.join_rules", "", json!({"join_rule": rule}));
    }

    /// Puts a state event into the state without asking the rules.
    pub fn set(&mut self, sender: &str, event_type: &str, state_key: &str, content: Value) {
        let pdu = self.event(sender, event_type, Some(state_key), content);
        self.unset(event_type, state_key);
        self.state.push(AuthEvent::new(self.rules, pdu));
    }

    pub fn unset(&mut self, event_type: &str, state_key: &str) {
        self.state
            .retain(|event| !event.pdu().is_state(event_type, state_key));
    }

    pub fn get(&self, event_type: &str, state_key: &str) -> Option<&AuthEvent> {
        self.state
            .iter()
            .find(|event| event.pdu().is_state(event_type, state_key))
    }

    /// An event of this room on top of some earlier one.
    pub fn event(
        &mut self,
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Pdu {
        let prev_events: &[&str] = match event_type {
            "m.room.create" => &[],
            _ => &["$earlier:a.org"],
        };
        self.event_after(prev_events, sender, event_type, state_key, content)
    }

    pub fn event_after(
        &mut self,
        prev_events: &[&str],
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Pdu {
        self.event_with(prev_events, None, sender, event_type, state_key, content)
    }

    pub fn event_with(
        &mut self,
        prev_events: &[&str],
        redacts: Option<&str>,
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Pdu {
        self.serial += 1;
        let hashed =
            event_type == "m.room.create" && self.rules.room_id == RoomIdFormat::CreateHash;
        let auth_events: Vec<String> = match event_type {
            "m.room.create" => Vec::new(),
            _ => {
                let content = content.to_string();
                auth::auth_types(self.rules, event_type, sender, state_key, &content)
                    .iter()
                    .filter_map(|(event_type, key)| self.get(event_type, key))
                    .map(|event| event.pdu().event_id().to_string())
                    .collect()
            }
        };
        let auth_events: Vec<&str> = auth_events.iter().map(String::as_str).collect();
        let event_id = format!(
            "${}:{}",
            self.serial,
            event::identifier::domain(sender).unwrap()
        );
        let prev_hashes = vec![[2; 32]; prev_events.len()];
        let auth_hashes = vec![[3; 32]; auth_events.len()];
        let first_format = (self.rules.event_id == EventIdFormat::Chosen).then_some(FirstFormat {
            event_id: &event_id,
            prev_hashes: &prev_hashes,
            auth_hashes: &auth_hashes,
        });
        EventDraft {
            room_id: (!hashed).then_some(&*self.room_id),
            sender,
            event_type,
            state_key,
            content: &content.to_string(),
            redacts,
            origin_server_ts: 1_700_000_000_000 + self.serial as i64,
            prev_events,
            auth_events: &auth_events,
            depth: self.serial,
            first_format,
        }
        .seal(self.rules, &key())
        .unwrap()
    }

    pub fn check(&self, pdu: &Pdu) -> Result<(), Rule> {
        auth::check(self.rules, pdu, &self.state[..]).map_err(|error| {
            assert_eq!(error.version, self.rules.version);
            error.rule
        })
    }

    /// Whether `sender` may send this message event.
    pub fn message(&mut self, sender: &str, event_type: &str) -> Result<(), Rule> {
        let pdu = self.event(sender, event_type, None, json!({}));
        self.check(&pdu)
    }

    /// Whether `sender` may send this state event.
    pub fn state(
        &mut self,
        sender: &str,
        event_type: &str,
        state_key: &str,
        content: Value,
    ) -> Result<(), Rule> {
        let pdu = self.event(sender, event_type, Some(state_key), content);
        self.check(&pdu)
    }

    /// Whether `sender` may set this membership.
    pub fn member(&mut self, sender: &str, target: &str, membership: &str) -> Result<(), Rule> {
        self.state(
            sender,
            "m.room.member",
            target,
            json!({"membership": membership}),
        )
    }
}
