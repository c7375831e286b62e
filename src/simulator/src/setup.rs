//! The room that a simulation begins with: who has which power in it, and what is asked of those who join.

use event::RoomVersion;
use rooms::Sender;
use rooms::create::{self, Preset};
use rooms::membership::MemberProfile;
use serde_json::{Map, Value, json};

use crate::people::People;
use crate::random::Random;

/// What the room is made from.
pub struct NewRoom {
    /// The room version.
    pub version: RoomVersion,
    /// Who makes it.
    pub creator: String,
    /// What its id is made of.
    pub random: [u8; 18],
    levels: Map<String, Value>,
}

impl NewRoom {
    /// A public room, with power spread over the servers so that there is something to fight over.
    pub fn any(random: &mut Random, version: RoomVersion, creator: &str, people: &People) -> Self {
        let creator = creator.to_owned();
        let mut users = Map::new();
        for of_server in &people.of {
            for (number, user) in of_server.iter().enumerate() {
                let level = match number {
                    0 => random.one_of([100, 100, 75, 50]),
                    1 => random.one_of([75, 50, 50, 0]),
                    _ => random.one_of([50, 0, 0, 0]),
                };
                let level = if *user == creator { 100 } else { level };
                if level > 0 && !(version.rules().auth.creators_privileged && *user == creator) {
                    users.insert(user.clone(), level.into());
                }
            }
        }
        let levels = json!({
            "users": users,
            "state_default": random.one_of([0, 50, 50]),
            "events": { "m.room.power_levels": random.one_of([50, 50, 75, 100]), "m.room.join_rules": 50 },
            "invite": random.one_of([0, 50]),
        });
        let bytes = random.bytes();
        NewRoom {
            version,
            creator,
            random: std::array::from_fn(|n| bytes[n]),
            levels: match levels {
                Value::Object(levels) => levels,
                _ => Map::new(),
            },
        }
    }

    /// The same for the core.
    pub fn with<'a>(&self, creator: Sender<'a>) -> create::NewRoom<'a> {
        create::NewRoom {
            creator,
            profile: MemberProfile::default(),
            preset: Preset::PublicChat,
            name: None,
            topic: None,
            alias: None,
            published: false,
            invite: Vec::new(),
            is_direct: false,
            initial_state: Vec::new(),
            power_level_override: self.levels.clone(),
        }
    }
}
