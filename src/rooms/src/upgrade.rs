//! Upgrading a room: what goes along to the new room, and what is left behind in the old one.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-upgrades>
//!
//! [`read`] looks at the old room, [`close`] puts the tombstone on it, [`build`] fills the new room. The
//! caller does all three in one change, so that there is never a room without its other half.

use event::auth::Membership;
use event::{EventId, RoomRules, json};
use names::UserSn;
use serde_json::{Map, Value, json as value};

use crate::membership::{MemberProfile, member_content};
use crate::{
    Error, NewEvent, Result, RoomWriter, Sender, aliases, directory, event_log, members, state,
};

/// The types that go along with an empty state key, in the order in which the new room gets them. Power
/// levels have a way of their own.
const TRANSFERRED: [&str; 8] = [
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
    "m.room.encryption",
    "m.room.server_acl",
];

/// What of the old room the new one is made from.
#[derive(Clone, Debug)]
pub struct OldRoom {
    /// What the new create event takes over, `predecessor` but for its event included.
    pub creation_content: Map<String, Value>,
    /// The local aliases.
    pub aliases: Vec<String>,
    /// Whether it is in the directory.
    pub published: bool,
    state: Vec<(String, String, String)>,
    canonical_alias: Option<String>,
    power_levels: Map<String, Value>,
    creators: Vec<String>,
    creators_privileged: bool,
    bans: Vec<(UserSn, String, String)>,
}

/// Reads what goes along.
///
/// # Errors
/// [`Error::Forbidden`] if the user may not upgrade the room.
pub fn read(writer: &mut RoomWriter<'_>, by: Sender<'_>) -> Result<OldRoom> {
    let room = writer.room();
    crate::membership::must_be_joined(writer.txn(), room, by)?;
    let may = writer
        .with_power_levels(|levels| levels.user(by.user_id) >= levels.to_send(TOMBSTONE, true))?;
    if !may {
        return Err(Error::Forbidden("upgrading the room needs a higher level"));
    }
    let creation_content = creation_content(writer)?;
    let mut transferred = Vec::new();
    for event_type in TRANSFERRED {
        if let Some(event) = writer.state_event(event_type, "")? {
            let content = event.pdu().content().to_owned();
            transferred.push((event_type.to_owned(), String::new(), content));
        }
    }
    if creation_content
        .get("type")
        .is_some_and(|of| of == "m.space")
    {
        transferred.extend(space_children(writer)?);
    }
    let content_of = |event_type| -> Result<Option<String>> {
        let event = writer.state_event(event_type, "")?;
        Ok(event.map(|event| event.pdu().content().to_owned()))
    };
    let canonical_alias = content_of("m.room.canonical_alias")?;
    let power_levels = content_of("m.room.power_levels")?
        .and_then(|content| serde_json::from_str(&content).ok())
        .unwrap_or_default();
    let create = writer.state_event("m.room.create", "")?;
    let creators = create
        .as_ref()
        .and_then(|create| create.creators())
        .map(|creators| creators.iter().map(str::to_owned).collect())
        .unwrap_or_default();
    Ok(OldRoom {
        creation_content,
        aliases: aliases::of_room(writer.txn(), room)?,
        published: directory::is_published(writer.txn(), room)?,
        state: transferred,
        canonical_alias,
        power_levels: with_integers(power_levels),
        creators,
        creators_privileged: writer.rules().auth.creators_privileged,
        bans: bans(writer)?,
    })
}

const TOMBSTONE: &str = "m.room.tombstone";

fn creation_content(writer: &RoomWriter<'_>) -> Result<Map<String, Value>> {
    let mut content = Map::new();
    content.insert(
        "predecessor".to_owned(),
        value!({ "room_id": writer.room_id() }),
    );
    let Some(create) = writer.state_event("m.room.create", "")? else {
        return Ok(content);
    };
    let old: Map<String, Value> = serde_json::from_str(create.pdu().content()).unwrap_or_default();
    // What says what the room is. Additional creators are named anew or not at all.
    for key in ["type", "m.federate"] {
        if let Some(kept) = old.get(key) {
            content.insert(key.to_owned(), kept.clone());
        }
    }
    Ok(content)
}

fn space_children(writer: &mut RoomWriter<'_>) -> Result<Vec<(String, String, String)>> {
    const CHILD: &str = "m.space.child";
    let room = writer.room();
    let mut found = Vec::new();
    for entry in state::current_of_type(writer.txn(), room, CHILD)? {
        let Some(event) = event_log::get(writer.txn(), room, entry.event)? else {
            continue;
        };
        let content = json::member(&event.json, "content").unwrap_or("{}");
        // Without `via` the child was taken out of the space.
        if json::member(content, "via").is_some() {
            found.push((CHILD.to_owned(), entry.state_key, content.to_owned()));
        }
    }
    Ok(found)
}

