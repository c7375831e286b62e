//! This server's directory of published rooms, for other servers.
//! <https://spec.matrix.org/v1.19/server-server-api/#published-room-directory>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use rooms::about::About;
use rooms::directory::Asked;
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
    signed: Signed,
) -> Result<Json<Value>, ApiError> {
    page_for(&app, &signed, listing.asked()?).await
}

async fn search(State(app): State<App>, signed: Signed) -> Result<Json<Value>, ApiError> {
    let filtered: Filtered = signed.json()?;
    page_for(&app, &signed, filtered.asked()?).await
}

/// A page without the rooms that are not shared with the server.
async fn page_for(app: &App, signed: &Signed, asked: Asked) -> Result<Json<Value>, ApiError> {
    must_be_shared(app)?;
    let may_see = |about: &About| app.node().may_share_room(&signed.origin, &about.room_id);
    own_page(app, asked, may_see).await
}
