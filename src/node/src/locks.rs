//! One change at a time to a room, a user or a name: first come, first served.

use std::collections::HashMap;
use std::sync::Arc;

use names::{RoomSn, UserSn};
use parking_lot::Mutex;
use tokio::sync::{Mutex as QueueMutex, OwnedMutexGuard};

/// What is locked. Locks are taken in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lock {
    /// A room alias.
    Alias(String),
    /// Anything else that has a name: a localpart being registered, a media id.
    Named(String),
    /// What other servers send into a room. One of them at a time waits for the room itself, so that users of this server, who
    /// write into it as well, wait for one of them and not for all.
    Arrivals(RoomSn),
    /// A room.
    Room(RoomSn),
    /// A user.
    User(UserSn),
}

type Queue = Arc<QueueMutex<()>>;

/// The locks in use.
#[derive(Clone, Default)]
pub struct Locks {
    queues: Arc<Mutex<HashMap<Lock, Queue>>>,
}

/// The right to change what was locked, until dropped.
pub struct Guard {
    locks: Locks,
    lock: Lock,
    queue: Option<OwnedMutexGuard<()>>,
}

impl Locks {
    /// Waits for its turn.
    pub async fn lock(&self, lock: Lock) -> Guard {
        let queue = Arc::clone(self.queues.lock().entry(lock.clone()).or_default());
        let mut guard = Guard {
            locks: self.clone(),
            lock,
            queue: None,
        };
        guard.queue = Some(queue.lock_owned().await);
        guard
    }

    /// The lock, if nobody has it or waits for it.
    pub fn try_lock(&self, lock: Lock) -> Option<Guard> {
        let queue = Arc::clone(self.queues.lock().entry(lock.clone()).or_default());
        let mut guard = Guard {
            locks: self.clone(),
            lock,
            queue: None,
        };
        guard.queue = queue.try_lock_owned().ok();
        guard.queue.is_some().then_some(guard)
    }
}

impl Guard {
    /// Somebody waits for the lock: whoever has it and can do the rest later lets them go first.
    pub fn is_awaited(&self) -> bool {
        // One reference is the map's own, one this guard's.
        self.queue
            .as_ref()
            .is_some_and(|queue| Arc::strong_count(OwnedMutexGuard::mutex(queue)) > 2)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.queue = None;
        let mut queues = self.locks.queues.lock();
        // One reference is the map's own: nobody holds or awaits the lock.
        if queues
            .get(&self.lock)
            .is_some_and(|queue| Arc::strong_count(queue) == 1)
        {
            queues.remove(&self.lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left_behind() {
        let locks = Locks::default();
        let first = locks.lock(Lock::Room(RoomSn(1))).await;
        let other = locks.lock(Lock::Room(RoomSn(2))).await;
        let mut second = std::pin::pin!(locks.lock(Lock::Room(RoomSn(1))));
        assert!(!first.is_awaited());
        assert!(futures_poll(second.as_mut()).is_none());
        assert!(first.is_awaited() && !other.is_awaited());
        drop(first);
        let second = second.await;
        assert!(locks.try_lock(Lock::Room(RoomSn(1))).is_none());
        drop((second, other));
        assert!(locks.try_lock(Lock::Room(RoomSn(1))).is_some());
        assert!(locks.queues.lock().is_empty());
    }

    fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
