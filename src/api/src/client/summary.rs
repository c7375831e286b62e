//! What a room says of itself to who is not in it.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::auth::Membership;
use rooms::about::About;
use rooms::{event_log, members, summary as core};
use serde_json::{Map, Value};

use crate::app::App;
use crate::auth::OptionalSession;
use crate::client::room_names::room_or_alias;
use crate::error::ApiError;
use crate::json::Json;
use crate::request::Params;

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/client/v1/room_summary/{room_id_or_alias}";
    Router::new().route(path, get(summary))
}

async fn summary(
    State(app): State<App>,
    OptionalSession(session): OptionalSession,
    Params(id_or_alias): Params<String>,
) -> Result<Json<Value>, ApiError> {
    let (room, _) = room_or_alias(&app, &id_or_alias)?;
    let view = app.node().view();
    let unknown = || ApiError::not_found("There is no such room");
    let head = event_log::head(&view, room)?.ok_or_else(unknown)?;
    let about = About::with_head(&view, room, &head)?;
    let user = session.as_ref().map(|session| session.user);
    if !core::may_know(&view, &about, user)? {
        return Err(unknown());
    }
    let mut entry = entry(&about);
    if let Some(user) = user
        && let Some(member) = members::get(&view, room, user)?
    {
        let membership = match member.membership() {
            Membership::Join => "join",
            Membership::Invite => "invite",
            Membership::Knock => "knock",
            Membership::Ban => "ban",
            Membership::Leave | Membership::Other => "leave",
        };
        entry.insert("membership".to_owned(), membership.into());
    }
    Ok(Json(entry.into()))
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
