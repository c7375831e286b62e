//! Device keys and one-time keys: upload, query, claim, and who changed theirs.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#key-management-api>.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use event::json::write_string;
use names::UserSn;
use node::{Lane, Lock, Touched};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use store::View;
use sync::SyncToken;
use tokio::task::JoinSet;
use users::keys::one_time::{self, NamedKey};
use users::keys::query::{UserKeys, user_keys};
use users::keys::{Owner, device_keys};
use users::{accounts, devices};

use crate::app::App;
use crate::auth::{GuestSession, Identity, Session};
use crate::error::ApiError;
use crate::json::{Json, JsonBody, JsonBodyOrEmpty, JsonBytes};
use crate::request::Query;

/// Users whose keys are read between two other requests; more go to a lane.
const MOST_USERS_INLINE: usize = 8;

/// Users whose one-time keys one request claims at a time.
const MOST_CLAIMS_AT_ONCE: usize = 32;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/keys/upload", post(upload))
        .route("/_matrix/client/v3/keys/query", post(query))
        .route("/_matrix/client/v3/keys/claim", post(claim))
        .route("/_matrix/client/v3/keys/changes", get(changes))
}

impl Identity {
    /// The session's user as the core of keys names users.
    pub(crate) fn owner(&self) -> Owner<'_> {
        Owner {
            user: self.user,
            user_id: &self.user_id,
        }
    }
}

#[derive(Deserialize)]
struct Upload {
    device_keys: Option<Box<RawValue>>,
    one_time_keys: Option<Map<String, Value>>,
    fallback_keys: Option<Map<String, Value>>,
    /// The name before v1.2, which some clients send beside the stable one.
    #[serde(rename = "org.matrix.msc2732.fallback_keys")]
    unstable_fallback_keys: Option<Map<String, Value>>,
}

async fn upload(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    JsonBodyOrEmpty(body): JsonBodyOrEmpty<Upload>,
) -> Result<impl IntoResponse, ApiError> {
    let one_time_keys = named_keys(body.one_time_keys)?;
    let fallback_keys = named_keys(body.fallback_keys.or(body.unstable_fallback_keys))?;
    let (node, user, device) = (app.node(), session.user, &*session.device);
    let guard = node.lock(Lock::User(user)).await;
    let mut txn = node.begin();
    if !devices::exists(&txn, user, device)? {
        return Err(ApiError::unknown_token(false));
    }
    let mut touched = Touched::user(user);
    if let Some(keys) = &body.device_keys
        && device_keys::upload(&mut txn, session.owner(), device, keys.get())?
    {
        touched = node.keys_changed(user)?;
    }
    one_time::upload(&mut txn, user, device, &one_time_keys)?;
    one_time::upload_fallback(&mut txn, user, device, &fallback_keys)?;
    let counts = one_time::counts(&txn, user, device)?.value;
    node.commit(guard, txn, touched).await?;
    Ok(Json(json!({ "one_time_key_counts": counts.one_time })))
}

fn named_keys(keys: Option<Map<String, Value>>) -> Result<Vec<NamedKey>, ApiError> {
    let mut named = Vec::new();
    for (name, content) in keys.unwrap_or_default() {
        named.push(NamedKey::new(&name, &content)?);
    }
    Ok(named)
}

#[derive(Deserialize)]
struct KeyQuery {
    device_keys: BTreeMap<String, Vec<String>>,
}

async fn query(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    JsonBody(body): JsonBody<KeyQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let view = app.node().view();
    if body.device_keys.len() <= MOST_USERS_INLINE {
        return render_query(&app, &session, &view, &body).map(JsonBytes);
    }
    let node = app.node().clone();
    let work = move || render_query(&app, &session, &view, &body);
    Ok(JsonBytes(node.run(Lane::Interactive, work).await??))
}

fn render_query(
    app: &App,
    session: &Session,
    view: &View,
    body: &KeyQuery,
) -> Result<Bytes, ApiError> {
    let mut found: Vec<(&str, UserKeys)> = Vec::new();
    let mut unreachable = BTreeSet::new();
    for (user_id, devices) in &body.device_keys {
        match local_user(app, view, user_id)? {
            Whose::Local(user) => {
                found.push((
                    user_id,
                    user_keys(view, Some(session.owner()), user, devices)?,
                ));
            }
            Whose::Unknown => {}
            Whose::Remote(server) => {
                unreachable.insert(server);
            }
        }
    }
    let mut out = Vec::with_capacity(2048);
    out.extend_from_slice(b"{\"device_keys\":{");
    for (user_id, keys) in &found {
        write_name(&mut out, user_id);
        out.push(b'{');
        for (device, json) in &keys.devices {
            write_name(&mut out, device);
            out.extend_from_slice(json.as_bytes());
        }
        out.push(b'}');
    }
    out.push(b'}');
    write_keys(&mut out, "master_keys", &found, |keys| {
        keys.master.as_deref()
    });
    write_keys(&mut out, "self_signing_keys", &found, |keys| {
        keys.self_signing.as_deref()
    });
    write_keys(&mut out, "user_signing_keys", &found, |keys| {
        keys.user_signing.as_deref()
    });
    out.extend_from_slice(b",\"failures\":");
    out.extend_from_slice(failures(&unreachable).to_string().as_bytes());
    out.push(b'}');
    Ok(out.into())
}

