//! Server-side backups of room keys.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use node::{JOB_PATIENCE, Lane, Lock, Task, Touched, jobs};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use store::Ticket;
use users::backup::{self, BackedUpKey, Backup, PlacedKey, Scope, Totals};

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;
use crate::json::{Json, JsonBody, JsonBytes};
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/client/v3/room_keys/version",
            post(create_version).get(get_current_version),
        )
        .route(
            "/_matrix/client/v3/room_keys/version/{version}",
            get(get_version).put(put_version).delete(delete_version),
        )
        .route(
            "/_matrix/client/v3/room_keys/keys",
            put(put_all).get(get_all).delete(delete_all),
        )
        .route(
            "/_matrix/client/v3/room_keys/keys/{room_id}",
            put(put_room).get(get_room).delete(delete_room),
        )
        .route(
            "/_matrix/client/v3/room_keys/keys/{room_id}/{session_id}",
            put(put_session).get(get_session).delete(delete_session),
        )
}

#[derive(Deserialize)]
struct VersionBody {
    algorithm: String,
    auth_data: Box<RawValue>,
    version: Option<String>,
}

impl VersionBody {
    fn auth_data(&self) -> Result<&str, ApiError> {
        object(&self.auth_data, "auth_data")
    }
}

fn object<'a>(value: &'a RawValue, name: &str) -> Result<&'a str, ApiError> {
    match value.get() {
        text if text.starts_with('{') => Ok(text),
        _ => Err(ApiError::bad_json(format!("{name} must be an object"))),
    }
}

/// The number of a version; what is none can't be that of a backup.
fn version_number(text: &str) -> Result<u64, ApiError> {
    text.parse()
        .map_err(|_| ApiError::not_found("Unknown backup version"))
}

async fn create_version(
    State(app): State<App>,
    session: Session,
    JsonBody(body): JsonBody<VersionBody>,
) -> Result<impl IntoResponse, ApiError> {
    let node = app.node();
    let guard = node.lock(Lock::User(session.user)).await;
    let mut txn = node.begin();
    let version = backup::create(&mut txn, session.user, &body.algorithm, body.auth_data()?)?;
    node.commit(guard, txn, Touched::nobody()).await?;
    Ok(Json(json!({ "version": version.to_string() })))
}

async fn get_current_version(
    State(app): State<App>,
    session: Session,
) -> Result<impl IntoResponse, ApiError> {
    let (version, backup) = backup::current(&app.node().view(), session.user)?
        .ok_or_else(|| ApiError::not_found("No current backup version"))?;
    describe(version, &backup)
}

async fn get_version(
    State(app): State<App>,
    session: Session,
    Params(version): Params<String>,
) -> Result<impl IntoResponse, ApiError> {
    let version = version_number(&version)?;
    let backup = backup::get(&app.node().view(), session.user, version)?;
    describe(version, &backup)
}

fn describe(version: u64, backup: &Backup) -> Result<impl IntoResponse + use<>, ApiError> {
    let auth_data: Box<RawValue> =
        RawValue::from_string(backup.auth_data.clone()).map_err(ApiError::internal)?;
    let mut body: BTreeMap<&str, Box<RawValue>> = BTreeMap::from([("auth_data", auth_data)]);
    let members = [
        ("algorithm", json!(backup.algorithm)),
        ("count", json!(backup.count)),
        ("etag", json!(backup.etag.to_string())),
        ("version", json!(version.to_string())),
    ];
    for (name, value) in members {
        let text = RawValue::from_string(value.to_string()).map_err(ApiError::internal)?;
        body.insert(name, text);
    }
    Ok(Json(body))
}

async fn put_version(
    State(app): State<App>,
    session: Session,
    Params(version): Params<String>,
    JsonBody(body): JsonBody<VersionBody>,
) -> Result<impl IntoResponse, ApiError> {
    let number = version_number(&version)?;
    if body.version.as_ref().is_some_and(|named| *named != version) {
        return Err(ApiError::invalid_param(
            "The version in the body is not that in the path",
        ));
    }
    let node = app.node();
    let guard = node.lock(Lock::User(session.user)).await;
    let mut txn = node.begin();
    let auth_data = body.auth_data()?;
    backup::update(&mut txn, session.user, number, &body.algorithm, auth_data)?;
    node.commit(guard, txn, Touched::nobody()).await?;
    Ok(JsonBytes::EMPTY)
}

