//! The events that the user was notified of.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3notifications>

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use node::{Lane, NodeError};
use serde::Deserialize;
use store::Position;
use sync::NotificationsAsked;

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;
use crate::json::JsonBytes;
use crate::request::Query;

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/client/v3/notifications", get(notifications))
}

/// Notifications of a page where the client does not say.
const DEFAULT_LIMIT: usize = 50;
/// The most notifications of a page.
const MOST_LIMIT: usize = 500;

#[derive(Deserialize)]
struct Wanted {
    from: Option<String>,
    limit: Option<usize>,
    only: Option<String>,
}

async fn notifications(
    State(app): State<App>,
    session: Session,
    Query(wanted): Query<Wanted>,
) -> Result<JsonBytes, ApiError> {
    let before = match wanted.from.as_deref().filter(|from| !from.is_empty()) {
        Some(from) => {
            let position = from.strip_prefix('n').and_then(|text| text.parse().ok());
            let position = position
                .ok_or_else(|| ApiError::invalid_param("from is not a token of this server"))?;
            Some(Position(position))
        }
        None => None,
    };
    let view = app.node().view();
    let rooms = app.node().rooms_of(session.user, &view)?;
    let memory = Arc::clone(app.node().memory());
    let now_ms = app.node().now_ms();
    let build = move || {
        let asked = NotificationsAsked {
            user: session.user,
            user_id: &session.user_id,
            device: &session.device,
            before,
            limit: wanted.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MOST_LIMIT),
            only_highlight: wanted.only.as_deref() == Some("highlight"),
            now_ms,
        };
        sync::notifications(&view, &memory, &rooms, &asked)
    };
    let body = app.node().run(Lane::Bulk, build).await?;
    Ok(JsonBytes(body.map_err(NodeError::from)?.into()))
}
