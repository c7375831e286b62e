//! Transactions of other servers: `PUT /send`.
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>

use axum::Router;
use axum::extract::State;
use axum::routing::put;

use crate::app::App;
use crate::error::ApiError;
use crate::federation::Signed;
use crate::json::JsonBytes;
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/federation/v1/send/{txn_id}", put(send))
}

async fn send(
    State(app): State<App>,
    Params(txn_id): Params<String>,
    signed: Signed,
) -> Result<JsonBytes, ApiError> {
    let body = signed.body().clone();
    let node = app.node();
    let answer = node.take_transaction(&signed.origin, &txn_id, body).await?;
    Ok(JsonBytes(answer))
}
