//! OpenID tokens, exchanged for whom they stand for: by services, which need not be homeservers and sign nothing.
//! <https://spec.matrix.org/v1.19/server-server-api/#openid>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use users::{accounts, tokens};

use crate::app::App;
use crate::error::{ApiError, ErrCode};
use crate::json::Json;
use crate::request::Query;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/federation/v1/openid/userinfo", get(userinfo))
}

#[derive(Deserialize)]
struct Exchange {
    access_token: Option<String>,
}

async fn userinfo(
    State(app): State<App>,
    Query(exchange): Query<Exchange>,
) -> Result<Json<Value>, ApiError> {
    let token = exchange.access_token.ok_or_else(ApiError::missing_token)?;
    let node = app.node();
    let view = node.view();
    let unknown = || ApiError::new(ErrCode::UnknownToken, "Access token unknown or expired");
    let user = tokens::openid_user(&view, &tokens::hash(&token), node.now_ms())?;
    let user = user.ok_or_else(unknown)?;
    if accounts::get(&view, user)?.is_none_or(|account| account.deactivated) {
        return Err(unknown());
    }
    Ok(Json(json!({ "sub": &*node.names().user_id(&view, user)? })))
}
