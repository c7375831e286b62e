//! Making a room: `/createRoom` and the new room of an upgrade.
//!
//! Two steps, because from room version 12 on the room id is the hash of the create event:
//! [`create_event`] makes that event, the caller numbers the room, [`build`] appends the rest.
//! Order: <https://spec.matrix.org/v1.19/client-server-api/#creation>.

use event::{EventDraft, FirstFormat, Pdu, RoomRules, RoomVersion, SigningKey};
use names::UserSn;
use serde_json::{Map, Value, json};

use crate::aliases::{self, Alias};
use crate::membership::{MemberProfile, member_content};
use crate::{Error, NewEvent, Result, RoomWriter, Sender, directory};

/// `preset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Join by invitation, history for members.
    PrivateChat,
    /// The same, and everyone invited has the creator's power.
    TrustedPrivateChat,
    /// Anyone may join.
    PublicChat,
}

/// An entry of `initial_state`.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// The type.
    pub event_type: String,
    /// The state key.
    pub state_key: String,
    /// The content, a JSON object.
    pub content: Value,
}

/// What a room is made from.
#[derive(Clone, Debug)]
pub struct NewRoom<'a> {
    /// Who makes it.
    pub creator: Sender<'a>,
    /// The creator's name and picture.
    pub profile: MemberProfile,
    /// The preset.
    pub preset: Preset,
    /// `name`.
    pub name: Option<&'a str>,
    /// `topic`.
    pub topic: Option<&'a str>,
    /// The full alias made from `room_alias_name`.
    pub alias: Option<&'a str>,
    /// Whether to put the room into the public directory.
    pub published: bool,
    /// Users to be invited. Those of other servers are only given their power here: [`invite_all`].
    pub invite: Vec<Sender<'a>>,
    /// Whether the invitations are for a direct chat.
    pub is_direct: bool,
    /// `initial_state`.
    pub initial_state: Vec<InitialState>,
    /// `power_level_content_override`.
    pub power_level_override: Map<String, Value>,
}

/// Makes the create event. `creation_content` is the client's; `random` makes the id of rooms whose id
/// is not a hash.
///
/// # Errors
/// [`Error::Invalid`] if `creation_content` has something in it that can't be.
pub fn create_event(
    version: RoomVersion,
    key: &SigningKey,
    room: &NewRoom<'_>,
    mut creation_content: Map<String, Value>,
    random: [u8; 18],
    now_ms: u64,
) -> Result<Pdu> {
    let rules = version.rules();
    let creator = room.creator.user_id;
    creation_content.remove("creator");
    creation_content.insert("room_version".to_owned(), version.to_string().into());
    if !rules.auth.creator_is_sender {
        creation_content.insert("creator".to_owned(), creator.into());
    }
    if rules.auth.creators_privileged {
        add_creators(room, &mut creation_content)?;
    }
    let hashed = rules.room_id == event::RoomIdFormat::CreateHash;
    let opaque: String = random
        .iter()
        .map(|byte| LETTERS[*byte as usize % LETTERS.len()] as char)
        .collect();
    let server_name = key.server_name();
    let room_id = (!hashed).then(|| format!("!{opaque}:{server_name}"));
    let event_id = format!("${opaque}:{server_name}");
    let content = Value::Object(creation_content).to_string();
    let draft = EventDraft {
        room_id: room_id.as_deref(),
        sender: creator,
        event_type: "m.room.create",
        state_key: Some(""),
        content: &content,
        redacts: None,
        origin_server_ts: now_ms as i64,
        prev_events: &[],
        auth_events: &[],
        depth: 1,
        first_format: Some(FirstFormat {
            event_id: &event_id,
            prev_hashes: &[],
            auth_hashes: &[],
        }),
    };
    draft.seal(rules, key).map_err(Error::from_draft)
}

const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// From room version 12 on, those who are to have the creator's power are creators too.
fn add_creators(room: &NewRoom<'_>, content: &mut Map<String, Value>) -> Result<()> {
    let mut creators: Vec<String> = match content.get("additional_creators") {
        None => Vec::new(),
        Some(given) => serde_json::from_value(given.clone())
            .map_err(|_| Error::Invalid("additional_creators is not a list of user ids".into()))?,
    };
    if let Some(bad) = creators
        .iter()
        .find(|id| !event::identifier::is_user_id(id))
    {
        return Err(Error::Invalid(format!("{bad} is not a user id")));
    }
    if room.preset == Preset::TrustedPrivateChat {
        for invited in &room.invite {
            if !creators.iter().any(|id| id == invited.user_id) {
                creators.push(invited.user_id.to_owned());
            }
        }
    }
    if !creators.is_empty() {
        content.insert("additional_creators".to_owned(), creators.into());
    }
    Ok(())
}

