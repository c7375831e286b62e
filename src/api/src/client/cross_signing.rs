//! Cross-signing keys and signatures.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#cross-signing>.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::post;
use node::{Lock, Touched};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use store::Txn;
use users::accounts::Kind;
use users::keys::{cross_signing, signatures};

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;
use crate::interactive_auth::{self, AuthData};
use crate::json::{Json, JsonBody, JsonBodyOrEmpty, JsonBytes};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/client/v3/keys/device_signing/upload",
            post(upload_keys),
        )
        .route(
            "/_matrix/client/v3/keys/signatures/upload",
            post(upload_signatures),
        )
}

#[derive(Deserialize)]
struct KeysUpload {
    master_key: Option<Box<RawValue>>,
    self_signing_key: Option<Box<RawValue>>,
    user_signing_key: Option<Box<RawValue>>,
    auth: Option<AuthData>,
}

async fn upload_keys(
    State(app): State<App>,
    session: Session,
    JsonBodyOrEmpty(body): JsonBodyOrEmpty<KeysUpload>,
) -> Result<impl IntoResponse, ApiError> {
    let upload = cross_signing::Upload::new(
        session.owner(),
        body.master_key.as_deref().map(RawValue::get),
        body.self_signing_key.as_deref().map(RawValue::get),
        body.user_signing_key.as_deref().map(RawValue::get),
    )?;
    let node = app.node();
    // Once it is given, or if it never is asked for, there is none left to ask for.
    let mut auth = (session.kind != Kind::Appservice).then_some(body.auth);
    let (guard, mut txn) = loop {
        let guard = node.lock(Lock::User(session.user)).await;
        let txn = node.begin();
        // Decided under the lock: of two first uploads at once, the second replaces keys.
        if auth.is_none() || !cross_signing::needs_authentication(&txn, session.user, &upload)? {
            break (guard, txn);
        }
        drop(guard);
        let auth = auth.take().flatten();
        interactive_auth::require_password(&app, &session, "upload cross-signing keys", auth)
            .await?;
    };
    if cross_signing::upload(&mut txn, session.owner(), upload)? {
        let touched = node.keys_changed(session.user)?;
        node.commit(guard, txn, touched).await?;
    }
    Ok(JsonBytes::EMPTY)
}

type Signed = BTreeMap<String, BTreeMap<String, Box<RawValue>>>;

async fn upload_signatures(
    State(app): State<App>,
    session: Session,
    JsonBody(body): JsonBody<Signed>,
) -> Result<impl IntoResponse, ApiError> {
    let node = app.node();
    let guard = node.lock(Lock::User(session.user)).await;
    let mut txn = node.begin();
    let mut touched = Touched::user(session.user);
    let mut failures = Map::new();
    for (owner_id, objects) in &body {
        let mut failed = Map::new();
        for (key_id, object) in objects {
            match upload_signature(&app, &session, &mut txn, owner_id, key_id, object.get()) {
                Ok(true) if *owner_id == *session.user_id => {
                    touched = node.keys_changed(session.user)?;
                }
                Ok(_) => {}
                Err(error) if error.status().is_client_error() => {
                    let code = error.code().map(|code| code.as_str());
                    let failure = json!({ "errcode": code, "error": error.message() });
                    failed.insert(key_id.clone(), failure);
                }
                Err(error) => return Err(error),
            }
        }
        if !failed.is_empty() {
            failures.insert(owner_id.clone(), Value::Object(failed));
        }
    }
    node.commit(guard, txn, touched).await?;
    Ok(Json(json!({ "failures": failures })))
}

fn upload_signature(
    app: &App,
    session: &Session,
    txn: &mut Txn,
    owner_id: &str,
    key_id: &str,
    object: &str,
) -> Result<bool, ApiError> {
    let owner = app.node().names().known_user(txn, owner_id)?;
    let owner = owner.ok_or_else(|| ApiError::not_found("No such user"))?;
    let news = signatures::upload(txn, session.owner(), owner, key_id, object)?;
    Ok(news)
}
