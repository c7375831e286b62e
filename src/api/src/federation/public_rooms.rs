//! This server's directory of published rooms, for other servers.
//! <https://spec.matrix.org/v1.19/server-server-api/#published-room-directory>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::Value;

use crate::app::App;
use crate::client::directory::{Filtered, Listing, own_page};
use crate::error::ApiError;
use crate::federation::Signed;
use crate::json::Json;
use crate::request::Query;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/federation/v1/publicRooms";
    Router::new().route(path, get(list).post(search))
}

fn must_be_shared(app: &App) -> Result<(), ApiError> {
    match app.config().rooms.share_directory {
        true => Ok(()),
        false => Err(ApiError::forbidden(
            "This server keeps its room directory to itself",
        )),
    }
}

async fn list(
    State(app): State<App>,
    Query(listing): Query<Listing>,
    _signed: Signed,
) -> Result<Json<Value>, ApiError> {
    must_be_shared(&app)?;
    own_page(&app, listing.asked()?).await
}

async fn search(State(app): State<App>, signed: Signed) -> Result<Json<Value>, ApiError> {
    must_be_shared(&app)?;
    let filtered: Filtered = signed.json()?;
    own_page(&app, filtered.asked()?).await
}
