//! Searching for users (client-server API, "User Directory").
//!
//! Users of this server are found by an index. Those of other servers are looked for among the members of the searcher's
//! rooms, the small rooms first, and of no more than some thousands of them: who searches for a word of a name knows the
//! person, and they mostly share a small room. A whole user id is looked up, however large the rooms are.

use std::collections::HashSet;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use config::DirectoryScope;
use event::auth::Membership;
use event::json::{member, string};
use names::{RoomSn, UserSn};
use node::Lane;
use rooms::{Member, event_log, members};
use serde::Deserialize;
use serde_json::{Value, json};
use store::View;
use users::accounts;
use users::directory::{self, Found, Term};

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
/// Members of other servers who are looked at.
const MOST_LOOKED_AT: usize = 5_000;

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
    let find = move || -> users::Result<(Vec<Found>, bool)> {
        // Nobody looks for themselves: in a list of whom to invite they would stand in the way.
        let visible = |user| {
            Ok(user != me && ((everyone && is_active(&view, user)?) || may_find(&view, me, user)?))
        };
        let term = Term::new(&request.search_term);
        let (mut found, mut limited) = directory::search(&view, &term, limit, visible)?;
        if !limited {
            limited = search_others(&view, me, &term, limit, &mut found).map_err(store_error)?;
        }
        Ok((found, limited))
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

/// The user of another server that is searched for by the whole id, if the searcher shares a room with them.
fn find_other(view: &View, me: UserSn, term: &Term, user_id: &str) -> rooms::Result<Option<Found>> {
    let Some(user) = names::user_sn(view, user_id)?.filter(|user| !user.is_local()) else {
        return Ok(None);
    };
    for room in members::joined_rooms(view, me)? {
        let joined = |member: &Member| member.membership() == Membership::Join;
        if let Some(member) = members::get(view, room, user)?.filter(joined) {
            return shown(view, room, user, member, term);
        }
    }
    Ok(None)
}

/// Adds users of other servers with whom the searcher shares a room. True if there may be more.
fn search_others(
    view: &View,
    me: UserSn,
    term: &Term,
    limit: usize,
    found: &mut Vec<Found>,
) -> rooms::Result<bool> {
    if let Some(user_id) = term.whole_id() {
        found.extend(find_other(view, me, term, user_id)?);
        return Ok(false);
    }
    let mut rooms = Vec::new();
    for room in members::joined_rooms(view, me)? {
        let size = event_log::head(view, room)?.map_or(0, |head| head.joined);
        rooms.push((size, room));
    }
    rooms.sort_unstable();
    let (mut seen, mut looked_at) = (HashSet::new(), 0);
    for (_, room) in rooms {
        for other in members::joined_elsewhere(view, room) {
            let (user, member) = other?;
            if looked_at == MOST_LOOKED_AT {
                return Ok(true);
            }
            looked_at += 1;
            if !seen.insert(user) {
                continue;
            }
            let Some(shown) = shown(view, room, user, member, term)? else {
                continue;
            };
            if found.len() == limit {
                return Ok(true);
            }
            found.push(shown);
        }
    }
    Ok(false)
}

/// A member as the room shows them, if they are searched for.
fn shown(
    view: &View,
    room: RoomSn,
    user: UserSn,
    of: Member,
    term: &Term,
) -> rooms::Result<Option<Found>> {
    let Some(event) = event_log::get(view, room, of.event)? else {
        return Ok(None);
    };
    let content = member(&event.json, "content").unwrap_or("{}");
    let text = |key| {
        member(content, key)
            .and_then(string)
            .map(|text| text.into_owned())
    };
    let user_id = names::user_id(view, user)?;
    let display_name = text("displayname");
    Ok(term
        .finds(&user_id, display_name.as_deref())
        .then(|| Found {
            user,
            user_id,
            display_name,
            avatar_url: text("avatar_url"),
        }))
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
