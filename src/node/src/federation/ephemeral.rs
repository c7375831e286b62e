//! Typing, receipts and presence of other servers' users, as they come in.
//! <https://spec.matrix.org/v1.19/server-server-api/#typing-notifications>,
//! <https://spec.matrix.org/v1.19/server-server-api/#receipts>,
//! <https://spec.matrix.org/v1.19/server-server-api/#presence>
//!
//! Invariants: a server speaks for its own users alone, of rooms that they are joined to and that admit the server; what
//! is not so is passed over, and the rest of the transaction counts. Nobody gets a number here: who is not known is in
//! no room.

use std::collections::BTreeMap;

use event::auth::Membership;
use event::identifier;
use names::{RoomSn, UserSn};
use rooms::receipts::{self, Receipt, ReceiptKind};
use rooms::{event_log, followed, members, server_acl};
use serde::Deserialize;
use serde_json::value::RawValue;
use store::View;
use sync::PresenceState;

use super::edus::{Written, pass_over};
use crate::{Lock, Node, NodeError, Touched, presence_named};

/// How long typing lasts that is not said to end.
const TYPING_MS: u64 = 60_000;
/// Receipts that are taken from one EDU.
const MOST_RECEIPTS: usize = 1_000;
/// Presences that are taken from one EDU.
const MOST_PRESENCES: usize = 500;
/// Rooms that are looked at for the presences of one EDU.
const MOST_LOOKS: usize = 2_000;
/// The longest status, in bytes.
const MOST_STATUS: usize = 1_024;
/// The longest thread id, in bytes.
const MOST_THREAD: usize = 255;

#[derive(Deserialize)]
struct TypingContent {
    room_id: String,
    user_id: String,
    typing: bool,
}

#[derive(Deserialize)]
struct SentReceipt {
    data: ReceiptData,
    event_ids: Vec<String>,
}

#[derive(Default, Deserialize)]
struct ReceiptData {
    #[serde(default)]
    ts: u64,
    thread_id: Option<String>,
}

#[derive(Deserialize)]
struct PresenceContent<'a> {
    #[serde(borrow)]
    push: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct PresenceOf {
    user_id: String,
    presence: String,
    #[serde(default)]
    last_active_ago: Option<u64>,
    #[serde(default)]
    status_msg: Option<String>,
}

impl Node {
    /// Takes in an `m.typing` of another server.
    ///
    /// # Errors
    /// If this server fails; an EDU that makes no sense is passed over.
    pub(super) async fn receive_typing(
        &self,
        origin: &str,
        content: &str,
    ) -> Result<Written, NodeError> {
        let content: TypingContent = match serde_json::from_str(content) {
            Ok(content) => content,
            Err(error) => return Ok(pass_over(origin, "m.typing", &error)),
        };
        let view = self.view();
        let room = self.open_to(&view, origin, &content.room_id)?;
        let user = self.user_of(&view, origin, &content.user_id)?;
        let (Some(room), Some(user)) = (room, user) else {
            return Ok(None);
        };
        if members::membership(&view, room, user)? != Membership::Join {
            return Ok(None);
        }
        let until_ms = content.typing.then(|| self.now_ms() + TYPING_MS);
        self.put_typing(room, user, until_ms)?;
        Ok(None)
    }

