//! Profiles (client-server API, "Profiles").

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::identifier;
use node::{JOB_PATIENCE, Lock, Task, Touched, jobs};
use serde_json::{Map, Value, json};
use users::profile::Profile;
use users::{accounts, profile};

use crate::app::App;
use crate::auth::{GuestSession, Identity};
use crate::error::ApiError;
use crate::json::{Json, JsonBody, JsonBytes};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/profile/{user_id}", get(all))
        .route(
            "/_matrix/client/v3/profile/{user_id}/{key_name}",
            get(one).put(set).delete(remove),
        )
}

fn no_profile() -> ApiError {
    ApiError::not_found("There is no such profile")
}

/// The profile of a user, of this server or another.
async fn find(app: &App, user_id: &str) -> Result<Arc<Profile>, ApiError> {
    if !identifier::is_user_id(user_id) {
        return Err(ApiError::invalid_param("This is not a user id"));
    }
    let node = app.node();
    if !node.names().is_local_id(user_id) {
        let profile = node.profile_of_other(user_id).await?;
        return profile.ok_or_else(no_profile);
    }
    let view = node.view();
    let user = node.names().known_user(&view, user_id)?;
    let user = user.ok_or_else(no_profile)?;
    if !accounts::exists(&view, user)? {
        return Err(no_profile());
    }
    Ok(Arc::new(profile::get(&view, user)?.unwrap_or_default()))
}

async fn all(
    State(app): State<App>,
    Params(user_id): Params<String>,
) -> Result<Json<Arc<Profile>>, ApiError> {
    Ok(Json(find(&app, &user_id).await?))
}

async fn one(
    State(app): State<App>,
    Params((user_id, key)): Params<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    profile::check_key(&key)?;
    let profile = find(&app, &user_id).await?;
    let value = profile
        .get(&key)
        .ok_or_else(|| ApiError::not_found("The profile has no such field"))?;
    Ok(Json(json!({ key: value })))
}

/// Who may change this field of this profile.
fn check(who: &Identity, user_id: &str, key: &str) -> Result<(), ApiError> {
    who.must_be(user_id)?;
    who.must_not_be_suspended()?;
    if who.is_guest() && key != profile::DISPLAYNAME {
        return Err(ApiError::guest_access_forbidden());
    }
    profile::check_key(key)?;
    Ok(())
}

async fn set(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((user_id, key)): Params<(String, String)>,
    JsonBody(mut body): JsonBody<Map<String, Value>>,
) -> Result<JsonBytes, ApiError> {
    check(&session, &user_id, &key)?;
    let value = body
        .remove(&key)
        .ok_or_else(|| ApiError::missing_param(format!("{key} is missing")))?;
    change(&app, &session, &key, Some(value)).await
}

async fn remove(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((user_id, key)): Params<(String, String)>,
) -> Result<JsonBytes, ApiError> {
    check(&session, &user_id, &key)?;
    change(&app, &session, &key, None).await
}

async fn change(
    app: &App,
    who: &Identity,
    key: &str,
    value: Option<Value>,
) -> Result<JsonBytes, ApiError> {
    let guard = app.node().lock(Lock::User(who.user)).await;
    let mut txn = app.node().begin();
    let changed = match value {
        Some(value) => profile::set(&mut txn, who.user, key, value)?,
        None => profile::remove(&mut txn, who.user, key)?,
    };
    if !changed {
        return Ok(JsonBytes::EMPTY);
    }
    let is_shown = key == profile::DISPLAYNAME || key == profile::AVATAR_URL;
    let task = Task::ShowProfile(who.user);
    let job = is_shown.then(|| jobs::schedule(&mut txn, task, app.node().now_ms()));
    let touched = Touched::user(who.user);
    let position = app.node().commit(guard, txn, touched).await?;
    if let Some(job) = job {
        let running = app.node().start_job(job, position);
        running.wait(JOB_PATIENCE).await;
    }
    Ok(JsonBytes::EMPTY)
}
