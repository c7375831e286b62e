//! `/sync`: <https://spec.matrix.org/v1.19/client-server-api/#syncing>.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use node::SyncRequest;
use quick_cache::sync::Cache;
use serde::Deserialize;
use sync::{StateMode, SyncToken};
use users::filters::{self, Filter};

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::error::ApiError;
use crate::json::JsonBytes;
use crate::request::Query;

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/client/v3/sync", get(sync))
}

/// Filters as clients sent them, parsed; they never change.
static FILTERS: LazyLock<Cache<String, Arc<Filter>>> = LazyLock::new(|| Cache::new(2_000));

#[derive(Deserialize)]
struct Params {
    filter: Option<String>,
    since: Option<String>,
    #[serde(default)]
    full_state: bool,
    set_presence: Option<String>,
    timeout: Option<u64>,
    #[serde(default, alias = "org.matrix.msc4222.use_state_after")]
    use_state_after: bool,
}

/// The filter of a request: JSON, or the id of one that was stored.
fn filter(app: &App, session: &Session, text: Option<&str>) -> Result<Arc<Filter>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(Arc::default());
    };
    let json = if text.starts_with('{') {
        text.to_owned()
    } else {
        let stored = filters::get(&app.node().view(), session.user, text)?
            .ok_or_else(|| ApiError::invalid_param("No such filter"))?;
        String::from_utf8(stored).map_err(ApiError::internal)?
    };
    if let Some(parsed) = FILTERS.get(&json) {
        return Ok(parsed);
    }
    let parsed = Arc::new(Filter::parse(json.as_bytes())?);
    FILTERS.insert(json, Arc::clone(&parsed));
    Ok(parsed)
}

async fn sync(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Query(params): Query<Params>,
) -> Result<JsonBytes, ApiError> {
    let since = match params.since.as_deref().filter(|since| !since.is_empty()) {
        Some(text) => Some(
            SyncToken::parse(text)
                .ok_or_else(|| ApiError::invalid_param("since is not a token of this server"))?,
        ),
        None => None,
    };
    let filter = filter(&app, &session, params.filter.as_deref())?;
    let presence = params.set_presence.as_deref().unwrap_or("online");
    app.node().seen_syncing(session.user, presence)?;
    let timeout = Duration::from_millis(params.timeout.unwrap_or(0));
    let request = SyncRequest {
        user: session.user,
        user_id: Arc::clone(&session.user_id),
        device: Arc::clone(&session.device),
        since,
        filter,
        full_state: params.full_state,
        state_mode: if params.use_state_after {
            StateMode::After
        } else {
            StateMode::Before
        },
        timeout: timeout.min(app.config().http.max_sync_timeout),
    };
    let body = app.node().sync(request).await?;
    Ok(JsonBytes(body.into()))
}
