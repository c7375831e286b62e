//! When each room and user last had something new for /sync: a fold of the log since the start.
//!
//! Law: everything at or below a view's position has been noted before the view is published; so a
//! room or user that was not noted after `since` has nothing new since then.

use std::sync::atomic::{AtomicU64, Ordering};

use names::{RoomSn, UserSn};
use parking_lot::RwLock;
use store::Position;

/// Whom a change concerns.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// Rooms in which everyone joined may have something new.
    pub rooms: Vec<RoomSn>,
    /// Rooms in which one of `users` has something new that the others don't see: looked at by the next
    /// /sync of everyone, but nobody is woken.
    pub quiet_rooms: Vec<RoomSn>,
    /// Users who have something new for themselves.
    pub users: Vec<UserSn>,
    /// Who begins or ceases to be joined, so that [`crate::Audience`] stays true.
    pub memberships: Vec<MembershipChange>,
    /// Something was put into the log of what goes to other servers.
    pub outgoing: bool,
    /// Servers for which messages to devices were put into the queue.
    pub servers: Vec<String>,
}

/// A local user begins or ceases to be joined to a room.
#[derive(Clone, Copy, Debug)]
pub struct MembershipChange {
    /// The room.
    pub room: RoomSn,
    /// The user.
    pub user: UserSn,
    /// Joined from now on, or not.
    pub joined: bool,
}

impl Touched {
    /// A change for one user alone.
    pub fn user(user: UserSn) -> Self {
        Self {
            users: vec![user],
            ..Self::default()
        }
    }

    /// A change for a room's members.
    pub fn room(room: RoomSn) -> Self {
        Self {
            rooms: vec![room],
            ..Self::default()
        }
    }

    /// A change that no /sync shows.
    pub fn nobody() -> Self {
        Self::default()
    }
}

/// The last position of each room and each local user.
pub struct Activity {
    started: Position,
    rooms: Column,
    users: Column,
}

impl Activity {
    pub(crate) fn new(started: Position) -> Self {
        Self {
            started,
            rooms: Column::default(),
            users: Column::default(),
        }
    }

    pub(crate) fn note(&self, touched: &Touched, position: Position) {
        for room in touched.rooms.iter().chain(&touched.quiet_rooms) {
            self.rooms.set(room.0, position);
        }
        for user in touched.users.iter().filter(|user| user.is_local()) {
            self.users.set(user.0, position);
        }
        for change in touched
            .memberships
            .iter()
            .filter(|change| change.user.is_local())
        {
            self.users.set(change.user.0, position);
        }
    }

    /// Whether the room may have something new after `since`.
    pub fn room_changed(&self, room: RoomSn, since: Position) -> bool {
        self.rooms.changed(room.0, since, self.started)
    }

    /// Whether the user may have something new for themselves after `since`.
    pub fn user_changed(&self, user: UserSn, since: Position) -> bool {
        self.users.changed(user.0, since, self.started)
    }

    /// Whether any of the rooms may have something new after `since`.
    pub fn any_room_changed(
        &self,
        rooms: impl IntoIterator<Item = RoomSn>,
        since: Position,
    ) -> bool {
        let column = self.rooms.0.read();
        rooms.into_iter().any(|room| {
            let last = column
                .get(room.0 as usize)
                .map_or(0, |last| last.load(Ordering::Acquire));
            if last == 0 {
                since < self.started
            } else {
                last > since.0
            }
        })
    }
}

/// Positions by number; zero where nothing was noted.
#[derive(Default)]
struct Column(RwLock<Vec<AtomicU64>>);

impl Column {
    fn set(&self, at: u32, position: Position) {
        let at = at as usize;
        if let Some(last) = self.0.read().get(at) {
            last.fetch_max(position.0, Ordering::Release);
            return;
        }
        let mut column = self.0.write();
        if column.len() <= at {
            column.resize_with((at + 1).next_power_of_two(), AtomicU64::default);
        }
        column[at].fetch_max(position.0, Ordering::Release);
    }

    fn changed(&self, at: u32, since: Position, started: Position) -> bool {
        let last = self
            .0
            .read()
            .get(at as usize)
            .map_or(0, |last| last.load(Ordering::Acquire));
        if last == 0 {
            since < started
        } else {
            last > since.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_noted_is_unknown_only_before_the_start() {
        let activity = Activity::new(Position(100));
        let (room, user) = (RoomSn(5), UserSn(9));
        assert!(activity.room_changed(room, Position(99)));
        assert!(!activity.room_changed(room, Position(100)));
        activity.note(
            &Touched {
                users: vec![user],
                ..Touched::room(room)
            },
            Position(120),
        );
        assert!(activity.room_changed(room, Position(119)));
        assert!(!activity.room_changed(room, Position(120)));
        assert!(activity.user_changed(user, Position(119)));
        assert!(activity.any_room_changed([RoomSn(4), room], Position(110)));
        assert!(!activity.any_room_changed([RoomSn(4)], Position(110)));
    }
}
