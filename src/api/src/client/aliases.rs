//! Room aliases: <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::auth::Membership;
use http::StatusCode;
use node::{Guard, Lock, Touched};
use rooms::aliases::{self, Alias};
use rooms::policy::SignedEvents;
use rooms::{RoomWriter, Sender, members, visibility};
use serde::Deserialize;
use serde_json::{Value, json};
use users::accounts::Kind;

use crate::app::App;
use crate::auth::{Identity, Session};
use crate::client::room_names::{self, check_alias, room, sender};
use crate::error::{ApiError, ErrCode};
use crate::json::{Json, JsonBody, JsonBytes};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/client/v3/directory/room/{room_alias}",
            get(resolve).put(create).delete(remove),
        )
        .route("/_matrix/client/v3/rooms/{room_id}/aliases", get(of_room))
}

fn no_alias(alias: &str) -> ApiError {
    ApiError::not_found(format!("Room alias {alias} not found"))
}

async fn resolve(
    State(app): State<App>,
    Params(alias): Params<String>,
) -> Result<Json<Value>, ApiError> {
    let resolved = room_names::resolve(&app, &alias).await?;
    Ok(Json(json!({
        "room_id": resolved.room_id,
        "servers": resolved.servers,
    })))
}

/// Refuses aliases that this server does not give out, or not to this user.
fn check_own(app: &App, who: &Identity, alias: &str) -> Result<(), ApiError> {
    who.must_not_be_suspended()?;
    check_alias(alias)?;
    if !app.node().names().is_local_id(alias) {
        return Err(ApiError::invalid_param(
            "The alias belongs to another server",
        ));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Target {
    room_id: String,
}

async fn create(
    State(app): State<App>,
    session: Session,
    Params(alias): Params<String>,
    JsonBody(body): JsonBody<Target>,
) -> Result<JsonBytes, ApiError> {
    check_own(&app, &session, &alias)?;
    if !event::identifier::is_room_id(&body.room_id) {
        return Err(ApiError::invalid_param("room_id is not a room id"));
    }
    let room = room(&app, &body.room_id)?;
    let node = app.node();
    let alias_guard = node.lock(Lock::Alias(alias.clone())).await;
    let room_guard = node.lock(Lock::Room(room)).await;
    let mut txn = node.begin();
    // Application services give aliases to rooms that they have not entered yet.
    if session.kind != Kind::Appservice {
        rooms::membership::must_be_joined(&txn, room, sender(&session))?;
    }
    let new = Alias {
        room,
        creator: session.user,
    };
    match aliases::add(&mut txn, &alias, new) {
        Err(rooms::Error::AliasTaken(alias)) => {
            let why = format!("Room alias {alias} already exists");
            return Err(ApiError::new(ErrCode::Unknown, why).with_status(StatusCode::CONFLICT));
        }
        result => result?,
    }
    node.commit((alias_guard, room_guard), txn, Touched::nobody())
        .await?;
    Ok(JsonBytes::EMPTY)
}

async fn remove(
    State(app): State<App>,
    session: Session,
    Params(alias): Params<String>,
) -> Result<JsonBytes, ApiError> {
    check_own(&app, &session, &alias)?;
    let node = app.node();
    let me = sender(&session);
    let mut signed = SignedEvents::default();
    loop {
        let alias_guard = node.lock(Lock::Alias(alias.clone())).await;
        let (room_guard, found) = locked(&app, &alias).await?;
        let mut txn = node.begin();
        let remove = |writer: &mut RoomWriter<'_>| -> Result<(), ApiError> {
            let is_own = found.creator == me.user || session.admin;
            if !is_own && !has_power(writer, me)? {
                return Err(ApiError::forbidden("The alias is another user's"));
            }
            aliases::remove(writer.txn(), &alias)?;
            Ok(aliases::retract(writer, me, &alias)?)
        };
        let error = match node.write_signed(&mut txn, found.room, &mut signed, remove) {
            Ok((_, touched)) => {
                node.commit_room((alias_guard, room_guard), txn, touched)
                    .await?;
                return Ok(JsonBytes::EMPTY);
            }
            Err(error) => error,
        };
        drop((txn, room_guard, alias_guard));
        if !node.have_signed(&mut signed).await? {
            return Err(error);
        }
    }
}

/// Whether the user may set the room's canonical alias, and so may do with its aliases as they please.
fn has_power(writer: &mut RoomWriter<'_>, who: Sender<'_>) -> Result<bool, ApiError> {
    let room = writer.room();
    if members::membership(writer.txn(), room, who.user)? != Membership::Join {
        return Ok(false);
    }
    Ok(writer.with_power_levels(|levels| {
        levels.user(who.user_id) >= levels.to_send("m.room.canonical_alias", true)
    })?)
}

/// The room that an alias leads to, locked.
async fn locked(app: &App, alias: &str) -> Result<(Guard, Alias), ApiError> {
    let node = app.node();
    loop {
        let head = node.store().head();
        let found = aliases::get(&head, alias)?.ok_or_else(|| no_alias(alias))?;
        let guard = node.lock(Lock::Room(found.room)).await;
        // An upgrade may have made it lead elsewhere while we waited.
        if aliases::get(&node.store().head(), alias)? == Some(found) {
            return Ok((guard, found));
        }
    }
}

async fn of_room(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
) -> Result<Json<Value>, ApiError> {
    let room = room(&app, &room_id)?;
    let view = app.node().view();
    if !visibility::may_peek(&view, room, session.user)? {
        return Err(ApiError::forbidden("You are not in this room"));
    }
    Ok(Json(json!({ "aliases": aliases::of_room(&view, room)? })))
}
