//! Setting state: <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey>.

use axum::Router;
use axum::extract::State;
use axum::routing::put;
use event::json::{member, string};
use names::{RoomSn, UserSn};
use node::room::expel_guests;
use rooms::{NewEvent, RoomWriter, Sender, membership, send};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::client::membership::must_accept_invites;
use crate::client::room_names::{room, sender, user};
use crate::client::send::Timestamp;
use crate::error::ApiError;
use crate::json::{Json, JsonBody, parse_object};
use crate::limits::{Class, Key};
use crate::request::{Params, Query};

/// The endpoints of this file. Without a state key it is empty.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
            put(set_without_key),
        )
        .route(
            "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
            put(set_without_key),
        )
        .route(
            "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/{state_key}",
            put(set_with_key),
        )
}

async fn set_without_key(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((room_id, event_type)): Params<(String, String)>,
    Query(timestamp): Query<Timestamp>,
    JsonBody(content): JsonBody<Box<RawValue>>,
) -> Result<Json<Value>, ApiError> {
    let key = (event_type.as_str(), "");
    set(&app, &session, &room_id, key, &timestamp, content.get()).await
}

async fn set_with_key(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((room_id, event_type, state_key)): Params<(String, String, String)>,
    Query(timestamp): Query<Timestamp>,
    JsonBody(content): JsonBody<Box<RawValue>>,
) -> Result<Json<Value>, ApiError> {
    let key = (event_type.as_str(), state_key.as_str());
    set(&app, &session, &room_id, key, &timestamp, content.get()).await
}

async fn set(
    app: &App,
    session: &Session,
    room_id: &str,
    (event_type, state_key): (&str, &str),
    timestamp: &Timestamp,
    content: &str,
) -> Result<Json<Value>, ApiError> {
    session.must_not_be_suspended()?;
    app.limiter()
        .check(Class::Message, Key::Name(&session.user_id))?;
    let room = room(app, room_id)?;
    if event_type == "m.room.member" {
        return set_member(app, session, room, state_key, content).await;
    }
    let new = NewEvent {
        origin_server_ts: timestamp.of(session),
        ..NewEvent::state(sender(session), event_type, state_key, content)
    };
    let closes = event_type == "m.room.guest_access" && state_key.is_empty();
    let event_id = app
        .node()
        .change_room(room, |writer| -> Result<String, ApiError> {
            let was_open = closes && lets_guests_in(writer)?;
            let event_id = send::state(writer, &new)?;
            if was_open && !lets_guests_in(writer)? {
                expel_guests(writer)?;
            }
            Ok(event_id.to_string())
        })
        .await?;
    Ok(Json(json!({ "event_id": event_id })))
}

fn lets_guests_in(writer: &RoomWriter<'_>) -> Result<bool, ApiError> {
    let event = writer.state_event("m.room.guest_access", "")?;
    Ok(event.is_some_and(|event| {
        let access = member(event.pdu().content(), "guest_access").and_then(string);
        access.is_some_and(|access| access == "can_join")
    }))
}

#[derive(Deserialize)]
struct MemberContent {
    membership: String,
}

async fn set_member(
    app: &App,
    session: &Session,
    room: RoomSn,
    user_id: &str,
    content: &str,
) -> Result<Json<Value>, ApiError> {
    let wanted: MemberContent = parse_object(content.as_bytes())?;
    let target: UserSn = user(app, user_id)?;
    if wanted.membership == "invite" {
        app.limiter()
            .check(Class::Invite, Key::Name(&session.user_id))?;
        must_accept_invites(app, target)?;
    }
    let target = Sender {
        user: target,
        user_id,
    };
    let event_id = app
        .node()
        .change_room(room, |writer| -> Result<String, ApiError> {
            let (me, is_guest) = (sender(session), session.is_guest());
            let event_id = membership::put(writer, me, target, content, is_guest)?;
            Ok(event_id.to_string())
        })
        .await?;
    Ok(Json(json!({ "event_id": event_id })))
}
