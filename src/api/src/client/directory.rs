//! The directory of published rooms: <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, put};
use event::auth::Membership;
use node::{Lane, Lock, Touched};
use rooms::about::About;
use rooms::directory::{self, Asked, Network, Since};
use rooms::{event_log, members};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use users::accounts::Kind;

use crate::app::App;
use crate::auth::{OptionalSession, Session};
use crate::client::room_names::{find_room, sender};
use crate::error::ApiError;
use crate::json::{BodyBytes, Json, JsonBody, JsonBodyOrEmpty, JsonBytes, parse_object_or_empty};
use crate::limits::{Class, Key};
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/client/v3/directory/list/room/{room_id}",
            get(visibility).put(set_visibility),
        )
        .route(
            "/_matrix/client/v3/directory/list/appservice/{network_id}/{room_id}",
            put(set_network_visibility).delete(remove_network_visibility),
        )
        .route("/_matrix/client/v3/publicRooms", get(list).post(search))
}

fn no_room() -> ApiError {
    ApiError::not_found("Room not found")
}

async fn visibility(
    State(app): State<App>,
    Params(room_id): Params<String>,
) -> Result<Json<Value>, ApiError> {
    let room = find_room(&app, &room_id)?.ok_or_else(no_room)?;
    let view = app.node().view();
    if event_log::head(&view, room)?.is_none() {
        return Err(no_room());
    }
    let published = directory::is_published(&view, room)?;
    let visibility = if published { "public" } else { "private" };
    Ok(Json(json!({ "visibility": visibility })))
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Visibility {
    #[default]
    Public,
    Private,
}

#[derive(Deserialize)]
struct NewVisibility {
    #[serde(default)]
    visibility: Visibility,
}

async fn set_visibility(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
    JsonBodyOrEmpty(body): JsonBodyOrEmpty<NewVisibility>,
) -> Result<JsonBytes, ApiError> {
    session.must_not_be_suspended()?;
    let publish = body.visibility == Visibility::Public;
    if publish && !app.config().rooms.allow_publishing && !session.admin {
        return Err(ApiError::forbidden("Rooms are not published here"));
    }
    let room = find_room(&app, &room_id)?.ok_or_else(no_room)?;
    let node = app.node();
    let guard = node.lock(Lock::Room(room)).await;
    let mut txn = node.begin();
    let (_, touched) = node.write_room(&mut txn, room, |writer| -> Result<(), ApiError> {
        let me = sender(&session);
        let joined = members::membership(writer.txn(), room, me.user)? == Membership::Join;
        let has_power = writer.with_power_levels(|levels| {
            levels.user(me.user_id) >= levels.to_send("m.room.canonical_alias", true)
        })?;
        let may_publish = session.admin || (joined && has_power);
        if !may_publish {
            return Err(ApiError::forbidden(
                "Publishing the room needs the power to set its canonical alias",
            ));
        }
        if directory::is_published(writer.txn(), room)? != publish {
            directory::set_published(writer.txn(), room, publish);
        }
        Ok(())
    })?;
    node.commit_room(guard, txn, touched).await?;
    Ok(JsonBytes::EMPTY)
}

async fn set_network_visibility(
    State(app): State<App>,
    session: Session,
    Params((network, room_id)): Params<(String, String)>,
    JsonBody(body): JsonBody<NewVisibility>,
) -> Result<JsonBytes, ApiError> {
    let publish = body.visibility == Visibility::Public;
    publish_in(&app, &session, &network, &room_id, publish).await
}

async fn remove_network_visibility(
    State(app): State<App>,
    session: Session,
    Params((network, room_id)): Params<(String, String)>,
) -> Result<JsonBytes, ApiError> {
    publish_in(&app, &session, &network, &room_id, false).await
}

async fn publish_in(
    app: &App,
    session: &Session,
    network: &str,
    room_id: &str,
    publish: bool,
) -> Result<JsonBytes, ApiError> {
    if session.kind != Kind::Appservice {
        return Err(ApiError::forbidden("Only for application services"));
    }
    let room = find_room(app, room_id)?.ok_or_else(no_room)?;
    let node = app.node();
    let guard = node.lock(Lock::Room(room)).await;
    let mut txn = node.begin();
    if event_log::head(&txn, room)?.is_none() {
        return Err(no_room());
    }
    directory::set_published_in(&mut txn, network, room, publish);
    node.commit(guard, txn, Touched::nobody()).await?;
    Ok(JsonBytes::EMPTY)
}

/// Rooms on a page where the client names no limit, and the most there can be.
const USUAL_LIMIT: u64 = 100;
const MOST_LIMIT: u64 = 1000;

/// The query of a GET, by a client or by another server.
#[derive(Deserialize)]
pub struct Listing {
    limit: Option<u64>,
    since: Option<String>,
    include_all_networks: Option<bool>,
    third_party_instance_id: Option<String>,
}

impl Listing {
    /// What is asked for.
    ///
    /// # Errors
    /// `M_INVALID_PARAM`.
    pub fn asked(self) -> Result<Asked, ApiError> {
        Ok(Asked {
            network: network_of(self.include_all_networks, self.third_party_instance_id)?,
            limit: limit_of(self.limit),
            since: since_of(self.since)?,
            ..Asked::default()
        })
    }

    /// The same as another server is asked.
    fn forwarded(self) -> Map<String, Value> {
        let mut asked = Map::new();
        let parameters = [
            ("limit", self.limit.map(Value::from)),
            ("since", self.since.map(Value::from)),
            (
                "include_all_networks",
                self.include_all_networks.map(Value::from),
            ),
            (
                "third_party_instance_id",
                self.third_party_instance_id.map(Value::from),
            ),
        ];
        for (key, value) in parameters {
            if let Some(value) = value {
                asked.insert(key.to_owned(), value);
            }
        }
        asked
    }
}

#[derive(Default, Deserialize)]
struct Filter {
    generic_search_term: Option<String>,
    room_types: Option<Vec<Option<String>>>,
}

/// The body of a POST, by a client or by another server.
#[derive(Deserialize)]
pub struct Filtered {
    #[serde(flatten)]
    listing: Listing,
    filter: Option<Filter>,
}

impl Filtered {
    /// What is asked for.
    ///
    /// # Errors
    /// `M_INVALID_PARAM`.
    pub fn asked(self) -> Result<Asked, ApiError> {
        let filter = self.filter.unwrap_or_default();
        Ok(Asked {
            search_term: filter.generic_search_term.filter(|term| !term.is_empty()),
            room_types: filter.room_types,
            ..self.listing.asked()?
        })
    }
}

fn network_of(all: Option<bool>, instance: Option<String>) -> Result<Network, ApiError> {
    let all = all.unwrap_or_default();
    match instance.filter(|id| !id.is_empty()) {
        Some(_) if all => Err(ApiError::invalid_param(
            "third_party_instance_id can't be combined with include_all_networks",
        )),
        Some(network) => Ok(Network::Of(network)),
        None if all => Ok(Network::All),
        None => Ok(Network::Own),
    }
}

fn limit_of(limit: Option<u64>) -> usize {
    match limit.unwrap_or(USUAL_LIMIT).min(MOST_LIMIT) {
        0 => USUAL_LIMIT as usize,
        limit => limit as usize,
    }
}

fn since_of(token: Option<String>) -> Result<Option<Since>, ApiError> {
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Ok(None);
    };
    match Since::of_token(&token) {
        Some(since) => Ok(Some(since)),
        None => Err(ApiError::invalid_param("since is not a token of this list")),
    }
}

