//! Who gets what: the servers of an entry of the log, and whether an entry is for a server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use ::servers::News;
use ::servers::outbox::{self, OutgoingEvent};
use names::{RoomSn, UserSn};
use rooms::{EventNo, RoomServer, members, servers};
use store::{Position, View};
use users::keys::device_lists::{self, DeviceChange, Part};

use crate::NodeError;

/// Entries of the log that are looked at in one go.
const ENTRIES_AT_ONCE: usize = 1_000;

/// What the log has for servers, up to a position.
pub(super) struct Found<T> {
    pub items: Vec<T>,
    pub upto: Position,
}

/// The log after `since`: events and changes of devices, in its order. Whole positions, and so many that looking at them
/// does not take long.
fn entries(
    view: &View,
    since: Position,
    upto: Position,
) -> Result<(Vec<OutgoingEvent>, Vec<DeviceChange>, Position), NodeError> {
    let (mut events, mut upto) = (Vec::new(), upto);
    for event in outbox::events_between(view, since, upto) {
        let event: OutgoingEvent = event?;
        let last = events.last().map(|last: &OutgoingEvent| last.position);
        if let Some(last) = last
            && events.len() >= ENTRIES_AT_ONCE
            && last != event.position
        {
            upto = last;
            break;
        }
        events.push(event);
    }
    let mut changes: Vec<DeviceChange> = Vec::new();
    for change in device_lists::parts_between(view, since, upto) {
        let change = change?;
        let last = changes.last().map(|last| last.position);
        if let Some(last) = last
            && changes.len() >= ENTRIES_AT_ONCE
            && last != change.position
        {
            upto = last;
            events.retain(|event| event.position <= upto);
            break;
        }
        changes.push(change);
    }
    Ok((events, changes, upto))
}

fn news_of_change(change: DeviceChange) -> News {
    match change.part {
        Part::Device(device) => News::Device {
            user: change.user,
            device: device.into(),
        },
        Part::CrossSigning => News::CrossSigning(change.user),
    }
}

/// The servers of a room, with how long they are there.
type ServersOfRoom = Rc<Vec<(Arc<str>, RoomServer)>>;

/// The servers that share a room with a user.
type ServersOfUser = Rc<BTreeSet<Arc<str>>>;

/// The servers of rooms, each read once.
struct Rooms<'a> {
    view: &'a View,
    by_room: HashMap<RoomSn, ServersOfRoom>,
    by_user: HashMap<(UserSn, Option<RoomSn>), ServersOfUser>,
}

impl<'a> Rooms<'a> {
    fn new(view: &'a View) -> Self {
        Self {
            view,
            by_room: HashMap::new(),
            by_user: HashMap::new(),
        }
    }

    fn servers(&mut self, room: RoomSn) -> Result<ServersOfRoom, NodeError> {
        if let Some(found) = self.by_room.get(&room) {
            return Ok(Rc::clone(found));
        }
        let all = servers::all(self.view, room)?.into_iter();
        let all: Vec<(Arc<str>, RoomServer)> =
            all.map(|(server, entry)| (server.into(), entry)).collect();
        let all = Rc::new(all);
        self.by_room.insert(room, Rc::clone(&all));
        Ok(all)
    }

    /// The servers that share a room with a local user, other than `without`.
    fn sharing(
        &mut self,
        user: UserSn,
        without: Option<RoomSn>,
    ) -> Result<ServersOfUser, NodeError> {
        if let Some(found) = self.by_user.get(&(user, without)) {
            return Ok(Rc::clone(found));
        }
        let mut found = BTreeSet::new();
        for room in members::joined_rooms(self.view, user)? {
            if Some(room) == without {
                continue;
            }
            let all = self.servers(room)?;
            let joined = all.iter().filter(|(_, entry)| entry.joined > 0);
            found.extend(joined.map(|(server, _)| Arc::clone(server)));
        }
        let found = Rc::new(found);
        self.by_user.insert((user, without), Rc::clone(&found));
        Ok(found)
    }
}

