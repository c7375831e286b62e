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

use crate::{Lane, Lock, Node, NodeError, Rooms, Touched};

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

impl Node {
    /// Answers a /sync: at once if there is news, or when there is, or when the timeout is over.
    ///
    /// # Errors
    /// If the answer can't be built.
    pub async fn sync(self: &Arc<Self>, request: SyncRequest) -> Result<Vec<u8>, NodeError> {
        if let Some(since) = request.since {
            self.forget_delivered(&request, since).await?;
        }
        let deadline = Instant::now() + request.timeout;
        // Registered before the first look, so that nothing published after it passes by.
        let waiter = (!request.timeout.is_zero()).then(|| self.notifier.wait(request.user));
        let at_once = request.since.is_none() || request.full_state;
        loop {
            let view = self.view();
            let answer = self.build(&request, view).await?;
            let Some(waiter) = &waiter else {
                return Ok(answer.body);
            };
            if at_once || answer.news || Instant::now() >= deadline {
                return Ok(answer.body);
            }
            tokio::select! {
                () = waiter.woken() => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = self.shutdown.cancelled() => return Ok(answer.body),
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
                let changed = rooms
                    .iter()
                    .filter(|(room, of)| {
                        of.value.membership() == Membership::Join
                            && self.activity.room_changed(*room, since.position)
                    })
                    .take(MOST_ROOMS_INLINE + 1)
                    .count();
                if changed <= MOST_ROOMS_INLINE && !request.full_state {
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

    /// Deletes the to-device messages that the token proves to have arrived.
    async fn forget_delivered(
        &self,
        request: &SyncRequest,
        since: SyncToken,
    ) -> Result<(), NodeError> {
        let (user, device) = (request.user, &*request.device);
        if !to_device::has_delivered(&self.view(), user, device, since.to_device)? {
            return Ok(());
        }
        let guard = self.lock(Lock::User(user)).await;
        let mut txn = self.begin();
        to_device::delete_delivered(&mut txn, user, device, since.to_device)?;
        match self.commit(guard, txn, Touched::nobody()).await {
            // They are not shown again, and go with a later request: reads go on while the disk is full.
            Ok(_) | Err(NodeError::Store(StoreError::Full)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
