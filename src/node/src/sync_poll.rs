//! Long-polling /sync: build from the newest view, and if there is no news, wait for a wake and look
//! again, until the client's timeout.

use std::sync::Arc;
use std::time::Duration;

use event::auth::Membership;
use names::UserSn;
use store::{Position, StoreError, View};
use sync::{Answer, Request, StateMode, SyncToken};
use tokio::time::Instant;
use users::filters::Filter;
use users::to_device;

use crate::{Lane, Lock, Node, NodeError, Rooms, Touched, Waiter};

/// A device's /sync.
#[derive(Clone)]
pub struct SyncRequest {
    /// The user.
    pub user: UserSn,
    /// The user's id.
    pub user_id: Arc<str>,
    /// The device.
    pub device: Arc<str>,
    /// `since`.
    pub since: Option<SyncToken>,
    /// `filter`.
    pub filter: Arc<Filter>,
    /// `full_state`.
    pub full_state: bool,
    /// Where the state belongs.
    pub state_mode: StateMode,
    /// How long to wait for news.
    pub timeout: Duration,
}

/// Rooms with news that an answer may have and still be built between two other requests.
const MOST_ROOMS_INLINE: usize = 4;

/// A request that may wait for news of its user. Begun before the first look at a view, so that nothing
/// published after the look passes by.
pub(crate) struct LongPoll {
    /// None if it does not wait.
    waiter: Option<Waiter>,
    deadline: Instant,
}

impl LongPoll {
    /// Waits until something concerns the user; false when the time is over.
    pub(crate) async fn look_again(&self, node: &Node) -> bool {
        let Some(waiter) = &self.waiter else {
            return false;
        };
        if Instant::now() >= self.deadline {
            return false;
        }
        tokio::select! {
            () = waiter.woken() => true,
            // What came at the last moment is told with the last look.
            () = tokio::time::sleep_until(self.deadline) => true,
            () = node.shutdown.cancelled() => false,
        }
    }
}

impl Node {
    /// Begins a wait for news of a user; without a timeout there is one look.
    pub(crate) fn long_poll(&self, user: UserSn, timeout: Duration) -> LongPoll {
        LongPoll {
            waiter: (!timeout.is_zero()).then(|| self.notifier.wait(user)),
            deadline: Instant::now() + timeout,
        }
    }

    /// Answers a /sync: at once if there is news, or when there is, or when the timeout is over.
    ///
    /// # Errors
    /// If the answer can't be built.
    pub async fn sync(self: &Arc<Self>, request: SyncRequest) -> Result<Vec<u8>, NodeError> {
        let (user, device) = (request.user, &*request.device);
        if let Some(since) = request.since {
            self.forget_delivered(user, device, since.to_device).await?;
        }
        let at_once = request.since.is_none() || request.full_state;
        let timeout = if at_once {
            Duration::ZERO
        } else {
            request.timeout
        };
        let poll = self.long_poll(user, timeout);
        loop {
            let answer = self.build(&request, self.view()).await?;
            if answer.news || !poll.look_again(self).await {
                return Ok(answer.body);
            }
        }
    }

    async fn build(
        self: &Arc<Self>,
        request: &SyncRequest,
        view: View,
    ) -> Result<Answer, NodeError> {
        let rooms = self.rooms_of(request.user, &view)?;
        let lane = match request.since {
            None => Lane::Bulk,
            Some(since) => {
                if self.few_changed(&rooms, since.position) && !request.full_state {
                    return self.build_now(request, &view, &rooms);
                }
                Lane::Interactive
            }
        };
        let (node, request) = (Arc::clone(self), request.clone());
        self.run(lane, move || node.build_now(&request, &view, &rooms))
            .await?
    }

    fn build_now(
        &self,
        request: &SyncRequest,
        view: &View,
        rooms: &Rooms,
    ) -> Result<Answer, NodeError> {
        let since = request.since.map_or(Position::ZERO, |since| since.position);
        let asked = Request {
            user: request.user,
            user_id: &request.user_id,
            device: &request.device,
            since: request.since,
            filter: &request.filter,
            full_state: request.full_state,
            state_mode: request.state_mode,
            now_ms: self.now_ms(),
        };
        let changed = |room| self.activity.room_changed(room, since);
        Ok(sync::build(view, &self.memory, rooms, &changed, &asked)?)
    }

    /// Whether so few rooms have news that an answer may be built between two other requests.
    pub(crate) fn few_changed(&self, rooms: &Rooms, since: Position) -> bool {
        let changed = rooms.iter().filter(|(room, of)| {
            of.value.membership() == Membership::Join && self.activity.room_changed(*room, since)
        });
        changed.take(MOST_ROOMS_INLINE + 1).count() <= MOST_ROOMS_INLINE
    }

    /// Deletes the to-device messages up to a position that proves them to have arrived.
    pub(crate) async fn forget_delivered(
        &self,
        user: UserSn,
        device: &str,
        upto: Position,
    ) -> Result<(), NodeError> {
        if !to_device::has_delivered(&self.view(), user, device, upto)? {
            return Ok(());
        }
        let guard = self.lock(Lock::User(user)).await;
        let mut txn = self.begin();
        to_device::delete_delivered(&mut txn, user, device, upto)?;
        match self.commit(guard, txn, Touched::nobody()).await {
            // They are not shown again, and go with a later request: reads go on while the disk is full.
            Ok(_) | Err(NodeError::Store(StoreError::Full)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
