//! Transactions to one server: one at a time, until nothing is left or it fails.
//! <https://spec.matrix.org/v1.19/server-server-api/#transactions>

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use event::json::write_string;
use names::{RoomSn, UserSn};
use remote::{RemoteError, Request};
use rooms::{EventNo, event_log};
use serde::Deserialize;
use serde_json::value::RawValue;
use servers::News;
use servers::outbox;
use store::{Position, View};

use super::edus::write_edu;
use super::recipients;
use super::state::{Destination, Ephemeral, ReceiptKey, SentReceipt, State, Transaction};
use crate::federation::traffic::count;
use crate::{Lane, Node, NodeError, Touched};

/// Events in a transaction: as many as the specification allows.
const MOST_EVENTS: usize = 50;
/// Changes of devices in a transaction, each of up to two EDUs. The specification allows a hundred EDUs in all.
const MOST_DEVICES: usize = 20;
/// Messages to devices.
const MOST_TO_DEVICE: usize = 30;
/// How many bytes of them, before the last.
const MOST_TO_DEVICE_BYTES: usize = 512 * 1024;
/// Receipts; at worst each is an EDU.
const MOST_RECEIPTS: usize = 14;
/// Typing notifications.
const MOST_TYPING: usize = 14;
/// Users in the one EDU of presence.
const MOST_PRESENCES: usize = 100;

/// How long a server may take for a transaction.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer: each event has a short entry.
const MOST_ANSWER: usize = 1 << 20;

/// After so many failures a transaction that the server calls malformed is given up.
const MOST_REFUSALS: u32 = 10;

/// Messages to devices that are dropped in one change.
const MOST_DROPPED: usize = 1_000;

/// A transaction, ready to be sent.
struct Ready {
    id: String,
    body: Bytes,
    /// The messages to devices in it.
    to_device: Vec<(Position, u32)>,
    events: usize,
    edus: usize,
    is_risky: bool,
}

/// What a transaction is made of.
struct Parts {
    id: String,
    items: Vec<(Position, News)>,
    /// At most so many messages to devices.
    to_device: usize,
    typing: Vec<Typing>,
    receipts: Vec<SentBy>,
    presence: Vec<UserSn>,
}

type Typing = ((RoomSn, UserSn), bool);
type SentBy = (ReceiptKey, SentReceipt);

impl Ephemeral {
    fn take_typing(&mut self) -> Vec<Typing> {
        let next = || self.typing.pop_first();
        std::iter::from_fn(next).take(MOST_TYPING).collect()
    }

    fn take_receipts(&mut self) -> Vec<SentBy> {
        let next = || self.receipts.pop_first();
        std::iter::from_fn(next).take(MOST_RECEIPTS).collect()
    }

    fn take_presence(&mut self) -> Vec<UserSn> {
        let next = || self.presence.pop_first();
        std::iter::from_fn(next).take(MOST_PRESENCES).collect()
    }
}

impl Node {
    /// Has a task send to the server, unless it does already or the server rests.
    pub(super) fn deliver_to(self: &Arc<Self>, destination: &Arc<Destination>) {
        {
            let mut state = destination.state.lock();
            let now_ms = self.now_ms();
            let failing = state.failing.as_ref();
            let rests = failing.is_some_and(|failing| failing.retry_at_ms > now_ms);
            if state.is_working || state.is_retired || rests || self.shutdown.is_cancelled() {
                return;
            }
            state.is_working = true;
        }
        let (node, destination) = (Arc::clone(self), Arc::clone(destination));
        self.outgoing.tasks.spawn(async move {
            node.deliver(&destination).await;
        });
    }

