//! Whose keys changed, and since when: the stream behind `device_lists` of /sync and `/keys/changes`.
//!
//! A log by position with one row per user: marking a user again moves the row. So reading it costs at
//! most one row per user whose keys changed, however often they did. What a viewer shares with whom is
//! the caller's knowledge; [`compose`] brings the two together. Other servers are told which device changed, and
//! where the change before it was ([`parts_between`], [`previous`]), so that they see whether they missed one.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user>.

use std::collections::BTreeSet;

use names::UserSn;
use serde::{Deserialize, Serialize};
use store::{At, Direction, Position, Read, Record, Txn};

use crate::Result;
use crate::schema::{DEVICE_CHANGES, DEVICE_LIST_LOG, DEVICE_LISTS, USER_SIGNATURE_LOG};

/// Notes that the user's devices, device keys or cross-signing keys changed.
pub fn mark_changed(txn: &mut Txn, user: UserSn) -> Result<()> {
    if let Some(last) = DEVICE_LISTS.get(txn, &user)? {
        DEVICE_LIST_LOG.delete(txn, &(last.position, user));
    }
    DEVICE_LISTS.put(txn, &user, &At::now(()));
    DEVICE_LIST_LOG.put(txn, &(Position::PENDING, user), &());
    Ok(())
}

/// Notes that a device of the user, or its keys or name, changed.
pub fn mark_device(txn: &mut Txn, user: UserSn, device: &str) -> Result<()> {
    mark_part(txn, user, device)
}

/// Notes that the user's cross-signing keys, or signatures under them, changed.
pub fn mark_cross_signing(txn: &mut Txn, user: UserSn) -> Result<()> {
    mark_part(txn, user, CROSS_SIGNING)
}

/// No device has this id.
const CROSS_SIGNING: &str = "";

fn mark_part(txn: &mut Txn, user: UserSn, part: &str) -> Result<()> {
    if user.is_local() {
        let previous = last_changed(txn, user)?.unwrap_or_default();
        // Pending, and so kept, if the user changed earlier in the same change.
        DEVICE_CHANGES.put(
            txn,
            &(Position::PENDING, user, part.to_owned()),
            &Previous(previous),
        );
    }
    mark_changed(txn, user)
}

/// What of a user's keys changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A device: added, removed, renamed, or with other keys.
    Device(String),
    /// The cross-signing keys.
    CrossSigning,
}

/// A change of a local user's keys, as other servers are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceChange {
    /// Where it was committed; `stream_id` in federation.
    pub position: Position,
    /// Whose.
    pub user: UserSn,
    /// What changed.
    pub part: Part,
}

/// What changed of local users' keys after `since` up to `upto`, in the order of the changes.
pub fn parts_between(
    from: &impl Read,
    since: Position,
    upto: Position,
) -> impl Iterator<Item = Result<DeviceChange>> {
    let key = |position: Position| {
        (
            Position(position.0.saturating_add(1)),
            UserSn(0),
            String::new(),
        )
    };
    DEVICE_CHANGES
        .range(from, &key(since), &key(upto), Direction::Forward)
        .map(|row| {
            let ((position, user, part), _) = row?;
            let part = match part.as_str() {
                CROSS_SIGNING => Part::CrossSigning,
                _ => Part::Device(part),
            };
            Ok(DeviceChange {
                position,
                user,
                part,
            })
        })
}

/// Where the user's keys changed before a change of theirs: `prev_id` in federation. Nothing if that was the first, or
/// is forgotten.
pub fn previous(from: &impl Read, change: &DeviceChange) -> Result<Option<Position>> {
    let part = match &change.part {
        Part::Device(device) => device.as_str(),
        Part::CrossSigning => CROSS_SIGNING,
    };
    let key = (change.position, change.user, part.to_owned());
    let previous = DEVICE_CHANGES.get(from, &key)?.map(|previous| previous.0);
    Ok(match previous {
        Some(Position::PENDING) => Some(change.position),
        previous => previous.filter(|previous| *previous != Position::ZERO),
    })
}