/// Writes one kind of cross-signing key, of those users who have it.
fn write_keys(
    out: &mut Vec<u8>,
    name: &str,
    found: &[(&str, UserKeys)],
    key_of: impl Fn(&UserKeys) -> Option<&str>,
) {
    write_name(out, name);
    out.push(b'{');
    for (user_id, keys) in found {
        if let Some(json) = key_of(keys) {
            write_name(out, user_id);
            out.extend_from_slice(json.as_bytes());
        }
    }
    out.push(b'}');
}

/// Where a user's keys are.
enum Whose<'a> {
    Local(UserSn),
    Unknown,
    Remote(&'a str),
}

fn local_user<'a>(app: &App, view: &View, user_id: &'a str) -> Result<Whose<'a>, ApiError> {
    if !user_id.starts_with('@') {
        return Ok(Whose::Unknown);
    }
    if !app.node().names().is_local_id(user_id) {
        let server = user_id.split_once(':').map(|(_, server)| server);
        return Ok(server.map_or(Whose::Unknown, Whose::Remote));
    }
    match app.node().names().known_user(view, user_id)? {
        Some(user) if accounts::exists(view, user)? => Ok(Whose::Local(user)),
        _ => Ok(Whose::Unknown),
    }
}

/// The servers that could not be asked.
fn failures(unreachable: &BTreeSet<&str>) -> Value {
    let failure = json!({
        "errcode": "M_CONNECTION_FAILED",
        "error": "The server can't be asked for keys",
    });
    unreachable
        .iter()
        .map(|server| ((*server).to_owned(), failure.clone()))
        .collect::<Map<_, _>>()
        .into()
}

/// Writes a member's name, and the comma before it unless it is the first.
fn write_name(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_string(out, name);
    out.push(b':');
}

#[derive(Deserialize)]
struct Claim {
    one_time_keys: BTreeMap<String, BTreeMap<String, String>>,
}

async fn claim(
    State(app): State<App>,
    GuestSession(_): GuestSession,
    JsonBody(body): JsonBody<Claim>,
) -> Result<impl IntoResponse, ApiError> {
    let view = app.node().view();
    let mut unreachable = BTreeSet::new();
    let mut claims = JoinSet::new();
    let mut claimed = Map::new();
    for (user_id, wanted) in &body.one_time_keys {
        let user = match local_user(&app, &view, user_id)? {
            Whose::Local(user) => user,
            Whose::Unknown => continue,
            Whose::Remote(server) => {
                unreachable.insert(server);
                continue;
            }
        };
        if claims.len() >= MOST_CLAIMS_AT_ONCE {
            take_claimed(&mut claims, &mut claimed).await?;
        }
        // Users are claimed from side by side: one sync of the disk serves many.
        claims.spawn(claim_of_user(
            app.clone(),
            user,
            user_id.clone(),
            wanted.clone(),
        ));
    }
    while !claims.is_empty() {
        take_claimed(&mut claims, &mut claimed).await?;
    }
    Ok(Json(
        json!({ "one_time_keys": claimed, "failures": failures(&unreachable) }),
    ))
}

type Claimed = Result<(String, Map<String, Value>), ApiError>;

async fn take_claimed(
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

async fn claim_of_user(
    app: App,
    user: UserSn,
    user_id: String,
    wanted: BTreeMap<String, String>,
) -> Claimed {
    let node = app.node();
    let guard = node.lock(Lock::User(user)).await;
    let mut txn = node.begin();
    let mut by_device = Map::new();
    for (device, algorithm) in &wanted {
        if let Some(key) = one_time::claim(&mut txn, user, device, algorithm)? {
            let content: Value = serde_json::from_str(key.json()).map_err(ApiError::internal)?;
            by_device.insert(device.clone(), json!({ key.name(): content }));
        }
    }
    node.commit(guard, txn, Touched::user(user)).await?;
    Ok((user_id, by_device))
}

#[derive(Deserialize)]
struct Between {
    from: String,
    /// A hint only: the answer goes up to now.
    to: String,
}

async fn changes(
    State(app): State<App>,
    session: Session,
    Query(between): Query<Between>,
) -> Result<impl IntoResponse, ApiError> {
    let bad = || ApiError::invalid_param("from and to must be tokens of /sync");
    let since = SyncToken::parse(&between.from).ok_or_else(bad)?.position;
    SyncToken::parse(&between.to).ok_or_else(bad)?;
    let node = app.node().clone();
    let work = move || -> Result<Value, ApiError> {
        let node = app.node();
        let view = node.view();
        let rooms = node.rooms_of(session.user, &view)?;
        let changed = |room| node.activity().room_changed(room, since);
        let lists = sync::device_changes(
            &view,
            session.user,
            &session.user_id,
            &rooms,
            changed,
            since,
        )
        .map_err(node::NodeError::from)?;
        let ids = |users: BTreeSet<UserSn>| {
            names::user_ids(&view, &users.into_iter().collect::<Vec<_>>())
        };
        Ok(json!({ "changed": ids(lists.changed)?, "left": ids(lists.left)? }))
    };
    Ok(Json(node.run(Lane::Interactive, work).await??))
}
