//! Entering rooms by one's own wish: joining and knocking.
//! <https://spec.matrix.org/v1.19/client-server-api/#joining-rooms>,
//! <https://spec.matrix.org/v1.19/client-server-api/#knocking-on-rooms>

use std::collections::HashSet;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use names::RoomSn;
use node::federation::{JoinElsewhere, JoinedElsewhere, KnockElsewhere};
use node::room::{member_profile, predecessor_in, predecessor_of};
use rooms::membership::{Action, Change, change, join_content};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::client::room_names::{find_room, resolve, sender};
use crate::client::room_reader::members_known;
use crate::error::ApiError;
use crate::json::{Json, JsonBodyOrEmpty};
use crate::limits::{Class, Key};
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/join/{room_id_or_alias}", post(join))
        .route("/_matrix/client/v3/rooms/{room_id}/join", post(join_by_id))
        .route("/_matrix/client/v3/knock/{room_id_or_alias}", post(knock))
}

/// What a request to enter says. What else a request to join has goes into the member event: the
/// specification is silent on it, bridges and sign-ups make use of it.
#[derive(Deserialize)]
struct Entry {
    reason: Option<String>,
    #[serde(flatten)]
    custom: Map<String, Value>,
}

/// Servers that may be in the room. `server_name` is the older name.
#[derive(Deserialize)]
struct By {
    #[serde(default)]
    via: Vec<String>,
    #[serde(default)]
    server_name: Vec<String>,
}

impl By {
    fn servers(self) -> Vec<String> {
        match self.via.is_empty() {
            true => self.server_name,
            false => self.via,
        }
    }
}

async fn join(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(room_id_or_alias): Params<String>,
    Query(by): Query<By>,
    JsonBodyOrEmpty(body): JsonBodyOrEmpty<Entry>,
) -> Result<Json<Value>, ApiError> {
    let by = by.servers();
    join_room(&app, &session, &room_id_or_alias, by, body).await
}

async fn join_by_id(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(room_id): Params<String>,
    JsonBodyOrEmpty(body): JsonBodyOrEmpty<Entry>,
) -> Result<Json<Value>, ApiError> {
    if !room_id.starts_with('!') {
        return Err(ApiError::invalid_param("This is no room id"));
    }
    join_room(&app, &session, &room_id, Vec::new(), body).await
}

