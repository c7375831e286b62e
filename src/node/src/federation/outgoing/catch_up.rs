//! Catching up a server that was away for long: of each room in which something was sent meanwhile it gets the newest
//! events, and asks for those before them if it wants them; and it hears whose devices changed.

use std::sync::Arc;

use ::servers::News;
use ::servers::outbox;
use names::{RoomSn, UserSn};
use rooms::{event_log, servers};
use store::{Position, View};
use users::keys::device_lists;

use super::recipients::shares_room;
use super::state::{CatchUp, Destination, LONG_MS, State};
use crate::{Lane, Node, NodeError};

/// Events of one step.
const EVENTS_AT_ONCE: usize = 50;
/// Rooms that one step looks at.
const ROOMS_AT_ONCE: usize = 1_000;
/// Newest events that are sent of a room: more branches are found by what follows them.
const MOST_OF_A_ROOM: usize = 10;
/// Users of one step.
const USERS_AT_ONCE: usize = 20;
/// Users whose changed devices a server is told of; others it hears of when it asks.
const MOST_USERS: usize = 5_000;

impl State {
    /// Begins to catch up if it is too late to send everything.
    pub(super) fn begin_catch_up(
        &mut self,
        dispatched: Position,
        forgotten: Position,
        now_ms: u64,
    ) {
        if self.catch_up.is_some() || self.queue.behind().is_none() {
            return;
        }
        let since = self.queue.cursor(dispatched);
        let is_long = self.failing.as_ref().is_some_and(|failing| {
            failing.failures > 0 && now_ms.saturating_sub(failing.since_ms) >= LONG_MS
        });
        if is_long || since < forgotten {
            self.queue.skip_to(dispatched);
            self.transaction = None;
            self.catch_up = Some(CatchUp {
                since,
                room: RoomSn(0),
                users: None,
            });
        }
    }
}

/// What a step found.
enum Found {
    Rooms {
        newest: Vec<News>,
        last: RoomSn,
        is_all: bool,
    },
    Users(Vec<UserSn>),
}

impl Node {
    /// Looks for more to catch up with; at the end the server follows the log again.
    pub(super) async fn fill_catch_up(
        self: &Arc<Self>,
        destination: &Destination,
    ) -> Result<(), NodeError> {
        let catch_up = {
            let mut state = destination.state.lock();
            let Some(catch_up) = &mut state.catch_up else {
                return Ok(());
            };
            if let Some(users) = &mut catch_up.users {
                let rest = users.len().saturating_sub(USERS_AT_ONCE);
                let next = users.split_off(rest);
                if next.is_empty() {
                    state.catch_up = None;
                    tracing::info!(server = %destination.name, "a server was caught up");
                } else {
                    state.queue.push_ahead(next.into_iter().map(News::Devices));
                }
                return Ok(());
            }
            catch_up.clone()
        };
        let (view, server) = (self.view(), Arc::clone(&destination.name));
        let found = self
            .run(Lane::Bulk, move || look(&view, &server, &catch_up))
            .await??;
        let mut state = destination.state.lock();
        let Some(catch_up) = &mut state.catch_up else {
            return Ok(());
        };
        match found {
            Found::Users(users) => catch_up.users = Some(users),
            Found::Rooms {
                newest,
                last,
                is_all,
            } => {
                catch_up.room = if is_all { RoomSn(u32::MAX) } else { last };
                state.queue.push_ahead(newest);
            }
        }
        Ok(())
    }
}

fn look(view: &View, server: &str, catch_up: &CatchUp) -> Result<Found, NodeError> {
    if catch_up.room == RoomSn(u32::MAX) {
        let mut users = Vec::new();
        for user in device_lists::changed_since(view, catch_up.since) {
            let user = user?;
            if user.is_local() && shares_room(view, user, server)? {
                users.push(user);
            }
            if users.len() == MOST_USERS {
                break;
            }
        }
        return Ok(Found::Users(users));
    }
    let (mut newest, mut last, mut is_all) = (Vec::new(), catch_up.room, true);
    let rooms = servers::rooms_with_after(view, server, catch_up.room);
    for (looked_at, room) in rooms.enumerate() {
        if newest.len() >= EVENTS_AT_ONCE || looked_at == ROOMS_AT_ONCE {
            is_all = false;
            break;
        }
        let room = room?;
        last = room;
        if !outbox::sent_since(view, room, catch_up.since)? {
            continue;
        }
        let head = event_log::head(view, room)?;
        let extremities = head.into_iter().flat_map(|head| head.extremities);
        newest.extend(
            extremities
                .take(MOST_OF_A_ROOM)
                .map(|(place, _)| News::Event {
                    room,
                    place: place.0,
                }),
        );
    }
    Ok(Found::Rooms {
        newest,
        last,
        is_all,
    })
}
