//! Making accounts (client-server API, "Account registration"), by interactive authentication, as a
//! guest, or by the secret shared with the administrator's tools (`/_synapse/admin/v1/register`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use config::RegistrationMode;
use hmac::{Hmac, KeyInit, Mac};
use http::StatusCode;
use names::UserSn;
use node::{Guard, Lock, Touched};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use sha1::Sha1;
use store::Txn;
use users::accounts::{Account, Kind, localpart_problem};
use users::{accounts, directory, profile, registration_tokens};

use crate::app::App;
use crate::client::login::{Opened, Wish, open};
use crate::error::{ApiError, ErrCode};
use crate::interactive_auth::{self, AuthData, Challenge, Stage};
use crate::json::{Json, JsonBody, JsonBodyOrEmpty};
use crate::limits::{Class, Key};
use crate::passwords;
use crate::request::{Arrival, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/register", post(register))
        .route("/_matrix/client/v3/register/available", get(available))
        .route(
            "/_matrix/client/v1/register/m.login.registration_token/validity",
            get(token_validity),
        )
        .route(
            "/_synapse/admin/v1/register",
            get(nonce).post(register_by_secret),
        )
}

#[derive(Deserialize)]
struct RegisterQuery {
    kind: Option<String>,
}

#[derive(Deserialize)]
struct RegisterRequest {
    auth: Option<AuthData>,
    #[serde(rename = "type")]
    kind: Option<String>,
    username: Option<String>,
    password: Option<String>,
    device_id: Option<String>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    inhibit_login: bool,
    #[serde(default)]
    refresh_token: bool,
}

async fn register(
    State(app): State<App>,
    arrival: Arrival,
    Query(query): Query<RegisterQuery>,
    JsonBodyOrEmpty(request): JsonBodyOrEmpty<RegisterRequest>,
) -> Result<Json<Opened>, ApiError> {
    app.limiter()
        .peek(Class::Registration, Key::Address(arrival.address))?;
    match query.kind.as_deref() {
        None | Some("user") => {}
        Some("guest") => return register_guest(&app, arrival, &request).await.map(Json),
        Some(_) => return Err(ApiError::invalid_param("kind is user or guest")),
    }
    if request.kind.as_deref() == Some("m.login.application_service") {
        return Err(ApiError::missing_token());
    }
    let mode = app.config().registration.mode;
    if mode == RegistrationMode::Closed {
        return Err(ApiError::forbidden("Registration is closed on this server"));
    }
    let localpart = request.username.as_deref().map(str::to_lowercase);
    if let Some(localpart) = &localpart {
        check_localpart(&app, localpart)?;
    }
    if let Some(password) = &request.password {
        passwords::check_new(&app.config().password, password)?;
    }
    if request.auth.is_some() && request.password.is_none() {
        return Err(ApiError::missing_param("password is missing"));
    }
    let flows: &[&[Stage]] = match mode {
        RegistrationMode::Token => &[&[Stage::RegistrationToken]],
        _ => &[&[Stage::Dummy]],
    };
    let challenge = Challenge {
        operation: "register".to_owned(),
        flows,
        who: None,
    };
    let proof = interactive_auth::require(&app, challenge, request.auth.clone()).await?;
    let Some(password) = request.password.clone() else {
        return Err(ApiError::missing_param("password is missing"));
    };
    app.limiter()
        .check(Class::Registration, Key::Address(arrival.address))?;
    let hash = app.passwords().hash(app.node(), password).await?;
    let localpart = localpart.unwrap_or_else(|| random_localpart(&app));
    let new = NewAccount {
        account: Account::new(Kind::User, app.node().now_ms(), Some(hash)),
        displayname: localpart.clone(),
        localpart,
        registration_token: proof.registration_token,
        wish: (!request.inhibit_login).then(|| wish(&request)),
    };
    create(&app, new).await.map(Json)
}

fn wish(request: &RegisterRequest) -> Wish {
    Wish {
        device_id: request.device_id.clone(),
        display_name: request.initial_device_display_name.clone(),
        refresh: request.refresh_token,
    }
}

fn random_localpart(app: &App) -> String {
    let random: [u8; 12] = app.node().random();
    random
        .iter()
        .map(|byte| char::from(b'a' + byte % 26))
        .collect()
}

async fn register_guest(
    app: &App,
    arrival: Arrival,
    request: &RegisterRequest,
) -> Result<Opened, ApiError> {
    if !app.config().guests.enabled {
        return Err(ApiError::forbidden("Guest access is disabled"));
    }
    app.limiter()
        .check(Class::Registration, Key::Address(arrival.address))?;
    let localpart = format!("guest-{}", random_localpart(app));
    let new = NewAccount {
        account: Account::new(Kind::Guest, app.node().now_ms(), None),
        displayname: localpart.clone(),
        localpart,
        registration_token: None,
        // The specification ignores every other parameter of guests.
        wish: Some(Wish {
            device_id: None,
            ..wish(request)
        }),
    };
    create(app, new).await
}

