//! Who is online: set by clients, by their syncing, and ended by their silence.
//! <https://spec.matrix.org/v1.19/client-server-api/#presence>

use std::sync::Arc;
use std::time::Duration;

use names::UserSn;
use roaring::RoaringBitmap;
use sync::PresenceState;

use crate::{Node, NodeError, Touched};

/// A user who has not synced for this long is offline.
const OFFLINE_AFTER_MS: u64 = 60_000;
/// A user of another server whose server has not spoken of them for this long is offline.
const OFFLINE_ELSEWHERE_AFTER_MS: u64 = 30 * 60_000;
/// Between two looks for those who went silent, and for typing that ended by itself.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A presence by its name in the specification; nothing if there is no such presence.
pub fn presence_named(name: &str) -> Option<&'static str> {
    ["online", "unavailable", "offline"]
        .into_iter()
        .find(|known| *known == name)
}

impl Node {
    /// Sets a user's presence and tells those who share a room.
    ///
    /// # Errors
    /// If the rooms can't be read.
    pub fn set_presence(
        &self,
        user: UserSn,
        presence: &'static str,
        status: Option<String>,
    ) -> Result<(), NodeError> {
        self.change_presence(user, presence, Some(status))
    }

    /// Without `status` it stays what it is when the change is made, which another request may have set meanwhile.
    fn change_presence(
        &self,
        user: UserSn,
        presence: &'static str,
        status: Option<Option<String>>,
    ) -> Result<(), NodeError> {
        let now_ms = self.now_ms();
        let before = self.memory.presence.get(user).unwrap_or_default();
        let mut state = PresenceState {
            presence,
            status: status.clone().unwrap_or(before.status.clone()),
            last_active_ms: if presence == "online" {
                now_ms
            } else {
                before.last_active_ms
            },
            last_sync_ms: now_ms,
            changed: before.changed,
        };
        if before.presence == state.presence && before.status == state.status {
            self.memory
                .presence
                .touch(user, now_ms, presence == "online");
            return Ok(());
        }
        let touched = self.sharing(user)?;
        self.tick(touched, |position| {
            state.changed = position;
            if status.is_none() {
                let now = self.memory.presence.get(user);
                state.status = now.and_then(|now| now.status);
            }
            self.memory.presence.set(user, state);
        })?;
        self.note_presence(user);
        Ok(())
    }

    /// Notes that a user syncs, with the presence that the client asks for.
    ///
    /// # Errors
    /// If the rooms can't be read.
    pub fn seen_syncing(&self, user: UserSn, presence: &str) -> Result<(), NodeError> {
        if !self.config().presence.enabled || presence == "offline" {
            return Ok(());
        }
        let Some(presence) = presence_named(presence) else {
            return Ok(());
        };
        self.change_presence(user, presence, None)
    }

    /// The local users who share a room with a user, and the user.
    fn sharing(&self, user: UserSn) -> Result<Touched, NodeError> {
        let view = self.view();
        let mut all = RoaringBitmap::new();
        all.insert(user.0);
        for (room, of) in self.rooms_of(user, &view)?.iter() {
            if of.value.membership() == event::auth::Membership::Join {
                self.audience
                    .with(|| self.store.head(), *room, |joined| all |= joined)?;
            }
        }
        Ok(Touched {
            users: all.iter().map(UserSn).collect(),
            ..Touched::default()
        })
    }

    /// Ends typing and presence that ran out, until the server stops.
    pub async fn run_ephemeral(self: &Arc<Self>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = self.shutdown.cancelled() => return,
            }
            if let Err(error) = self.end_ephemeral() {
                tracing::warn!(%error, "typing and presence could not be ended");
            }
        }
    }

    fn end_ephemeral(self: &Arc<Self>) -> Result<(), NodeError> {
        self.end_typing()?;
        let now_ms = self.now_ms();
        let silent_ms = now_ms.saturating_sub(OFFLINE_AFTER_MS);
        let unheard_ms = now_ms.saturating_sub(OFFLINE_ELSEWHERE_AFTER_MS);
        for user in self.memory.presence.gone(silent_ms, unheard_ms) {
            let status = self
                .memory
                .presence
                .get(user)
                .and_then(|state| state.status);
            self.set_presence(user, "offline", status)?;
        }
        Ok(())
    }
}
