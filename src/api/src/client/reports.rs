//! Reports of events, rooms and users (client-server API, "Reporting Content").
//!
//! The answer tells nothing about whether what is reported exists.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use node::Touched;
use serde::Deserialize;
use users::reports::{self, Report, Subject};

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;
use crate::json::{JsonBody, JsonBytes};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/client/v3/rooms/{room_id}/report/{event_id}",
            post(event),
        )
        .route("/_matrix/client/v3/rooms/{room_id}/report", post(room))
        .route("/_matrix/client/v3/users/{user_id}/report", post(user))
}

#[derive(Deserialize)]
struct Reason {
    reason: Option<String>,
}

async fn event(
    State(app): State<App>,
    session: Session,
    Params((room_id, event_id)): Params<(String, String)>,
    JsonBody(body): JsonBody<Reason>,
) -> Result<JsonBytes, ApiError> {
    let room = app
        .node()
        .names()
        .known_room(&app.node().view(), &room_id)?;
    let subject = room.map(|room| Subject::Event(room, event_id));
    keep(&app, &session, subject, body.reason).await
}

async fn room(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
    JsonBody(body): JsonBody<Reason>,
) -> Result<JsonBytes, ApiError> {
    let room = app
        .node()
        .names()
        .known_room(&app.node().view(), &room_id)?;
    keep(&app, &session, room.map(Subject::Room), body.reason).await
}

async fn user(
    State(app): State<App>,
    session: Session,
    Params(user_id): Params<String>,
    JsonBody(body): JsonBody<Reason>,
) -> Result<JsonBytes, ApiError> {
    let user = app
        .node()
        .names()
        .known_user(&app.node().view(), &user_id)?;
    keep(&app, &session, user.map(Subject::User), body.reason).await
}

async fn keep(
    app: &App,
    session: &Session,
    subject: Option<Subject>,
    reason: Option<String>,
) -> Result<JsonBytes, ApiError> {
    let Some(subject) = subject else {
        return Ok(JsonBytes::EMPTY);
    };
    let report = Report {
        by: session.user,
        subject,
        reason,
        at_ms: app.node().now_ms(),
    };
    let mut txn = app.node().begin();
    reports::add(&mut txn, &report)?;
    app.node().commit((), txn, Touched::nobody()).await?;
    Ok(JsonBytes::EMPTY)
}
