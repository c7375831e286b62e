//! Who is joined to a room, of the local users: sets kept in memory for the rooms in use.
//!
//! A set is read from a view once and then follows the membership changes in commit order, so it is
//! never invalidated. [`Audience::note`] runs inside the commit, before the change is visible.

use std::collections::HashMap;

use names::RoomSn;
use parking_lot::RwLock;
use roaring::RoaringBitmap;
use store::{Position, Read, View};

use crate::{NodeError, Touched};

/// Sets in memory; a set is dropped when there are too many, and read again.
const MOST_ROOMS: usize = 50_000;

#[derive(Default)]
struct Inner {
    joined: HashMap<RoomSn, RoaringBitmap>,
    /// Of the rooms that have no set: the last membership change, so that a set read from an older
    /// view is not kept.
    changed: HashMap<RoomSn, Position>,
}

/// Local joined users by room.
#[derive(Default)]
pub struct Audience {
    inner: RwLock<Inner>,
}

impl Audience {
    pub(crate) fn note(&self, touched: &Touched, position: Position) {
        if touched.memberships.is_empty() {
            return;
        }
        let mut inner = self.inner.write();
        for change in touched
            .memberships
            .iter()
            .filter(|change| change.user.is_local())
        {
            match inner.joined.get_mut(&change.room) {
                Some(joined) if change.joined => {
                    joined.insert(change.user.0);
                }
                Some(joined) => {
                    joined.remove(change.user.0);
                }
                None => {
                    inner.changed.insert(change.room, position);
                }
            }
        }
    }

    /// Runs `look` on the set of local users joined to the room.
    ///
    /// # Errors
    /// If the members can't be read.
    pub fn with<T>(
        &self,
        head: impl Fn() -> View,
        room: RoomSn,
        look: impl FnOnce(&RoaringBitmap) -> T,
    ) -> Result<T, NodeError> {
        loop {
            if let Some(joined) = self.inner.read().joined.get(&room) {
                return Ok(look(joined));
            }
            let view = head();
            let mut joined = RoaringBitmap::new();
            for user in rooms::members::local_joined(&view, room)? {
                joined.insert(user.0);
            }
            let mut inner = self.inner.write();
            if inner
                .changed
                .get(&room)
                .is_some_and(|changed| *changed > view.position())
            {
                continue;
            }
            if inner.joined.len() >= MOST_ROOMS {
                inner.joined.clear();
            }
            inner.changed.remove(&room);
            inner.joined.insert(room, joined);
        }
    }

    /// The users in both the room's set and `waiting`; nothing if the room has no set yet.
    pub(crate) fn among(
        &self,
        room: RoomSn,
        waiting: &RoaringBitmap,
        found: &mut RoaringBitmap,
    ) -> bool {
        match self.inner.read().joined.get(&room) {
            Some(joined) => {
                *found |= joined & waiting;
                true
            }
            None => false,
        }
    }

    /// Whether the user is known to be joined to the room.
    pub fn has_set(&self, room: RoomSn) -> bool {
        self.inner.read().joined.contains_key(&room)
    }
}
