//! Joining a room by this server: `make_join` and `send_join`.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use http::StatusCode;
use node::Lane;
use node::federation::{EntryRefusal, JoinAnswer};
use rooms::membership::NotHere;
use rooms::resident::Members;
use rooms::served::write_numbers;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{ApiError, ErrCode};
use crate::federation::Signed;
use crate::json::{Json, JsonBytes};
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/federation/v1/make_join/{room_id}/{user_id}",
            get(make_join),
        )
        .route(
            "/_matrix/federation/v1/send_join/{room_id}/{event_id}",
            put(send_join_v1),
        )
        .route(
            "/_matrix/federation/v2/send_join/{room_id}/{event_id}",
            put(send_join),
        )
}

impl From<EntryRefusal> for ApiError {
    fn from(refusal: EntryRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            EntryRefusal::UnknownRoom => ApiError::not_found(message),
            EntryRefusal::IncompatibleVersion(version) => {
                ApiError::incompatible_room_version(&version)
            }
            EntryRefusal::NotHere(NotHere::CannotTell) => {
                ApiError::new(ErrCode::UnableToAuthoriseJoin, message)
            }
            EntryRefusal::NotHere(NotHere::NobodyMayInvite) => {
                ApiError::new(ErrCode::UnableToGrantJoin, message)
            }
            EntryRefusal::MembersMissing => ApiError::new(ErrCode::UnableToGrantJoin, message)
                .with_status(StatusCode::NOT_FOUND),
            EntryRefusal::Forbidden(_) => ApiError::forbidden(message),
            EntryRefusal::UnknownUser => ApiError::not_found(message),
            EntryRefusal::InviteBlocked => ApiError::new(ErrCode::InviteBlocked, message),
            EntryRefusal::Invalid(_) => ApiError::invalid_param(message),
            EntryRefusal::Failed(error) => error.into(),
        }
    }
}

#[derive(Deserialize)]
struct Versions {
    #[serde(default = "first_version")]
    ver: Vec<String>,
}

fn first_version() -> Vec<String> {
    vec!["1".to_owned()]
}

async fn make_join(
    State(app): State<App>,
    Params((room_id, user_id)): Params<(String, String)>,
    Query(versions): Query<Versions>,
    signed: Signed,
) -> Result<Json<Value>, ApiError> {
    let node = app.node();
    let template = node.make_join(&signed.origin, &room_id, &user_id, &versions.ver)?;
    let event = RawValue::from_string(template.event).map_err(ApiError::internal)?;
    Ok(Json(
        json!({ "room_version": template.version, "event": event }),
    ))
}

#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    omit_members: bool,
}

async fn send_join(
    State(app): State<App>,
    Params((room_id, event_id)): Params<(String, String)>,
    Query(options): Query<Options>,
    signed: Signed,
) -> Result<Response, ApiError> {
    let members = match options.omit_members {
        true => Members::Omitted,
        false => Members::All,
    };
    let answer = enter(&app, &signed, &room_id, &event_id, members).await?;
    let body = written(&app, answer).await?;
    Ok(JsonBytes(body.into()).into_response())
}

async fn send_join_v1(
    State(app): State<App>,
    Params((room_id, event_id)): Params<(String, String)>,
    signed: Signed,
) -> Result<Response, ApiError> {
    let answer = enter(&app, &signed, &room_id, &event_id, Members::All).await?;
    let mut body = b"[200,".to_vec();
    body.extend_from_slice(&written(&app, answer).await?);
    body.push(b']');
    Ok(JsonBytes(body.into()).into_response())
}

async fn enter(
    app: &App,
    signed: &Signed,
    room_id: &str,
    event_id: &str,
    members: Members,
) -> Result<JoinAnswer, ApiError> {
    let (origin, event) = (&signed.origin, signed.body().clone());
    let node = app.node();
    Ok(node
        .send_join(origin, room_id, event_id, event, members)
        .await?)
}

/// Writes the answer: events as the bytes that are stored, but for those that were redacted.
async fn written(app: &App, answer: JoinAnswer) -> Result<Vec<u8>, ApiError> {
    let node = Arc::clone(app.node());
    let write = move || -> rooms::Result<Vec<u8>> {
        let (view, room, state) = (&answer.view, answer.room, &answer.state);
        let mut out = Vec::with_capacity(1024 * (state.state.len() + state.auth_chain.len()));
        out.extend_from_slice(b"{\"origin\":");
        event::json::write_string(&mut out, node.server_name());
        out.extend_from_slice(b",\"event\":");
        out.extend_from_slice(answer.event.as_bytes());
        out.extend_from_slice(b",\"state\":");
        write_numbers(&mut out, view, room, &state.state)?;
        out.extend_from_slice(b",\"auth_chain\":");
        write_numbers(&mut out, view, room, &state.auth_chain)?;
        match &answer.servers {
            None => out.extend_from_slice(b",\"members_omitted\":false}"),
            Some(servers) => {
                out.extend_from_slice(b",\"members_omitted\":true,\"servers_in_room\":");
                out.extend_from_slice(json!(servers).to_string().as_bytes());
                out.push(b'}');
            }
        }
        Ok(out)
    };
    Ok(app.node().run(Lane::Bulk, write).await??)
}
