//! What members do, legal or not: an intention is chosen with an eye on the state, and the server decides.
//!
//! The room's topic, name and one more type with a few keys are all there is of other state, so that forks conflict
//! often; power is fought over with levels, kicks, bans and join rules.

use event::RoomRules;
use serde_json::{Map, Value, json};

use crate::random::Random;

/// What somebody wants to send.
#[derive(Clone, Debug)]
pub struct Intention {
    /// Why, in a word or two.
    pub name: &'static str,
    /// Who.
    pub sender: String,
    /// The type.
    pub event_type: &'static str,
    /// The state key of a state event.
    pub state_key: Option<String>,
    /// The content.
    pub content: Value,
    /// The target of a redaction.
    pub redacts: Option<String>,
}

/// The room as the one who acts sees it.
pub trait Sight {
    /// The content of an entry of the state.
    fn content(&self, event_type: &str, state_key: &str) -> Option<String>;
    /// An event that could be redacted.
    fn some_event(&self, random: &mut Random) -> Option<String>;
}

/// Everybody there is, by server.
pub struct People {
    /// The users of each server.
    pub of: Vec<Vec<String>>,
}

const LEVELS: [i64; 8] = [0, 25, 50, 50, 75, 75, 100, 100];

#[derive(Clone, Copy)]
enum Act {
    Speak,
    Describe,
    Note,
    Redact,
    Levels,
    JoinRules,
    Join,
    Profile,
    /// Another membership: why, which, and whose.
    Member(&'static str, &'static str, Whom),
}

#[derive(Clone, Copy)]
enum Whom {
    Oneself,
    Other,
    Banned,
}

const ACTS: [(u32, Act); 14] = [
    (22, Act::Speak),
    (12, Act::Describe),
    (14, Act::Note),
    (4, Act::Redact),
    (14, Act::Levels),
    (4, Act::JoinRules),
    (8, Act::Join),
    (4, Act::Profile),
    (3, Act::Member("kick", "leave", Whom::Other)),
    (4, Act::Member("ban", "ban", Whom::Other)),
    (9, Act::Member("unban", "leave", Whom::Banned)),
    (9, Act::Member("invite", "invite", Whom::Other)),
    (3, Act::Member("leave", "leave", Whom::Oneself)),
    (3, Act::Member("knock", "knock", Whom::Oneself)),
];

/// Mostly the one that lets everybody in, so that the room lives.
const JOIN_RULES: [&str; 9] = [
    "public",
    "public",
    "public",
    "public",
    "invite",
    "knock",
    "restricted",
    "knock_restricted",
    "private",
];

impl Intention {
    fn state(
        name: &'static str,
        sender: String,
        event_type: &'static str,
        state_key: &str,
        content: Value,
    ) -> Self {
        Intention {
            name,
            sender,
            event_type,
            state_key: Some(state_key.to_owned()),
            content,
            redacts: None,
        }
    }

    /// A member event.
    pub fn member(name: &'static str, sender: String, target: &str, content: Value) -> Self {
        Intention::state(name, sender, "m.room.member", target, content)
    }

    /// Saying something.
    pub fn message(sender: String, number: usize) -> Self {
        Intention {
            name: "message",
            sender,
            event_type: "m.room.message",
            state_key: None,
            content: json!({ "body": number }),
            redacts: None,
        }
    }
}

impl People {
    /// So many users on each server.
    pub fn new(servers: usize, users: usize) -> Self {
        let of_server = |server: usize| {
            (0..users)
                .map(|user| format!("@u{user}:{}", server_name(server)))
                .collect()
        };
        People {
            of: (0..servers).map(of_server).collect(),
        }
    }

    fn anybody(&self, random: &mut Random) -> String {
        let server = random.below(self.of.len());
        random.pick(&self.of[server]).cloned().unwrap_or_default()
    }

    /// A user of a server, rather one who is joined.
    pub fn actor(&self, random: &mut Random, server: usize, sight: &impl Sight) -> String {
        let users = &self.of[server];
        let joined: Vec<&String> = users
            .iter()
            .filter(|user| membership(sight, user).as_deref() == Some("join"))
            .collect();
        match random.pick(&joined) {
            Some(user) if random.chance(880) => (*user).clone(),
            _ => random.pick(users).cloned().unwrap_or_default(),
        }
    }

