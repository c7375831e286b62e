//! Catching up a server that was away for long: of each room in which something was sent meanwhile it gets the newest
//! events, and asks for those before them if it wants them; of rooms that it was put out of, that; and it hears whose
//! devices changed.

use std::sync::Arc;

use ::servers::News;
use ::servers::outbox;
use names::RoomSn;
use rooms::{EventNo, event_log, servers};
use store::{Position, View};
use users::keys::device_lists;

use super::recipients::shares_room;
use super::state::{CatchUp, Destination, LONG_MS, Stage, State};
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
                stage: Stage::Rooms(RoomSn(0)),
            });
        }
    }
}

/// What a step found, and what comes after it.
struct Found {
    newest: Vec<News>,
    next: Stage,
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
            if let Stage::Users(users) = &mut catch_up.stage {
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
        if let Some(catch_up) = &mut state.catch_up {
            catch_up.stage = found.next;
            state.queue.push_ahead(found.newest);
        }
        Ok(())
    }
}

fn look(view: &View, server: &str, catch_up: &CatchUp) -> Result<Found, NodeError> {
    let since = catch_up.since;
    match &catch_up.stage {
        Stage::Rooms(after) => look_at_rooms(view, server, since, *after),
        Stage::RoomsLeft(after) => look_at_rooms_left(view, server, since, *after),
        Stage::LookForUsers | Stage::Users(_) => look_for_users(view, server, since),
    }
}

/// The newest events of rooms into which something was sent.
fn look_at_rooms(
    view: &View,
    server: &str,
    since: Position,
    after: RoomSn,
) -> Result<Found, NodeError> {
    let (mut newest, mut last) = (Vec::new(), after);
    let rooms = servers::rooms_with_after(view, server, after);
    for (looked_at, room) in rooms.enumerate() {
        if newest.len() >= EVENTS_AT_ONCE || looked_at == ROOMS_AT_ONCE {
            let next = Stage::Rooms(last);
            return Ok(Found { newest, next });
        }
        let room = room?;
        last = room;
        if !outbox::sent_since(view, room, since)? {
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
    let next = Stage::RoomsLeft(RoomSn(0));
    Ok(Found { newest, next })
}

/// The events by which users of this server put the server's last users out of rooms.
fn look_at_rooms_left(
    view: &View,
    server: &str,
    since: Position,
    after: RoomSn,
) -> Result<Found, NodeError> {
    let (mut newest, mut last) = (Vec::new(), after);
    let rooms = servers::rooms_left_after(view, server, after);
    for (looked_at, left) in rooms.enumerate() {
        if newest.len() >= EVENTS_AT_ONCE || looked_at == ROOMS_AT_ONCE {
            let next = Stage::RoomsLeft(last);
            return Ok(Found { newest, next });
        }
        let (room, place): (RoomSn, EventNo) = left?;
        last = room;
        let event = match outbox::sent_since(view, room, since)? {
            true => event_log::get(view, room, place)?,
            false => None,
        };
        if event.is_some_and(|event| event.position > since && event.sender.is_local()) {
            let place = place.0;
            newest.push(News::Event { room, place });
        }
    }
    let next = Stage::LookForUsers;
    Ok(Found { newest, next })
}

fn look_for_users(view: &View, server: &str, since: Position) -> Result<Found, NodeError> {
    let mut users = Vec::new();
    for user in device_lists::changed_since(view, since) {
        let user = user?;
        if user.is_local() && shares_room(view, user, server)? {
            users.push(user);
        }
        if users.len() == MOST_USERS {
            break;
        }
    }
    let (newest, next) = (Vec::new(), Stage::Users(users));
    Ok(Found { newest, next })
}