/// Forgets up to `limit` of the changes after `since` up to `upto`. True if there may be more.
pub fn forget_parts(txn: &mut Txn, since: Position, upto: Position, limit: usize) -> Result<bool> {
    let rows = DEVICE_CHANGES.range(
        txn,
        &first_after(since),
        &first_after(upto),
        Direction::Forward,
    );
    let rows: Vec<_> = rows.take(limit).collect::<store::Result<_>>()?;
    for (key, _) in &rows {
        DEVICE_CHANGES.delete(txn, key);
    }
    Ok(rows.len() == limit)
}

fn first_after(position: Position) -> (Position, UserSn, String) {
    (
        Position(position.0.saturating_add(1)),
        UserSn(0),
        String::new(),
    )
}

/// Where something was before: a number, which the writer does not fill in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Previous(Position);

impl Record for Previous {}

/// Where the user's keys changed last; nothing if the user never had any.
pub fn last_changed(from: &impl Read, user: UserSn) -> Result<Option<Position>> {
    Ok(DEVICE_LISTS.get(from, &user)?.map(|last| last.position))
}

/// The users whose keys changed after `since`, each once, in the order of their last change. Includes
/// everyone on the server: the caller keeps those who share a room with the viewer.
pub fn changed_since(from: &impl Read, since: Position) -> impl Iterator<Item = Result<UserSn>> {
    let start = (Position(since.0.saturating_add(1)), UserSn(0));
    DEVICE_LIST_LOG
        .scan_from(from, &(), &start)
        .map(|row| Ok(row?.0.1))
}

/// The users whose master key `signer` signed after `since`. Only the signer may see that, so these
/// users have changed for the signer alone.
pub fn signed_since(
    from: &impl Read,
    signer: UserSn,
    since: Position,
) -> impl Iterator<Item = Result<UserSn>> {
    let start = (signer, Position(since.0.saturating_add(1)), UserSn(0));
    USER_SIGNATURE_LOG
        .scan_from(from, &(signer,), &start)
        .map(|row| Ok(row?.0.2))
}

/// The `device_lists` of a /sync, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceLists {
    /// Whose keys the viewer should ask for again.
    pub changed: BTreeSet<UserSn>,
    /// Whose keys the viewer need not follow any longer.
    pub left: BTreeSet<UserSn>,
}

/// Composes what a viewer is told, exactly:
///
/// - `changed`: who shares a room with the viewer now, and changed keys or did not share one before; the
///   viewer's own changes; and whoever the viewer signed;
/// - `left`: who shared a room with the viewer before and does not now.
///
/// `keys_changed` are the users of [`changed_since`], `signed` those of [`signed_since`]. `moved` holds at
/// least every user who, since then, entered or left a room that the viewer is or was in, and all
/// members of the rooms that the viewer entered or left. `shared_before` and `shares_now` say whether
/// the viewer had a room in common with the user then, and has now.
pub fn compose(
    viewer: UserSn,
    keys_changed: impl IntoIterator<Item = UserSn>,
    signed: impl IntoIterator<Item = UserSn>,
    moved: impl IntoIterator<Item = UserSn>,
    shared: &impl SharedRooms,
) -> Result<DeviceLists> {
    let mut lists = DeviceLists::default();
    for user in keys_changed {
        if user == viewer || shared.now(user)? {
            lists.changed.insert(user);
        }
    }
    lists.changed.extend(signed);
    for user in moved {
        if user == viewer {
            // Who enters a room is named as well: their other devices are in it now.
            lists.changed.insert(viewer);
            continue;
        }
        match (shared.before(user)?, shared.now(user)?) {
            (false, true) => {
                lists.changed.insert(user);
            }
            (true, false) => {
                lists.changed.remove(&user);
                lists.left.insert(user);
            }
            _ => {}
        }
    }
    Ok(lists)
}

/// With whom the viewer of [`compose`] shares a room.
pub trait SharedRooms {
    /// True if they had a room in common at the start.
    fn before(&self, user: UserSn) -> Result<bool>;
    /// True if they have one now.
    fn now(&self, user: UserSn) -> Result<bool>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{commit, store};

