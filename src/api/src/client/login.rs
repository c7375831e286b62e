//! Logging in and out (client-server API, "Login", "Refreshing access tokens", "Logout").

use std::net::IpAddr;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use names::UserSn;
use node::{Lock, Touched};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Read, Txn};
use users::accounts::Account;
use users::{accounts, devices, tokens};

use crate::app::App;
use crate::auth::{AnySession, Session};
use crate::client::devices::change_of_devices;
use crate::error::{ApiError, ErrCode};
use crate::interactive_auth::{AuthData, UserIdentifier, require_password};
use crate::json::{Json, JsonBody, JsonBodyOrEmpty, JsonBytes};
use crate::limits::{Class, Key};
use crate::request::Arrival;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/login", get(flows).post(log_in))
        .route("/_matrix/client/v1/login/get_token", post(get_token))
        .route("/_matrix/client/v3/refresh", post(refresh))
        .route("/_matrix/client/v3/logout", post(log_out))
        .route("/_matrix/client/v3/logout/all", post(log_out_all))
}

/// How long a token for `m.login.token` is good for.
const LOGIN_TOKEN_LIFETIME_MS: u64 = 120_000;

async fn flows(State(app): State<App>) -> Json<serde_json::Value> {
    let mut flows = Vec::new();
    if app.config().password.login {
        flows.push(json!({"type": "m.login.password"}));
    }
    flows.push(json!({"type": "m.login.token", "get_login_token": true}));
    Json(json!({"flows": flows}))
}

#[derive(Deserialize)]
struct LoginRequest {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<UserIdentifier>,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    device_id: Option<String>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

async fn log_in(
    State(app): State<App>,
    arrival: Arrival,
    JsonBody(request): JsonBody<LoginRequest>,
) -> Result<Json<Opened>, ApiError> {
    let wish = Wish {
        device_id: request.device_id.clone(),
        display_name: request.initial_device_display_name.clone(),
        refresh: request.refresh_token,
    };
    app.limiter()
        .check(Class::LoginAddress, Key::Address(arrival.address))?;
    match request.kind.as_str() {
        "m.login.password" if app.config().password.login => {
            let (user, _) = check_password(&app, &request).await?;
            open_locked(&app, user, &wish).await.map(Json)
        }
        "m.login.token" => {
            let token = request
                .token
                .ok_or_else(|| ApiError::missing_param("token is missing"))?;
            log_in_by_token(&app, &token, &wish).await.map(Json)
        }
        _ => Err(
            ApiError::new(ErrCode::Unknown, "This type of login is not supported")
                .with_status(http::StatusCode::BAD_REQUEST),
        ),
    }
}

fn refused() -> ApiError {
    ApiError::forbidden("Invalid username or password")
}

/// The user id that a client means by an identifier of type `m.id.user`, or by the old `user`.
fn named_user(request: &LoginRequest) -> Result<&str, ApiError> {
    match (&request.identifier, &request.user) {
        (Some(identifier), _) if identifier.kind == "m.id.user" => identifier
            .user
            .as_deref()
            .ok_or_else(|| ApiError::missing_param("identifier.user is missing")),
        // Third-party identifiers belong to nobody here.
        (Some(identifier), _)
            if matches!(identifier.kind.as_str(), "m.id.thirdparty" | "m.id.phone") =>
        {
            Err(refused())
        }
        (Some(_), _) => Err(
            ApiError::new(ErrCode::Unknown, "Unknown type of identifier")
                .with_status(http::StatusCode::BAD_REQUEST),
        ),
        (None, Some(user)) => Ok(user),
        (None, None) => Err(ApiError::missing_param("identifier is missing")),
    }
}

/// The account that `named`, a user id or localpart, means: as written, or else in small letters.
pub fn find_account(
    app: &App,
    from: &impl Read,
    named: &str,
) -> Result<Option<(UserSn, Account)>, ApiError> {
    let server = app.node().server_name();
    let user_id = match named.strip_prefix('@') {
        Some(_) => named.to_owned(),
        None => format!("@{named}:{server}"),
    };
    for user_id in [user_id.to_lowercase(), user_id] {
        if !app.node().names().is_local_id(&user_id) {
            continue;
        }
        if let Some(user) = app.node().names().known_user(from, &user_id)?
            && let Some(account) = accounts::get(from, user)?
        {
            return Ok(Some((user, account)));
        }
    }
    Ok(None)
}

async fn check_password(app: &App, request: &LoginRequest) -> Result<(UserSn, Account), ApiError> {
    let named = named_user(request)?;
    let password = request
        .password
        .clone()
        .ok_or_else(|| ApiError::missing_param("password is missing"))?;
    let found = find_account(app, &app.node().view(), named)?;
    let name = named.to_lowercase();
    app.limiter().peek(Class::LoginAccount, Key::Name(&name))?;
    let hash = found
        .as_ref()
        .and_then(|(_, account)| account.password_hash.clone());
    if let Some((_, account)) = &found
        && account.deactivated
    {
        return Err(ApiError::user_deactivated());
    }
    let good = app.passwords().verify(app.node(), password, hash).await?;
    match found {
        Some(found) if good => Ok(found),
        _ => {
            app.limiter().check(Class::LoginAccount, Key::Name(&name))?;
            Err(refused())
        }
    }
}

async fn log_in_by_token(app: &App, token: &str, wish: &Wish) -> Result<Opened, ApiError> {
    let refused = || ApiError::forbidden("Invalid login token");
    let hash = tokens::hash(token);
    let now_ms = app.node().now_ms();
    let user =
        tokens::login_user(&app.node().store().head(), &hash, now_ms)?.ok_or_else(refused)?;
    let guard = app.node().lock(Lock::User(user)).await;
    let mut txn = app.node().begin();
    match tokens::take_login(&mut txn, &hash, now_ms) {
        Err(users::Error::NotFound(_)) => return Err(refused()),
        taken => taken?,
    };
    let opened = open(app, &mut txn, user, wish)?;
    let _forgetting = app.sessions().forgetting(user);
    app.node().commit(guard, txn, Touched::user(user)).await?;
    Ok(opened)
}

/// What a client wishes for the device it logs in.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The id of the device; none: a new one.
    pub device_id: Option<String>,
    /// Its name, if it is new.
    pub display_name: Option<String>,
    /// The client can refresh its access token.
    pub refresh: bool,
}