    /// Something that `sender` might want.
    pub fn intention(
        &self,
        random: &mut Random,
        rules: &RoomRules,
        sender: String,
        sight: &impl Sight,
    ) -> Intention {
        let joined = membership(sight, &sender).as_deref() == Some("join");
        let act = match joined {
            false if random.chance(700) => Act::Join,
            _ => random.weighted(&ACTS).unwrap_or(Act::Speak),
        };
        let other = self.anybody(random);
        let number = random.below(1000);
        let (name, event_type, state_key, content) = match act {
            Act::Speak => return Intention::message(sender, number),
            Act::Redact => {
                return Intention {
                    name: "redaction",
                    event_type: "m.room.redaction",
                    redacts: sight.some_event(random),
                    ..Intention::message(sender, number)
                };
            }
            Act::Describe => {
                let fields = [("m.room.topic", "topic"), ("m.room.name", "name")];
                let (event_type, field) = random.one_of(fields);
                let content = json!({ field: number.to_string() });
                ("description", event_type, "", content)
            }
            Act::Note => {
                // A key that is a user id is for that user alone.
                let key = random.one_of(["", "a", "b", sender.as_str(), other.as_str()]);
                ("note", "org.example.note", key, json!({ "note": number }))
            }
            Act::Levels => {
                let levels = self.levels(random, rules, &sender, sight);
                ("power levels", "m.room.power_levels", "", levels)
            }
            Act::JoinRules => {
                let content = json!({ "join_rule": random.one_of(JOIN_RULES) });
                ("join rules", "m.room.join_rules", "", content)
            }
            Act::Join => return self.join(random, rules, &sender, sight),
            Act::Profile => {
                let content = json!({ "membership": "join", "displayname": number.to_string() });
                return Intention::member("profile", sender.clone(), &sender, content);
            }
            Act::Member(name, membership, whom) => {
                let target = match whom {
                    Whom::Oneself => sender.clone(),
                    Whom::Other => other,
                    Whom::Banned => self.banned(random, sight).unwrap_or(other),
                };
                let content = json!({ "membership": membership });
                return Intention::member(name, sender, &target, content);
            }
        };
        Intention::state(name, sender.clone(), event_type, state_key, content)
    }

    fn banned(&self, random: &mut Random, sight: &impl Sight) -> Option<String> {
        let is_banned = |user: &&String| membership(sight, user).as_deref() == Some("ban");
        let banned: Vec<&String> = self.of.iter().flatten().filter(is_banned).collect();
        random.pick(&banned).map(|user| (*user).clone())
    }

    /// A join, in the name of somebody who may invite where that is what the room asks for.
    fn join(
        &self,
        random: &mut Random,
        rules: &RoomRules,
        user: &str,
        sight: &impl Sight,
    ) -> Intention {
        let mut content = json!({ "membership": "join" });
        let restricted = sight
            .content("m.room.join_rules", "")
            .is_some_and(|rule| rule.contains("restricted"));
        if restricted && rules.auth.restricted && random.chance(800) {
            let server = self
                .of
                .iter()
                .find(|users| users.iter().any(|of| of == user));
            let authoriser = server.and_then(|users| random.pick(users)).cloned();
            content["join_authorised_via_users_server"] = authoriser.into();
        }
        Intention::member("join", user.to_owned(), user, content)
    }

    /// The levels of now, with a change or two.
    fn levels(
        &self,
        random: &mut Random,
        rules: &RoomRules,
        sender: &str,
        sight: &impl Sight,
    ) -> Value {
        let mut levels: Map<String, Value> = sight
            .content("m.room.power_levels", "")
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        for _ in 0..=random.below(2) {
            let level = random.one_of(LEVELS);
            let field = random.one_of([
                "users",
                "users",
                "users",
                "users",
                "events",
                "users_default",
                "events_default",
                "state_default",
                "ban",
                "kick",
                "invite",
                "redact",
                "notifications",
            ]);
            let key = match field {
                "users" => match random.chance(200) {
                    true => sender.to_owned(),
                    false => self.anybody(random),
                },
                "events" => random
                    .one_of(["m.room.topic", "org.example.note", "m.room.power_levels"])
                    .to_owned(),
                "notifications" => "room".to_owned(),
                // Rarely, as the room is soon dead where nobody may speak.
                "users_default" | "events_default" => {
                    levels.insert(field.to_owned(), random.one_of([0, 0, 0, 25]).into());
                    continue;
                }
                _ => {
                    levels.insert(field.to_owned(), written(random, rules, level.min(75)));
                    continue;
                }
            };
            let level = if field == "users" {
                level
            } else {
                level.min(75)
            };
            let map = levels.entry(field).or_insert_with(|| json!({}));
            if let Some(map) = map.as_object_mut() {
                match random.chance(80) {
                    true => drop(map.remove(&key)),
                    false => drop(map.insert(key, written(random, rules, level))),
                }
            }
        }
        levels.into()
    }
}

/// A level as a number, or as the text that old room versions take for one.
fn written(random: &mut Random, rules: &RoomRules, level: i64) -> Value {
    match !rules.auth.integer_power_levels && random.chance(50) {
        true => level.to_string().into(),
        false => level.into(),
    }
}

fn membership(sight: &impl Sight, user: &str) -> Option<String> {
    let content = sight.content("m.room.member", user)?;
    let membership = event::json::member(&content, "membership")?;
    event::json::string(membership).map(|text| text.into_owned())
}

/// The name of a server.
pub fn server_name(server: usize) -> String {
    format!("s{server}.example")
}
