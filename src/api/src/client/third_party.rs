//! Networks of application services (client-server API, "Third-party Networks"); there are none yet.

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;
use crate::json::Json;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/thirdparty/protocols", get(protocols))
        .route(
            "/_matrix/client/v3/thirdparty/protocol/{protocol}",
            get(protocol),
        )
        .route("/_matrix/client/v3/thirdparty/location", get(nothing))
        .route(
            "/_matrix/client/v3/thirdparty/location/{protocol}",
            get(nothing),
        )
        .route("/_matrix/client/v3/thirdparty/user", get(nothing))
        .route(
            "/_matrix/client/v3/thirdparty/user/{protocol}",
            get(nothing),
        )
}

async fn protocols(_: Session) -> Json<Value> {
    Json(json!({}))
}

async fn protocol(_: Session) -> ApiError {
    ApiError::not_found("There is no such protocol")
}

async fn nothing(_: Session) -> Json<Value> {
    Json(json!([]))
}