/// Joins a room of this server, or one that others are in.
async fn join_room(
    app: &App,
    session: &Session,
    room_id_or_alias: &str,
    via: Vec<String>,
    body: Entry,
) -> Result<Json<Value>, ApiError> {
    session.must_not_be_suspended()?;
    app.limiter()
        .check(Class::Join, Key::Name(&session.user_id))?;
    let (room_id, servers) = room_and_servers(app, session, room_id_or_alias, via).await?;
    let node = app.node();
    let mut here = node.is_in_room(&room_id)?;
    let mut for_authorisation = false;
    let mut refused = None;
    // Twice: after another user of this server got in, the room is here; and while others were asked, what lets the
    // user in may have come.
    for _ in 0..2 {
        if let Some(room) = here {
            match put(app, session, room, Action::Join, &body).await {
                Ok(replaced) => {
                    if let Some(old_room) = replaced {
                        node.carry_over(session.user, &old_room, room).await?;
                    }
                    refused = None;
                    break;
                }
                // Others may let the user in.
                Err(Refusal::NotHere(error)) => match refused {
                    Some(_) => break,
                    None if servers.is_empty() => return Err(error),
                    None => for_authorisation = true,
                },
                Err(Refusal::Refused(error)) => return Err(error),
            }
        }
        let joined = join_elsewhere(app, session, &room_id, &servers, &body, for_authorisation);
        match joined.await {
            Ok(JoinedElsewhere::Joined) => {
                if let Some(room) = node.is_in_room(&room_id)?
                    && let Some(old_room) = predecessor_in(&node.view(), room)?
                {
                    node.carry_over(session.user, &old_room, room).await?;
                }
                break;
            }
            Ok(JoinedElsewhere::RoomIsHere) => here = node.is_in_room(&room_id)?,
            Err(error) if for_authorisation => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    if let Some(error) = refused {
        return Err(error);
    }
    Ok(Json(json!({ "room_id": room_id })))
}

async fn join_elsewhere(
    app: &App,
    session: &Session,
    room_id: &str,
    servers: &[String],
    body: &Entry,
    for_authorisation: bool,
) -> Result<JoinedElsewhere, ApiError> {
    if servers.is_empty() {
        return Err(ApiError::not_found("There is no such room"));
    }
    let node = app.node();
    let profile = member_profile(&node.view(), session.user)?;
    let reason = body.reason.as_deref();
    let wanted = JoinElsewhere {
        room_id,
        user: session.user,
        user_id: &session.user_id,
        servers: servers.to_vec(),
        content: join_content(&profile, reason, &body.custom),
        for_authorisation,
    };
    Ok(node.join_elsewhere(&wanted).await?)
}

/// The id of a room, and other servers that may be in it: those that the client or the alias names and the server of
/// who invited the user; without any, those that are known to be in it, and the one that made it.
async fn room_and_servers(
    app: &App,
    session: &Session,
    room_id_or_alias: &str,
    via: Vec<String>,
) -> Result<(String, Vec<String>), ApiError> {
    let node = app.node();
    let (room_id, mut servers) = if room_id_or_alias.starts_with('!') {
        (room_id_or_alias.to_owned(), via)
    } else {
        let resolved = resolve(app, room_id_or_alias).await?;
        let mut servers = resolved.servers.clone();
        servers.extend(via);
        (resolved.room_id.clone(), servers)
    };
    let view = node.view();
    let room = find_room(app, &room_id)?;
    if let Some(room) = room {
        servers.extend(rooms::members::inviting_server(&view, session.user, room)?);
    }
    let mut known = HashSet::new();
    let mut is_other =
        |server: &String| server != node.server_name() && known.insert(server.clone());
    servers.retain(&mut is_other);
    if servers.is_empty() {
        if let Some(room) = room {
            servers.extend(rooms::servers::joined(&view, room)?);
        }
        servers.extend(event::identifier::domain(&room_id).map(str::to_owned));
        servers.retain(&mut is_other);
    }
    Ok((room_id, servers))
}

async fn knock(
    State(app): State<App>,
    session: Session,
    Params(room_id_or_alias): Params<String>,
    Query(by): Query<By>,
    JsonBodyOrEmpty(body): JsonBodyOrEmpty<Entry>,
) -> Result<Json<Value>, ApiError> {
    session.must_not_be_suspended()?;
    app.limiter()
        .check(Class::Join, Key::Name(&session.user_id))?;
    let by = by.servers();
    let (room_id, servers) = room_and_servers(&app, &session, &room_id_or_alias, by).await?;
    let node = app.node();
    if let Some(room) = node.is_in_room(&room_id)? {
        put(&app, &session, room, Action::Knock, &body).await?;
        return Ok(Json(json!({ "room_id": room_id })));
    }
    if servers.is_empty() {
        return Err(ApiError::not_found("There is no such room"));
    }
    let wanted = KnockElsewhere {
        room_id: &room_id,
        user: session.user,
        user_id: &session.user_id,
        profile: member_profile(&node.view(), session.user)?,
        reason: body.reason.as_deref(),
        servers,
    };
    node.knock_elsewhere(&wanted).await?;
    Ok(Json(json!({ "room_id": room_id })))
}

/// Changes the membership; the room that this one replaces, if the user has joined now.
async fn put(
    app: &App,
    session: &Session,
    room: RoomSn,
    action: Action,
    entry: &Entry,
) -> Result<Option<String>, Refusal> {
    if rooms::members::get(&app.node().view(), room, session.user)?.is_none() {
        members_known(app, room).await?;
    }
    app.node()
        .change_room(room, |writer| -> Result<Option<String>, Refusal> {
            let me = sender(session);
            let wanted = Change {
                action,
                sender: me,
                target: me,
                profile: member_profile(writer.txn(), session.user).map_err(ApiError::from)?,
                reason: entry.reason.as_deref(),
                is_guest: session.is_guest(),
                is_direct: false,
                custom: Some(&entry.custom),
            };
            let changed = change(writer, &wanted)?.is_some();
            if !changed || action != Action::Join {
                return Ok(None);
            }
            Ok(predecessor_of(writer)?)
        })
        .await
}

/// Who asks to enter a room is told when there is none, or nobody is left in it.
enum Refusal {
    /// Another server may let the user in.
    NotHere(ApiError),
    Refused(ApiError),
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotHere(error) | Refusal::Refused(error) => error,
        }
    }
}

impl From<rooms::Error> for Refusal {
    fn from(error: rooms::Error) -> Self {
        match error {
            rooms::Error::UnknownRoom => {
                Refusal::Refused(ApiError::not_found("There is no such room"))
            }
            rooms::Error::NotHere(_) => Refusal::NotHere(error.into()),
            error => Refusal::Refused(error.into()),
        }
    }
}

impl From<node::NodeError> for Refusal {
    fn from(error: node::NodeError) -> Self {
        Refusal::Refused(error.into())
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Refusal::Refused(error)
    }
}
