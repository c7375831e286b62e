//! Power levels: reading them, and what follows from them for users and events.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels> and "Deprecated event content
//! schemas" of room versions 1 to 9.

use super::auth_event::AuthEvent;
use super::create::Creators;
use crate::identifier;
use crate::json;
use crate::room_version::RoomRules;

/// The content of an `m.room.power_levels` event has a value that the room version does not take for a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedPowerLevels {
    #[error("{0:?} is not an integer")]
    Field(&'static str),
    #[error("{0:?} is not an object of integers")]
    Map(&'static str),
    #[error("\"users\" is not an object of user ids and integers")]
    Users,
}

/// A user's power level. Creators of rooms of version 12 and later stand above all numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PowerLevel {
    Level(i64),
    Creator,
}

impl PartialEq<i64> for PowerLevel {
    fn eq(&self, other: &i64) -> bool {
        *self == PowerLevel::Level(*other)
    }
}

impl PartialOrd<i64> for PowerLevel {
    fn partial_cmp(&self, other: &i64) -> Option<std::cmp::Ordering> {
        Some(self.cmp(&PowerLevel::Level(*other)))
    }
}

/// The levels that are single numbers, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    UsersDefault,
    EventsDefault,
    StateDefault,
    Ban,
    Redact,
    Kick,
    Invite,
}

impl Field {
    pub(super) const ALL: [Field; 7] = [
        Field::UsersDefault,
        Field::EventsDefault,
        Field::StateDefault,
        Field::Ban,
        Field::Redact,
        Field::Kick,
        Field::Invite,
    ];

    fn name(self) -> &'static str {
        match self {
            Field::UsersDefault => "users_default",
            Field::EventsDefault => "events_default",
            Field::StateDefault => "state_default",
            Field::Ban => "ban",
            Field::Redact => "redact",
            Field::Kick => "kick",
            Field::Invite => "invite",
        }
    }

    /// The level where the event, or the field, is missing.
    pub(super) fn default_level(self) -> i64 {
        match self {
            Field::UsersDefault | Field::EventsDefault | Field::Invite => 0,
            Field::StateDefault | Field::Ban | Field::Redact | Field::Kick => 50,
        }
    }
}

/// Levels by user id, event type or notification key, sorted.
pub(super) type Levels = Vec<(Box<str>, i64)>;

/// The content of an `m.room.power_levels` event, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PowerLevelsContent {
    fields: [Option<i64>; Field::ALL.len()],
    pub(super) users: Levels,
    pub(super) events: Levels,
    pub(super) notifications: Levels,
}

impl PowerLevelsContent {
    /// Reads canonical JSON.
    pub fn parse(rules: &RoomRules, content: &str) -> Result<Self, MalformedPowerLevels> {
        let mut parsed = PowerLevelsContent::default();
        for (key, value) in json::members(content) {
            match key {
                "users" => {
                    parsed.users = levels(rules, value).ok_or(MalformedPowerLevels::Users)?;
                    if !parsed
                        .users
                        .iter()
                        .all(|(id, _)| identifier::is_user_id(id))
                    {
                        return Err(MalformedPowerLevels::Users);
                    }
                }
                "events" => {
                    parsed.events =
                        levels(rules, value).ok_or(MalformedPowerLevels::Map("events"))?;
                }
                "notifications" => {
                    parsed.notifications =
                        levels(rules, value).ok_or(MalformedPowerLevels::Map("notifications"))?;
                }
                _ => {
                    let field = Field::ALL.into_iter().find(|field| field.name() == key);
                    if let Some(field) = field {
                        let level = level(rules, value);
                        parsed.fields[field as usize] =
                            Some(level.ok_or(MalformedPowerLevels::Field(field.name()))?);
                    }
                }
            }
        }
        Ok(parsed)
    }

    /// The value of a field, if it is there.
    pub(super) fn field(&self, field: Field) -> Option<i64> {
        self.fields[field as usize]
    }

    /// Users with a level of their own, by user id.
    pub fn users(&self) -> impl ExactSizeIterator<Item = (&str, i64)> {
        self.users.iter().map(|(id, level)| (&**id, *level))
    }
}

/// The power levels of a room: the content of the current event, if there is one, and the creators.
#[derive(Clone, Copy, Debug)]
pub struct PowerLevels<'a> {
    content: Option<&'a PowerLevelsContent>,
    creators: &'a Creators,
    creators_privileged: bool,
}