    fn changed(store: &store::Store, since: Position) -> Vec<UserSn> {
        changed_since(&store.view(), since)
            .collect::<Result<_>>()
            .unwrap()
    }

    #[test]
    fn a_user_is_listed_once_after_the_last_change_and_not_before_the_token() {
        let store = store();
        let mark = |user| commit(&store, |txn| mark_changed(txn, UserSn(user)));
        let first = mark(1);
        let second = mark(2);
        assert_eq!(changed(&store, Position::ZERO), [UserSn(1), UserSn(2)]);
        assert_eq!(changed(&store, first), [UserSn(2)]);
        assert_eq!(changed(&store, second), []);
        let third = mark(1);
        assert_eq!(changed(&store, Position::ZERO), [UserSn(2), UserSn(1)]);
        assert_eq!(changed(&store, second), [UserSn(1)]);
        assert_eq!(last_changed(&store.view(), UserSn(1)).unwrap(), Some(third));
    }

    #[test]
    fn other_servers_are_told_what_changed_and_after_what() {
        let store = store();
        let user = UserSn(1);
        let first = commit(&store, |txn| mark_device(txn, user, "A"));
        let second = commit(&store, |txn| {
            mark_device(txn, user, "A")?;
            mark_device(txn, user, "B")
        });
        let third = commit(&store, |txn| mark_cross_signing(txn, user));
        let remote = UserSn(1 << 31);
        commit(&store, |txn| mark_device(txn, remote, "R"));

        let view = store.view();
        let told = |since, upto| -> Vec<(Position, Part, Option<Position>)> {
            parts_between(&view, since, upto)
                .map(|change| {
                    let change = change.unwrap();
                    let previous = previous(&view, &change).unwrap();
                    (change.position, change.part, previous)
                })
                .collect()
        };
        let device = |id: &str| Part::Device(id.to_owned());
        let all = [
            (first, device("A"), None),
            (second, device("A"), Some(first)),
            (second, device("B"), Some(second)),
            (third, Part::CrossSigning, Some(second)),
        ];
        assert_eq!(told(Position::ZERO, view.position()), all);
        assert_eq!(told(first, second), all[1..3]);
        commit(&store, |txn| {
            forget_parts(txn, Position::ZERO, second, 10).map(drop)
        });
        let view = store.view();
        assert_eq!(
            parts_between(&view, Position::ZERO, view.position()).count(),
            1
        );
    }

    #[test]
    fn two_marks_in_one_change_are_one() {
        let store = store();
        commit(&store, |txn| {
            mark_changed(txn, UserSn(1))?;
            mark_changed(txn, UserSn(1))
        });
        assert_eq!(changed(&store, Position::ZERO), [UserSn(1)]);
    }

    struct Rooms {
        before: &'static [u32],
        now: &'static [u32],
    }

    impl SharedRooms for Rooms {
        fn before(&self, user: UserSn) -> Result<bool> {
            Ok(self.before.contains(&user.0))
        }
        fn now(&self, user: UserSn) -> Result<bool> {
            Ok(self.now.contains(&user.0))
        }
    }

    #[test]
    fn changed_and_left_follow_keys_and_shared_rooms_exactly() {
        let numbers = |users: &[u32]| users.iter().copied().map(UserSn).collect::<Vec<_>>();
        let rooms = Rooms {
            before: &[2, 3, 4],
            now: &[2, 4, 5],
        };
        // 2 changed keys; 3 changed keys and went; 4 came and went and came; 5 came; 6 is a stranger
        // who changed keys; 7 was only met in between; 8 was signed.
        let lists = compose(
            UserSn(1),
            numbers(&[1, 2, 3, 6]),
            numbers(&[8]),
            numbers(&[1, 3, 4, 5, 7]),
            &rooms,
        )
        .unwrap();
        assert_eq!(
            lists.changed.into_iter().collect::<Vec<_>>(),
            numbers(&[1, 2, 5, 8])
        );
        assert_eq!(lists.left.into_iter().collect::<Vec<_>>(), numbers(&[3]));
    }
}
