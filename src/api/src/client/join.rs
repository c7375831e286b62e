//! Entering rooms by one's own wish: joining and knocking.
//! <https://spec.matrix.org/v1.19/client-server-api/#joining-rooms>,
//! <https://spec.matrix.org/v1.19/client-server-api/#knocking-on-rooms>

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use names::RoomSn;
use node::room::{member_profile, predecessor_of};
use rooms::membership::{Action, Change, change};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::client::room_names::{room_or_alias, sender};
use crate::error::ApiError;
use crate::json::{Json, JsonBodyOrEmpty};
use crate::limits::{Class, Key};
use crate::request::Params;

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

async fn join(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(room_id_or_alias): Params<String>,
    JsonBodyOrEmpty(body): JsonBodyOrEmpty<Entry>,
) -> Result<Json<Value>, ApiError> {
    enter(&app, &session, &room_id_or_alias, Action::Join, body).await
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
    enter(&app, &session, &room_id, Action::Join, body).await
}

async fn knock(
    State(app): State<App>,
    session: Session,
    Params(room_id_or_alias): Params<String>,
    JsonBodyOrEmpty(body): JsonBodyOrEmpty<Entry>,
) -> Result<Json<Value>, ApiError> {
    enter(&app, &session, &room_id_or_alias, Action::Knock, body).await
}

async fn enter(
    app: &App,
    session: &Session,
    room_id_or_alias: &str,
    action: Action,
    body: Entry,
) -> Result<Json<Value>, ApiError> {
    session.must_not_be_suspended()?;
    app.limiter()
        .check(Class::Join, Key::Name(&session.user_id))?;
    let (room, room_id) = room_or_alias(app, room_id_or_alias)?;
    let replaced = put(app, session, room, action, &body).await?;
    if let Some(old_room) = replaced {
        app.node().carry_over(session.user, &old_room, room).await?;
    }
    Ok(Json(json!({ "room_id": room_id })))
}

/// Changes the membership; the room that this one replaces, if the user has joined now.
async fn put(
    app: &App,
    session: &Session,
    room: RoomSn,
    action: Action,
    entry: &Entry,
) -> Result<Option<String>, ApiError> {
    let result = app
        .node()
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
        .await;
    result.map_err(|Refusal(error)| error)
}

/// Who asks to enter a room is told when there is none, or nobody is left in it.
struct Refusal(ApiError);

impl From<rooms::Error> for Refusal {
    fn from(error: rooms::Error) -> Self {
        Refusal(match error {
            rooms::Error::UnknownRoom => ApiError::not_found("There is no such room"),
            error => error.into(),
        })
    }
}

impl From<node::NodeError> for Refusal {
    fn from(error: node::NodeError) -> Self {
        Refusal(error.into())
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Refusal(error)
    }
}
