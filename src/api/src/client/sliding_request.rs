//! Bodies of sliding sync: two ways of writing the same request, and their bounds. What is not in the
//! proposal is ignored; what breaks a bound is `M_INVALID_PARAM`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use store::Position;
use sync::sliding::request::{
    Dialect, Extensions, Filters, List, MOST_LISTS, Request, RoomConfig, Rules, Scope, ToDevice,
};
use sync::sliding::required_state::{Element, MEMBER, RequiredState, Selection};

use crate::client::sliding_sync::Params;
use crate::error::ApiError;

/// The most subscriptions of a request.
const MOST_SUBSCRIPTIONS: usize = 100;
/// The longest name of a connection or a list, in bytes.
const MOST_NAME_BYTES: usize = 255;
/// The most elements of one `required_state`.
const MOST_ELEMENTS: usize = 1000;
/// The most windows of one list.
const MOST_RANGES: usize = 100;
/// The largest `timeline_limit` that is not refused; fewer events may be sent.
const MOST_TIMELINE: u64 = 1000;

/// A body as the proposal was merged.
#[derive(Deserialize)]
pub struct StableBody {
    conn_id: Option<String>,
    pos: Option<String>,
    timeout: Option<u64>,
    set_presence: Option<String>,
    lists: Option<BTreeMap<String, StableList>>,
    room_subscriptions: Option<BTreeMap<String, StableConfig>>,
    extensions: Option<ExtensionsBody>,
}

#[derive(Deserialize)]
struct StableList {
    timeline_limit: u64,
    required_state: StableState,
    range: Option<(u64, u64)>,
    filters: Option<FiltersBody>,
}

#[derive(Deserialize)]
struct StableConfig {
    timeline_limit: u64,
    required_state: StableState,
}

#[derive(Deserialize)]
struct StableState {
    #[serde(default)]
    include: Vec<StableElement>,
    #[serde(default)]
    exclude: Vec<StableElement>,
    #[serde(default)]
    lazy_members: bool,
}

#[derive(Deserialize)]
struct StableElement {
    #[serde(rename = "type")]
    event_type: Option<String>,
    state_key: Option<String>,
}

/// A body as `org.matrix.simplified_msc3575` has it; position and timeout are in the query.
#[derive(Deserialize)]
pub struct UnstableBody {
    conn_id: Option<String>,
    lists: Option<BTreeMap<String, UnstableList>>,
    room_subscriptions: Option<BTreeMap<String, UnstableConfig>>,
    extensions: Option<ExtensionsBody>,
}

#[derive(Deserialize)]
struct UnstableList {
    timeline_limit: u64,
    required_state: Vec<(String, String)>,
    ranges: Option<Vec<(u64, u64)>>,
    slow_get_all_rooms: Option<bool>,
    filters: Option<FiltersBody>,
}

