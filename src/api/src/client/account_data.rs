//! Account data and tags (client-server API, "Client Config" and "Room Tagging").

use axum::Router;
use axum::extract::State;
use axum::routing::{get, put};
use bytes::Bytes;
use http::StatusCode;
use names::RoomSn;
use node::{Lock, Touched};
use serde_json::value::RawValue;
use users::{account_data, push};

use crate::app::App;
use crate::auth::Session;
use crate::error::{ApiError, ErrCode};
use crate::json::{JsonBody, JsonBytes};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/client/v3/user/{user_id}/account_data/{type}",
            get(get_global).put(put_global),
        )
        .route(
            "/_matrix/client/v3/user/{user_id}/rooms/{room_id}/account_data/{type}",
            get(get_room).put(put_room),
        )
        .route(
            "/_matrix/client/v3/user/{user_id}/rooms/{room_id}/tags",
            get(get_tags),
        )
        .route(
            "/_matrix/client/v3/user/{user_id}/rooms/{room_id}/tags/{tag}",
            put(put_tag).delete(delete_tag),
        )
}

fn not_found() -> ApiError {
    ApiError::not_found("There is no such account data")
}

/// 405 for the types that the server manages, by the code that the specification has for it.
fn check_type(kind: &str) -> Result<(), ApiError> {
    if account_data::is_managed(kind) {
        return Err(
            ApiError::bad_json(format!("{kind} can't be set by this endpoint"))
                .with_status(StatusCode::METHOD_NOT_ALLOWED),
        );
    }
    Ok(())
}

fn check_room_id(room_id: &str) -> Result<(), ApiError> {
    if room_id.len() > 255 || !room_id.starts_with('!') {
        return Err(ApiError::invalid_param(format!(
            "{room_id} is not a room id"
        )));
    }
    Ok(())
}

/// The number of a room to write about, known or not: account data may come before the room does.
fn room(app: &App, room_id: &str) -> Result<RoomSn, ApiError> {
    check_room_id(room_id)?;
    Ok(app.node().names().room(app.node().store(), room_id)?)
}

async fn get_global(
    State(app): State<App>,
    session: Session,
    Params((user_id, kind)): Params<(String, String)>,
) -> Result<JsonBytes, ApiError> {
    session.must_be(&user_id)?;
    let view = app.node().view();
    let content = if kind == account_data::PUSH_RULES {
        Some(push::rules::get(&view, session.user)?.to_account_data(&user_id))
    } else {
        account_data::get(&view, session.user, &kind)?
    };
    Ok(JsonBytes(Bytes::from(content.ok_or_else(not_found)?)))
}

async fn put_global(
    State(app): State<App>,
    session: Session,
    Params((user_id, kind)): Params<(String, String)>,
    JsonBody(content): JsonBody<Box<RawValue>>,
) -> Result<JsonBytes, ApiError> {
    session.must_be(&user_id)?;
    check_type(&kind)?;
    let guard = app.node().lock(Lock::User(session.user)).await;
    let mut txn = app.node().begin();
    account_data::put(&mut txn, session.user, &kind, content.get().as_bytes())?;
    app.node()
        .commit(guard, txn, Touched::user(session.user))
        .await?;
    Ok(JsonBytes::EMPTY)
}

async fn get_room(
    State(app): State<App>,
    session: Session,
    Params((user_id, room_id, kind)): Params<(String, String, String)>,
) -> Result<JsonBytes, ApiError> {
    session.must_be(&user_id)?;
    check_room_id(&room_id)?;
    let view = app.node().view();
    let room = app.node().names().known_room(&view, &room_id)?;
    let room = room.ok_or_else(not_found)?;
    let content = account_data::get_room(&view, session.user, room, &kind)?;
    Ok(JsonBytes(Bytes::from(content.ok_or_else(not_found)?)))
}

async fn put_room(
    State(app): State<App>,
    session: Session,
    Params((user_id, room_id, kind)): Params<(String, String, String)>,
    JsonBody(content): JsonBody<Box<RawValue>>,
) -> Result<JsonBytes, ApiError> {
    session.must_be(&user_id)?;
    check_type(&kind)?;
    let room = room(&app, &room_id)?;
    let guard = app.node().lock(Lock::User(session.user)).await;
    let mut txn = app.node().begin();
    let content = content.get().as_bytes();
    account_data::put_room(&mut txn, session.user, room, &kind, content)?;
    app.node()
        .commit(guard, txn, Touched::user(session.user))
        .await?;
    Ok(JsonBytes::EMPTY)
}

async fn get_tags(
    State(app): State<App>,
    session: Session,
    Params((user_id, room_id)): Params<(String, String)>,
) -> Result<JsonBytes, ApiError> {
    session.must_be(&user_id)?;
    check_room_id(&room_id)?;
    let view = app.node().view();
    let tags = match app.node().names().known_room(&view, &room_id)? {
        Some(room) => account_data::tags(&view, session.user, room)?,
        None => b"{\"tags\":{}}".to_vec(),
    };
    Ok(JsonBytes(Bytes::from(tags)))
}

async fn put_tag(
    State(app): State<App>,
    session: Session,
    Params((user_id, room_id, tag)): Params<(String, String, String)>,
    JsonBody(info): JsonBody<Box<RawValue>>,
) -> Result<JsonBytes, ApiError> {
    session.must_be(&user_id)?;
    check_order(&info)?;
    let room = room(&app, &room_id)?;
    let guard = app.node().lock(Lock::User(session.user)).await;
    let mut txn = app.node().begin();
    account_data::put_tag(&mut txn, session.user, room, &tag, info)?;
    app.node()
        .commit(guard, txn, Touched::user(session.user))
        .await?;
    Ok(JsonBytes::EMPTY)
}

/// `order` is a number; clients of old wrote it as a text.
fn check_order(info: &RawValue) -> Result<(), ApiError> {
    let info: serde_json::Value = serde_json::from_str(info.get()).map_err(ApiError::internal)?;
    match info.get("order") {
        None => Ok(()),
        Some(order) if order.is_number() || order.is_string() || order.is_null() => Ok(()),
        Some(_) => Err(ApiError::new(ErrCode::BadJson, "order is a number")),
    }
}

async fn delete_tag(
    State(app): State<App>,
    session: Session,
    Params((user_id, room_id, tag)): Params<(String, String, String)>,
) -> Result<JsonBytes, ApiError> {
    session.must_be(&user_id)?;
    let room = room(&app, &room_id)?;
    let guard = app.node().lock(Lock::User(session.user)).await;
    let mut txn = app.node().begin();
    account_data::delete_tag(&mut txn, session.user, room, &tag)?;
    app.node()
        .commit(guard, txn, Touched::user(session.user))
        .await?;
    Ok(JsonBytes::EMPTY)
}
