//! Making rooms: <https://spec.matrix.org/v1.19/client-server-api/#creation>.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use event::{RoomVersion, identifier};
use names::UserSn;
use node::NodeError;
use node::federation::Address;
use node::room::CreateRoom;
use rooms::create::{InitialState, Preset};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::auth::Session;
use crate::client::address_invites::{AddressParts, invite_address};
use crate::client::membership::must_accept_invites;
use crate::client::room_names::{room, user};
use crate::error::{ApiError, ErrCode};
use crate::json::{Json, JsonBody};
use crate::limits::{Class, Key};

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/client/v3/createRoom", post(create))
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Visibility {
    Public,
    #[default]
    Private,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "the names of the specification")]
enum PresetName {
    PrivateChat,
    PublicChat,
    TrustedPrivateChat,
}

#[derive(Deserialize)]
struct StateEvent {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    state_key: String,
    content: Map<String, Value>,
}

/// Clients write null for what they have nothing to say about.
#[derive(Deserialize)]
struct Body {
    visibility: Option<Visibility>,
    room_alias_name: Option<String>,
    name: Option<String>,
    topic: Option<String>,
    invite: Option<Vec<String>>,
    invite_3pid: Option<Vec<AddressParts>>,
    room_version: Option<String>,
    creation_content: Option<Map<String, Value>>,
    initial_state: Option<Vec<StateEvent>>,
    preset: Option<PresetName>,
    is_direct: Option<bool>,
    power_level_content_override: Option<Map<String, Value>>,
}

/// Users who may be invited at once.
const MOST_INVITED: usize = 500;

/// Addresses that may be invited at once: each is a few requests to an identity server.
const MOST_ADDRESSES: usize = 20;

async fn create(
    State(app): State<App>,
    session: Session,
    JsonBody(mut body): JsonBody<Body>,
) -> Result<Json<Value>, ApiError> {
    session.must_not_be_suspended()?;
    if !app.config().rooms.allow_creation && !session.admin {
        return Err(ApiError::forbidden("Only administrators make rooms here"));
    }
    app.limiter()
        .check(Class::CreateRoom, Key::Name(&session.user_id))?;
    let addresses = addresses(&app, &session, body.invite_3pid.take().unwrap_or_default())?;
    let is_direct = body.is_direct.unwrap_or_default();
    let request = request_of(&app, &session, body)?;
    match app.node().create_room(request).await {
        Ok(room_id) => {
            for address in &addresses {
                let room = room(&app, &room_id)?;
                // The room is there: who can't be invited now can be invited again.
                if let Err(error) =
                    invite_address(&app, &session, room, address, None, is_direct).await
                {
                    let (status, why) = (error.status(), error.message());
                    tracing::info!(room_id, why, "the room was made, but not an invitation");
                    if status.is_server_error() {
                        // The identity server does not answer: nor would it for the others.
                        break;
                    }
                }
            }
            Ok(Json(json!({ "room_id": room_id })))
        }
        Err(NodeError::Rooms(rooms::Error::NotAllowed(why))) => Err(ApiError::new(
            ErrCode::InvalidRoomState,
            format!("The room can't be made so: {why}"),
        )),
        Err(error) => Err(error.into()),
    }
}

fn request_of(app: &App, session: &Session, body: Body) -> Result<CreateRoom, ApiError> {
    let version = match &body.room_version {
        Some(name) => offered(name)?,
        None => offered(app.config().rooms.default_version.as_str())?,
    };
    let visibility = body.visibility.unwrap_or_default();
    let preset = match (body.preset, visibility) {
        (Some(PresetName::PublicChat), _) | (None, Visibility::Public) => Preset::PublicChat,
        (Some(PresetName::TrustedPrivateChat), _) => Preset::TrustedPrivateChat,
        (Some(PresetName::PrivateChat), _) | (None, Visibility::Private) => Preset::PrivateChat,
    };
    let published = visibility == Visibility::Public;
    if published && !app.config().rooms.allow_publishing {
        return Err(ApiError::forbidden("Rooms are not published here"));
    }
    let alias = body
        .room_alias_name
        .map(|name| alias_of(app, &name))
        .transpose()?;
    let invite = invited(app, session, body.invite.unwrap_or_default())?;
    let initial_state = body.initial_state.unwrap_or_default();
    Ok(CreateRoom {
        creator: session.user,
        creator_id: Arc::clone(&session.user_id),
        version,
        creation_content: body.creation_content.unwrap_or_default(),
        preset,
        name: body.name,
        topic: body.topic,
        alias,
        published,
        invite,
        is_direct: body.is_direct.unwrap_or_default(),
        initial_state: initial_state
            .into_iter()
            .map(|entry| InitialState {
                event_type: entry.event_type,
                state_key: entry.state_key,
                content: Value::Object(entry.content),
            })
            .collect(),
        power_level_override: body.power_level_content_override.unwrap_or_default(),
    })
}

/// The addresses that are invited, if they may be.
fn addresses(
    app: &App,
    session: &Session,
    invited: Vec<AddressParts>,
) -> Result<Vec<Address>, ApiError> {
    if invited.len() > MOST_ADDRESSES {
        return Err(ApiError::invalid_param(
            "No more than 20 addresses can be invited with the room",
        ));
    }
    if invited.is_empty() {
        return Ok(Vec::new());
    }
    let addresses: Result<Vec<Address>, ApiError> = invited
        .into_iter()
        .map(|invited| invited.checked(app))
        .collect();
    let addresses = addresses?;
    app.limiter().check_many(
        Class::Invite,
        Key::Name(&session.user_id),
        addresses.len() as u32,
    )?;
    Ok(addresses)
}

/// The versions that rooms can be made in.
pub fn offered(name: &str) -> Result<RoomVersion, ApiError> {
    name.parse()
        .map_err(|_| ApiError::unsupported_room_version(name))
}

fn alias_of(app: &App, name: &str) -> Result<String, ApiError> {
    let bad = |why| Err(ApiError::invalid_param(why));
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || "#:\0".contains(c)) {
        return bad("room_alias_name is not the first part of an alias");
    }
    let alias = format!("#{name}:{}", app.node().server_name());
    if alias.len() > identifier::MAX_BYTES {
        return bad("The alias would have more than 255 bytes");
    }
    Ok(alias)
}

fn invited(
    app: &App,
    session: &Session,
    ids: Vec<String>,
) -> Result<Vec<(UserSn, String)>, ApiError> {
    if ids.len() > MOST_INVITED {
        return Err(ApiError::invalid_param(
            "No more than 500 users can be invited with the room",
        ));
    }
    if let Some(bad) = ids.iter().find(|id| !identifier::is_user_id(id)) {
        return Err(ApiError::invalid_param(format!("{bad:?} is not a user id")));
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    app.limiter()
        .check_many(Class::Invite, Key::Name(&session.user_id), ids.len() as u32)?;
    let mut found: Vec<(UserSn, String)> = Vec::with_capacity(ids.len());
    for id in ids {
        let invited = user(app, &id)?;
        // The creator is there, and nobody is invited twice.
        if invited == session.user || found.iter().any(|(known, _)| *known == invited) {
            continue;
        }
        must_accept_invites(app, invited)?;
        found.push((invited, id));
    }
    Ok(found)
}