/// What is to be sent to a server, and where it is in the log.
pub(super) type ForServer = (Arc<str>, Position, News);

/// What the log after `since` has for all servers, in its order.
pub(super) fn for_all(
    view: &View,
    since: Position,
    upto: Position,
) -> Result<Found<ForServer>, NodeError> {
    let (events, changes, upto) = entries(view, since, upto)?;
    let mut rooms = Rooms::new(view);
    let mut items: Vec<ForServer> = Vec::new();
    for event in events {
        let (room, place, position) = (event.room, event.place, event.position);
        let mut to: BTreeSet<Arc<str>> = BTreeSet::new();
        if !event.to.only || event.to.joined.is_some() {
            let all = rooms.servers(room)?;
            let concerned = all.iter().filter(|(_, of)| of.concerns(EventNo(place)));
            to.extend(concerned.map(|(server, _)| Arc::clone(server)));
        }
        if let Some(user) = event.to.joined.map(UserSn) {
            let known = rooms.sharing(user, Some(room))?;
            for server in to.iter().filter(|server| !known.contains(*server)) {
                items.push((Arc::clone(server), position, News::Devices(user)));
            }
        }
        if event.to.only {
            to.clear();
        }
        to.extend(
            event
                .to
                .also
                .iter()
                .map(|server| Arc::from(server.as_str())),
        );
        to.remove(event.to.except.as_str());
        for server in to {
            items.push((server, position, News::Event { room, place }));
        }
    }
    for change in changes {
        let (user, position) = (change.user, change.position);
        let news = news_of_change(change);
        for server in rooms.sharing(user, None)?.iter() {
            items.push((Arc::clone(server), position, news.clone()));
        }
    }
    // Stable: what is of one position stays in the order of places.
    items.sort_by_key(|(_, position, _)| *position);
    Ok(Found { items, upto })
}

/// What the log after `since` has for one server, in its order.
pub(super) fn for_one(
    view: &View,
    server: &str,
    since: Position,
    upto: Position,
) -> Result<Found<(Position, News)>, NodeError> {
    let (events, changes, upto) = entries(view, since, upto)?;
    let mut shared = BTreeMap::new();
    let mut items = Vec::new();
    for event in events {
        let (room, place, position) = (event.room, event.place, event.position);
        let to = &event.to;
        let in_room = servers::is_concerned(view, room, server, EventNo(place))?;
        if let Some(user) = to.joined.filter(|_| in_room) {
            // Whether it knew them before is not known any more: being told twice is no harm.
            items.push((position, News::Devices(UserSn(user))));
        }
        let is_named = to.also.iter().any(|also| also == server);
        if to.except != server && (is_named || (in_room && !to.only)) {
            items.push((position, News::Event { room, place }));
        }
    }
    for change in changes {
        let user = change.user;
        let is_shared = match shared.get(&user) {
            Some(is_shared) => *is_shared,
            None => {
                let is_shared = shares_room(view, user, server)?;
                shared.insert(user, is_shared);
                is_shared
            }
        };
        if is_shared {
            items.push((change.position, news_of_change(change)));
        }
    }
    items.sort_by_key(|(position, _)| *position);
    Ok(Found { items, upto })
}

/// Whether a server has a user in a room that a local user is joined to.
pub(super) fn shares_room(view: &View, user: UserSn, server: &str) -> Result<bool, NodeError> {
    for room in members::joined_rooms(view, user)? {
        if servers::is_joined(view, room, server)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// For each server the users of `users` that it shares a room with.
pub(super) fn sharing(view: &View, users: &[UserSn]) -> Result<Vec<(Arc<str>, UserSn)>, NodeError> {
    let mut rooms = Rooms::new(view);
    let mut found = Vec::new();
    for user in users {
        for server in rooms.sharing(*user, None)?.iter() {
            found.push((Arc::clone(server), *user));
        }
    }
    Ok(found)
}
