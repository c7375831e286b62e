//! Searching for users (client-server API, "User Directory").

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use config::DirectoryScope;
use names::UserSn;
use node::Lane;
use serde::Deserialize;
use serde_json::{Value, json};
use store::View;
use users::{accounts, directory};

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;
use crate::json::{Json, JsonBody};
use crate::limits::{Class, Key};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/client/v3/user_directory/search", post(search))
}

#[derive(Deserialize)]
struct SearchRequest {
    search_term: String,
    limit: Option<u64>,
}

/// Results unless the client asks for fewer or more.
const DEFAULT_LIMIT: u64 = 10;
/// The most results.
const MAX_LIMIT: u64 = 50;

async fn search(
    State(app): State<App>,
    session: Session,
    JsonBody(request): JsonBody<SearchRequest>,
) -> Result<Json<Value>, ApiError> {
    app.limiter()
        .check(Class::Search, Key::Name(&session.user_id))?;
    let limit = request.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT) as usize;
    let view = app.node().view();
    let everyone = app.config().user_directory.scope == DirectoryScope::Everyone;
    let me = session.user;
    let find = move || {
        // Nobody looks for themselves: in a list of whom to invite they would stand in the way.
        let visible = |user| {
            Ok(user != me && ((everyone && is_active(&view, user)?) || may_find(&view, me, user)?))
        };
        directory::search(&view, &request.search_term, limit, visible)
    };
    let (found, limited) = app.node().run(Lane::Interactive, find).await??;
    let results: Vec<Value> = found
        .into_iter()
        .map(|found| {
            let mut result = json!({"user_id": found.user_id});
            if let Some(name) = found.display_name {
                result["display_name"] = name.into();
            }
            if let Some(url) = found.avatar_url {
                result["avatar_url"] = url.into();
            }
            result
        })
        .collect();
    Ok(Json(json!({"results": results, "limited": limited})))
}

fn is_active(view: &View, user: UserSn) -> users::Result<bool> {
    Ok(user.is_local() && accounts::get(view, user)?.is_some_and(|account| !account.deactivated))
}

/// Users who share a room with the searcher, and those in rooms that anybody may see.
fn may_find(view: &View, me: UserSn, user: UserSn) -> users::Result<bool> {
    if rooms::members::share_room(view, me, user).map_err(store_error)? {
        return Ok(true);
    }
    for room in rooms::members::joined_rooms(view, user).map_err(store_error)? {
        if rooms::directory::is_published(view, room).map_err(store_error)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looking memberships up fails by the store alone.
fn store_error(error: rooms::Error) -> users::Error {
    match error {
        rooms::Error::Store(error) => error.into(),
        other => users::Error::invalid(other.to_string()),
    }
}
