//! Spaces that reach into rooms of other servers, and what those say of rooms that this server is not in.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>
//!
//! What a server tells is kept for some minutes, as the specification asks, so that the pages of one hierarchy cost one
//! request a space; and a server that does not answer is not asked again for a minute.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::identifier;
use names::UserSn;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use remote::{RemoteError, Request, path};
use rooms::hierarchy::told::{Told, ToldLevel};
use rooms::hierarchy::walk::{Asked, Page, Step, Walk};
use tokio::time::timeout;

use crate::{Lane, Node, NodeError};

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the servers that are asked for one page may take together.
const PAGE_PATIENCE: Duration = Duration::from_secs(30);

/// Servers that are asked about one room.
const MOST_SERVERS: usize = 4;

/// Rooms that servers are asked about for one page.
const MOST_ASKED: usize = 50;

/// The most bytes of an answer.
const MOST_BYTES: usize = 4 << 20;

/// How long an answer is kept. A refusal is not: who has just entered a room may ask at once what it opens.
const KNOWN_FOR: Duration = Duration::from_secs(300);

/// How long a server that did not answer is not asked.
const SILENT_FOR: Duration = Duration::from_secs(60);

/// Silent servers that are known.
const MOST_SILENT: usize = 1_000;

/// Rooms that are told of by all answers that are kept.
const MOST_KEPT: u64 = 100_000;

type Asking = (String, bool);
type Answered = (Instant, Arc<ToldLevel>);

/// What servers told of spaces.
pub(crate) struct ToldSpaces {
    /// By room id and whether only suggested children were asked for.
    told: Cache<Asking, Answered, ByRooms>,
    /// Servers that did not answer, and since when.
    silent: Cache<String, Instant>,
}

#[derive(Clone, Copy)]
struct ByRooms;

impl Weighter<Asking, Answered> for ByRooms {
    fn weight(&self, _: &Asking, (_, level): &Answered) -> u64 {
        let children = level.children.len() + level.room.children.len();
        (1 + children + level.inaccessible.len()) as u64
    }
}

impl Default for ToldSpaces {
    fn default() -> Self {
        Self {
            told: Cache::with_weighter(1_000, MOST_KEPT, ByRooms),
            silent: Cache::new(MOST_SILENT),
        }
    }
}

impl ToldSpaces {
    fn get(&self, asking: &Asking) -> Option<Arc<ToldLevel>> {
        let (since, level) = self.told.get(asking)?;
        (since.elapsed() < KNOWN_FOR).then_some(level)
    }

    fn is_silent(&self, server: &str) -> bool {
        let since = self.silent.get(server);
        since.is_some_and(|since| since.elapsed() < SILENT_FOR)
    }
}

impl Node {
    /// A page of the hierarchy of a space; nothing if the viewer may not know of it.
    ///
    /// # Errors
    /// If the rooms can't be read. What other servers do not answer is left out.
    pub async fn space_page(&self, asked: Asked) -> Result<Option<Page>, NodeError> {
        let deadline = Instant::now() + PAGE_PATIENCE;
        let suggested_only = asked.suggested_only;
        let view = self.view();
        let mut walk = Walk::new(asked);
        let mut answered: Option<Option<Arc<ToldLevel>>> = None;
        for asked in 0.. {
            let view = view.clone();
            let work = move || -> rooms::Result<(Walk, Step)> {
                if let Some(level) = answered {
                    walk.answer(&view, level.as_deref())?;
                }
                let step = walk.go_on(&view)?;
                Ok((walk, step))
            };
            let (went, step) = self.run(Lane::Interactive, work).await??;
            walk = went;
            let Step::Ask { room_id, via } = step else {
                break;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            answered = Some(match asked < MOST_ASKED && !left.is_zero() {
                true => {
                    let asking = self.told_of_space(&room_id, &via, suggested_only);
                    timeout(left, asking).await.unwrap_or_default()
                }
                false => None,
            });
        }
        Ok(walk.page())
    }

    /// What other servers say of a room that this one is not in; nothing if none does, or the viewer may not know
    /// of it.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn told_of_room(
        &self,
        room_id: &str,
        via: &[String],
        viewer: Option<UserSn>,
    ) -> Result<Option<Told>, NodeError> {
        let asking = self.told_of_space(room_id, via, false);
        let Ok(Some(level)) = timeout(PAGE_PATIENCE, asking).await else {
            return Ok(None);
        };
        let is_known = level.room.may_be_known(&self.view(), viewer)?;
        Ok(is_known.then(|| level.room.clone()))
    }

    /// Asks servers about a room until one answers: those that are named, then the one that made it.
    async fn told_of_space(
        &self,
        room_id: &str,
        via: &[String],
        suggested_only: bool,
    ) -> Option<Arc<ToldLevel>> {
        let asking = (room_id.to_owned(), suggested_only);
        if let Some(level) = self.told_spaces().get(&asking) {
            return Some(level);
        }
        let mut servers: Vec<&str> = Vec::new();
        let named = via.iter().map(String::as_str);
        for server in named.chain(identifier::domain(room_id)) {
            let is_other = server != self.server_name() && identifier::is_server_name(server);
            if is_other && !servers.contains(&server) && servers.len() < MOST_SERVERS {
                servers.push(server);
            }
        }
        self.reachable_first(&mut servers);
        servers.retain(|server| !self.told_spaces().is_silent(server));
        for server in servers {
            if let Some(level) = self.ask_of_space(server, room_id, suggested_only).await {
                let answered = (Instant::now(), Arc::clone(&level));
                self.told_spaces().told.insert(asking, answered);
                return Some(level);
            }
        }
        None
    }

    async fn ask_of_space(
        &self,
        server: &str,
        room_id: &str,
        suggested_only: bool,
    ) -> Option<Arc<ToldLevel>> {
        let only = if suggested_only { "true" } else { "false" };
        let path = path(
            "/_matrix/federation/v1/hierarchy",
            &[room_id],
            &[("suggested_only", only)],
        );
        let request = Request::get(path).timeout(PATIENCE).max_answer(MOST_BYTES);
        let answer = match self.remote().call(server, request).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%server, room = room_id, %error, "does not tell of the room");
                if matches!(error, RemoteError::Unreachable(_) | RemoteError::TimedOut) {
                    let since = Instant::now();
                    self.told_spaces().silent.insert(server.to_owned(), since);
                }
                return None;
            }
        };
        let text = std::str::from_utf8(&answer).ok()?;
        ToldLevel::of_json(room_id, text, suggested_only).map(Arc::new)
    }
}
