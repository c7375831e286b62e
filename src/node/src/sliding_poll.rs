//! Long-polling sliding sync: the state that goes with the request's position, the answer, and the state
//! that the answer brings, kept for the next request.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use names::UserSn;
use store::{Read, View};
use sync::sliding::{self, Answer, Asked, Changes, Pos, State};

use crate::{Lane, Node, NodeError, Rooms};

/// Lists that an answer may have and still be built between two other requests.
const MOST_LISTS_INLINE: usize = 8;

/// A device's request for a sliding sync.
#[derive(Clone)]
pub struct SlidingRequest {
    /// The user.
    pub user: UserSn,
    /// The user's id.
    pub user_id: Arc<str>,
    /// The device.
    pub device: Arc<str>,
    /// `pos`.
    pub pos: Option<Pos>,
    /// What is asked for.
    pub body: Arc<sliding::Request>,
    /// How long to wait for news.
    pub timeout: Duration,
}

impl Node {
    /// Answers a sliding sync: at once if there is news, or when there is, or when the timeout is over.
    ///
    /// # Errors
    /// [`NodeError::UnknownPos`] if the position is not one that the connection may go on from;
    /// others if the answer can't be built.
    pub async fn sliding_sync(
        self: &Arc<Self>,
        request: SlidingRequest,
    ) -> Result<Vec<u8>, NodeError> {
        let (user, device, id) = (request.user, &request.device, &request.body.connection);
        let connections = &self.memory.sliding.connections;
        let base = match request.pos {
            Some(pos) => {
                let base = connections.find(user, device, id, pos);
                Some(base.ok_or(NodeError::UnknownPos)?)
            }
            None => None,
        };
        let delivered = request.body.extensions.to_device;
        if let Some(upto) = delivered.and_then(|asked| asked.since)
            // A token from the future proves nothing.
            && upto <= self.view().position()
        {
            self.forget_delivered(user, device, upto).await?;
        }
        let timeout = match base {
            Some(_) => request.timeout,
            None => Duration::ZERO,
        };
        let poll = self.long_poll(user, timeout);
        let answer = loop {
            let answer = self.build_sliding(&request, base.as_ref(), self.view());
            let answer = answer.await?;
            if answer.news || !poll.look_again(self).await {
                break answer;
            }
        };
        connections.keep(user, device, id, base, answer.state);
        Ok(answer.body)
    }

    async fn build_sliding(
        self: &Arc<Self>,
        request: &SlidingRequest,
        base: Option<&Arc<State>>,
        view: View,
    ) -> Result<Answer, NodeError> {
        let rooms = self.rooms_of(request.user, &view)?;
        let lane = match base {
            None => Lane::Bulk,
            Some(base) => {
                let rules = &request.body.rules;
                let asks_more = base.rules != *rules || rules.lists.len() > MOST_LISTS_INLINE;
                if !asks_more && self.few_changed(&rooms, base.pos.position) {
                    return self.build_sliding_now(request, Some(base), &view, &rooms);
                }
                Lane::Interactive
            }
        };
        let (node, request, base) = (Arc::clone(self), request.clone(), base.cloned());
        let work = move || node.build_sliding_now(&request, base.as_deref(), &view, &rooms);
        self.run(lane, work).await?
    }

    fn build_sliding_now(
        &self,
        request: &SlidingRequest,
        base: Option<&State>,
        view: &View,
        rooms: &Rooms,
    ) -> Result<Answer, NodeError> {
        let changes = Changes {
            rooms: &|room, since| self.activity.room_changed(room, since),
            user: &|since| self.activity.user_changed(request.user, since),
        };
        let asked = Asked {
            user: request.user,
            user_id: &request.user_id,
            device: &request.device,
            request: &request.body,
            generation: self.next_generation.fetch_add(1, Ordering::Relaxed),
            now_ms: self.now_ms(),
        };
        let answer = sliding::build(view, &self.memory, &changes, rooms, base, &asked)?;
        Ok(answer)
    }
}