    /// Takes in an `m.receipt` of another server: its read receipts, as far as they are for events that are here.
    ///
    /// # Errors
    /// As [`Node::receive_typing`].
    pub(super) async fn receive_receipts(
        &self,
        origin: &str,
        content: &str,
    ) -> Result<Written, NodeError> {
        // By room, kind and user.
        type Content<'a> = BTreeMap<String, BTreeMap<String, &'a RawValue>>;
        let content: Content<'_> = match serde_json::from_str(content) {
            Ok(content) => content,
            Err(error) => return Ok(pass_over(origin, "m.receipt", &error)),
        };
        // A receipt is compared with the one before it: one at a time.
        let guard = self
            .lock(Lock::Named(format!("receipts of {origin}")))
            .await;
        let mut txn = self.begin();
        let (mut touched, mut left) = (Touched::nobody(), MOST_RECEIPTS);
        for (room_id, kinds) in &content {
            let view = txn.base().clone();
            let Some(read) = kinds.get("m.read") else {
                continue;
            };
            let users: BTreeMap<String, SentReceipt> = match serde_json::from_str(read.get()) {
                Ok(users) => users,
                Err(error) => {
                    pass_over(origin, "m.receipt", &error);
                    continue;
                }
            };
            let Some(room) = self.open_to(&view, origin, room_id)? else {
                continue;
            };
            let mut is_touched = false;
            for (user_id, sent) in users.into_iter().take(left) {
                left -= 1;
                let Some(user) = self.user_of(&view, origin, &user_id)? else {
                    continue;
                };
                if members::membership(&view, room, user)? == Membership::Join {
                    is_touched |= put_receipt(&mut txn, room, user, sent)?;
                }
            }
            if is_touched {
                touched.rooms.push(room);
            }
        }
        if txn.is_empty() {
            return Ok(None);
        }
        let ticket = self.write(txn.into_batch(), &touched)?;
        drop(guard);
        self.wake_when_durable(ticket, touched);
        Ok(Some(ticket))
    }

    /// Takes in an `m.presence` of another server, of users that a local user shares a room with.
    ///
    /// # Errors
    /// As [`Node::receive_typing`].
    pub(super) async fn receive_presence(
        &self,
        origin: &str,
        content: &str,
    ) -> Result<Written, NodeError> {
        if !self.config().presence.enabled {
            return Ok(None);
        }
        let content: PresenceContent<'_> = match serde_json::from_str(content) {
            Ok(content) => content,
            Err(error) => return Ok(pass_over(origin, "m.presence", &error)),
        };
        let view = self.view();
        let mut looks = MOST_LOOKS;
        for push in content.push.into_iter().take(MOST_PRESENCES) {
            let push: PresenceOf = match serde_json::from_str(push.get()) {
                Ok(push) => push,
                Err(error) => {
                    pass_over(origin, "m.presence", &error);
                    continue;
                }
            };
            let Some(user) = self.user_of(&view, origin, &push.user_id)? else {
                continue;
            };
            let Some(presence) = presence_named(&push.presence) else {
                pass_over(origin, "m.presence", &"there is no such presence");
                continue;
            };
            let touched = self.sharing_with(&view, origin, user, &mut looks)?;
            let known = self.memory.presence.get(user);
            if touched.users.is_empty() && known.is_none() {
                continue;
            }
            self.put_remote_presence(user, presence, push, touched)?;
        }
        Ok(None)
    }

    fn put_remote_presence(
        &self,
        user: UserSn,
        presence: &'static str,
        push: PresenceOf,
        touched: Touched,
    ) -> Result<(), NodeError> {
        let now_ms = self.now_ms();
        let before = self.memory.presence.get(user).unwrap_or_default();
        let active_ms = push
            .last_active_ago
            .map(|ago_ms| now_ms.saturating_sub(ago_ms));
        let status = push
            .status_msg
            .filter(|status| !status.is_empty() && status.len() <= MOST_STATUS);
        let mut state = PresenceState {
            presence,
            status,
            last_active_ms: active_ms.unwrap_or(before.last_active_ms),
            last_sync_ms: now_ms,
            changed: before.changed,
        };
        if before.presence == state.presence && before.status == state.status {
            self.memory.presence.set(user, state);
            return Ok(());
        }
        self.tick(touched, |position| {
            state.changed = position;
            self.memory.presence.set(user, state);
        })?;
        Ok(())
    }

    /// The local users who share a room with a user of another server, of the rooms that are shared with that.
    fn sharing_with(
        &self,
        view: &View,
        origin: &str,
        user: UserSn,
        looks: &mut usize,
    ) -> Result<Touched, NodeError> {
        let mut all = roaring::RoaringBitmap::new();
        let is_limited = self.is_limited_partner(origin);
        for row in followed::rooms_of(view, user) {
            let (room, _) = row?;
            if *looks == 0 {
                break;
            }
            *looks -= 1;
            if is_limited && !self.may_share_room(origin, &names::room_id(view, room)?) {
                continue;
            }
            self.audience
                .with(|| self.store.head(), room, |joined| all |= joined)?;
        }
        Ok(Touched {
            users: all.iter().map(UserSn).collect(),
            ..Touched::nobody()
        })
    }

    /// A room that is known here, admits the server, and is shared with it.
    fn open_to(
        &self,
        view: &View,
        origin: &str,
        room_id: &str,
    ) -> Result<Option<RoomSn>, NodeError> {
        let Some(room) = self.names.known_room(view, room_id)? else {
            return Ok(None);
        };
        let admits = self.may_share_room(origin, room_id)
            && server_acl::allows(view, &self.rooms_cache, room, origin)?;
        Ok(admits.then_some(room))
    }

    /// The number of a user of the server, if anything is known of the user.
    fn user_of(
        &self,
        view: &View,
        origin: &str,
        user_id: &str,
    ) -> Result<Option<UserSn>, NodeError> {
        if !identifier::is_user_id(user_id) || identifier::domain(user_id) != Some(origin) {
            return Ok(None);
        }
        Ok(self.names.known_user(view, user_id)?)
    }
}

/// Sets a receipt of a user of another server. Says whether it went forward.
fn put_receipt(
    txn: &mut store::Txn,
    room: RoomSn,
    user: UserSn,
    sent: SentReceipt,
) -> Result<bool, NodeError> {
    let thread = sent.data.thread_id.filter(|thread| !thread.is_empty());
    if thread
        .as_ref()
        .is_some_and(|thread| thread.len() > MOST_THREAD)
    {
        return Ok(false);
    }
    // "The extremity event IDs that the user has read up to": there is one.
    let Some(event_id) = sent.event_ids.into_iter().next() else {
        return Ok(false);
    };
    let Some(event) = event_log::find_in(txn, room, &event_id)? else {
        return Ok(false);
    };
    let receipt = Receipt {
        event,
        event_id,
        ts_ms: sent.data.ts,
    };
    let thread = thread.as_deref();
    Ok(receipts::put(
        txn,
        room,
        user,
        ReceiptKind::Public,
        thread,
        receipt,
    )?)
}
