//! An account looks after itself: who am I, password, deactivation, third-party identifiers
//! (client-server API, "Account management").

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use node::{JOB_PATIENCE, Lock, Task, Touched, jobs};
use serde::Deserialize;
use serde_json::{Value, json};
use users::{account_data, accounts, devices, directory, profile};

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::client::devices::change_of_devices;
use crate::error::{ApiError, ErrCode};
use crate::interactive_auth::{AuthData, require_password};
use crate::json::{Json, JsonBodyOrEmpty, JsonBytes};
use crate::passwords;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/account/whoami", get(whoami))
        .route("/_matrix/client/v3/account/password", post(set_password))
        .route("/_matrix/client/v3/account/deactivate", post(deactivate))
        .route(
            "/_matrix/client/v3/account/3pid",
            get(threepids).post(no_threepids),
        )
        .route("/_matrix/client/v3/account/3pid/add", post(no_threepids))
        .route("/_matrix/client/v3/account/3pid/bind", post(no_threepids))
        .route("/_matrix/client/v3/account/3pid/delete", post(no_unbind))
        .route("/_matrix/client/v3/account/3pid/unbind", post(no_unbind))
        .route(
            "/_matrix/client/v3/account/3pid/email/requestToken",
            post(no_validation),
        )
        .route(
            "/_matrix/client/v3/account/3pid/msisdn/requestToken",
            post(no_validation),
        )
        .route(
            "/_matrix/client/v3/account/password/email/requestToken",
            post(no_validation),
        )
        .route(
            "/_matrix/client/v3/account/password/msisdn/requestToken",
            post(no_validation),
        )
        .route(
            "/_matrix/client/v3/register/email/requestToken",
            post(no_validation),
        )
        .route(
            "/_matrix/client/v3/register/msisdn/requestToken",
            post(no_validation),
        )
}

async fn whoami(GuestSession(session): GuestSession) -> Json<Value> {
    Json(json!({
        "user_id": &*session.user_id,
        "device_id": &*session.device,
        "is_guest": session.is_guest(),
    }))
}

#[derive(Deserialize)]
struct PasswordRequest {
    auth: Option<AuthData>,
    new_password: Option<String>,
    logout_devices: Option<bool>,
}

async fn set_password(
    State(app): State<App>,
    session: Session,
    JsonBodyOrEmpty(request): JsonBodyOrEmpty<PasswordRequest>,
) -> Result<JsonBytes, ApiError> {
    if let Some(password) = &request.new_password {
        passwords::check_new(&app.config().password, password)?;
    }
    require_password(&app, &session, "password", request.auth).await?;
    let password = request
        .new_password
        .ok_or_else(|| ApiError::missing_param("new_password is missing"))?;
    let hash = app.passwords().hash(app.node(), password).await?;
    let guard = app.node().lock(Lock::User(session.user)).await;
    let mut txn = app.node().begin();
    accounts::update(&mut txn, session.user, |account| {
        account.password_hash = Some(hash);
    })?;
    let mut touched = Touched::nobody();
    if request.logout_devices.unwrap_or(true) {
        devices::delete_all(&mut txn, session.user, Some(&session.device))?;
        touched = change_of_devices(&app, session.user)?;
    }
    let _forgetting = app.sessions().forgetting(session.user);
    app.node().commit(guard, txn, touched).await?;
    Ok(JsonBytes::EMPTY)
}

#[derive(Deserialize)]
struct DeactivateRequest {
    auth: Option<AuthData>,
    #[serde(default)]
    erase: bool,
}

async fn deactivate(
    State(app): State<App>,
    session: Session,
    JsonBodyOrEmpty(request): JsonBodyOrEmpty<DeactivateRequest>,
) -> Result<Json<Value>, ApiError> {
    require_password(&app, &session, "deactivate", request.auth).await?;
    close(&app, session.user, request.erase).await?;
    Ok(Json(json!({"id_server_unbind_result": "no-support"})))
}

/// Closes an account: its devices, profile and account data go, its name stays taken, and it
/// leaves its rooms: that is a job, which may go on after this has returned.
pub async fn close(app: &App, user: names::UserSn, erase: bool) -> Result<(), ApiError> {
    let guard = app.node().lock(Lock::User(user)).await;
    let mut txn = app.node().begin();
    accounts::deactivate(&mut txn, user, erase)?;
    devices::delete_all(&mut txn, user, None)?;
    directory::remove(&mut txn, user)?;
    profile::clear(&mut txn, user)?;
    account_data::clear(&mut txn, user)?;
    let touched = change_of_devices(app, user)?;
    let _forgetting = app.sessions().forgetting(user);
    let job = jobs::schedule(&mut txn, Task::LeaveRooms(user), app.node().now_ms());
    let position = app.node().commit(guard, txn, touched).await?;
    let running = app.node().start_job(job, position);
    running.wait(JOB_PATIENCE).await;
    Ok(())
}

async fn threepids(State(app): State<App>, session: Session) -> Result<Json<Value>, ApiError> {
    let threepids: Vec<Value> = accounts::threepids(&app.node().view(), session.user)?
        .into_iter()
        .map(|(medium, address, threepid)| {
            json!({
                "medium": medium,
                "address": address,
                "added_at": threepid.added_ms,
                "validated_at": threepid.validated_ms,
            })
        })
        .collect();
    Ok(Json(json!({"threepids": threepids})))
}

/// Third-party identifiers can't be added: the capability `m.3pid_changes` says so.
async fn no_threepids(_: Session) -> ApiError {
    ApiError::new(
        ErrCode::ThreepidDenied,
        "Third-party identifiers can't be changed on this server",
    )
}

/// There is never one to remove.
async fn no_unbind(_: Session) -> Json<Value> {
    Json(json!({"id_server_unbind_result": "no-support"}))
}

/// No message can be sent to an address to prove it.
async fn no_validation() -> ApiError {
    ApiError::new(
        ErrCode::ThreepidDenied,
        "Third-party identifiers can't be validated by this server",
    )
}
