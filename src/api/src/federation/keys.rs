//! The keys of this server, those of others as a notary, and the version ("Retrieving server keys").
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>
//!
//! Nobody has to sign these requests: without keys no request can be checked. What they cost is counted by address.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use event::identifier::is_server_name;
use node::federation::WantedKeys;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use servers::keys::Purpose;

use crate::app::App;
use crate::error::ApiError;
use crate::json::{Json, JsonBody, JsonBytes};
use crate::limits::{Class, Key};
use crate::request::{Arrival, Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/federation/v1/version", get(version))
        .route("/_matrix/key/v2/server", get(own_keys))
        .route("/_matrix/key/v2/server/", get(own_keys))
        .route("/_matrix/key/v2/server/{keyId}", get(own_keys))
        .route("/_matrix/key/v2/query", post(query_many))
        .route("/_matrix/key/v2/query/{serverName}", get(query_one))
        .route(
            "/_matrix/key/v2/query/{serverName}/{keyId}",
            get(query_one_key),
        )
}

/// The most servers and keys that one query may name.
const MOST_QUERIED: usize = 256;

async fn version() -> Json<Value> {
    Json(json!({"server": {"name": "Meyrin", "version": env!("CARGO_PKG_VERSION")}}))
}

/// With a key's id, which the specification has dropped, the answer is the same.
async fn own_keys(State(app): State<App>) -> Result<JsonBytes, ApiError> {
    Ok(JsonBytes(app.node().published_own_keys()?))
}

#[derive(Deserialize)]
struct Since {
    minimum_valid_until_ts: Option<u64>,
}

async fn query_one(
    State(app): State<App>,
    Params(server_name): Params<String>,
    Query(since): Query<Since>,
    arrival: Arrival,
) -> Result<Json<Value>, ApiError> {
    let wanted = wanted(&app, server_name, Vec::new(), since.minimum_valid_until_ts)?;
    notarised(&app, arrival, vec![wanted]).await
}

async fn query_one_key(
    State(app): State<App>,
    Params((server_name, key_id)): Params<(String, String)>,
    Query(since): Query<Since>,
    arrival: Arrival,
) -> Result<Json<Value>, ApiError> {
    let key_ids = vec![key_id];
    let wanted = wanted(&app, server_name, key_ids, since.minimum_valid_until_ts)?;
    notarised(&app, arrival, vec![wanted]).await
}

#[derive(Deserialize)]
struct Asked {
    server_keys: BTreeMap<String, BTreeMap<String, Since>>,
}

async fn query_many(
    State(app): State<App>,
    arrival: Arrival,
    JsonBody(asked): JsonBody<Asked>,
) -> Result<Json<Value>, ApiError> {
    let count: usize = asked
        .server_keys
        .values()
        .map(|keys| keys.len().max(1))
        .sum();
    if count > MOST_QUERIED {
        return Err(ApiError::invalid_param(format!(
            "At most {MOST_QUERIED} keys can be queried at once"
        )));
    }
    let mut all = Vec::with_capacity(asked.server_keys.len());
    for (server_name, keys) in asked.server_keys {
        let latest = keys.values().filter_map(|key| key.minimum_valid_until_ts);
        let since_ms = latest.max();
        all.push(wanted(
            &app,
            server_name,
            keys.into_keys().collect(),
            since_ms,
        )?);
    }
    notarised(&app, arrival, all).await
}

fn wanted(
    app: &App,
    server_name: String,
    key_ids: Vec<String>,
    valid_until_ms: Option<u64>,
) -> Result<WantedKeys, ApiError> {
    if !is_server_name(&server_name) {
        return Err(ApiError::invalid_param("That is no server name"));
    }
    let at_ms = valid_until_ms.unwrap_or_else(|| app.node().now_ms());
    Ok(WantedKeys {
        server_name,
        key_ids,
        purpose: Purpose::EventOf(at_ms),
    })
}

/// Counted by what it may make this server do: a request to each server that is named.
async fn notarised(
    app: &App,
    arrival: Arrival,
    wanted: Vec<WantedKeys>,
) -> Result<Json<Value>, ApiError> {
    let count = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
    let address = Key::Address(arrival.address);
    app.limiter()
        .check_many(Class::Federation, address, count)?;
    let mut server_keys: Vec<Box<RawValue>> = Vec::with_capacity(wanted.len());
    for document in app.node().notarised_keys(wanted).await? {
        server_keys.push(RawValue::from_string(document).map_err(ApiError::internal)?);
    }
    Ok(Json(json!({"server_keys": server_keys})))
}
