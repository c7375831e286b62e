//! OpenID tokens: proof of identity to third parties (client-server API, "OpenID").

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use node::Touched;
use serde_json::{Map, Value, json};
use users::tokens;

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;
use crate::json::{Json, JsonBodyOrEmpty};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new().route(
        "/_matrix/client/v3/user/{user_id}/openid/request_token",
        post(request_token),
    )
}

/// How long an OpenID token is good for, in seconds.
const LIFETIME_S: u64 = 3600;

async fn request_token(
    State(app): State<App>,
    session: Session,
    Params(user_id): Params<String>,
    JsonBodyOrEmpty(_): JsonBodyOrEmpty<Map<String, Value>>,
) -> Result<Json<Value>, ApiError> {
    session.must_be(&user_id)?;
    let token = tokens::text(tokens::Purpose::OpenId, app.node().random());
    let expires_ms = app.node().now_ms() + LIFETIME_S * 1000;
    let mut txn = app.node().begin();
    tokens::put_openid(&mut txn, tokens::hash(&token), session.user, expires_ms);
    app.node().commit((), txn, Touched::nobody()).await?;
    Ok(Json(json!({
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": app.node().server_name(),
        "expires_in": LIFETIME_S,
    })))
}