/// Whose directory a client asks for.
#[derive(Deserialize)]
struct Whose {
    server: Option<String>,
}

impl Whose {
    /// The other server that is to be asked.
    fn other(self, app: &App) -> Option<String> {
        let own = app.node().server_name();
        self.server
            .filter(|server| !server.is_empty() && server != own)
    }
}

async fn list(
    State(app): State<App>,
    OptionalSession(session): OptionalSession,
    Query(whose): Query<Whose>,
    Query(listing): Query<Listing>,
) -> Result<Json<Value>, ApiError> {
    // Anybody may ask for this server's rooms; what costs a request to another server needs an account.
    if session.is_none() && whose.server.is_some() {
        return Err(ApiError::missing_token());
    }
    match whose.other(&app) {
        Some(server) => page_of(&app, &server, &listing.forwarded()).await,
        None => own_page(&app, listing.asked()?, |_| true).await,
    }
}

async fn search(
    State(app): State<App>,
    session: Session,
    Query(whose): Query<Whose>,
    BodyBytes(body): BodyBytes,
) -> Result<Json<Value>, ApiError> {
    app.limiter()
        .check(Class::Search, Key::Name(&session.user_id))?;
    let filtered: Filtered = parse_object_or_empty(&body)?;
    match whose.other(&app) {
        Some(server) => page_of(&app, &server, &parse_object_or_empty(&body)?).await,
        None => own_page(&app, filtered.asked()?, |_| true).await,
    }
}

/// A page of another server's directory.
async fn page_of(
    app: &App,
    server: &str,
    asked: &Map<String, Value>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(app.node().public_rooms_of(server, asked).await?))
}

/// A page of this server's directory.
///
/// # Errors
/// If it can't be read.
pub async fn own_page(
    app: &App,
    asked: Asked,
    shows: impl Fn(&About) -> bool,
) -> Result<Json<Value>, ApiError> {
    let node = app.node();
    let view = node.view();
    let page = node
        .run(Lane::Bulk, move || directory::page(&view, &asked))
        .await??;
    let rooms = page.rooms.iter().filter(|about| shows(about));
    let rooms = rooms.map(About::to_json);
    let chunk: Vec<Value> = rooms.map(Value::Object).collect();
    let mut body = json!({ "chunk": chunk, "total_room_count_estimate": page.total });
    for (key, since) in [("next_batch", page.next), ("prev_batch", page.previous)] {
        if let Some(since) = since {
            body[key] = since.to_token().into();
        }
    }
    Ok(Json(body))
}
