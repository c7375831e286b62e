//! Changes of the devices and cross-signing keys of users of other servers, as their servers tell them.
//!
//! They are taken in for users who are followed ([`rooms::followed`]), whether or not their keys were ever asked for: our
//! users who share a room with them are told that something changed, and ask if it matters to them. A gap in the
//! updates costs a question then, not now ([`super::remote_keys`]).
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#device-management>.

use event::identifier;
use names::UserSn;
use rooms::followed::{self, OurStays};
use store::{Position, Txn};
use users::keys::remote::{self, DeviceUpdate, SigningKeyUpdate};

use super::edus::{Written, pass_over};
use crate::{Lock, Node, NodeError, Touched};

impl Node {
    pub(super) async fn receive_device_list_update(
        &self,
        origin: &str,
        content: &str,
    ) -> Result<Written, NodeError> {
        const EDU_TYPE: &str = "m.device_list_update";
        let update = match DeviceUpdate::read(content) {
            Ok(update) => update,
            Err(why) => return Ok(pass_over(origin, EDU_TYPE, &why)),
        };
        let apply = |txn: &mut Txn, user, followed| {
            remote::apply_update(txn, user, followed, &update).map_err(NodeError::from)
        };
        match self
            .change_remote_keys(origin, &update.user_id, apply)
            .await?
        {
            Some(written) => Ok(written),
            None => Ok(pass_over(origin, EDU_TYPE, &"not a user whom we follow")),
        }
    }

    pub(super) async fn receive_signing_key_update(
        &self,
        origin: &str,
        content: &str,
    ) -> Result<Written, NodeError> {
        const EDU_TYPE: &str = "m.signing_key_update";
        let update = match SigningKeyUpdate::read(content) {
            Ok(update) => update,
            Err(why) => return Ok(pass_over(origin, EDU_TYPE, &why)),
        };
        let apply = |txn: &mut Txn, user, followed| {
            remote::apply_signing_keys(txn, user, followed, &update).map_err(NodeError::from)
        };
        match self
            .change_remote_keys(origin, &update.user_id, apply)
            .await?
        {
            Some(written) => Ok(written),
            None => Ok(pass_over(origin, EDU_TYPE, &"not a user whom we follow")),
        }
    }

    /// Changes what is kept of a user of `origin`; none if that is not one whom this server follows. `apply` says
    /// whether viewers have to be told.
    async fn change_remote_keys(
        &self,
        origin: &str,
        user_id: &str,
        apply: impl FnOnce(&mut Txn, UserSn, Position) -> Result<bool, NodeError>,
    ) -> Result<Option<Written>, NodeError> {
        let is_theirs =
            identifier::is_user_id(user_id) && identifier::domain(user_id) == Some(origin);
        if !is_theirs || self.names.is_local_id(user_id) {
            return Ok(None);
        }
        let Some(user) = self.names.known_user(&self.store.head(), user_id)? else {
            return Ok(None);
        };
        let _guard = self.lock(Lock::User(user)).await;
        let mut txn = self.begin();
        // If nothing is kept, it is enough that the user is followed.
        let enough = remote::kept_as_of(&txn, user)?.unwrap_or(Position::PENDING);
        let followed = followed::since(&txn, user, &mut OurStays::default(), enough)?;
        let Some(followed) = followed else {
            remote::forget(&mut txn, user)?;
            let last = self.write_unless_empty(txn, Touched::nobody())?;
            return Ok(last.map(Some));
        };
        let touched = match apply(&mut txn, user, followed)? {
            true => self.keys_changed(user)?,
            false => Touched::nobody(),
        };
        Ok(Some(self.write_unless_empty(txn, touched)?))
    }

    pub(super) fn write_unless_empty(
        &self,
        txn: Txn,
        touched: Touched,
    ) -> Result<Written, NodeError> {
        if txn.is_empty() {
            return Ok(None);
        }
        let ticket = self.write(txn.into_batch(), &touched)?;
        self.wake_when_durable(ticket, touched);
        Ok(Some(ticket))
    }
}
