//! Devices of a user (client-server API, "Device Management").

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use names::UserSn;
use node::{Lock, Touched};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::View;
use users::devices::{self, Device, Seen};

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::error::ApiError;
use crate::interactive_auth::{AuthData, require_password};
use crate::json::{Json, JsonBody, JsonBodyOrEmpty, JsonBytes};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/devices", get(list))
        .route(
            "/_matrix/client/v3/devices/{device_id}",
            get(one).put(rename).delete(delete),
        )
        .route("/_matrix/client/v3/delete_devices", post(delete_many))
}

/// Whom a change of a user's devices concerns: the user, and all who share a room.
pub fn change_of_devices(app: &App, user: UserSn) -> Result<Touched, ApiError> {
    Ok(app.node().keys_changed(user)?)
}

/// When a device was last seen.
pub fn last_seen(
    app: &App,
    view: &View,
    user: UserSn,
    device: &str,
) -> Result<Option<Seen>, ApiError> {
    match app.sessions().seen(user, device) {
        Some(seen) => Ok(Some(seen)),
        None => Ok(devices::seen(view, user, device)?),
    }
}

fn describe(
    app: &App,
    view: &View,
    user: UserSn,
    id: &str,
    device: &Device,
) -> Result<Value, ApiError> {
    let mut body = Map::new();
    body.insert("device_id".to_owned(), id.into());
    body.insert("user_id".to_owned(), names::user_id(view, user)?.into());
    if let Some(name) = &device.display_name {
        body.insert("display_name".to_owned(), name.as_str().into());
    }
    if let Some(seen) = last_seen(app, view, user, id)? {
        body.insert("last_seen_ts".to_owned(), seen.at_ms.into());
        if let Some(ip) = seen.ip {
            body.insert("last_seen_ip".to_owned(), ip.into());
        }
    }
    Ok(body.into())
}

async fn list(
    State(app): State<App>,
    GuestSession(session): GuestSession,
) -> Result<Json<Value>, ApiError> {
    let view = app.node().view();
    let mut found = Vec::new();
    for (id, device) in devices::list(&view, session.user)? {
        found.push(describe(&app, &view, session.user, &id, &device)?);
    }
    Ok(Json(json!({"devices": found})))
}

async fn one(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(id): Params<String>,
) -> Result<Json<Value>, ApiError> {
    let view = app.node().view();
    let device = devices::get(&view, session.user, &id)?
        .ok_or_else(|| ApiError::not_found("There is no such device"))?;
    describe(&app, &view, session.user, &id, &device).map(Json)
}

#[derive(Deserialize)]
struct Rename {
    display_name: Option<String>,
}

async fn rename(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(id): Params<String>,
    JsonBody(request): JsonBody<Rename>,
) -> Result<JsonBytes, ApiError> {
    let guard = app.node().lock(Lock::User(session.user)).await;
    let mut txn = app.node().begin();
    let mut touched = Touched::nobody();
    match &request.display_name {
        Some(name) => {
            devices::set_display_name(&mut txn, session.user, &id, name)?;
            touched = change_of_devices(&app, session.user)?;
        }
        None if devices::exists(&txn, session.user, &id)? => {}
        None => return Err(ApiError::not_found("There is no such device")),
    }
    app.node().commit(guard, txn, touched).await?;
    Ok(JsonBytes::EMPTY)
}

#[derive(Deserialize)]
struct Delete {
    auth: Option<AuthData>,
}

async fn delete(
    State(app): State<App>,
    session: Session,
    Params(id): Params<String>,
    JsonBodyOrEmpty(request): JsonBodyOrEmpty<Delete>,
) -> Result<JsonBytes, ApiError> {
    let operation = format!("delete device {id}");
    require_password(&app, &session, operation, request.auth).await?;
    remove(&app, session.user, &[id]).await
}

#[derive(Deserialize)]
struct DeleteMany {
    auth: Option<AuthData>,
    devices: Vec<String>,
}

async fn delete_many(
    State(app): State<App>,
    session: Session,
    JsonBody(request): JsonBody<DeleteMany>,
) -> Result<JsonBytes, ApiError> {
    let operation = format!("delete devices {}", request.devices.join("\n"));
    require_password(&app, &session, operation, request.auth).await?;
    remove(&app, session.user, &request.devices).await
}

async fn remove(app: &App, user: UserSn, ids: &[String]) -> Result<JsonBytes, ApiError> {
    let guard = app.node().lock(Lock::User(user)).await;
    let mut txn = app.node().begin();
    for id in ids {
        devices::delete(&mut txn, user, id)?;
    }
    let touched = change_of_devices(app, user)?;
    let _forgetting = app.sessions().forgetting(user);
    app.node().commit(guard, txn, touched).await?;
    Ok(JsonBytes::EMPTY)
}
