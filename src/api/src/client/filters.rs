//! Filters (client-server API, "Filtering").

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bytes::Bytes;
use node::Touched;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use users::filters;

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;
use crate::json::{Json, JsonBody, JsonBytes};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/user/{user_id}/filter", post(upload))
        .route(
            "/_matrix/client/v3/user/{user_id}/filter/{filter_id}",
            get(download),
        )
}

async fn upload(
    State(app): State<App>,
    session: Session,
    Params(user_id): Params<String>,
    JsonBody(filter): JsonBody<Box<RawValue>>,
) -> Result<Json<Value>, ApiError> {
    session.must_be(&user_id)?;
    let mut txn = app.node().begin();
    let put = filters::put(&mut txn, session.user, filter.get().as_bytes());
    let id = put.map_err(|error| match error {
        users::Error::Invalid(why) => ApiError::bad_json(why),
        other => other.into(),
    })?;
    // A stored filter never changes, so that nothing is read and then written.
    app.node().commit((), txn, Touched::nobody()).await?;
    Ok(Json(json!({"filter_id": id})))
}

async fn download(
    State(app): State<App>,
    session: Session,
    Params((user_id, filter_id)): Params<(String, String)>,
) -> Result<JsonBytes, ApiError> {
    session.must_be(&user_id)?;
    let filter = filters::get(&app.node().view(), session.user, &filter_id)?
        .ok_or_else(|| ApiError::not_found("There is no such filter"))?;
    Ok(JsonBytes(Bytes::from(filter)))
}
