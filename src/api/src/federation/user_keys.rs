//! Keys of this server's users, for other servers: asked for and claimed.
//! <https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption>

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use node::Lane;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use users::keys::query::{UserKeys, user_keys};

use super::user_devices::{local_user, viewer};
use crate::app::App;
use crate::error::ApiError;
use crate::federation::Signed;
use crate::json::{Json, JsonBytes};
use crate::key_answers::{claim_of_user, write_keys};

/// Users whose keys are read between two other requests; more go to a lane.
const MOST_USERS_INLINE: usize = 8;

/// Users whose one-time keys one request claims at a time.
const MOST_CLAIMS_AT_ONCE: usize = 32;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/federation/v1/user/keys/query", post(query))
        .route("/_matrix/federation/v1/user/keys/claim", post(claim))
}

#[derive(Deserialize)]
struct KeyQuery {
    device_keys: BTreeMap<String, Vec<String>>,
}

async fn query(State(app): State<App>, signed: Signed) -> Result<JsonBytes, ApiError> {
    let mut body: KeyQuery = signed.json()?;
    body.device_keys
        .retain(|user_id, _| app.node().may_share_user(&signed.origin, user_id));
    if body.device_keys.len() <= MOST_USERS_INLINE {
        return render(&app, &body).map(JsonBytes);
    }
    let node = app.node().clone();
    let work = move || render(&app, &body);
    Ok(JsonBytes(node.run(Lane::Bulk, work).await??))
}

fn render(app: &App, body: &KeyQuery) -> Result<Bytes, ApiError> {
    let view = app.node().view();
    let viewer = viewer(app);
    let mut found: Vec<(&str, UserKeys)> = Vec::new();
    for (user_id, devices) in &body.device_keys {
        if let Some(user) = local_user(app, &view, user_id)? {
            found.push((user_id, user_keys(&view, viewer, user, devices)?));
        }
    }
    let mut out = Vec::with_capacity(2048);
    out.push(b'{');
    write_keys(&mut out, &found);
    out.push(b'}');
    Ok(out.into())
}

#[derive(Deserialize)]
struct Claim {
    one_time_keys: BTreeMap<String, BTreeMap<String, String>>,
}

async fn claim(State(app): State<App>, signed: Signed) -> Result<Json<Value>, ApiError> {
    let mut body: Claim = signed.json()?;
    body.one_time_keys
        .retain(|user_id, _| app.node().may_share_user(&signed.origin, user_id));
    let mut claims = JoinSet::new();
    let mut claimed = Map::new();
    for (user_id, wanted) in body.one_time_keys {
        let Some(user) = local_user(&app, &app.node().view(), &user_id)? else {
            continue;
        };
        if claims.len() >= MOST_CLAIMS_AT_ONCE {
            take(&mut claims, &mut claimed).await?;
        }
        // Users are claimed from side by side: one sync of the disk serves many.
        let app = app.clone();
        claims.spawn(async move { Ok((user_id, claim_of_user(&app, user, &wanted).await?)) });
    }
    while !claims.is_empty() {
        take(&mut claims, &mut claimed).await?;
    }
    Ok(Json(json!({ "one_time_keys": claimed })))
}

type Claimed = Result<(String, Map<String, Value>), ApiError>;

async fn take(
    claims: &mut JoinSet<Claimed>,
    claimed: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    if let Some(finished) = claims.join_next().await {
        let (user_id, keys) = finished.map_err(ApiError::internal)??;
        if !keys.is_empty() {
            claimed.insert(user_id, keys.into());
        }
    }
    Ok(())
}