/// Who is banned, with the member event's content. Walks over all members: an upgrade is rare.
fn bans(writer: &mut RoomWriter<'_>) -> Result<Vec<(UserSn, String, String)>> {
    let room = writer.room();
    let mut found = Vec::new();
    for (user, member) in members::all(writer.txn(), room)? {
        if member.membership() != Membership::Ban {
            continue;
        }
        if let Some(event) = event_log::get(writer.txn(), room, member.event)? {
            let content = json::member(&event.json, "content").unwrap_or("{}");
            let user_id = names::user_id(writer.txn(), user)?;
            found.push((user, user_id, content.to_owned()));
        }
    }
    Ok(found)
}

/// Puts the tombstone on the old room, and raises what is needed to talk in it and to invite into it where
/// the user may do that. Returns the tombstone's id.
///
/// # Errors
/// [`Error::NotAllowed`] if the user may not send the tombstone.
pub fn close(
    writer: &mut RoomWriter<'_>,
    by: Sender<'_>,
    old: &OldRoom,
    new_room_id: &str,
) -> Result<EventId> {
    let content = value!({
        "body": "This room has been replaced",
        "replacement_room": new_room_id,
    });
    let content = content.to_string();
    let (_, tombstone) = writer.append(&NewEvent::state(by, TOMBSTONE, "", &content))?;
    let mut levels = old.power_levels.clone();
    let least = integer(&levels, "users_default").unwrap_or(0) + 1;
    // Without power levels the creator alone has power, and would lose it to levels that don't say so.
    let mut changed = false;
    for key in ["events_default", "invite"] {
        if !old.power_levels.is_empty() && integer(&levels, key).unwrap_or(0) < least.max(50) {
            levels.insert(key.to_owned(), least.max(50).into());
            changed = true;
        }
    }
    if changed {
        let content = Value::Object(levels).to_string();
        match writer.append(&NewEvent::state(by, "m.room.power_levels", "", &content)) {
            Ok(_) | Err(Error::NotAllowed(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tombstone)
}

/// Fills the new room, which the writer was begun with.
///
/// # Errors
/// Whatever one of the events is refused for; the room is not made then.
pub fn build(
    writer: &mut RoomWriter<'_>,
    by: Sender<'_>,
    profile: &MemberProfile,
    old: &OldRoom,
    additional_creators: &[String],
) -> Result<()> {
    let join = member_content("join", profile, None);
    writer.append(&NewEvent::member(by, by, &join))?;
    let levels = new_power_levels(writer.rules(), by.user_id, old, additional_creators);
    let raised = raised_for(writer.rules(), by.user_id, &levels);
    set_levels(writer, by, &raised)?;
    for (event_type, state_key, content) in &old.state {
        writer.append(&NewEvent::state(by, event_type, state_key, content))?;
    }
    for (target, user_id, content) in &old.bans {
        let target = Sender {
            user: *target,
            user_id,
        };
        writer.append(&NewEvent::member(by, target, content))?;
    }
    if let Some(content) = &old.canonical_alias {
        writer.append(&NewEvent::state(by, "m.room.canonical_alias", "", content))?;
    }
    if raised != levels {
        set_levels(writer, by, &levels)?;
    }
    Ok(())
}

fn set_levels(
    writer: &mut RoomWriter<'_>,
    by: Sender<'_>,
    levels: &Map<String, Value>,
) -> Result<()> {
    let content = Value::Object(levels.clone()).to_string();
    writer.append(&NewEvent::state(by, "m.room.power_levels", "", &content))?;
    Ok(())
}

/// The power levels that the new room is to have in the end.
fn new_power_levels(
    rules: &RoomRules,
    by: &str,
    old: &OldRoom,
    additional_creators: &[String],
) -> Map<String, Value> {
    let mut levels = old.power_levels.clone();
    if rules.auth.creators_privileged {
        if let Some(users) = levels.get_mut("users").and_then(Value::as_object_mut) {
            users.retain(|id, _| id != by && !additional_creators.contains(id));
        }
        if !old.creators_privileged {
            // "The power level for sending m.room.tombstone events MUST explicitly be higher than
            // state_default" in rooms whose creators stand above all levels.
            let above = integer(&levels, "state_default").unwrap_or(50) + 1;
            let now = level_in(&levels, "events", TOMBSTONE).unwrap_or(0);
            set(&mut levels, "events", TOMBSTONE, now.max(above).max(150));
        }
    } else if old.creators_privileged || levels.is_empty() {
        for creator in &old.creators {
            set(&mut levels, "users", creator, 100);
        }
    }
    levels
}

/// The same with enough power for the user to fill the room.
fn raised_for(rules: &RoomRules, by: &str, levels: &Map<String, Value>) -> Map<String, Value> {
    let mut raised = levels.clone();
    if rules.auth.creators_privileged {
        return raised;
    }
    let events = raised.get("events").and_then(Value::as_object);
    let of_events = events
        .into_iter()
        .flat_map(|events| events.values())
        .filter_map(Value::as_i64);
    let needed = of_events
        .chain([
            integer(&raised, "state_default").unwrap_or(50),
            integer(&raised, "ban").unwrap_or(50),
        ])
        .max()
        .unwrap_or(100);
    let users_default = integer(&raised, "users_default").unwrap_or(0);
    if level_in(&raised, "users", by).unwrap_or(users_default) < needed {
        set(&mut raised, "users", by, needed);
    }
    raised
}

fn integer(object: &Map<String, Value>, key: &str) -> Option<i64> {
    object.get(key).and_then(Value::as_i64)
}

/// Sets a level in one of the maps of levels by name.
fn set(levels: &mut Map<String, Value>, map: &str, key: &str, level: i64) {
    let entry = levels.entry(map.to_owned()).or_insert(Value::Null);
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    if let Value::Object(map) = entry {
        map.insert(key.to_owned(), level.into());
    }
}

fn level_in(levels: &Map<String, Value>, map: &str, key: &str) -> Option<i64> {
    levels.get(map)?.get(key)?.as_i64()
}

/// Power levels with every level an integer: rooms of old versions may have written some as text.
/// What is no level is left out.
fn with_integers(levels: Map<String, Value>) -> Map<String, Value> {
    let of_text = |value: &Value| -> Option<Value> {
        let level = match value {
            Value::String(text) => text.trim().parse::<i64>().ok()?,
            Value::Number(number) => number.as_i64()?,
            _ => return None,
        };
        Some(level.into())
    };
    let mut clean = Map::new();
    for (key, level) in levels {
        let level = match level {
            Value::Object(map) => {
                let entries = map.into_iter();
                let entries = entries.filter_map(|(key, level)| Some((key, of_text(&level)?)));
                Value::Object(entries.collect())
            }
            level => match of_text(&level) {
                Some(level) => level,
                None => continue,
            },
        };
        clean.insert(key, level);
    }
    clean
}

#[cfg(test)]
mod tests {
    use event::RoomVersion;

    use super::*;

    fn levels(content: Value) -> Map<String, Value> {
        match content {
            Value::Object(map) => with_integers(map),
            _ => Map::new(),
        }
    }

    fn old(content: Value, creators_privileged: bool) -> OldRoom {
        OldRoom {
            creation_content: Map::new(),
            aliases: Vec::new(),
            published: false,
            state: Vec::new(),
            canonical_alias: None,
            power_levels: levels(content),
            creators: vec!["@old:here".to_owned()],
            creators_privileged,
            bans: Vec::new(),
        }
    }

    #[test]
    fn creators_of_version_12_lose_their_level_and_the_tombstone_is_theirs() {
        let old = old(
            value!({"users": {"@a:here": 100, "@b:here": "50"}, "state_default": 60}),
            false,
        );
        let rules = RoomVersion::V12.rules();
        let new = new_power_levels(rules, "@a:here", &old, &[]);
        assert_eq!(new["users"], value!({"@b:here": 50}));
        assert_eq!(new["events"], value!({"m.room.tombstone": 150}));
        assert_eq!(raised_for(rules, "@a:here", &new), new);
    }

    #[test]
    fn creators_get_a_level_back_where_they_need_one() {
        let old = old(value!({"users": {}}), true);
        let new = new_power_levels(RoomVersion::V11.rules(), "@old:here", &old, &[]);
        assert_eq!(new["users"], value!({"@old:here": 100}));
    }

    #[test]
    fn the_user_is_raised_only_while_the_room_is_filled() {
        let old = old(
            value!({"events": {"m.room.name": 75}, "users_default": 10}),
            false,
        );
        let rules = RoomVersion::V11.rules();
        let new = new_power_levels(rules, "@a:here", &old, &[]);
        let raised = raised_for(rules, "@a:here", &new);
        assert_eq!(raised["users"], value!({"@a:here": 75}));
        assert!(!new.contains_key("users"));
    }
}