/// An account to be made.
pub struct NewAccount {
    /// The account.
    pub account: Account,
    /// The localpart, checked.
    pub localpart: String,
    /// The first display name.
    pub displayname: String,
    /// The registration token to use up.
    pub registration_token: Option<String>,
    /// The device to log in, if any.
    pub wish: Option<Wish>,
}

/// Makes an account with its profile, and logs its first device in: one change.
///
/// # Errors
/// 400 `M_USER_IN_USE` if the name is taken; 401 if the registration token was used up meanwhile.
pub async fn create(app: &App, new: NewAccount) -> Result<Opened, ApiError> {
    let node = app.node();
    let user_id = format!("@{}:{}", new.localpart, node.server_name());
    let user = node.names().user(node.store(), &user_id)?;
    let token = match &new.registration_token {
        Some(token) => Some(
            node.lock(Lock::Named(format!("registration token {token}")))
                .await,
        ),
        None => None,
    };
    let guards: (Option<Guard>, Guard) = (token, node.lock(Lock::User(user)).await);
    let mut txn = node.begin();
    match accounts::create(&mut txn, user, &new.account) {
        Err(users::Error::Exists(_)) => return Err(in_use()),
        created => created?,
    }
    if let Some(token) = &new.registration_token {
        let taken = registration_tokens::take(&mut txn, token, node.now_ms());
        if let Err(users::Error::NotFound(_)) = taken {
            let why = "The registration token was used up meanwhile";
            return Err(ApiError::new(ErrCode::Unauthorized, why));
        }
        taken?;
    }
    introduce(&mut txn, user, &user_id, &new)?;
    let opened = match &new.wish {
        Some(wish) => open(app, &mut txn, user, wish)?,
        None => Opened::without_login(app, user_id),
    };
    node.commit(guards, txn, Touched::user(user)).await?;
    Ok(opened)
}

/// The first profile, and the place in the user directory.
fn introduce(txn: &mut Txn, user: UserSn, user_id: &str, new: &NewAccount) -> Result<(), ApiError> {
    let displayname: String = new
        .displayname
        .chars()
        .take(profile::MAX_DISPLAYNAME_CHARS)
        .collect();
    profile::set(txn, user, profile::DISPLAYNAME, displayname.into())?;
    if new.account.kind == Kind::User {
        directory::add(txn, user, user_id)?;
    }
    Ok(())
}

fn in_use() -> ApiError {
    ApiError::new(ErrCode::UserInUse, "This user name is taken")
}

/// Refuses names that may not be, and names that are taken.
fn check_localpart(app: &App, localpart: &str) -> Result<(), ApiError> {
    let user_id = format!("@{localpart}:{}", app.node().server_name());
    if let Some(problem) = localpart_problem(localpart, &user_id) {
        return Err(ApiError::new(ErrCode::InvalidUsername, problem));
    }
    let head = app.node().store().head();
    if let Some(user) = app.node().names().known_user(&head, &user_id)?
        && accounts::exists(&head, user)?
    {
        return Err(in_use());
    }
    Ok(())
}

#[derive(Deserialize)]
struct AvailableQuery {
    username: String,
}

async fn available(
    State(app): State<App>,
    arrival: Arrival,
    Query(query): Query<AvailableQuery>,
) -> Result<Json<Value>, ApiError> {
    app.limiter()
        .check(Class::Request, Key::Address(arrival.address))?;
    if app.config().registration.mode == RegistrationMode::Closed {
        return Err(ApiError::forbidden("Registration is closed on this server"));
    }
    check_localpart(&app, &query.username.to_lowercase())?;
    Ok(Json(json!({"available": true})))
}

#[derive(Deserialize)]
struct ValidityQuery {
    token: String,
}

async fn token_validity(
    State(app): State<App>,
    arrival: Arrival,
    Query(query): Query<ValidityQuery>,
) -> Result<Json<Value>, ApiError> {
    app.limiter()
        .check(Class::Registration, Key::Address(arrival.address))?;
    if app.config().registration.mode == RegistrationMode::Closed {
        return Err(ApiError::forbidden("Registration is closed on this server"));
    }
    let valid = interactive_auth::is_configured_token(&app, &query.token)
        || registration_tokens::get(&app.node().view(), &query.token)?
            .is_some_and(|token| token.is_valid(app.node().now_ms()));
    Ok(Json(json!({"valid": valid})))
}

