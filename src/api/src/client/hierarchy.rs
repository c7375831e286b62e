//! The rooms of a space.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use rooms::hierarchy::walk::{Asked, Shown};
use rooms::hierarchy::{Child, Room};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::app::App;
use crate::auth::GuestSession;
use crate::client::summary::entry;
use crate::error::ApiError;
use crate::json::JsonBytes;
use crate::request::{Params, Query};

/// The endpoint of this file.
pub fn routes() -> Router<App> {
    let path = "/_matrix/client/v1/rooms/{room_id}/hierarchy";
    Router::new().route(path, get(rooms_of_space))
}

/// The most rooms of a page, and how many it has where the client does not say.
const MOST_LIMIT: usize = 50;

#[derive(Deserialize)]
struct Wanted {
    from: Option<String>,
    limit: Option<usize>,
    max_depth: Option<u64>,
    #[serde(default)]
    suggested_only: bool,
}

/// `next_batch`: how many rooms were shown, and what was asked, which must not change between pages.
fn token(shown: usize, wanted: &Wanted) -> String {
    let depth = wanted
        .max_depth
        .map_or_else(String::new, |depth| depth.to_string());
    let suggested = u8::from(wanted.suggested_only);
    format!("h{shown}.{depth}.{suggested}")
}

/// How many rooms the pages before have shown.
fn shown_before(wanted: &Wanted) -> Option<usize> {
    let Some(from) = wanted.from.as_deref().filter(|from| !from.is_empty()) else {
        return Some(0);
    };
    let shown = from.strip_prefix('h')?.split('.').next()?.parse().ok()?;
    (token(shown, wanted) == from).then_some(shown)
}

async fn rooms_of_space(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(room_id): Params<String>,
    Query(wanted): Query<Wanted>,
) -> Result<JsonBytes, ApiError> {
    if wanted.limit == Some(0) {
        return Err(ApiError::invalid_param("limit is above 0"));
    }
    let skip = shown_before(&wanted).ok_or_else(|| {
        ApiError::invalid_param("from does not go with these values of the other parameters")
    })?;
    let asked = Asked {
        root: room_id,
        viewer: session.user,
        max_depth: wanted.max_depth,
        suggested_only: wanted.suggested_only,
        skip,
        limit: wanted.limit.unwrap_or(MOST_LIMIT).min(MOST_LIMIT),
    };
    let page = app.node().space_page(asked).await?;
    let page = page.ok_or_else(|| ApiError::forbidden("You may not see this room"))?;
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"{\"rooms\":[");
    for (n, room) in page.rooms.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        match room {
            Shown::Here(room) => write_room(&mut out, room)?,
            Shown::Elsewhere(told) => write(&mut out, &told.fields, &told.children)?,
        }
    }
    out.push(b']');
    if page.more {
        let next = token(skip + page.rooms.len(), &wanted);
        out.extend_from_slice(format!(",\"next_batch\":\"{next}\"").as_bytes());
    }
    out.push(b'}');
    Ok(JsonBytes(out.into()))
}

/// Writes a room with its children.
pub fn write_room(out: &mut Vec<u8>, room: &Room) -> Result<(), ApiError> {
    write(out, &entry(&room.about), &room.children)
}

fn write(
    out: &mut Vec<u8>,
    fields: &Map<String, Value>,
    children: &[Child],
) -> Result<(), ApiError> {
    let fields = serde_json::to_vec(fields).map_err(ApiError::internal)?;
    // The fields' object goes on with the children, which are JSON already.
    out.extend_from_slice(fields.strip_suffix(b"}").unwrap_or(&fields));
    out.extend_from_slice(b",\"children_state\":[");
    for (n, child) in children.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(child.stripped.as_bytes());
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(from: Option<&str>, max_depth: Option<u64>) -> Wanted {
        Wanted {
            from: from.map(str::to_owned),
            limit: None,
            max_depth,
            suggested_only: true,
        }
    }

    #[test]
    fn a_token_goes_with_what_was_asked_on_the_page_before() {
        let first = wanted(None, Some(2));
        assert_eq!(shown_before(&first), Some(0));
        let next = token(7, &first);
        assert_eq!(shown_before(&wanted(Some(&next), Some(2))), Some(7));
        assert_eq!(shown_before(&wanted(Some(&next), Some(3))), None);
        assert_eq!(shown_before(&wanted(Some(&next), None)), None);
        for broken in ["h", "7.2.1", "h7", "h7.2.1x", "h+7.2.1"] {
            assert_eq!(
                shown_before(&wanted(Some(broken), Some(2))),
                None,
                "{broken}"
            );
        }
    }
}
