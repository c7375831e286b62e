//! Sending message events: <https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room>.

use axum::Router;
use axum::extract::State;
use axum::routing::put;
use rooms::send::{self, Transaction};
use rooms::{NewEvent, RoomWriter};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use users::accounts::Kind;

use crate::app::App;
use crate::auth::{GuestSession, Identity};
use crate::client::redact;
use crate::client::room_names::{room, sender};
use crate::error::ApiError;
use crate::json::{Json, JsonBody};
use crate::limits::{Class, Key};
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new().route(
        "/_matrix/client/v3/rooms/{room_id}/send/{event_type}/{transaction_id}",
        put(send_message),
    )
}

/// `ts`, by which application services date events.
#[derive(Deserialize)]
pub struct Timestamp {
    ts: Option<u64>,
}

impl Timestamp {
    /// The time that the event is to have, if the user may say that.
    pub fn of(&self, who: &Identity) -> Option<u64> {
        self.ts.filter(|_| who.kind == Kind::Appservice)
    }
}

async fn send_message(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((room_id, event_type, transaction_id)): Params<(String, String, String)>,
    Query(timestamp): Query<Timestamp>,
    JsonBody(content): JsonBody<Box<RawValue>>,
) -> Result<Json<Value>, ApiError> {
    session.must_not_be_suspended()?;
    app.limiter()
        .check(Class::Message, Key::Name(&session.user_id))?;
    let room = room(&app, &room_id)?;
    let redacts = if event_type == "m.room.redaction" {
        Some(redact::target_in(content.get())?)
    } else {
        None
    };
    let new = NewEvent {
        redacts: redacts.as_deref(),
        origin_server_ts: timestamp.of(&session),
        ..NewEvent::message(sender(&session), &event_type, content.get())
    };
    let scope = format!("send/{room_id}/{event_type}");
    let transaction = Transaction {
        user: session.user,
        device: &session.device,
        scope: &scope,
        id: &transaction_id,
    };
    let event_id = app
        .node()
        .change_room(room, |writer| once(writer, &transaction, &new))
        .await?;
    Ok(Json(json!({ "event_id": event_id })))
}

/// Appends the event unless the transaction did so before; the event's id.
pub fn once(
    writer: &mut RoomWriter<'_>,
    transaction: &Transaction<'_>,
    new: &NewEvent<'_>,
) -> Result<String, ApiError> {
    if let Some(event_id) = transaction.result(writer.txn())? {
        return Ok(event_id);
    }
    let (no, event_id) = if new.redacts.is_some() {
        send::redaction(writer, new)?
    } else {
        send::message(writer, new)?
    };
    let (room, now_ms) = (writer.room(), writer.now_ms());
    transaction.record_event(writer.txn(), room, no, event_id.as_str(), now_ms);
    Ok(event_id.to_string())
}
