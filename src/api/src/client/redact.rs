//! Redactions: <https://spec.matrix.org/v1.19/client-server-api/#redactions>.

use axum::Router;
use axum::extract::State;
use axum::routing::put;
use rooms::NewEvent;
use rooms::event_log;
use rooms::membership::must_be_joined;
use rooms::send::Transaction;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::auth::Session;
use crate::client::room_names::{room, sender};
use crate::client::send;
use crate::error::ApiError;
use crate::json::{Json, JsonBodyOrEmpty, parse_object};
use crate::limits::{Class, Key};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new().route(
        "/_matrix/client/v3/rooms/{room_id}/redact/{event_id}/{transaction_id}",
        put(redact),
    )
}

async fn redact(
    State(app): State<App>,
    session: Session,
    Params((room_id, event_id, transaction_id)): Params<(String, String, String)>,
    JsonBodyOrEmpty(mut content): JsonBodyOrEmpty<Map<String, Value>>,
) -> Result<Json<Value>, ApiError> {
    app.limiter()
        .check(Class::Message, Key::Name(&session.user_id))?;
    if content
        .get("reason")
        .is_some_and(|reason| !reason.is_string())
    {
        return Err(ApiError::bad_json("reason is a text"));
    }
    // Said by the path, and written where the room version wants it.
    content.remove("redacts");
    let room = room(&app, &room_id)?;
    let content = Value::Object(content).to_string();
    let me = sender(&session);
    let new = NewEvent {
        redacts: Some(&event_id),
        ..NewEvent::message(me, "m.room.redaction", &content)
    };
    let scope = format!("redact/{room_id}/{event_id}");
    let transaction = Transaction {
        user: session.user,
        device: &session.device,
        scope: &scope,
        id: &transaction_id,
    };
    let made = app
        .node()
        .change_room(room, |writer| {
            must_be_joined(writer.txn(), room, me)?;
            // "Redact their own events" is among what suspended users may do.
            if session.suspended && !is_own(writer.txn(), room, &event_id, me.user)? {
                return Err(ApiError::user_suspended());
            }
            send::once(writer, &transaction, &new)
        })
        .await?;
    Ok(Json(json!({ "event_id": made })))
}

fn is_own(
    from: &impl store::Read,
    room: names::RoomSn,
    event_id: &str,
    user: names::UserSn,
) -> Result<bool, ApiError> {
    let Some(no) = event_log::find_in(from, room, event_id)? else {
        return Ok(false);
    };
    let event = event_log::get(from, room, no)?;
    Ok(event.is_some_and(|event| event.sender == user))
}

#[derive(Deserialize)]
struct Redaction {
    redacts: String,
}

/// The target that the content of a redaction names, for those sent as any other event.
pub fn target_in(content: &str) -> Result<String, ApiError> {
    Ok(parse_object::<Redaction>(content.as_bytes())?.redacts)
}
