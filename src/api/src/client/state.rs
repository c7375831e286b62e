//! Setting state: <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey>.

use axum::Router;
use axum::extract::State;
use axum::routing::put;
use event::auth::Membership;
use event::json::{member, string};
use names::{RoomSn, UserSn};
use node::room::expel_guests;
use rooms::aliases::{self, AliasProblem};
use rooms::{NewEvent, RoomWriter, Sender, members, membership, send};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::client::membership::must_accept_invites;
use crate::client::room_names::{check_alias, resolve, room, sender, user};
use crate::client::room_reader::members_known;
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
    if (event_type, state_key) == ("m.room.canonical_alias", "") {
        check_aliases_elsewhere(app, session, room, content).await?;
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

/// The most aliases of other servers that are asked for when a room names them anew.
const MOST_ALIASES: usize = 10;

/// Aliases of other servers that a room names anew must lead to it. Those of this server are checked with the event.
async fn check_aliases_elsewhere(
    app: &App,
    session: &Session,
    room: RoomSn,
    content: &str,
) -> Result<(), ApiError> {
    let view = app.node().view();
    if members::membership(&view, room, session.user)? != Membership::Join {
        // Refused with the event, and not worth a request.
        return Ok(());
    }
    let mut named = aliases::newly_named(&view, room, content)?;
    named.retain(|alias| check_alias(alias).is_ok() && !app.node().names().is_local_id(alias));
    let room_id = names::room_id(&view, room)?;
    for (asked, alias) in named.into_iter().enumerate() {
        let leads_here = asked < MOST_ALIASES
            && resolve(app, &alias)
                .await
                .is_ok_and(|resolved| resolved.room_id == room_id);
        if !leads_here {
            return Err(rooms::Error::BadAlias(alias, AliasProblem::PointsElsewhere).into());
        }
    }
    Ok(())
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
    if target.user != session.user {
        members_known(app, room).await?;
    }
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
