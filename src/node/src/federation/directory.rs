//! What other servers know of rooms by name: where their aliases lead, and which rooms they publish.
//!
//! Where an alias of another server leads is kept for a minute, so that a client that shows it and then joins by it
//! costs one request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::identifier;
use names::RoomSn;
use quick_cache::sync::Cache;
use remote::{RemoteError, Request, path};
use rooms::{aliases, members, servers};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use store::Read;

use crate::federation::fetch::read;
use crate::{Node, NodeError};

const V1: &str = "/_matrix/federation/v1";

/// How long another server may take to answer a client's question.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long an alias is known to lead where it leads.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// The most aliases that are known at once.
const MOST_KNOWN: usize = 10_000;

/// The most servers that are believed to be in a room.
const MOST_SERVERS: usize = 1_000;

/// The most bytes of a page of a directory.
const MOST_PAGE_BYTES: usize = 8 << 20;

/// Where an alias leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The room.
    pub room_id: String,
    /// Servers that are likely to be in the room, the likeliest first.
    pub servers: Vec<String>,
}

/// Aliases of other servers, by when they were asked for.
pub(crate) struct RemoteAliases(Cache<String, (Instant, Arc<Resolved>)>);

impl Default for RemoteAliases {
    fn default() -> Self {
        Self(Cache::new(MOST_KNOWN))
    }
}

impl RemoteAliases {
    fn get(&self, alias: &str) -> Option<Arc<Resolved>> {
        let (since, resolved) = self.0.get(alias)?;
        (since.elapsed() < KNOWN_FOR).then_some(resolved)
    }
}

impl Node {
    /// The servers that are in a room: this one first, if it is.
    ///
    /// # Errors
    /// If the room can't be read.
    pub fn servers_of(&self, from: &impl Read, room: RoomSn) -> Result<Vec<String>, NodeError> {
        let mut found = Vec::new();
        if members::is_resident(from, room)? {
            found.push(self.server_name().to_owned());
        }
        found.extend(servers::joined(from, room)?);
        Ok(found)
    }

    /// Where an alias leads, of whichever server it is; nothing if there is no such alias.
    ///
    /// # Errors
    /// If the alias's server can't be asked.
    pub async fn resolve_alias(&self, alias: &str) -> Result<Option<Arc<Resolved>>, NodeError> {
        if self.names().is_local_id(alias) {
            let head = self.store().head();
            let Some(found) = aliases::get(&head, alias)? else {
                return Ok(None);
            };
            return Ok(Some(Arc::new(Resolved {
                room_id: names::room_id(&head, found.room)?,
                servers: self.servers_of(&head, found.room)?,
            })));
        }
        if let Some(resolved) = self.remote_aliases().get(alias) {
            return Ok(Some(resolved));
        }
        let Some((_, server)) = alias.split_once(':') else {
            return Ok(None);
        };
        let resolved = match self.ask_for_alias(server, alias).await {
            Ok(resolved) => Arc::new(resolved),
            Err(RemoteError::Refused { status: 404, .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let known = (Instant::now(), Arc::clone(&resolved));
        self.remote_aliases().0.insert(alias.to_owned(), known);
        Ok(Some(resolved))
    }

    /// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory>
    async fn ask_for_alias(&self, server: &str, alias: &str) -> Result<Resolved, RemoteError> {
        #[derive(Deserialize)]
        struct Answer {
            room_id: String,
            #[serde(default)]
            servers: Vec<String>,
        }
        let path = path(
            &format!("{V1}/query/directory"),
            &[],
            &[("room_alias", alias)],
        );
        let request = Request::get(path).timeout(PATIENCE);
        let answer = self.remote().call(server, request).await?;
        let Answer {
            room_id,
            mut servers,
        } = read(&answer)?;
        if !identifier::is_room_id(&room_id) {
            let why = "the alias leads to no room id".to_owned();
            return Err(RemoteError::BadAnswer(why));
        }
        servers.retain(|server| identifier::is_server_name(server));
        servers.truncate(MOST_SERVERS);
        // Whoever names the alias is asked first, and is likely to be in the room.
        if !servers.iter().any(|named| named == server) {
            servers.push(server.to_owned());
        }
        Ok(Resolved { room_id, servers })
    }

    /// A page of the directory of another server, for a client that asked with these parameters. What of the answer is
    /// not as the specification has it is left out.
    /// <https://spec.matrix.org/v1.19/server-server-api/#published-room-directory>
    ///
    /// # Errors
    /// If the server can't be asked.
    pub async fn public_rooms_of(
        &self,
        server: &str,
        asked: &Map<String, Value>,
    ) -> Result<Value, NodeError> {
        if !identifier::is_server_name(server) {
            return Err(RemoteError::NotAllowed(format!("{server:?} is no server name")).into());
        }
        let prefix = format!("{V1}/publicRooms");
        let request = match asked.contains_key("filter") {
            true => Request::post(
                path(&prefix, &[], &[]),
                Value::from(asked.clone()).to_string(),
            ),
            false => {
                let pairs = asked.iter().filter_map(|(key, value)| match value {
                    Value::String(text) => Some((key.as_str(), text.clone())),
                    Value::Bool(_) | Value::Number(_) => Some((key.as_str(), value.to_string())),
                    _ => None,
                });
                let pairs: Vec<(&str, String)> = pairs.collect();
                let pairs: Vec<_> = pairs.iter().map(|(key, text)| (*key, &**text)).collect();
                Request::get(path(&prefix, &[], &pairs))
            }
        };
        let request = request.timeout(PATIENCE).max_answer(MOST_PAGE_BYTES);
        let answer = self.remote().call(server, request).await?;
        Ok(page(read(&answer)?))
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    chunk: Vec<&'a RawValue>,
    next_batch: Option<String>,
    prev_batch: Option<String>,
    total_room_count_estimate: Option<u64>,
}

/// What of a page is passed on: entries that name a room, and the tokens.
fn page(page: Page<'_>) -> Value {
    let entries = page.chunk.iter();
    let rooms: Vec<Value> = entries
        .filter_map(|entry| serde_json::from_str(entry.get()).ok())
        .filter(|room: &Value| room["room_id"].as_str().is_some_and(identifier::is_room_id))
        .collect();
    let mut body = json!({ "chunk": rooms });
    for (key, token) in [
        ("next_batch", page.next_batch),
        ("prev_batch", page.prev_batch),
    ] {
        if let Some(token) = token {
            body[key] = token.into();
        }
    }
    if let Some(total) = page.total_room_count_estimate {
        body["total_room_count_estimate"] = total.into();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_room_is_left_out_of_a_page() {
        let answer = r#"{"chunk":[{"room_id":"!a:x","name":"A"},{"name":"B"},7,{"room_id":3}],
            "next_batch":"n","total_room_count_estimate":4,"more":true}"#;
        let expected = json!({
            "chunk": [{"room_id": "!a:x", "name": "A"}],
            "next_batch": "n", "total_room_count_estimate": 4,
        });
        assert_eq!(page(read(answer.as_bytes()).unwrap()), expected);
    }
}