    async fn deliver(self: &Arc<Self>, destination: &Destination) {
        loop {
            if self.shutdown.is_cancelled() {
                destination.state.lock().is_working = false;
                return;
            }
            let ready = match self.next_transaction(destination).await {
                Ok(Some(ready)) => ready,
                Ok(None) if self.retire_if_idle(destination) => return,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(server = %destination.name, %error, "a transaction could not be made");
                    self.failed(destination, error.to_string()).await;
                    return;
                }
            };
            match self.send_transaction(destination, &ready).await {
                Ok(()) => {
                    count(&self.traffic.transactions_sent, 1);
                    count(&self.traffic.events_sent, ready.events);
                    count(&self.traffic.edus_sent, ready.edus);
                    self.succeeded(destination, &ready);
                }
                Err(error) if self.gives_up(destination, &error) => {
                    tracing::warn!(server = %destination.name, %error, "what a server keeps refusing is dropped");
                    self.succeeded(destination, &ready);
                }
                Err(error) => {
                    self.failed(destination, error.to_string()).await;
                    return;
                }
            }
        }
    }

    /// The next transaction; nothing if there is nothing to send now.
    async fn next_transaction(
        self: &Arc<Self>,
        destination: &Destination,
    ) -> Result<Option<Ready>, NodeError> {
        self.read_log(destination).await?;
        let (parts, is_risky) = {
            let mut state = destination.state.lock();
            let is_risky = state.failing.is_some();
            (self.take_parts(&mut state), is_risky)
        };
        let (view, node) = (self.view(), Arc::clone(self));
        let server = Arc::clone(&destination.name);
        let assemble = move || node.assemble(&view, &server, parts);
        let Some((ready, more)) = self.run(Lane::Interactive, assemble).await?? else {
            let mut state = destination.state.lock();
            state.queue.sent();
            state.transaction = None;
            return Ok(None);
        };
        let mut state = destination.state.lock();
        state.has_to_device |= more;
        state.transaction = Some(Transaction {
            id: ready.id.clone(),
            to_device: ready.to_device.len(),
        });
        Ok(Some(Ready { is_risky, ..ready }))
    }

    /// Reads the log until something is found for the server, or the end is reached.
    async fn read_log(self: &Arc<Self>, destination: &Destination) -> Result<(), NodeError> {
        loop {
            let (since, upto, by_room) = {
                let mut state = destination.state.lock();
                let dispatched = self.outgoing.dispatched();
                let forgotten = Position(self.outgoing.forgotten.load(Ordering::Acquire));
                state.begin_catch_up(dispatched, forgotten, self.now_ms());
                let Some(since) = state.queue.wants_log() else {
                    return Ok(());
                };
                (since, self.handing_out(), state.catch_up.is_some())
            };
            if by_room {
                self.fill_catch_up(destination).await?;
                continue;
            }
            let (view, server) = (self.view(), Arc::clone(&destination.name));
            let read = move || recipients::for_one(&view, &server, since, upto);
            let found = self.run(Lane::Interactive, read).await??;
            let mut state = destination.state.lock();
            // What is handed out later is pushed, as this is under the lock that a push takes.
            let is_all = found.upto >= upto && upto == self.handing_out();
            state.queue.read(found.items, found.upto, is_all);
        }
    }

    fn handing_out(&self) -> Position {
        Position(self.outgoing.dispatching.load(Ordering::Acquire))
    }

    fn take_parts(&self, state: &mut State) -> Parts {
        let before = state.transaction.clone();
        let items = state.queue.take(MOST_EVENTS, MOST_DEVICES).to_vec();
        let to_device = match &before {
            Some(transaction) => transaction.to_device,
            None if state.has_to_device => MOST_TO_DEVICE,
            None => 0,
        };
        // Before they are read, so that what comes meanwhile is looked for again.
        if before.is_none() {
            state.has_to_device = false;
        }
        Parts {
            id: match before {
                Some(transaction) => transaction.id,
                None => {
                    let number = self
                        .outgoing
                        .next_transaction
                        .fetch_add(1, Ordering::Relaxed);
                    format!("{:x}.{number:x}", self.outgoing.started_ms)
                }
            },
            items,
            to_device,
            typing: state.ephemeral.take_typing(),
            receipts: state.ephemeral.take_receipts(),
            presence: state.ephemeral.take_presence(),
        }
    }

    /// The transaction, and whether more messages to devices wait; nothing if it would be empty.
    fn assemble(
        &self,
        view: &View,
        server: &str,
        parts: Parts,
    ) -> Result<Option<(Ready, bool)>, NodeError> {
        let mut pdus = Array::new();
        let mut edus = Array::new();
        let waiting = match parts.to_device {
            0 => Vec::new(),
            limit => outbox::to_device(view, server, limit, MOST_TO_DEVICE_BYTES)?,
        };
        for message in &waiting {
            write_edu(edus.next(), "m.direct_to_device", &message.content);
        }
        let shared = Shared {
            node: self,
            server,
            is_limited: self.is_limited_partner(server),
        };
        for (position, news) in &parts.items {
            match news {
                News::Event { room, place } => {
                    if !shared.room(view, *room)? {
                        continue;
                    }
                    if let Some(event) = event_log::get(view, *room, EventNo(*place))? {
                        pdus.next().extend_from_slice(event.json.as_bytes());
                    }
                }
                News::Device { user, .. } | News::CrossSigning(user) | News::Devices(user) => {
                    if shared.user(view, *user)? {
                        edus.extend(self.device_edus(view, *position, news)?);
                    }
                }
            }
        }
        let mut receipts = Vec::with_capacity(parts.receipts.len());
        for receipt in parts.receipts {
            let (room, user, _) = receipt.0;
            if shared.room(view, room)? && shared.user(view, user)? {
                receipts.push(receipt);
            }
        }
        edus.extend(self.receipt_edus(view, receipts)?);
        for (of, is_typing) in parts.typing {
            if shared.room(view, of.0)? && shared.user(view, of.1)? {
                edus.extend([self.typing_edu(view, of, is_typing)?]);
            }
        }
        let mut presence = Vec::with_capacity(parts.presence.len());
        for user in parts.presence {
            if shared.user(view, user)? {
                presence.push(user);
            }
        }
        edus.extend(self.presence_edu(view, &presence)?);
        if pdus.count == 0 && edus.count == 0 {
            return Ok(None);
        }
        let (pdus_count, edus_count) = (pdus.count, edus.count);
        let mut body = b"{\"edus\":".to_vec();
        body.extend_from_slice(&edus.finish());
        body.extend_from_slice(b",\"origin\":");
        write_string(&mut body, self.server_name());
        body.extend_from_slice(format!(",\"origin_server_ts\":{}", self.now_ms()).as_bytes());
        body.extend_from_slice(b",\"pdus\":");
        body.extend_from_slice(&pdus.finish());
        body.push(b'}');
        let ready = Ready {
            id: parts.id,
            body: body.into(),
            to_device: waiting.iter().map(|message| message.key).collect(),
            events: pdus_count,
            edus: edus_count,
            is_risky: false,
        };
        Ok(Some((ready, !waiting.is_empty())))
    }

    async fn send_transaction(
        &self,
        destination: &Destination,
        ready: &Ready,
    ) -> Result<(), RemoteError> {
        let turns = match ready.is_risky {
            true => &self.outgoing.risky_turns,
            false => &self.outgoing.turns,
        };
        // Never closed.
        let _turn = turns.acquire().await;
        let path = remote::path("/_matrix/federation/v1/send", &[&ready.id], &[]);
        let request = Request::put(path, ready.body.clone())
            .timeout(PATIENCE)
            .max_answer(MOST_ANSWER);
        let answer = self.remote().call(&destination.name, request).await?;
        log_refused(&destination.name, &answer);
        Ok(())
    }

    /// Whether the server will never take what it refuses.
    fn gives_up(&self, destination: &Destination, error: &RemoteError) -> bool {
        let is_malformed =
            matches!(error, RemoteError::Refused { status, .. } if matches!(status, 400 | 413));
        let state = destination.state.lock();
        let failures = state.failing.as_ref().map_or(0, |failing| failing.failures);
        is_malformed && failures >= MOST_REFUSALS
    }

    fn succeeded(&self, destination: &Destination, ready: &Ready) {
        if !ready.to_device.is_empty() {
            let mut txn = self.begin();
            outbox::delete_to_device(&mut txn, &destination.name, &ready.to_device);
            // Where it can't be written, they are sent again and known there.
            match self.write(txn.into_batch(), &Touched::nobody()) {
                Ok(ticket) => self.wake_when_durable(ticket, Touched::nobody()),
                Err(error) => tracing::warn!(%error, "sent messages could not be removed"),
            }
        }
        let mut state = destination.state.lock();
        state.queue.sent();
        state.transaction = None;
        if let Some(failing) = state.failing.take() {
            let (server, failures) = (&destination.name, failing.failures);
            tracing::info!(%server, failures, "a server answers again");
        }
    }

    async fn failed(self: &Arc<Self>, destination: &Destination, error: String) {
        count(&self.traffic.transactions_failed, 1);
        let now_ms = self.now_ms();
        let dispatched = self.outgoing.dispatched();
        let (row, is_given_up, before) = {
            let mut state = destination.state.lock();
            let before = state.failing.is_none();
            state.has_to_device |= state
                .transaction
                .as_ref()
                .is_some_and(|transaction| transaction.to_device > 0);
            let row = state.fail(error, now_ms, rand::random(), dispatched);
            let failing = state.failing.as_ref();
            let is_given_up = failing.is_some_and(|failing| failing.is_given_up(now_ms));
            (row, is_given_up, before)
        };
        let (server, error) = (&destination.name, &row.error);
        match before {
            true => tracing::info!(%server, error, "a server can't be sent to"),
            false => tracing::debug!(%server, error, failures = row.failures, "it still can't"),
        }
        if is_given_up && self.give_up(destination).await {
            return;
        }
        let mut txn = self.begin();
        outbox::put_destination(&mut txn, server, &row);
        let written = self.write(txn.into_batch(), &Touched::nobody());
        let mut state = destination.state.lock();
        match written {
            Ok(ticket) => {
                state.has_row = true;
                self.wake_when_durable(ticket, Touched::nobody());
            }
            Err(error) => {
                tracing::warn!(%server, %error, "how far a server is could not be written")
            }
        }
        state.is_working = false;
        let retry = (row.retry_at_ms, Arc::clone(server));
        self.outgoing.retries.lock().insert(retry);
        self.outgoing.news.notify_one();
    }

    /// Drops the messages to devices that wait for a server that is given up. True if nothing else could be for it, and it
    /// was forgotten.
    async fn give_up(self: &Arc<Self>, destination: &Destination) -> bool {
        let (node, server) = (Arc::clone(self), Arc::clone(&destination.name));
        let drop_messages = move || -> Result<bool, NodeError> {
            let mut is_more = true;
            while is_more {
                let mut txn = node.begin();
                is_more = outbox::forget_to_device(&mut txn, &server, MOST_DROPPED)?;
                let ticket = node.write(txn.into_batch(), &Touched::nobody())?;
                node.wake_when_durable(ticket, Touched::nobody());
            }
            let view = node.view();
            for room in rooms::servers::rooms_with(&view, &server) {
                if rooms::members::is_resident(&view, room?)? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let server = &destination.name;
        match self.run(Lane::Bulk, drop_messages).await {
            Ok(Ok(shares_no_room)) => {
                tracing::info!(%server, "a server is given up, messages to its devices are dropped");
                if shares_no_room {
                    self.retire(destination);
                }
                shares_no_room
            }
            Ok(Err(error)) | Err(error) => {
                tracing::warn!(%server, %error, "messages to devices could not be dropped");
                false
            }
        }
    }

    /// Ends the work for a server that is up to date. False if something came meanwhile.
    fn retire_if_idle(&self, destination: &Destination) -> bool {
        let mut servers = self.outgoing.servers.lock();
        let mut state = destination.state.lock();
        if !state.is_idle() {
            return false;
        }
        let had_row = state.retire();
        servers.remove(&destination.name);
        drop((state, servers));
        self.forget_row(destination, had_row);
        true
    }

    /// Ends the work for a server whatever waits for it.
    fn retire(&self, destination: &Destination) {
        let mut servers = self.outgoing.servers.lock();
        let had_row = destination.state.lock().retire();
        servers.remove(&destination.name);
        drop(servers);
        self.forget_row(destination, had_row);
    }

    fn forget_row(&self, destination: &Destination, had_row: bool) {
        if had_row {
            let mut txn = self.begin();
            outbox::forget_destination(&mut txn, &destination.name);
            match self.write(txn.into_batch(), &Touched::nobody()) {
                Ok(ticket) => self.wake_when_durable(ticket, Touched::nobody()),
                Err(error) => tracing::warn!(%error, "the row of a server could not be removed"),
            }
        }
    }
}

/// What the rules of the house share with the server.
struct Shared<'a> {
    node: &'a Node,
    server: &'a str,
    is_limited: bool,
}