async fn delete_version(
    State(app): State<App>,
    session: Session,
    Params(version): Params<String>,
) -> Result<impl IntoResponse, ApiError> {
    let node = app.node();
    let guard = node.lock(Lock::User(session.user)).await;
    let mut txn = node.begin();
    backup::delete(&mut txn, session.user, version_number(&version)?)?;
    // Nobody sees the keys any more; there may be hundreds of thousands to remove.
    let task = Task::SweepBackups(session.user);
    let job = jobs::schedule(&mut txn, task, node.now_ms());
    let position = node.commit(guard, txn, Touched::nobody()).await?;
    node.start_job(job, position).wait(JOB_PATIENCE).await;
    Ok(JsonBytes::EMPTY)
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct KeyBody {
    first_message_index: u64,
    forwarded_count: u64,
    is_verified: bool,
    session_data: Box<RawValue>,
}

#[derive(Deserialize)]
struct RoomBody {
    sessions: BTreeMap<String, KeyBody>,
}

#[derive(Deserialize)]
struct AllBody {
    rooms: BTreeMap<String, RoomBody>,
}

fn placed(room_id: &str, session_id: String, body: KeyBody) -> Result<PlacedKey, ApiError> {
    Ok(PlacedKey {
        room_id: room_id.to_owned(),
        session_id,
        key: BackedUpKey {
            is_verified: body.is_verified,
            first_message_index: body.first_message_index,
            forwarded_count: body.forwarded_count,
            session_data: object(&body.session_data, "session_data")?.to_owned(),
        },
    })
}

async fn put_all(
    State(app): State<App>,
    session: Session,
    Query(query): Query<Version>,
    JsonBody(body): JsonBody<AllBody>,
) -> Result<impl IntoResponse, ApiError> {
    let mut keys = Vec::new();
    for (room_id, room) in body.rooms {
        for (session_id, key) in room.sessions {
            keys.push(placed(&room_id, session_id, key)?);
        }
    }
    put_keys(&app, &session, &query, &keys).await
}

async fn put_room(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
    Query(query): Query<Version>,
    JsonBody(body): JsonBody<RoomBody>,
) -> Result<impl IntoResponse, ApiError> {
    let mut keys = Vec::new();
    for (session_id, key) in body.sessions {
        keys.push(placed(&room_id, session_id, key)?);
    }
    put_keys(&app, &session, &query, &keys).await
}

async fn put_session(
    State(app): State<App>,
    session: Session,
    Params((room_id, session_id)): Params<(String, String)>,
    Query(query): Query<Version>,
    JsonBody(body): JsonBody<KeyBody>,
) -> Result<impl IntoResponse, ApiError> {
    let key = placed(&room_id, session_id, body)?;
    put_keys(&app, &session, &query, &[key]).await
}

async fn put_keys(
    app: &App,
    session: &Session,
    query: &Version,
    keys: &[PlacedKey],
) -> Result<impl IntoResponse + use<>, ApiError> {
    let version = version_number(&query.version)?;
    backup::check_keys(keys)?;
    let node = app.node();
    let guard = node.lock(Lock::User(session.user)).await;
    let mut totals = None;
    let mut last = None;
    for part in backup::parts(keys) {
        let mut txn = node.begin();
        totals = Some(backup::put_keys(&mut txn, session.user, version, part)?);
        if !txn.is_empty() {
            last = Some(node.write(txn.into_batch(), &Touched::nobody())?);
        }
    }
    drop(guard);
    answer(app, last, totals).await
}

async fn answer(
    app: &App,
    last: Option<Ticket>,
    totals: Option<Totals>,
) -> Result<impl IntoResponse + use<>, ApiError> {
    if let Some(ticket) = last {
        app.node().durable(ticket, Touched::nobody()).await?;
    }
    let totals = totals.ok_or_else(|| ApiError::internal("an upload without parts"))?;
    Ok(Json(
        json!({ "count": totals.count, "etag": totals.etag.to_string() }),
    ))
}

async fn get_all(
    State(app): State<App>,
    session: Session,
    Query(query): Query<Version>,
) -> Result<impl IntoResponse, ApiError> {
    get_keys(&app, &session, &query, None).await
}

async fn get_room(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
    Query(query): Query<Version>,
) -> Result<impl IntoResponse, ApiError> {
    get_keys(&app, &session, &query, Some(room_id)).await
}

/// Any number of keys: read on the bulk lane.
async fn get_keys(
    app: &App,
    session: &Session,
    query: &Version,
    room_id: Option<String>,
) -> Result<JsonBytes, ApiError> {
    let (view, user) = (app.node().view(), session.user);
    let version = version_number(&query.version)?;
    let work = move || {
        let scope = room_id.as_deref().map_or(Scope::All, Scope::Room);
        backup::render_keys(&view, user, version, scope)
    };
    let json = app.node().run(Lane::Bulk, work).await??;
    Ok(JsonBytes(json.into()))
}

async fn get_session(
    State(app): State<App>,
    session: Session,
    Params((room_id, session_id)): Params<(String, String)>,
    Query(query): Query<Version>,
) -> Result<impl IntoResponse, ApiError> {
    let version = version_number(&query.version)?;
    let scope = Scope::Session(&room_id, &session_id);
    let json = backup::render_keys(&app.node().view(), session.user, version, scope)?;
    Ok(JsonBytes(json.into()))
}

async fn delete_all(
    State(app): State<App>,
    session: Session,
    Query(query): Query<Version>,
) -> Result<impl IntoResponse, ApiError> {
    delete_keys(&app, &session, &query, Scope::All).await
}

async fn delete_room(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
    Query(query): Query<Version>,
) -> Result<impl IntoResponse, ApiError> {
    delete_keys(&app, &session, &query, Scope::Room(&room_id)).await
}

async fn delete_session(
    State(app): State<App>,
    session: Session,
    Params((room_id, session_id)): Params<(String, String)>,
    Query(query): Query<Version>,
) -> Result<impl IntoResponse, ApiError> {
    let scope = Scope::Session(&room_id, &session_id);
    delete_keys(&app, &session, &query, scope).await
}

async fn delete_keys(
    app: &App,
    session: &Session,
    query: &Version,
    scope: Scope<'_>,
) -> Result<impl IntoResponse + use<>, ApiError> {
    let version = version_number(&query.version)?;
    let node = app.node();
    let guard = node.lock(Lock::User(session.user)).await;
    let mut last = None;
    let totals = loop {
        let mut txn = node.begin();
        let (totals, more) = backup::delete_keys(&mut txn, session.user, version, scope)?;
        if !txn.is_empty() {
            last = Some(node.write(txn.into_batch(), &Touched::nobody())?);
        }
        if !more {
            break totals;
        }
        tokio::task::yield_now().await;
    };
    drop(guard);
    answer(app, last, Some(totals)).await
}
