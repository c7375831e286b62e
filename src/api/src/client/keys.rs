//! Device keys and one-time keys: upload, query, claim, and who changed theirs.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#key-management-api>.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use event::identifier;
use names::UserSn;
use node::federation::{KeysOfOther, KeysOfOthers};
use node::{Lane, Lock, Touched};
use remote::RemoteError;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use store::Read;
use sync::SyncToken;
use tokio::task::JoinSet;
use users::keys::one_time::{self, NamedKey};
use users::keys::query::{UserKeys, Viewer, user_keys};
use users::keys::{Owner, device_keys};
use users::{accounts, devices};

use crate::app::App;
use crate::auth::{GuestSession, Identity, Session};
use crate::error::ApiError;
use crate::json::{Json, JsonBody, JsonBodyOrEmpty, JsonBytes};
use crate::key_answers::{claim_of_user, write_cross_signing, write_keys, write_name};
use crate::request::Query;

/// Users whose keys are read between two other requests; more go to a lane.
const MOST_USERS_INLINE: usize = 8;

/// How long other servers are waited for if the client does not say, and at most.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);
const MOST_PATIENCE: Duration = Duration::from_secs(60);

/// Users, and servers, whose one-time keys one request claims at a time.
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
    /// How long to wait for other servers, in milliseconds.
    timeout: Option<u64>,
}

async fn query(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    JsonBody(body): JsonBody<KeyQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let names = app.node().names();
    let of_others = body.device_keys.keys().filter(|id| !names.is_local_id(id));
    let of_others: Vec<String> = of_others.cloned().collect();
    let timeout = patience(body.timeout);
    let others = app.node().keys_of_others(of_others, timeout).await?;
    if body.device_keys.len() <= MOST_USERS_INLINE {
        return render_query(&app, &session, &body, &others).map(JsonBytes);
    }
    let node = app.node().clone();
    let work = move || render_query(&app, &session, &body, &others);
    Ok(JsonBytes(node.run(Lane::Interactive, work).await??))
}

fn patience(timeout_ms: Option<u64>) -> Duration {
    timeout_ms.map_or(DEFAULT_PATIENCE, |timeout_ms| {
        Duration::from_millis(timeout_ms).min(MOST_PATIENCE)
    })
}

fn render_query(
    app: &App,
    session: &Session,
    body: &KeyQuery,
    others: &KeysOfOthers,
) -> Result<Bytes, ApiError> {
    let view = &others.view;
    let viewer = session.owner();
    let mut found: Vec<(&str, UserKeys)> = Vec::new();
    for (user_id, devices) in &body.device_keys {
        let keys = match others.users.get(user_id) {
            Some(KeysOfOther::Kept(user)) => user_keys(view, Viewer::User(viewer), *user, devices)?,
            Some(KeysOfOther::Asked(answered)) => {
                let Some(keys) = answered.keys() else {
                    continue;
                };
                let user = app.node().names().known_user(view, user_id)?;
                keys.as_seen_by(view, viewer, user, devices)?
            }
            None => {
                let Some(user) = local_user(app, view, user_id)? else {
                    continue;
                };
                user_keys(view, Viewer::User(viewer), user, devices)?
            }
        };
        found.push((user_id, keys));
    }
    let mut out = Vec::with_capacity(2048);
    out.push(b'{');
    write_keys(&mut out, &found);
    write_cross_signing(&mut out, "user_signing_keys", &found, |keys| {
        keys.user_signing.as_deref()
    });
    write_name(&mut out, "failures");
    out.extend_from_slice(failures(&others.failures).to_string().as_bytes());
    out.push(b'}');
    Ok(out.into())
}

/// A user of this server who has an account.
fn local_user(app: &App, from: &impl Read, user_id: &str) -> Result<Option<UserSn>, ApiError> {
    if !app.node().names().is_local_id(user_id) {
        return Ok(None);
    }
    match app.node().names().known_user(from, user_id)? {
        Some(user) if accounts::exists(from, user)? => Ok(Some(user)),
        _ => Ok(None),
    }
}