#[derive(Deserialize)]
struct UnstableConfig {
    timeline_limit: u64,
    required_state: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct FiltersBody {
    is_dm: Option<bool>,
    spaces: Option<Vec<String>>,
    is_encrypted: Option<bool>,
    #[serde(alias = "is_invite")]
    is_invited: Option<bool>,
    room_types: Option<Vec<Option<String>>>,
    not_room_types: Option<Vec<Option<String>>>,
    room_name_like: Option<String>,
    tags: Option<Vec<String>>,
    not_tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ExtensionsBody {
    to_device: Option<ToDeviceBody>,
    e2ee: Option<Switch>,
    account_data: Option<ScopeBody>,
    receipts: Option<ScopeBody>,
    typing: Option<ScopeBody>,
}

#[derive(Deserialize)]
struct Switch {
    enabled: Option<bool>,
}

#[derive(Deserialize)]
struct ToDeviceBody {
    enabled: Option<bool>,
    limit: Option<u64>,
    since: Option<String>,
}

#[derive(Deserialize)]
struct ScopeBody {
    enabled: Option<bool>,
    lists: Option<Vec<String>>,
    rooms: Option<Vec<String>>,
}

impl StableBody {
    /// The request, and what is asked beside it.
    pub fn into_request(self) -> Result<(Params, Request), ApiError> {
        let mut lists = Vec::new();
        for (name, list) in bounded_lists(self.lists)? {
            let grammar = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            if name.is_empty() || !name.bytes().all(grammar) {
                return Err(invalid("The name of a list is an opaque identifier"));
            }
            let config = RoomConfig {
                timeline_limit: timeline_limit(list.timeline_limit)?,
                required_state: list.required_state.into_required()?,
            };
            let ranges = list.range.map(|range| vec![range]);
            lists.push((name, into_list(config, ranges, list.filters)?));
        }
        let mut subscriptions = BTreeMap::new();
        for (room_id, config) in bounded_subscriptions(self.room_subscriptions)? {
            let config = RoomConfig {
                timeline_limit: timeline_limit(config.timeline_limit)?,
                required_state: config.required_state.into_required()?,
            };
            subscriptions.insert(room_id, config);
        }
        let rules = Rules {
            lists,
            subscriptions,
        };
        let request = into_request(Dialect::Stable, self.conn_id, rules, self.extensions)?;
        let params = Params {
            pos: self.pos,
            timeout: self.timeout,
            set_presence: self.set_presence,
        };
        Ok((params, request))
    }
}

impl StableState {
    fn into_required(self) -> Result<RequiredState, ApiError> {
        bounded(self.include.len() + self.exclude.len())?;
        let element = |one: StableElement| Element {
            event_type: one.event_type,
            state_key: one.state_key,
        };
        Ok(RequiredState::new(Selection {
            include: self.include.into_iter().map(element).collect(),
            exclude: self.exclude.into_iter().map(element).collect(),
            narrowed: Vec::new(),
            lazy_members: self.lazy_members,
        }))
    }
}

impl UnstableBody {
    /// The request; `user_id` is what `$ME` stands for.
    pub fn into_request(self, user_id: &str) -> Result<Request, ApiError> {
        let mut lists = Vec::new();
        for (name, list) in bounded_lists(self.lists)? {
            let config = RoomConfig {
                timeline_limit: timeline_limit(list.timeline_limit)?,
                required_state: required_of_pairs(list.required_state, user_id)?,
            };
            let all = list.slow_get_all_rooms == Some(true);
            let ranges = list.ranges.filter(|_| !all);
            lists.push((name, into_list(config, ranges, list.filters)?));
        }
        let mut subscriptions = BTreeMap::new();
        for (room_id, config) in bounded_subscriptions(self.room_subscriptions)? {
            let config = RoomConfig {
                timeline_limit: timeline_limit(config.timeline_limit)?,
                required_state: required_of_pairs(config.required_state, user_id)?,
            };
            subscriptions.insert(room_id, config);
        }
        let rules = Rules {
            lists,
            subscriptions,
        };
        into_request(Dialect::Unstable, self.conn_id, rules, self.extensions)
    }
}

/// `required_state` as pairs of type and state key, where `*` stands for all, `$ME` for the user and
/// `$LAZY` for the members of whom the timeline speaks.
fn required_of_pairs(
    pairs: Vec<(String, String)>,
    user_id: &str,
) -> Result<RequiredState, ApiError> {
    bounded(pairs.len())?;
    let mut selection = Selection::default();
    let has = |event_type: &str, state_key: &str| {
        pairs
            .iter()
            .any(|(of, key)| of == event_type && key == state_key)
    };
    let (everything, all_members) = (has("*", "*"), has(MEMBER, "*"));
    for (event_type, state_key) in pairs {
        if event_type == MEMBER && state_key == "$LAZY" {
            selection.lazy_members = !all_members;
            continue;
        }
        // Beside all of the state, other pairs narrow their type (MSC3575, "required_state").
        if everything && event_type != "*" && state_key != "*" {
            selection.narrowed.push(event_type.clone());
        }
        selection.include.push(Element {
            event_type: (event_type != "*").then_some(event_type),
            state_key: match state_key.as_str() {
                "*" => None,
                "$ME" => Some(user_id.to_owned()),
                _ => Some(state_key),
            },
        });
    }
    Ok(RequiredState::new(selection))
}

fn into_request(
    dialect: Dialect,
    connection: Option<String>,
    rules: Rules,
    extensions: Option<ExtensionsBody>,
) -> Result<Request, ApiError> {
    let connection = connection.unwrap_or_default();
    if connection.len() > MOST_NAME_BYTES {
        return Err(invalid("conn_id has at most 255 bytes"));
    }
    Ok(Request {
        dialect,
        connection,
        rules: Arc::new(rules),
        extensions: match extensions {
            Some(extensions) => extensions.into_extensions()?,
            None => Extensions::default(),
        },
    })
}

fn into_list(
    config: RoomConfig,
    ranges: Option<Vec<(u64, u64)>>,
    filters: Option<FiltersBody>,
) -> Result<List, ApiError> {
    for (n, (first, last)) in ranges.iter().flatten().enumerate() {
        if n >= MOST_RANGES {
            return Err(invalid("A list has at most 100 ranges"));
        }
        if first > last {
            return Err(invalid("A range ends before it begins"));
        }
    }
    let filters = filters.map_or_else(Filters::default, |filters| Filters {
        is_dm: filters.is_dm,
        spaces: filters.spaces,
        is_encrypted: filters.is_encrypted,
        is_invited: filters.is_invited,
        room_types: filters.room_types,
        not_room_types: filters.not_room_types,
        room_name_like: filters.room_name_like,
        tags: filters.tags,
        not_tags: filters.not_tags,
    });
    Ok(List {
        config,
        ranges,
        filters,
    })
}

impl ExtensionsBody {
    fn into_extensions(self) -> Result<Extensions, ApiError> {
        let to_device = match self.to_device {
            Some(asked) if asked.enabled == Some(true) => Some(ToDevice {
                limit: asked.limit.unwrap_or(100).min(1000) as usize,
                since: asked.since.as_deref().map(to_device_token).transpose()?,
            }),
            _ => None,
        };
        Ok(Extensions {
            to_device,
            e2ee: self.e2ee.is_some_and(|asked| asked.enabled == Some(true)),
            account_data: self.account_data.and_then(ScopeBody::into_scope),
            receipts: self.receipts.and_then(ScopeBody::into_scope),
            typing: self.typing.and_then(ScopeBody::into_scope),
        })
    }
}

impl ScopeBody {
    fn into_scope(self) -> Option<Scope> {
        let default = Scope::default();
        (self.enabled == Some(true)).then(|| Scope {
            lists: self.lists.unwrap_or(default.lists),
            rooms: self.rooms.unwrap_or(default.rooms),
        })
    }
}

/// `next_batch` of an earlier answer.
fn to_device_token(text: &str) -> Result<Position, ApiError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    // The largest number stands for a change that is not committed yet.
    let number = number.filter(|number| *number < u64::MAX);
    number
        .map(Position)
        .ok_or_else(|| invalid("since is not a token of this server"))
}

fn bounded_lists<T>(lists: Option<BTreeMap<String, T>>) -> Result<BTreeMap<String, T>, ApiError> {
    let lists = lists.unwrap_or_default();
    if lists.len() > MOST_LISTS {
        return Err(invalid("There are at most 100 lists"));
    }
    if lists.keys().any(|name| name.len() > MOST_NAME_BYTES) {
        return Err(invalid("The name of a list has at most 255 bytes"));
    }
    Ok(lists)
}

fn bounded_subscriptions<T>(
    subscriptions: Option<BTreeMap<String, T>>,
) -> Result<BTreeMap<String, T>, ApiError> {
    let subscriptions = subscriptions.unwrap_or_default();
    if subscriptions.len() > MOST_SUBSCRIPTIONS {
        return Err(invalid("There are at most 100 room_subscriptions"));
    }
    Ok(subscriptions)
}

fn bounded(elements: usize) -> Result<(), ApiError> {
    if elements > MOST_ELEMENTS {
        return Err(invalid("required_state has at most 1000 elements"));
    }
    Ok(())
}

fn timeline_limit(limit: u64) -> Result<u64, ApiError> {
    if limit > MOST_TIMELINE {
        return Err(invalid("timeline_limit is at most 1000"));
    }
    Ok(limit)
}

fn invalid(message: &'static str) -> ApiError {
    ApiError::invalid_param(message)
}