impl<'a> PowerLevels<'a> {
    pub fn new(
        rules: &RoomRules,
        content: Option<&'a PowerLevelsContent>,
        creators: &'a Creators,
    ) -> Self {
        PowerLevels {
            content,
            creators,
            creators_privileged: rules.auth.creators_privileged,
        }
    }

    /// From the current create and power levels events; `None` if `create` is no create event or the levels are
    /// malformed.
    pub fn of_events(
        rules: &RoomRules,
        create: &'a AuthEvent,
        power_levels: Option<&'a AuthEvent>,
    ) -> Option<Self> {
        let content = match power_levels {
            Some(event) => Some(event.power_levels()?),
            None => None,
        };
        Some(PowerLevels::new(rules, content, create.creators()?))
    }

    /// A user's level.
    pub fn user(&self, user_id: &str) -> PowerLevel {
        let is_creator = self.creators.contains(user_id);
        if is_creator && self.creators_privileged {
            return PowerLevel::Creator;
        }
        PowerLevel::Level(match self.content {
            Some(content) => {
                find(&content.users, user_id).unwrap_or_else(|| self.field(Field::UsersDefault))
            }
            None if is_creator => 100,
            None => self.field(Field::UsersDefault),
        })
    }

    /// The level needed to send an event of this type.
    pub fn to_send(&self, event_type: &str, is_state: bool) -> i64 {
        let explicit = self
            .content
            .and_then(|content| find(&content.events, event_type));
        explicit.unwrap_or_else(|| match is_state {
            true => self.field(Field::StateDefault),
            false => self.field(Field::EventsDefault),
        })
    }

    pub fn ban(&self) -> i64 {
        self.field(Field::Ban)
    }

    pub fn kick(&self) -> i64 {
        self.field(Field::Kick)
    }

    /// The level needed to redact other users' events.
    pub fn redact(&self) -> i64 {
        self.field(Field::Redact)
    }

    pub fn invite(&self) -> i64 {
        self.field(Field::Invite)
    }

    /// The level of users without one of their own.
    pub fn users_default(&self) -> i64 {
        self.field(Field::UsersDefault)
    }

    /// The level needed to notify by `key`: `room` for mentions of the whole room. 50 where nothing is said.
    pub fn notifications(&self, key: &str) -> i64 {
        self.content
            .and_then(|content| find(&content.notifications, key))
            .unwrap_or(50)
    }

    pub(super) fn content(&self) -> Option<&'a PowerLevelsContent> {
        self.content
    }

    fn field(&self, field: Field) -> i64 {
        self.content
            .and_then(|content| content.field(field))
            .unwrap_or(field.default_level())
    }
}

fn find(levels: &Levels, key: &str) -> Option<i64> {
    let index = levels
        .binary_search_by(|(entry, _)| (**entry).cmp(key))
        .ok()?;
    Some(levels[index].1)
}

/// An object of levels, sorted by key; `None` if it is none.
fn levels(rules: &RoomRules, value: &str) -> Option<Levels> {
    if !json::is_object(value) {
        return None;
    }
    let mut levels = Levels::new();
    for (key, value) in json::members(value) {
        let key = match key.contains('\\') {
            false => key.into(),
            true => json::string(&format!("\"{key}\""))?.as_ref().into(),
        };
        levels.push((key, level(rules, value)?));
    }
    // Canonical JSON is sorted already.
    levels.sort_unstable();
    Some(levels)
}

/// One level. Up to room version 9 it may be a string, up to version 5 a float.
fn level(rules: &RoomRules, value: &str) -> Option<i64> {
    if let Some(level) = json::integer(value) {
        return Some(level);
    }
    if rules.auth.integer_power_levels {
        return None;
    }
    if let Some(text) = json::string(value) {
        let digits = text.trim();
        let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
        let decimal = !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit());
        return digits.parse().ok().filter(|_| decimal);
    }
    // An integer that does not fit is no float either.
    if !value.contains(['.', 'e', 'E']) {
        return None;
    }
    let float: f64 = value.parse().ok().filter(|float: &f64| float.is_finite())?;
    // Truncated at the decimal point; 2^63 itself is the first float that does not fit.
    let fits = (-(2f64.powi(63))..2f64.powi(63)).contains(&float.trunc());
    fits.then_some(float.trunc() as i64)
}
