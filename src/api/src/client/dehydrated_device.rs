//! Dehydrated devices (MSC3814), which are not in the specification yet and have their unstable paths.

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use node::Lock;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use store::Position;
use users::dehydrated::{self, DehydratedDevice};
use users::keys::one_time::{self, NamedKey};
use users::to_device;

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;
use crate::json::{Json, JsonBody, JsonBodyOrEmpty, JsonBytes};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device",
            get(get_device).put(put_device).delete(delete_device),
        )
        .route(
            "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events",
            post(events),
        )
}

#[derive(Deserialize)]
struct NewDevice {
    device_id: String,
    device_data: Box<RawValue>,
    device_keys: Box<RawValue>,
    initial_device_display_name: Option<String>,
    one_time_keys: Option<Map<String, Value>>,
    fallback_keys: Option<Map<String, Value>>,
}

async fn put_device(
    State(app): State<App>,
    session: Session,
    JsonBody(body): JsonBody<NewDevice>,
) -> Result<impl IntoResponse, ApiError> {
    if !body.device_data.get().starts_with('{') {
        return Err(ApiError::bad_json("device_data must be an object"));
    }
    let named = |keys: &Option<Map<String, Value>>| {
        keys.iter()
            .flatten()
            .map(|(name, content)| NamedKey::new(name, content))
            .collect::<users::Result<Vec<_>>>()
    };
    let (one_time_keys, fallback_keys) = (named(&body.one_time_keys)?, named(&body.fallback_keys)?);
    let device = DehydratedDevice {
        device_id: body.device_id,
        device_data: body.device_data.get().to_owned(),
    };
    let node = app.node();
    let guard = node.lock(Lock::User(session.user)).await;
    let mut txn = node.begin();
    dehydrated::put(
        &mut txn,
        session.owner(),
        &device,
        body.initial_device_display_name.as_deref(),
        body.device_keys.get(),
        node.now_ms(),
    )?;
    one_time::upload(&mut txn, session.user, &device.device_id, &one_time_keys)?;
    one_time::upload_fallback(&mut txn, session.user, &device.device_id, &fallback_keys)?;
    let touched = node.keys_changed(session.user)?;
    node.commit(guard, txn, touched).await?;
    Ok(Json(json!({ "device_id": device.device_id })))
}

fn no_device() -> ApiError {
    ApiError::not_found("No dehydrated device available")
}

async fn get_device(
    State(app): State<App>,
    session: Session,
) -> Result<impl IntoResponse, ApiError> {
    let device = dehydrated::get(&app.node().view(), session.user)?.ok_or_else(no_device)?;
    let id = Value::String(device.device_id);
    let body = format!(
        r#"{{"device_id":{id},"device_data":{}}}"#,
        device.device_data
    );
    Ok(JsonBytes(body.into()))
}

async fn delete_device(
    State(app): State<App>,
    session: Session,
) -> Result<impl IntoResponse, ApiError> {
    let node = app.node();
    let guard = node.lock(Lock::User(session.user)).await;
    let mut txn = node.begin();
    let device = dehydrated::remove(&mut txn, session.user)?.ok_or_else(no_device)?;
    let touched = node.keys_changed(session.user)?;
    node.commit(guard, txn, touched).await?;
    Ok(Json(json!({ "device_id": device })))
}

#[derive(Deserialize)]
struct Events {
    next_batch: Option<String>,
}

/// The messages that wait for the dehydrated device. They stay until it is deleted, so that rehydration
/// can be tried again.
async fn events(
    State(app): State<App>,
    session: Session,
    Params(device_id): Params<String>,
    JsonBodyOrEmpty(body): JsonBodyOrEmpty<Events>,
) -> Result<impl IntoResponse, ApiError> {
    let view = app.node().view();
    let device = dehydrated::get(&view, session.user)?.ok_or_else(no_device)?;
    if device.device_id != device_id {
        return Err(ApiError::forbidden("This is not the dehydrated device"));
    }
    let since = match body.next_batch.as_deref() {
        None | Some("") => 0,
        Some(token) => token
            .parse()
            .map_err(|_| ApiError::invalid_param("next_batch is not a token of this endpoint"))?,
    };
    let waiting = to_device::since(
        &view,
        session.user,
        &device_id,
        Position(since),
        to_device::MESSAGES_PER_SYNC,
    )?;
    let mut out = Vec::from(b"{\"events\":[");
    out.extend_from_slice(&waiting.messages.join(&b","[..]));
    out.extend_from_slice(format!(r#"],"next_batch":"{}"}}"#, waiting.upto).as_bytes());
    Ok(JsonBytes(out.into()))
}
