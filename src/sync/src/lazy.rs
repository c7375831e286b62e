//! Which members a device was shown, so that lazily loaded members are sent once.
//! <https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members>
//!
//! A member counts as shown only from the token on that was given together with it: a client that never
//! got the answer comes again with an older token, and is shown the member again.

use std::collections::HashMap;
use std::sync::Arc;

use names::{RoomSn, UserSn};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use store::Position;

type Shown = HashMap<(RoomSn, UserSn), Position>;

/// Members shown, by device. Devices unused for long are forgotten, and are shown members again.
pub struct LazyMembers {
    devices: Cache<(UserSn, String), Arc<Mutex<Shown>>>,
}

/// Members remembered for one device before it begins anew.
const MOST_MEMBERS: usize = 100_000;

impl Default for LazyMembers {
    fn default() -> Self {
        Self {
            devices: Cache::new(20_000),
        }
    }
}

impl LazyMembers {
    /// Begins anew for a device that syncs without a token.
    pub fn reset(&self, user: UserSn, device: &str) {
        self.devices.remove(&(user, device.to_owned()));
    }

    /// Of `members`, those not shown to the device with a token up to `since`.
    pub fn unseen(
        &self,
        user: UserSn,
        device: &str,
        room: RoomSn,
        since: Position,
        members: &mut Vec<UserSn>,
    ) {
        let Some(shown) = self.devices.get(&(user, device.to_owned())) else {
            return;
        };
        let shown = shown.lock();
        members.retain(|member| shown.get(&(room, *member)).is_none_or(|with| *with > since));
    }

    /// Whether the device may know a member: it was shown the member, or we no longer know.
    pub fn may_know(&self, user: UserSn, device: &str, room: RoomSn, member: UserSn) -> bool {
        match self.devices.get(&(user, device.to_owned())) {
            Some(shown) => shown.lock().contains_key(&(room, member)),
            None => true,
        }
    }

    /// Notes that members are shown together with the token `next`.
    pub fn note(
        &self,
        user: UserSn,
        device: &str,
        next: Position,
        members: impl Iterator<Item = (RoomSn, UserSn)>,
    ) {
        let key = (user, device.to_owned());
        let shown = self.devices.get(&key).unwrap_or_else(|| {
            let shown = Arc::<Mutex<Shown>>::default();
            self.devices.insert(key, Arc::clone(&shown));
            shown
        });
        let mut shown = shown.lock();
        if shown.len() > MOST_MEMBERS {
            drop(shown);
            self.devices.remove(&(user, device.to_owned()));
            return;
        }
        for member in members {
            // An earlier token that was confirmed stays good.
            shown
                .entry(member)
                .and_modify(|with| *with = next.min(*with))
                .or_insert(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_unseen_until_the_client_comes_with_the_token_it_came_with() {
        let lazy = LazyMembers::default();
        let (me, room, other) = (UserSn(1), RoomSn(1), UserSn(2));
        let unseen = |since| {
            let mut members = vec![other];
            lazy.unseen(me, "D", room, Position(since), &mut members);
            members.len()
        };
        assert_eq!(unseen(5), 1);
        lazy.note(me, "D", Position(10), [(room, other)].into_iter());
        assert_eq!([unseen(5), unseen(10), unseen(11)], [1, 0, 0]);
        lazy.reset(me, "D");
        assert_eq!(unseen(11), 1);
    }
}
