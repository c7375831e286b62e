//! Profiles of this server's users, for other servers.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::identifier;
use serde::Deserialize;
use serde_json::Value;
use users::profile::{self, Profile};
use users::{accounts, profile::check_key};

use crate::app::App;
use crate::error::ApiError;
use crate::federation::Signed;
use crate::json::Json;
use crate::request::Query;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/federation/v1/query/profile", get(query))
}

#[derive(Deserialize)]
struct ProfileQuery {
    user_id: String,
    field: Option<String>,
}

async fn query(
    State(app): State<App>,
    Query(query): Query<ProfileQuery>,
    _: Signed,
) -> Result<Json<Profile>, ApiError> {
    if !app.config().federation.share_profiles {
        return Err(ApiError::forbidden(
            "This server shows no profiles to other servers",
        ));
    }
    let node = app.node();
    if !identifier::is_user_id(&query.user_id) || !node.names().is_local_id(&query.user_id) {
        return Err(ApiError::invalid_param("This is no user of this server"));
    }
    let view = node.view();
    let unknown = || ApiError::not_found("There is no such user");
    let user = node.names().known_user(&view, &query.user_id)?;
    let user = user.ok_or_else(unknown)?;
    if !accounts::exists(&view, user)? {
        return Err(unknown());
    }
    let mut profile = profile::get(&view, user)?.unwrap_or_default();
    let Some(field) = query.field else {
        return Ok(Json(profile));
    };
    check_key(&field)?;
    let is_always_there = field == profile::DISPLAYNAME || field == profile::AVATAR_URL;
    let mut only = Profile::new();
    match profile.remove(&field) {
        Some(value) => {
            only.insert(field, value);
        }
        None if is_always_there => {
            only.insert(field, Value::Null);
        }
        None => return Err(ApiError::not_found("The profile has no such field")),
    }
    Ok(Json(only))
}