/// What is told after a login or a registration.
#[derive(Debug, Serialize)]
pub struct Opened {
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
    home_server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    well_known: Option<serde_json::Value>,
}

impl Opened {
    /// The answer to a registration with `inhibit_login`.
    pub fn without_login(app: &App, user_id: String) -> Self {
        Self {
            user_id,
            access_token: None,
            device_id: None,
            home_server: app.node().server_name().to_owned(),
            refresh_token: None,
            expires_in_ms: None,
            well_known: None,
        }
    }
}

/// Logs a device in, in a change of its own.
pub async fn open_locked(app: &App, user: UserSn, wish: &Wish) -> Result<Opened, ApiError> {
    let guard = app.node().lock(Lock::User(user)).await;
    let mut txn = app.node().begin();
    let opened = open(app, &mut txn, user, wish)?;
    let _forgetting = app.sessions().forgetting(user);
    app.node().commit(guard, txn, Touched::user(user)).await?;
    Ok(opened)
}

/// Logs a device in: makes it or takes its old tokens away, and gives it new ones.
///
/// # Errors
/// If the account may not log in, or the device's id or name may not be.
pub fn open(app: &App, txn: &mut Txn, user: UserSn, wish: &Wish) -> Result<Opened, ApiError> {
    let node = app.node();
    let now_ms = node.now_ms();
    let account = accounts::get(txn, user)?.ok_or_else(refused)?;
    if account.deactivated {
        return Err(ApiError::user_deactivated());
    }
    if account.locked {
        return Err(ApiError::user_locked());
    }
    let device = match &wish.device_id {
        Some(device) => device.clone(),
        None => devices::device_id(node.random()),
    };
    devices::log_in(txn, user, &device, wish.display_name.as_deref(), now_ms)?;
    let lifetime_ms = wish.refresh.then(|| lifetime_ms(app));
    let access = tokens::text(tokens::Purpose::Access, node.random());
    let refresh = wish
        .refresh
        .then(|| tokens::text(tokens::Purpose::Refresh, node.random()));
    tokens::issue(
        txn,
        user,
        &device,
        tokens::hash(&access),
        refresh.as_deref().map(tokens::hash),
        lifetime_ms.map(|lifetime| now_ms + lifetime),
    );
    let config = app.config();
    let well_known = config
        .well_known
        .client
        .as_ref()
        .map(|url| json!({"m.homeserver": {"base_url": url}}));
    Ok(Opened {
        user_id: names::user_id(txn, user)?,
        access_token: Some(access),
        device_id: Some(device),
        home_server: node.server_name().to_owned(),
        refresh_token: refresh,
        expires_in_ms: lifetime_ms,
        well_known,
    })
}

