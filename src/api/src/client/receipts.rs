//! Read receipts and the read marker.
//! <https://spec.matrix.org/v1.19/client-server-api/#receipts>,
//! <https://spec.matrix.org/v1.19/client-server-api/#read-and-unread-markers>

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use node::{Lock, Touched};
use rooms::receipts::{self, Receipt, ReceiptKind};
use rooms::{EventNo, StoredEvent, event_log};
use serde::Deserialize;
use serde_json::{Value, json};
use store::Txn;
use users::account_data;

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::client::room_reader::RoomReader;
use crate::error::ApiError;
use crate::json::{JsonBody, JsonBodyOrEmpty, JsonBytes};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/client/v3/rooms/{room_id}/receipt/{receipt_type}/{event_id}",
            post(receipt),
        )
        .route(
            "/_matrix/client/v3/rooms/{room_id}/read_markers",
            post(read_markers),
        )
}

const FULLY_READ: &str = "m.fully_read";
/// The thread id of what belongs to no thread.
const MAIN: &str = "main";

#[derive(Default, Deserialize)]
struct ReceiptBody {
    thread_id: Option<Value>,
}

async fn receipt(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((room_id, receipt_type, event_id)): Params<(String, String, String)>,
    JsonBodyOrEmpty(body): JsonBodyOrEmpty<ReceiptBody>,
) -> Result<JsonBytes, ApiError> {
    let thread = match &body.thread_id {
        None => None,
        Some(Value::String(thread)) if !thread.is_empty() => Some(thread.as_str()),
        Some(_) => {
            return Err(ApiError::invalid_param(
                "thread_id is a string with content",
            ));
        }
    };
    let mut marks = Marks::default();
    match receipt_type.as_str() {
        "m.read" => marks.read = Some(event_id),
        "m.read.private" => marks.read_private = Some(event_id),
        FULLY_READ if thread.is_some() => {
            return Err(ApiError::invalid_param("The read marker is of no thread"));
        }
        FULLY_READ => marks.fully_read = Some(event_id),
        _ => return Err(ApiError::invalid_param("There is no such receipt type")),
    }
    mark(&app, &session, &room_id, &marks, thread).await
}

/// What is to be marked as read.
#[derive(Default, Deserialize)]
struct Marks {
    #[serde(rename = "m.fully_read")]
    fully_read: Option<String>,
    #[serde(rename = "m.read")]
    read: Option<String>,
    #[serde(rename = "m.read.private")]
    read_private: Option<String>,
}

async fn read_markers(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(room_id): Params<String>,
    JsonBody(marks): JsonBody<Marks>,
) -> Result<JsonBytes, ApiError> {
    mark(&app, &session, &room_id, &marks, None).await
}

async fn mark(
    app: &App,
    session: &Session,
    room_id: &str,
    marks: &Marks,
    thread: Option<&str>,
) -> Result<JsonBytes, ApiError> {
    let reader = RoomReader::open(app, session, room_id)?;
    reader.must_be_joined()?;
    // All are looked up before anything is written.
    let place_of = |event_id: &Option<String>| match event_id {
        Some(event_id) => reader.event(event_id).map(Some),
        None => Ok(None),
    };
    let fully_read = place_of(&marks.fully_read)?;
    let read = place_of(&marks.read)?;
    let read_private = place_of(&marks.read_private)?;
    for (_, event) in read.iter().chain(&read_private) {
        check_thread(event, thread)?;
    }
    let node = app.node();
    let guard = node.lock(Lock::User(session.user)).await;
    let mut txn = node.begin();
    let mut touched = Touched::nobody();
    let to_put = [
        (ReceiptKind::Public, read),
        (ReceiptKind::Private, read_private),
    ];
    let mut sent = None;
    for (kind, event) in to_put {
        let Some((no, event)) = event else { continue };
        let receipt = Receipt {
            event: no,
            event_id: event.event_id.to_string(),
            ts_ms: node.now_ms(),
        };
        let (room, user) = (reader.room, session.user);
        if receipts::put(&mut txn, room, user, kind, thread, receipt.clone())? {
            match kind {
                ReceiptKind::Public => {
                    touched.rooms.push(room);
                    sent = Some(receipt);
                }
                ReceiptKind::Private => {
                    touched.users.push(user);
                    touched.quiet_rooms.push(room);
                }
            }
        }
    }
    if let Some((no, event)) = fully_read
        && put_fully_read(&mut txn, &reader, no, &event)?
    {
        touched.users.push(session.user);
    }
    node.commit(guard, txn, touched).await?;
    if let Some(receipt) = sent {
        node.send_receipt(reader.room, session.user, thread, &receipt)?;
    }
    Ok(JsonBytes::EMPTY)
}

/// "The `thread_id` must be the thread root of the event, or `main` if it is in no thread"; a root
/// belongs to both.
fn check_thread(event: &StoredEvent, thread: Option<&str>) -> Result<(), ApiError> {
    let Some(thread) = thread else { return Ok(()) };
    let fits = match event.thread_root.as_deref() {
        Some(root) => root == thread,
        None => thread == MAIN || thread == event.event_id.as_str(),
    };
    if fits {
        Ok(())
    } else {
        Err(ApiError::invalid_param("The event is not in this thread"))
    }
}

/// Moves the read marker forward. Says whether it did.
fn put_fully_read(
    txn: &mut Txn,
    reader: &RoomReader,
    no: EventNo,
    event: &StoredEvent,
) -> Result<bool, ApiError> {
    let (room, user) = (reader.room, reader.session.user);
    if let Some(before) = account_data::get_room(txn, user, room, FULLY_READ)? {
        let before: Value = serde_json::from_slice(&before).unwrap_or_default();
        if let Some(before) = before["event_id"].as_str()
            && event_log::find_in(txn, room, before)?.is_some_and(|before| before >= no)
        {
            return Ok(false);
        }
    }
    let content = json!({"event_id": event.event_id.as_str()}).to_string();
    account_data::put_room(txn, user, room, FULLY_READ, content.as_bytes())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use names::UserSn;
    use rooms::{Flags, StateAfter};
    use store::Position;

    use super::*;

    fn event(id: &str, thread_root: Option<&str>) -> StoredEvent {
        StoredEvent {
            position: Position(1),
            flags: Flags::default(),
            state: StateAfter::Line(0),
            outlier: None,
            sender: UserSn(1),
            event_id: id.into(),
            thread_root: thread_root.map(Into::into),
            json: "{}".into(),
        }
    }

    #[test]
    fn a_receipt_names_the_thread_that_the_event_is_in() {
        let fits = |event: &StoredEvent, thread| check_thread(event, thread).is_ok();
        let reply = event("$reply", Some("$root"));
        assert!(fits(&reply, None) && fits(&reply, Some("$root")));
        assert!(!fits(&reply, Some(MAIN)) && !fits(&reply, Some("$reply")));
        let root = event("$root", None);
        assert!(fits(&root, Some(MAIN)) && fits(&root, Some("$root")));
        assert!(!fits(&root, Some("$other")));
    }
}
