//! Invitations of users of this server: `PUT /invite`, both versions.
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use std::borrow::Cow;

use axum::Router;
use axum::extract::State;
use axum::routing::put;
use bytes::Bytes;
use node::federation::Invitation;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::federation::Signed;
use crate::json::Json;
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/federation/v1/invite/{room_id}/{event_id}",
            put(invite_v1),
        )
        .route(
            "/_matrix/federation/v2/invite/{room_id}/{event_id}",
            put(invite),
        )
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    room_version: Cow<'a, str>,
    #[serde(borrow)]
    event: &'a RawValue,
    #[serde(borrow, default)]
    invite_room_state: Vec<&'a RawValue>,
}

async fn invite(
    State(app): State<App>,
    Params((room_id, event_id)): Params<(String, String)>,
    signed: Signed,
) -> Result<Json<Value>, ApiError> {
    let body: Body<'_> = signed.json()?;
    let invitation = Invitation {
        room_id,
        event_id,
        version: body.room_version.into_owned(),
        event: bytes_of(body.event),
        room_state: body.invite_room_state.into_iter().map(bytes_of).collect(),
    };
    Ok(Json(take(&app, &signed, invitation).await?))
}

/// The event alone; its room has version 1 or 2.
async fn invite_v1(
    State(app): State<App>,
    Params((room_id, event_id)): Params<(String, String)>,
    signed: Signed,
) -> Result<Json<Value>, ApiError> {
    #[derive(Default, Deserialize)]
    struct Unsigned<'a> {
        #[serde(borrow, default)]
        invite_room_state: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow, default)]
        unsigned: Unsigned<'a>,
    }
    let event: Event<'_> = signed.json()?;
    let room_state = event.unsigned.invite_room_state.into_iter();
    let invitation = Invitation {
        room_id,
        event_id,
        version: "1".to_owned(),
        event: signed.body().clone(),
        room_state: room_state.map(bytes_of).collect(),
    };
    Ok(Json(json!([200, take(&app, &signed, invitation).await?])))
}

async fn take(app: &App, signed: &Signed, invitation: Invitation) -> Result<Value, ApiError> {
    let node = app.node();
    let event = node.receive_invite(&signed.origin, invitation).await?;
    let event = RawValue::from_string(event).map_err(ApiError::internal)?;
    Ok(json!({ "event": event }))
}

fn bytes_of(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}
