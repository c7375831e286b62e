//! What a room says of itself to who is not in it.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::auth::Membership;
use names::{RoomSn, UserSn};
use rooms::about::About;
use rooms::{event_log, members, summary as core};
use serde::Deserialize;
use serde_json::{Map, Value};
use store::View;

use crate::app::App;
use crate::auth::OptionalSession;
use crate::client::room_names::resolve;
use crate::error::ApiError;
use crate::json::Json;
use crate::request::{Params, Query};

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/client/v1/room_summary/{room_id_or_alias}";
    Router::new().route(path, get(summary))
}

/// Servers that may be in the room.
#[derive(Deserialize)]
struct By {
    #[serde(default)]
    via: Vec<String>,
}

async fn summary(
    State(app): State<App>,
    OptionalSession(session): OptionalSession,
    Params(id_or_alias): Params<String>,
    Query(By { mut via }): Query<By>,
) -> Result<Json<Value>, ApiError> {
    let room_id = if id_or_alias.starts_with('!') {
        id_or_alias
    } else {
        let resolved = resolve(&app, &id_or_alias).await?;
        via.extend(resolved.servers.iter().cloned());
        resolved.room_id.clone()
    };
    let node = app.node();
    let view = node.view();
    let user = session.as_ref().map(|session| session.user);
    let room = node.names().known_room(&view, &room_id)?;
    let here = match room {
        Some(room) => event_log::head(&view, room)?.map(|head| (room, head)),
        None => None,
    };
    let is_resident = match room {
        Some(room) => members::is_resident(&view, room)?,
        None => false,
    };
    // What costs a request to another server needs an account.
    let told = match session.is_some() && !is_resident {
        true => node.told_of_room(&room_id, &via, user).await?,
        false => None,
    };
    let mut summary = match (told, here) {
        (Some(told), _) => told.fields,
        (None, Some((room, head))) => {
            let about = About::with_head(&view, room, &head)?;
            match core::may_know(&view, &about, user)? {
                true => entry(&about),
                false => return Err(unknown()),
            }
        }
        (None, None) => return Err(unknown()),
    };
    if let (Some(user), Some(room)) = (user, room)
        && let Some(membership) = membership_of(&view, room, user)?
    {
        summary.insert("membership".to_owned(), membership.into());
    }
    Ok(Json(summary.into()))
}

fn unknown() -> ApiError {
    ApiError::not_found("There is no such room")
}

/// What the user is in the room, also in one that only other servers are in.
fn membership_of(
    view: &View,
    room: RoomSn,
    user: UserSn,
) -> Result<Option<&'static str>, ApiError> {
    let membership = match members::get(view, room, user)? {
        Some(member) => Some(member.membership()),
        None => members::room_of(view, user, room)?.map(|entry| entry.value.membership()),
    };
    Ok(membership.map(|membership| match membership {
        Membership::Join => "join",
        Membership::Invite => "invite",
        Membership::Knock => "knock",
        Membership::Ban => "ban",
        Membership::Leave | Membership::Other => "leave",
    }))
}

/// The fields that the summary and the hierarchy have in common.
pub fn entry(about: &About) -> Map<String, Value> {
    let mut entry = about.to_json();
    entry.insert("room_version".to_owned(), about.version.as_str().into());
    if let Some(encryption) = &about.encryption {
        entry.insert("encryption".to_owned(), encryption.as_str().into());
    }
    if let Some(allowed) = core::allowed_rooms(about) {
        entry.insert("allowed_room_ids".to_owned(), allowed.into());
    }
    entry
}
