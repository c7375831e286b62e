//! Rooms and users as requests name them, turned into numbers.

use std::sync::Arc;

use event::identifier;
use names::{RoomSn, UserSn};
use node::NodeError;
use node::federation::Resolved;
use rooms::Sender;

use crate::app::App;
use crate::auth::Identity;
use crate::error::ApiError;

/// The room of an id; `M_FORBIDDEN` if the server never heard of it, as for any room one is not in.
pub fn room(app: &App, room_id: &str) -> Result<RoomSn, ApiError> {
    find_room(app, room_id)?.ok_or_else(|| rooms::Error::UnknownRoom.into())
}

/// The room of an id, if the server ever heard of it.
pub fn find_room(app: &App, room_id: &str) -> Result<Option<RoomSn>, ApiError> {
    // Ids of rooms being made are written before they are published.
    Ok(app
        .node()
        .names()
        .known_room(&app.node().store().head(), room_id)?)
}

/// Where an alias leads, of whichever server it is.
///
/// # Errors
/// `M_INVALID_PARAM` if it is no alias, `M_NOT_FOUND` if it does not exist or its server can't be asked.
pub async fn resolve(app: &App, alias: &str) -> Result<Arc<Resolved>, ApiError> {
    check_alias(alias)?;
    let unknown = || ApiError::not_found(format!("Room alias {alias} not found"));
    match app.node().resolve_alias(alias).await {
        Ok(resolved) => resolved.ok_or_else(unknown),
        Err(NodeError::Remote(error)) => Err(ApiError::not_found(format!(
            "Room alias {alias} can't be asked for: {error}"
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Refuses what is no room alias: <https://spec.matrix.org/v1.19/appendices/#room-aliases>.
pub fn check_alias(alias: &str) -> Result<(), ApiError> {
    let good = alias.len() <= identifier::MAX_BYTES
        && alias
            .strip_prefix('#')
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(localpart, server)| {
                !localpart.is_empty()
                    && !localpart.contains('\0')
                    && identifier::is_server_name(server)
            });
    if good {
        Ok(())
    } else {
        Err(ApiError::invalid_param("This is no room alias"))
    }
}

/// The number of a user id that a change names; a new one for an id that was never seen.
///
/// # Errors
/// `M_INVALID_PARAM` if it is no user id.
pub fn user(app: &App, user_id: &str) -> Result<UserSn, ApiError> {
    if !identifier::is_user_id(user_id) {
        return Err(ApiError::invalid_param(format!(
            "{user_id:?} is not a user id"
        )));
    }
    let node = app.node();
    Ok(node.names().user(node.store(), user_id)?)
}

/// A session's user as the core of rooms wants it.
pub fn sender(who: &Identity) -> Sender<'_> {
    Sender {
        user: who.user,
        user_id: &who.user_id,
    }
}
