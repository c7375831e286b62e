//! Waking those who wait: a long poll registers its user before it looks at a view, so that nothing
//! published later can pass it by.

use std::collections::HashMap;
use std::sync::Arc;

use names::UserSn;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use tokio::sync::Notify;

use crate::{Audience, Touched};

#[derive(Default)]
struct Inner {
    waiting: HashMap<UserSn, Vec<Arc<Notify>>>,
    numbers: RoaringBitmap,
}

/// Who waits now.
#[derive(Default)]
pub struct Notifier {
    inner: Mutex<Inner>,
}

impl Notifier {
    /// Registers a wait for anything that concerns `user`.
    pub fn wait(self: &Arc<Self>, user: UserSn) -> Waiter {
        let notify = Arc::new(Notify::new());
        let mut inner = self.inner.lock();
        inner
            .waiting
            .entry(user)
            .or_default()
            .push(Arc::clone(&notify));
        inner.numbers.insert(user.0);
        Waiter {
            notifier: Arc::clone(self),
            user,
            notify,
        }
    }

    /// The number of waits, for metrics.
    pub fn waiting(&self) -> usize {
        self.inner.lock().waiting.values().map(Vec::len).sum()
    }

    /// Wakes everyone whom the change concerns. Whoever waits on a room whose set of members is not
    /// in memory is woken too: a wake for nothing costs a look, a missed one would cost a message.
    pub(crate) fn wake(&self, touched: &Touched, audience: &Audience) {
        let inner = self.inner.lock();
        if inner.waiting.is_empty() {
            return;
        }
        let mut woken = RoaringBitmap::new();
        for user in touched
            .users
            .iter()
            .chain(touched.memberships.iter().map(|m| &m.user))
        {
            if inner.numbers.contains(user.0) {
                woken.insert(user.0);
            }
        }
        for room in &touched.rooms {
            if !audience.among(*room, &inner.numbers, &mut woken) {
                woken |= &inner.numbers;
            }
        }
        for user in &woken {
            for notify in inner.waiting.get(&UserSn(user)).into_iter().flatten() {
                notify.notify_one();
            }
        }
    }
}

/// A registered wait; dropping it ends the registration.
pub struct Waiter {
    notifier: Arc<Notifier>,
    user: UserSn,
    notify: Arc<Notify>,
}

impl Waiter {
    /// Returns at the next wake since the registration or the last return.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut inner = self.notifier.inner.lock();
        if let Some(all) = inner.waiting.get_mut(&self.user) {
            all.retain(|notify| !Arc::ptr_eq(notify, &self.notify));
            if all.is_empty() {
                inner.waiting.remove(&self.user);
                inner.numbers.remove(self.user.0);
            }
        }
    }
}