/// The servers that did not answer, and why.
fn failures(failures: &BTreeMap<String, RemoteError>) -> Value {
    let mut rendered = Map::new();
    for (server, error) in failures {
        let error = ApiError::from(error.clone());
        let code = error.code().map(|code| code.as_str());
        let failure = json!({ "errcode": code, "error": error.message() });
        rendered.insert(server.clone(), failure);
    }
    rendered.into()
}

#[derive(Deserialize)]
struct Claim {
    one_time_keys: BTreeMap<String, BTreeMap<String, String>>,
    /// How long to wait for other servers, in milliseconds.
    timeout: Option<u64>,
}

async fn claim(
    State(app): State<App>,
    GuestSession(_): GuestSession,
    JsonBody(body): JsonBody<Claim>,
) -> Result<impl IntoResponse, ApiError> {
    let timeout = patience(body.timeout);
    let mut claiming = Claiming::default();
    let mut of_others: BTreeMap<String, ByUser> = BTreeMap::new();
    for (user_id, wanted) in body.one_time_keys {
        match identifier::domain(&user_id) {
            Some(server) if server != app.node().server_name() => {
                if identifier::is_user_id(&user_id) {
                    let of_server = of_others.entry(server.to_owned()).or_default();
                    of_server.insert(user_id, wanted);
                }
            }
            _ => {
                let Some(user) = local_user(&app, &app.node().view(), &user_id)? else {
                    continue;
                };
                // Users are claimed from side by side: one sync of the disk serves many.
                claiming.make_room().await?;
                let app = app.clone();
                claiming.claims.spawn(async move {
                    let by_device = claim_of_user(&app, user, &wanted).await?;
                    Ok(Claimed::Keys(BTreeMap::from([(user_id, by_device)])))
                });
            }
        }
    }
    for (server, wanted) in of_others {
        claiming.make_room().await?;
        let app = app.clone();
        claiming.claims.spawn(async move {
            let wanted_of = wanted.iter().map(|(id, devices)| (id.as_str(), devices));
            let wanted = wanted_of.collect();
            let node = app.node();
            Ok(
                match node.claim_keys_of_others(&server, &wanted, timeout).await {
                    Ok(keys) => Claimed::Keys(keys),
                    Err(error) => Claimed::Failure(server, error),
                },
            )
        });
    }
    while claiming.take().await? {}
    Ok(Json(json!({
        "one_time_keys": claiming.keys,
        "failures": failures(&claiming.failures),
    })))
}

/// User id to device id to algorithm.
type ByUser = BTreeMap<String, BTreeMap<String, String>>;

/// What one part of a claim brought.
enum Claimed {
    /// User id to device id to the key under its name.
    Keys(BTreeMap<String, Map<String, Value>>),
    /// A server that did not answer.
    Failure(String, RemoteError),
}

/// The parts of a claim: users of this server, and other servers.
#[derive(Default)]
struct Claiming {
    claims: JoinSet<Result<Claimed, ApiError>>,
    keys: Map<String, Value>,
    failures: BTreeMap<String, RemoteError>,
}

impl Claiming {
    async fn make_room(&mut self) -> Result<(), ApiError> {
        if self.claims.len() >= MOST_CLAIMS_AT_ONCE {
            self.take().await?;
        }
        Ok(())
    }

    /// Waits for one part; false if there is none left.
    async fn take(&mut self) -> Result<bool, ApiError> {
        let Some(finished) = self.claims.join_next().await else {
            return Ok(false);
        };
        match finished.map_err(ApiError::internal)?? {
            Claimed::Keys(keys) => {
                for (user_id, by_device) in keys {
                    if !by_device.is_empty() {
                        self.keys.insert(user_id, by_device.into());
                    }
                }
            }
            Claimed::Failure(server, error) => {
                self.failures.insert(server, error);
            }
        }
        Ok(true)
    }
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
