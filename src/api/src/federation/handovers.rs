//! Users of other servers who leave, refuse an invitation or knock by way of this server: `make_leave`, `send_leave`,
//! `make_knock`, `send_knock`. <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>,
//! <https://spec.matrix.org/v1.19/server-server-api/#knocking-rooms>

use axum::Router;
use axum::extract::State;
use axum::routing::{get, put};
use bytes::Bytes;
use node::federation::{Handover, JoinTemplate, event_list};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::federation::Signed;
use crate::json::{Json, JsonBytes};
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/federation/v1/make_leave/{room_id}/{user_id}",
            get(make_leave),
        )
        .route(
            "/_matrix/federation/v1/send_leave/{room_id}/{event_id}",
            put(send_leave_v1),
        )
        .route(
            "/_matrix/federation/v2/send_leave/{room_id}/{event_id}",
            put(send_leave),
        )
        .route(
            "/_matrix/federation/v1/make_knock/{room_id}/{user_id}",
            get(make_knock),
        )
        .route(
            "/_matrix/federation/v1/send_knock/{room_id}/{event_id}",
            put(send_knock),
        )
}

fn shown(template: JoinTemplate) -> Result<Json<Value>, ApiError> {
    let event = RawValue::from_string(template.event).map_err(ApiError::internal)?;
    Ok(Json(
        json!({ "room_version": template.version, "event": event }),
    ))
}

async fn make_leave(
    State(app): State<App>,
    Params((room_id, user_id)): Params<(String, String)>,
    signed: Signed,
) -> Result<Json<Value>, ApiError> {
    let node = app.node();
    let template = node.make_handover(Handover::Leave, &signed.origin, &room_id, &user_id, None)?;
    shown(template)
}

async fn send_leave(
    State(app): State<App>,
    Params((room_id, event_id)): Params<(String, String)>,
    signed: Signed,
) -> Result<JsonBytes, ApiError> {
    let (node, event) = (app.node(), signed.body().clone());
    node.send_handover(Handover::Leave, &signed.origin, &room_id, &event_id, event)
        .await?;
    Ok(JsonBytes::EMPTY)
}

async fn send_leave_v1(
    app: State<App>,
    ids: Params<(String, String)>,
    signed: Signed,
) -> Result<Json<Value>, ApiError> {
    send_leave(app, ids, signed).await?;
    Ok(Json(json!([200, {}])))
}

#[derive(Deserialize)]
struct Versions {
    ver: Vec<String>,
}

async fn make_knock(
    State(app): State<App>,
    Params((room_id, user_id)): Params<(String, String)>,
    Query(versions): Query<Versions>,
    signed: Signed,
) -> Result<Json<Value>, ApiError> {
    let (node, versions) = (app.node(), Some(versions.ver.as_slice()));
    let template = node.make_handover(
        Handover::Knock,
        &signed.origin,
        &room_id,
        &user_id,
        versions,
    )?;
    shown(template)
}

async fn send_knock(
    State(app): State<App>,
    Params((room_id, event_id)): Params<(String, String)>,
    signed: Signed,
) -> Result<JsonBytes, ApiError> {
    let (node, event) = (app.node(), signed.body().clone());
    let described = node
        .send_handover(Handover::Knock, &signed.origin, &room_id, &event_id, event)
        .await?;
    let described = event_list(&described);
    let body = format!("{{\"knock_room_state\":{described}}}");
    Ok(JsonBytes(Bytes::from(body)))
}