impl Shared<'_> {
    fn room(&self, view: &View, room: RoomSn) -> Result<bool, NodeError> {
        let is_shared = |room_id: String| self.node.may_share_room(self.server, &room_id);
        Ok(!self.is_limited || is_shared(names::room_id(view, room)?))
    }

    fn user(&self, view: &View, user: UserSn) -> Result<bool, NodeError> {
        if !self.is_limited {
            return Ok(true);
        }
        let user_id = self.node.names.user_id(view, user)?;
        Ok(self.node.may_share_user(self.server, &user_id))
    }
}

/// A JSON array in the making.
struct Array {
    json: Vec<u8>,
    count: usize,
}

impl Array {
    fn new() -> Self {
        Self {
            json: vec![b'['],
            count: 0,
        }
    }

    /// Where the next element goes.
    fn next(&mut self) -> &mut Vec<u8> {
        if self.count > 0 {
            self.json.push(b',');
        }
        self.count += 1;
        &mut self.json
    }

    fn extend(&mut self, elements: impl IntoIterator<Item = Vec<u8>>) {
        for element in elements {
            self.next().extend_from_slice(&element);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.json.push(b']');
        self.json
    }
}

/// What a server says of the events of a transaction. It is not sent those again that it does not take.
fn log_refused(server: &str, answer: &[u8]) {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow, default)]
        pdus: std::collections::BTreeMap<String, &'a RawValue>,
    }
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(answer) else {
        tracing::debug!(server, "answered a transaction with something else");
        return;
    };
    for (event_id, result) in answer.pdus {
        if let Some(error) = event::json::member(result.get(), "error") {
            tracing::debug!(server, event_id, error, "an event was not taken");
        }
    }
}
