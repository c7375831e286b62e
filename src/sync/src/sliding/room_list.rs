//! The rooms of a user by recent activity, as lists are windows on: a fold over what happens in the rooms,
//! kept in memory. The first reading is O(rooms); from then on only what changed is read.

use std::sync::Arc;

use event::auth::Membership;
use names::{RoomSn, UserSn};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rooms::visibility::Visibility;
use rooms::{EventNo, UserRoom, event_log, members, outside};
use store::{At, Position, Read, View};

use crate::Result;
use crate::sliding::Changes;

/// A room in the list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The room.
    pub room: RoomSn,
    /// The room's id.
    pub room_id: Arc<str>,
    /// As the user has it.
    pub of: At<UserRoom>,
    /// When something last happened there that the user may see.
    pub activity: Position,
    /// Who sent the user's member event, unless the user is joined.
    pub by: Option<UserSn>,
    /// The user was made to leave: shown even on connections that never showed the room.
    pub was_removed: bool,
}

impl Listed {
    /// The user's membership.
    pub fn membership(&self) -> Membership {
        self.of.value.membership()
    }

    fn read(
        view: &View,
        user: UserSn,
        user_id: &str,
        room: RoomSn,
        of: At<UserRoom>,
    ) -> Result<Self> {
        let mut listed = Self {
            room,
            room_id: names::room_id(view, room)?.into(),
            of,
            activity: of.position,
            by: None,
            was_removed: false,
        };
        listed.refresh(view, user, user_id)?;
        Ok(listed)
    }

    /// Reads what may have changed of a room.
    fn refresh(&mut self, view: &View, user: UserSn, user_id: &str) -> Result<()> {
        self.activity = self.of.position;
        (self.by, self.was_removed) = (None, false);
        if self.membership() == Membership::Join {
            if let Some(head) = event_log::head(view, self.room)? {
                let newest = EventNo(head.next.0.saturating_sub(1));
                if let Some(event) = event_log::get(view, self.room, newest)? {
                    self.activity = event.position.max(self.of.position);
                }
            }
            return Ok(());
        }
        if let Some(outside) = outside::get(view, self.room, user)? {
            self.by = names::user_sn(view, &outside.sender())?;
            return Ok(());
        }
        let member = members::get(view, self.room, user)?;
        let event = match member {
            Some(member) => event_log::get(view, self.room, member.event)?,
            None => None,
        };
        self.by = event.map(|event| event.sender);
        if matches!(self.membership(), Membership::Leave | Membership::Ban)
            && self.by.is_some_and(|by| by != user)
        {
            let visibility = Visibility::of(view, self.room, Some((user, user_id)))?;
            self.was_removed = visibility.was_joined();
        }
        Ok(())
    }
}

/// A user's rooms, of whatever membership.
#[derive(Debug, Default)]
pub struct RoomList {
    as_of: Position,
    /// By number, as the user's rooms come.
    pub by_room: Vec<Listed>,
    /// Places in `by_room`, the most active room first.
    pub order: Vec<u32>,
}

impl RoomList {
    /// Where a room is in `by_room`.
    pub fn place(&self, room: RoomSn) -> Option<usize> {
        self.by_room
            .binary_search_by_key(&room, |listed| listed.room)
            .ok()
    }

    fn read(
        before: Option<&RoomList>,
        view: &View,
        (user, user_id): (UserSn, &str),
        rooms: &[(RoomSn, At<UserRoom>)],
        changed: impl Fn(RoomSn) -> bool,
    ) -> Result<Self> {
        let mut by_room = Vec::with_capacity(rooms.len());
        for (room, of) in rooms {
            let known = before.and_then(|list| Some(&list.by_room[list.place(*room)?]));
            by_room.push(match known {
                Some(known) if known.of == *of => {
                    let mut listed = known.clone();
                    if listed.membership() == Membership::Join && changed(*room) {
                        listed.refresh(view, user, user_id)?;
                    }
                    listed
                }
                _ => Listed::read(view, user, user_id, *room, *of)?,
            });
        }
        // Nearly sorted as a rule, which a stable sort makes use of.
        let mut order: Vec<u32> = match before {
            Some(before) if before.order.len() == by_room.len() => before.order.clone(),
            _ => (0..by_room.len() as u32).collect(),
        };
        order.sort_by(|a, b| {
            let (a, b) = (&by_room[*a as usize], &by_room[*b as usize]);
            b.activity.cmp(&a.activity).then(a.room.cmp(&b.room))
        });
        Ok(Self {
            as_of: view.position(),
            by_room,
            order,
        })
    }
}

#[derive(Clone)]
struct ByRooms;

impl Weighter<UserSn, Arc<RoomList>> for ByRooms {
    fn weight(&self, _key: &UserSn, list: &Arc<RoomList>) -> u64 {
        list.by_room.len() as u64 + 1
    }
}

/// The most rooms in all lists that are kept.
const MOST_ROOMS: u64 = 500_000;

/// The lists of users who synced of late.
pub struct RoomLists {
    kept: Cache<UserSn, Arc<RoomList>, ByRooms>,
}

impl Default for RoomLists {
    fn default() -> Self {
        Self {
            kept: Cache::with_weighter(10_000, MOST_ROOMS, ByRooms),
        }
    }
}

impl RoomLists {
    /// A user's rooms in a view; `rooms` are those of the view.
    pub fn of(
        &self,
        view: &View,
        user: (UserSn, &str),
        rooms: &[(RoomSn, At<UserRoom>)],
        changes: &Changes<'_>,
    ) -> Result<Arc<RoomList>> {
        let Some(kept) = self.kept.get(&user.0) else {
            let list = Arc::new(RoomList::read(None, view, user, rooms, |_| true)?);
            self.kept.insert(user.0, Arc::clone(&list));
            return Ok(list);
        };
        // A view from before what is kept is told by what changed after the view.
        let since = kept.as_of.min(view.position());
        let changed = |room| changes.room(room, since);
        let joined = |of: &At<UserRoom>| of.value.membership() == Membership::Join;
        let any =
            changes.user(since) || (rooms.iter()).any(|(room, of)| joined(of) && changed(*room));
        if !any {
            return Ok(kept);
        }
        let list = Arc::new(RoomList::read(Some(&kept), view, user, rooms, changed)?);
        if list.as_of >= kept.as_of {
            self.kept.insert(user.0, Arc::clone(&list));
        }
        Ok(list)
    }
}
