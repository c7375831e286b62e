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
    Levels,
    Kick,
    Ban,
    Unban,
    Invite,
    Join,
    Leave,
    Knock,
    JoinRules,
    Redact,
    Profile,
}

const ACTS: [(u32, Act); 14] = [
    (22, Act::Speak),
    (12, Act::Describe),
    (14, Act::Note),
    (14, Act::Levels),
    (3, Act::Kick),
    (4, Act::Ban),
    (9, Act::Unban),
    (9, Act::Invite),
    (8, Act::Join),
    (3, Act::Leave),
    (3, Act::Knock),
    (4, Act::JoinRules),
    (4, Act::Redact),
    (4, Act::Profile),
];

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
        let state = |name, event_type, state_key: &str, content| Intention {
            name,
            sender: sender.clone(),
            event_type,
            state_key: Some(state_key.to_owned()),
            content,
            redacts: None,
        };
        let member = |name, target: &str, membership: &str| {
            state(
                name,
                "m.room.member",
                target,
                json!({ "membership": membership }),
            )
        };
        match act {
            Act::Speak => Intention {
                state_key: None,
                ..state(
                    "message",
                    "m.room.message",
                    "",
                    json!({ "body": random.below(1000) }),
                )
            },
            Act::Describe => {
                let (event_type, field) =
                    random.one_of([("m.room.topic", "topic"), ("m.room.name", "name")]);
                state(
                    "description",
                    event_type,
                    "",
                    json!({ field: random.below(1000).to_string() }),
                )
            }
            Act::Note => {
                // A key that is a user id is for that user alone.
                let key = random
                    .one_of(["", "a", "b", sender.as_str(), other.as_str()])
                    .to_owned();
                state(
                    "note",
                    "org.example.note",
                    &key,
                    json!({ "note": random.below(1000) }),
                )
            }
            Act::Levels => {
                let levels = self.levels(random, rules, &sender, sight);
                state("power levels", "m.room.power_levels", "", levels)
            }
            Act::Kick => member("kick", &other, "leave"),
            Act::Ban => member("ban", &other, "ban"),
            Act::Unban => {
                let banned = |user: &&String| membership(sight, user).as_deref() == Some("ban");
                let banned: Vec<&String> = self.of.iter().flatten().filter(banned).collect();
                let target = random.pick(&banned).map_or(&other, |user| user);
                member("unban", target, "leave")
            }
            Act::Invite => member("invite", &other, "invite"),
            Act::Join => self.join(random, rules, &sender, sight),
            Act::Leave => member("leave", &sender, "leave"),
            Act::Knock => member("knock", &sender, "knock"),
            Act::JoinRules => {
                let rule = random.one_of([
                    "public",
                    "public",
                    "public",
                    "public",
                    "invite",
                    "knock",
                    "restricted",
                    "knock_restricted",
                    "private",
                ]);
                state(
                    "join rules",
                    "m.room.join_rules",
                    "",
                    json!({ "join_rule": rule }),
                )
            }
            Act::Redact => Intention {
                state_key: None,
                redacts: sight.some_event(random),
                ..state(
                    "redaction",
                    "m.room.redaction",
                    "",
                    json!({ "reason": "so" }),
                )
            },
            Act::Profile => {
                let name = random.below(1000).to_string();
                let content = json!({ "membership": "join", "displayname": name });
                state("profile", "m.room.member", &sender, content)
            }
        }
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
        Intention {
            name: "join",
            sender: user.to_owned(),
            event_type: "m.room.member",
            state_key: Some(user.to_owned()),
            content,
            redacts: None,
        }
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