/// Appends everything after the create event, which the writer was begun with.
///
/// # Errors
/// Whatever one of the events is refused for; the room is not made then.
pub fn build(writer: &mut RoomWriter<'_>, room: &NewRoom<'_>) -> Result<()> {
    let creator = room.creator;
    let join = member_content("join", &room.profile, None);
    writer.append(&NewEvent::member(creator, creator, &join))?;
    let levels = power_levels(writer.rules(), room);
    put(writer, creator, "m.room.power_levels", "", &levels)?;
    if let Some(alias) = room.alias {
        let of = Alias {
            room: writer.room(),
            creator: creator.user,
        };
        aliases::add(writer.txn(), alias, of)?;
        put(
            writer,
            creator,
            "m.room.canonical_alias",
            "",
            &json!({ "alias": alias }),
        )?;
    }
    for (event_type, content) in preset_state(room.preset) {
        let given = room
            .initial_state
            .iter()
            .any(|s| s.event_type == event_type && s.state_key.is_empty());
        if !given {
            put(writer, creator, event_type, "", &content)?;
        }
    }
    for entry in &room.initial_state {
        if matches!(entry.event_type.as_str(), "m.room.create" | "m.room.member") {
            let why = format!("{} can't be in initial_state", entry.event_type);
            return Err(Error::Invalid(why));
        }
        put(
            writer,
            creator,
            &entry.event_type,
            &entry.state_key,
            &entry.content,
        )?;
    }
    if let Some(name) = room.name {
        put(writer, creator, "m.room.name", "", &json!({ "name": name }))?;
    }
    if let Some(topic) = room.topic {
        let content = json!({ "topic": topic, "m.topic": { "m.text": [{ "body": topic }] } });
        put(writer, creator, "m.room.topic", "", &content)?;
    }
    if room.published {
        let number = writer.room();
        directory::set_published(writer.txn(), number, true);
    }
    Ok(())
}

/// Invites those of this server who are to be invited; after [`build`], as only then the invited can be shown what
/// the room is.
///
/// # Errors
/// Whatever an invitation is refused for.
pub fn invite_all(
    writer: &mut RoomWriter<'_>,
    room: &NewRoom<'_>,
    profile_of: impl Fn(UserSn) -> Result<MemberProfile>,
) -> Result<()> {
    for invited in room.invite.iter().filter(|invited| invited.user.is_local()) {
        let profile = profile_of(invited.user)?;
        let content = member_content("invite", &profile, None);
        let content = if room.is_direct {
            with_direct(&content)
        } else {
            content
        };
        writer.append(&NewEvent::member(room.creator, *invited, &content))?;
    }
    Ok(())
}

fn with_direct(content: &str) -> String {
    format!("{},\"is_direct\":true}}", content.trim_end_matches('}'))
}

fn put(
    writer: &mut RoomWriter<'_>,
    sender: Sender<'_>,
    event_type: &str,
    state_key: &str,
    content: &Value,
) -> Result<()> {
    writer.append(&NewEvent::state(
        sender,
        event_type,
        state_key,
        &content.to_string(),
    ))?;
    Ok(())
}

/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>, "preset".
fn preset_state(preset: Preset) -> Vec<(&'static str, Value)> {
    let (join_rule, guests_may_join) = match preset {
        Preset::PrivateChat | Preset::TrustedPrivateChat => ("invite", true),
        Preset::PublicChat => ("public", false),
    };
    let mut state = vec![
        ("m.room.join_rules", json!({ "join_rule": join_rule })),
        (
            "m.room.history_visibility",
            json!({ "history_visibility": "shared" }),
        ),
    ];
    // Without the event guests may not.
    if guests_may_join {
        let content = json!({ "guest_access": "can_join" });
        state.push(("m.room.guest_access", content));
    }
    state
}

/// The power levels of a new room.
fn power_levels(rules: &RoomRules, room: &NewRoom<'_>) -> Value {
    let mut users = Map::new();
    if !rules.auth.creators_privileged {
        users.insert(room.creator.user_id.to_owned(), 100.into());
        if room.preset == Preset::TrustedPrivateChat {
            for invited in &room.invite {
                users.insert(invited.user_id.to_owned(), 100.into());
            }
        }
    }
    // Upgrading is for the creators where they stand above everyone.
    let tombstone = if rules.auth.creators_privileged {
        150
    } else {
        100
    };
    let invite = if room.preset == Preset::PublicChat {
        50
    } else {
        0
    };
    let mut levels = json!({
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.avatar": 50,
            "m.room.canonical_alias": 50,
            "m.room.encryption": 100,
            "m.room.history_visibility": 100,
            "m.room.name": 50,
            "m.room.power_levels": 100,
            "m.room.server_acl": 100,
            "m.room.tombstone": tombstone,
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": invite,
        "historical": 100,
    });
    for (key, value) in &room.power_level_override {
        levels[key.as_str()] = value.clone();
    }
    levels
}
