//! Handing out what is in the log: to the queue of each server that it is for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use names::{RoomSn, UserSn};
use rooms::receipts::Receipt;
use rooms::servers;
use store::{Position, Read};

use super::recipients::{self, Found};
use super::state::{Destination, State};
use crate::{Lane, Node, NodeError};

/// Until it is tried again.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

impl Node {
    /// Hands out everything that is in the log by now, and looks after those that were nudged.
    pub(super) async fn dispatch_all(self: &Arc<Self>) {
        let nudged = std::mem::take(&mut *self.outgoing.nudged.lock());
        for server in nudged {
            let (destination, ()) = self.outgoing.with(&server, |state| {
                state.has_to_device = true;
            });
            self.deliver_to(&destination);
        }
        if let Err(error) = self.dispatch_log().await {
            tracing::error!(%error, "what goes to other servers could not be handed out");
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            self.outgoing.news.notify_one();
        }
    }

    async fn dispatch_log(self: &Arc<Self>) -> Result<(), NodeError> {
        let view = self.view();
        let end = view.position();
        loop {
            let since = self.outgoing.dispatched();
            if since >= end {
                return Ok(());
            }
            let view = view.clone();
            let read = move || recipients::for_all(&view, since, end);
            let Found { items, upto } = self.run(Lane::Interactive, read).await??;
            self.hand_out(items, upto);
        }
    }

    fn hand_out(self: &Arc<Self>, items: Vec<recipients::ForServer>, upto: Position) {
        let outgoing = &self.outgoing;
        // Before the first push: who leaves the log behind from now on has read it up to here.
        outgoing.dispatching.store(upto.0, Ordering::Release);
        let mut touched: BTreeMap<Arc<str>, Arc<Destination>> = BTreeMap::new();
        for (server, position, news) in items {
            let (destination, ()) =
                outgoing.with(&server, |state| state.queue.push(position, news));
            touched.insert(server, destination);
        }
        outgoing.dispatched.store(upto.0, Ordering::Release);
        for destination in touched.values() {
            self.deliver_to(destination);
        }
    }

    /// Gives something that is not kept to servers: dropped for those that fail.
    fn give<'s>(
        self: &Arc<Self>,
        servers: impl IntoIterator<Item = &'s str>,
        change: impl Fn(&mut State),
    ) {
        for server in servers {
            let (destination, is_alive) = self.outgoing.with(server, |state| {
                if state.failing.is_none() {
                    change(state);
                }
                state.failing.is_none()
            });
            if is_alive {
                self.deliver_to(&destination);
            }
        }
    }

    /// Tells the other servers of a room that a user of this one begins or ceases to type.
    ///
    /// # Errors
    /// If the room can't be read.
    pub(crate) fn send_typing(
        self: &Arc<Self>,
        room: RoomSn,
        user: UserSn,
        is_typing: bool,
    ) -> Result<(), NodeError> {
        if self.config().federation.enabled {
            let servers = servers::joined(&self.view(), room)?;
            self.give(servers.iter().map(String::as_str), |state| {
                state.ephemeral.typing(room, user, is_typing);
            });
        }
        Ok(())
    }

    /// Tells the other servers of a room how far a user of this one has read.
    ///
    /// # Errors
    /// If the room can't be read.
    pub fn send_receipt(
        self: &Arc<Self>,
        room: RoomSn,
        user: UserSn,
        thread: Option<&str>,
        receipt: &Receipt,
    ) -> Result<(), NodeError> {
        if self.config().federation.enabled {
            let servers = servers::joined(&self.view(), room)?;
            self.give(servers.iter().map(String::as_str), |state| {
                let of = (room, user, thread.map(str::to_owned));
                let sent = (receipt.event_id.clone(), receipt.ts_ms);
                state.ephemeral.receipt(of, sent);
            });
        }
        Ok(())
    }

    /// Notes that the presence of a user of this server is to be sent.
    pub(crate) fn note_presence(&self, user: UserSn) {
        let config = self.config();
        if config.federation.enabled && config.presence.enabled && user.is_local() {
            self.outgoing.presence.lock().insert(user);
        }
    }

    /// Sends the presences that changed to the servers that share a room with their users.
    pub(super) async fn send_presences(self: &Arc<Self>) {
        let users = std::mem::take(&mut *self.outgoing.presence.lock());
        if users.is_empty() {
            return;
        }
        let (users, view): (Vec<UserSn>, _) = (users.into_iter().collect(), self.view());
        let read = move || recipients::sharing(&view, &users);
        match self.run(Lane::Bulk, read).await {
            Ok(Ok(found)) => {
                let mut by_server: BTreeMap<Arc<str>, Vec<UserSn>> = BTreeMap::new();
                for (server, user) in found {
                    by_server.entry(server).or_default().push(user);
                }
                for (server, users) in by_server {
                    self.give([&*server], |state| {
                        for user in &users {
                            state.ephemeral.presence(*user);
                        }
                    });
                }
            }
            Ok(Err(error)) | Err(error) => {
                tracing::warn!(%error, "presence could not be sent");
            }
        }
    }
}
