//! One level of a space.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use node::Lane;
use rooms::hierarchy::for_server::for_server;
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::client::hierarchy::write_room;
use crate::client::summary::entry;
use crate::error::ApiError;
use crate::federation::Signed;
use crate::json::JsonBytes;
use crate::request::{Params, Query};

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/federation/v1/hierarchy/{room_id}";
    Router::new().route(path, get(level))
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    suggested_only: bool,
}

async fn level(
    State(app): State<App>,
    Params(room_id): Params<String>,
    Query(wanted): Query<Wanted>,
    signed: Signed,
) -> Result<JsonBytes, ApiError> {
    let no_room = || ApiError::not_found("There is no such room, or this server may not enter it");
    let view = app.node().view();
    let known = app.node().names().known_room(&view, &room_id)?;
    let (root, origin) = (known.ok_or_else(no_room)?, signed.origin);
    let asking = Arc::clone(&origin);
    let read = move || for_server(&view, root, &asking, wanted.suggested_only);
    let level = app.node().run(Lane::Bulk, read).await??;
    let mut level = level.ok_or_else(no_room)?;
    let is_shared = |room_id: &str| app.node().may_share_room(&origin, room_id);
    level.children.retain(|about| is_shared(&about.room_id));
    level.inaccessible.retain(|room_id| is_shared(room_id));
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"{\"room\":");
    write_room(&mut out, &level.room)?;
    out.extend_from_slice(b",\"children\":[");
    for (index, about) in level.children.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, &entry(about)).map_err(ApiError::internal)?;
    }
    out.extend_from_slice(b"],\"inaccessible_children\":");
    out.extend_from_slice(json!(level.inaccessible).to_string().as_bytes());
    out.push(b'}');
    Ok(JsonBytes(out.into()))
}
