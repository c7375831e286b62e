//! What administrators do with accounts (client-server API, "Server Administration" and "Account
//! moderation").

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use names::UserSn;
use node::{Lock, Touched};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::Read;
use users::accounts::{self, Account};
use users::devices;

use crate::app::App;
use crate::auth::Session;
use crate::client::devices::last_seen;
use crate::error::ApiError;
use crate::json::{Json, JsonBody};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/admin/whois/{user_id}", get(whois))
        .route(
            "/_matrix/client/v1/admin/lock/{user_id}",
            get(is_locked).put(lock),
        )
        .route(
            "/_matrix/client/v1/admin/suspend/{user_id}",
            get(is_suspended).put(suspend),
        )
}

/// The local account of a user id.
fn find(app: &App, from: &impl Read, user_id: &str) -> Result<(UserSn, Account), ApiError> {
    if !user_id.starts_with('@') || !app.node().names().is_local_id(user_id) {
        return Err(ApiError::invalid_param("This is not a user of this server"));
    }
    let not_found = || ApiError::not_found("There is no such user");
    let user = app.node().names().known_user(from, user_id)?;
    let user = user.ok_or_else(not_found)?;
    let account = accounts::get(from, user)?.ok_or_else(not_found)?;
    Ok((user, account))
}

async fn whois(
    State(app): State<App>,
    session: Session,
    Params(user_id): Params<String>,
) -> Result<Json<Value>, ApiError> {
    if *session.user_id != *user_id {
        session.must_be_admin()?;
    }
    let view = app.node().view();
    let (user, _) = find(&app, &view, &user_id)?;
    let mut told = Map::new();
    for (id, _) in devices::list(&view, user)? {
        let mut connections = Vec::new();
        if let Some(seen) = last_seen(&app, &view, user, &id)? {
            connections.push(json!({
                "ip": seen.ip.unwrap_or_default(),
                "last_seen": seen.at_ms,
                "user_agent": seen.user_agent.unwrap_or_default(),
            }));
        }
        told.insert(id, json!({"sessions": [{"connections": connections}]}));
    }
    Ok(Json(json!({"user_id": user_id, "devices": told})))
}

/// The account that an administrator may look at or moderate: not deactivated, not an administrator's.
fn moderated(
    app: &App,
    session: &Session,
    from: &impl Read,
    user_id: &str,
) -> Result<(UserSn, Account), ApiError> {
    // Rights come first, so that nobody learns who has an account.
    session.must_be_admin()?;
    let (user, account) = find(app, from, user_id)?;
    if account.deactivated {
        return Err(ApiError::not_found("There is no such user"));
    }
    if account.admin {
        return Err(ApiError::forbidden("The user is an administrator"));
    }
    Ok((user, account))
}

async fn is_locked(
    State(app): State<App>,
    session: Session,
    Params(user_id): Params<String>,
) -> Result<Json<Value>, ApiError> {
    let (_, account) = moderated(&app, &session, &app.node().view(), &user_id)?;
    Ok(Json(json!({"locked": account.locked})))
}

async fn is_suspended(
    State(app): State<App>,
    session: Session,
    Params(user_id): Params<String>,
) -> Result<Json<Value>, ApiError> {
    let (_, account) = moderated(&app, &session, &app.node().view(), &user_id)?;
    Ok(Json(json!({"suspended": account.suspended})))
}

#[derive(Deserialize)]
struct LockRequest {
    locked: bool,
}

async fn lock(
    State(app): State<App>,
    session: Session,
    Params(user_id): Params<String>,
    JsonBody(request): JsonBody<LockRequest>,
) -> Result<Json<Value>, ApiError> {
    moderate(&app, &session, &user_id, |account| {
        account.locked = request.locked;
    })
    .await?;
    Ok(Json(json!({"locked": request.locked})))
}

#[derive(Deserialize)]
struct SuspendRequest {
    suspended: bool,
}

async fn suspend(
    State(app): State<App>,
    session: Session,
    Params(user_id): Params<String>,
    JsonBody(request): JsonBody<SuspendRequest>,
) -> Result<Json<Value>, ApiError> {
    moderate(&app, &session, &user_id, |account| {
        account.suspended = request.suspended;
    })
    .await?;
    Ok(Json(json!({"suspended": request.suspended})))
}

async fn moderate(
    app: &App,
    session: &Session,
    user_id: &str,
    change: impl FnOnce(&mut Account),
) -> Result<(), ApiError> {
    let (user, _) = moderated(app, session, &app.node().view(), user_id)?;
    let guard = app.node().lock(Lock::User(user)).await;
    let mut txn = app.node().begin();
    accounts::update(&mut txn, user, change)?;
    let _forgetting = app.sessions().forgetting(user);
    app.node().commit(guard, txn, Touched::nobody()).await?;
    Ok(())
}