fn lifetime_ms(app: &App) -> u64 {
    let lifetime = app.config().sessions.access_token_lifetime;
    u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX / 2)
}

#[derive(Deserialize)]
struct GetTokenRequest {
    auth: Option<AuthData>,
}

async fn get_token(
    State(app): State<App>,
    session: Session,
    JsonBodyOrEmpty(request): JsonBodyOrEmpty<GetTokenRequest>,
) -> Result<Json<serde_json::Value>, ApiError> {
    require_password(&app, &session, "get_token", request.auth).await?;
    let token = tokens::text(tokens::Purpose::Login, app.node().random());
    let expires_ms = app.node().now_ms() + LOGIN_TOKEN_LIFETIME_MS;
    let mut txn = app.node().begin();
    tokens::put_login(&mut txn, tokens::hash(&token), session.user, expires_ms);
    app.node().commit((), txn, Touched::nobody()).await?;
    Ok(Json(json!({
        "login_token": token,
        "expires_in_ms": LOGIN_TOKEN_LIFETIME_MS,
    })))
}

#[derive(Deserialize)]
struct RefreshRequest {
    refresh_token: String,
}

async fn refresh(
    State(app): State<App>,
    arrival: Arrival,
    JsonBody(request): JsonBody<RefreshRequest>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let node = app.node();
    let old = tokens::hash(&request.refresh_token);
    let unknown = || unknown_refresh_token(&app, arrival.address);
    let Some(user) = tokens::refresh_user(&node.store().head(), &old)? else {
        return Err(unknown()?);
    };
    let guard = node.lock(Lock::User(user)).await;
    let mut txn = node.begin();
    if accounts::get(&txn, user)?.is_some_and(|account| account.locked) {
        return Err(ApiError::user_locked());
    }
    let access = tokens::text(tokens::Purpose::Access, node.random());
    let refresh = tokens::text(tokens::Purpose::Refresh, node.random());
    let lifetime_ms = lifetime_ms(&app);
    let refreshed = tokens::refresh(
        &mut txn,
        &old,
        tokens::hash(&access),
        tokens::hash(&refresh),
        Some(node.now_ms() + lifetime_ms),
    );
    match refreshed {
        Err(users::Error::NotFound(_)) => return Err(unknown()?),
        refreshed => refreshed?,
    };
    let _forgetting = app.sessions().forgetting(user);
    node.commit(guard, txn, Touched::nobody()).await?;
    Ok(Json(json!({
        "access_token": access,
        "refresh_token": refresh,
        "expires_in_ms": lifetime_ms,
    })))
}

/// Guessing refresh tokens counts as logging in.
fn unknown_refresh_token(app: &App, address: Option<IpAddr>) -> Result<ApiError, ApiError> {
    app.limiter()
        .check(Class::LoginAddress, Key::Address(address))?;
    Ok(ApiError::unknown_token(false))
}

async fn log_out(
    State(app): State<App>,
    AnySession(session): AnySession,
) -> Result<JsonBytes, ApiError> {
    let guard = app.node().lock(Lock::User(session.user)).await;
    let mut txn = app.node().begin();
    devices::delete(&mut txn, session.user, &session.device)?;
    let touched = change_of_devices(&app, session.user)?;
    let _forgetting = app.sessions().forgetting(session.user);
    app.node().commit(guard, txn, touched).await?;
    Ok(JsonBytes::EMPTY)
}

async fn log_out_all(
    State(app): State<App>,
    AnySession(session): AnySession,
) -> Result<JsonBytes, ApiError> {
    let guard = app.node().lock(Lock::User(session.user)).await;
    let mut txn = app.node().begin();
    devices::delete_all(&mut txn, session.user, None)?;
    let touched = change_of_devices(&app, session.user)?;
    let _forgetting = app.sessions().forgetting(session.user);
    app.node().commit(guard, txn, touched).await?;
    Ok(JsonBytes::EMPTY)
}