/// How long a nonce is good for.
const NONCE_LIFETIME: Duration = Duration::from_secs(60);
/// Nonces kept at once.
const MOST_NONCES: usize = 10_000;

/// Nonces given and not yet used.
#[derive(Default)]
pub struct Nonces(Mutex<HashMap<String, Instant>>);

impl Nonces {
    fn give(&self, nonce: String) -> Result<(), ApiError> {
        let mut nonces = self.0.lock();
        nonces.retain(|_, given| given.elapsed() < NONCE_LIFETIME);
        if nonces.len() >= MOST_NONCES {
            return Err(ApiError::limit_exceeded(NONCE_LIFETIME));
        }
        nonces.insert(nonce, Instant::now());
        Ok(())
    }

    fn take(&self, nonce: &str) -> bool {
        let given = self.0.lock().remove(nonce);
        given.is_some_and(|given| given.elapsed() < NONCE_LIFETIME)
    }
}

/// The secret, or the refusal that Synapse's tools know.
fn shared_secret(app: &App) -> Result<String, ApiError> {
    let config = app.config();
    match &config.registration.shared_secret {
        Some(secret) => Ok(secret.reveal().to_owned()),
        None => Err(ApiError::new(
            ErrCode::Unknown,
            "Registration by shared secret is not enabled",
        )
        .with_status(StatusCode::BAD_REQUEST)),
    }
}

async fn nonce(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    shared_secret(&app)?;
    let random: [u8; 32] = app.node().random();
    let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    app.nonces().give(nonce.clone())?;
    Ok(Json(json!({"nonce": nonce})))
}

#[derive(Deserialize)]
struct SecretRequest {
    nonce: String,
    username: String,
    password: String,
    mac: String,
    #[serde(default)]
    admin: bool,
    displayname: Option<String>,
    user_type: Option<String>,
}

async fn register_by_secret(
    State(app): State<App>,
    JsonBody(request): JsonBody<SecretRequest>,
) -> Result<Json<Opened>, ApiError> {
    let secret = shared_secret(&app)?;
    let refused = |why| ApiError::new(ErrCode::Unknown, why);
    if !app.nonces().take(&request.nonce) {
        return Err(refused("Unrecognised nonce").with_status(StatusCode::BAD_REQUEST));
    }
    if !is_signed(&secret, &request) {
        return Err(ApiError::forbidden("HMAC incorrect"));
    }
    if request.password.is_empty() || request.password.len() > 512 {
        return Err(ApiError::invalid_param("The password has 1 to 512 bytes"));
    }
    let localpart = request.username.to_lowercase();
    check_localpart(&app, &localpart)?;
    let hash = app
        .passwords()
        .hash(app.node(), request.password.clone())
        .await?;
    let new = NewAccount {
        account: Account {
            admin: request.admin,
            ..Account::new(Kind::User, app.node().now_ms(), Some(hash))
        },
        displayname: request.displayname.unwrap_or_else(|| localpart.clone()),
        localpart,
        registration_token: None,
        wish: Some(Wish::default()),
    };
    create(&app, new).await.map(Json)
}

/// Whether `mac` is the HMAC-SHA1, under the secret, of nonce, user name, password and role, and of
/// the user type if there is one, with zero bytes between them.
fn is_signed(secret: &str, request: &SecretRequest) -> bool {
    let role = if request.admin { "admin" } else { "notadmin" };
    let mut parts = vec![
        &*request.nonce,
        &*request.username,
        &*request.password,
        role,
    ];
    parts.extend(request.user_type.as_deref());
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.as_bytes()) else {
        return false;
    };
    mac.update(parts.join("\0").as_bytes());
    decode_hex(&request.mac).is_some_and(|given| mac.verify_slice(&given).is_ok())
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_by_secret_is_signed_as_the_tools_do_it() {
        // printf 'n\0alice\0wonder\0notadmin' | openssl dgst -sha1 -hmac secret
        let mut request = SecretRequest {
            nonce: "n".to_owned(),
            username: "alice".to_owned(),
            password: "wonder".to_owned(),
            mac: "MAC".to_owned(),
            admin: false,
            displayname: None,
            user_type: None,
        };
        assert!(!is_signed("secret", &request));
        request.mac = "df9f9ec13d52d2d8b048358d83cfefb1224c146f".to_owned();
        assert!(is_signed("secret", &request));
        assert!(!is_signed("other", &request));
        request.admin = true;
        assert!(!is_signed("secret", &request));
    }

    #[test]
    fn a_nonce_is_good_once() {
        let nonces = Nonces::default();
        nonces.give("n".to_owned()).expect("room for one");
        assert!(nonces.take("n"));
        assert!(!nonces.take("n"));
        assert!(!nonces.take("other"));
    }
}
