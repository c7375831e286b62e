//! Messages from devices of other servers to devices of ours (`m.direct_to_device`).
//!
//! A message is taken in once: its id is noted in the change that puts it into the inboxes, and known again for at
//! least a day, far longer than a server goes on repeating a transaction.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging>.

use std::collections::BTreeMap;

use event::identifier;
use serde::Deserialize;
use serde_json::value::RawValue;
use users::to_device::{self, Message};

use super::edus::{Written, pass_over};
use crate::to_device::{ByDevice, receivers};
use crate::{Lock, Node, NodeError};

const EDU_TYPE: &str = "m.direct_to_device";

#[derive(Deserialize)]
struct Content {
    sender: String,
    #[serde(rename = "type")]
    event_type: String,
    message_id: String,
    messages: BTreeMap<String, BTreeMap<String, Box<RawValue>>>,
}

impl Content {
    /// The messages that can be delivered: objects that are not too large.
    fn messages(&self) -> ByDevice {
        let mut messages = ByDevice::new();
        for (user_id, contents) in &self.messages {
            for (device, content) in contents {
                let message = Message::new(&self.sender, &self.event_type, content.get());
                if let (true, Ok(message)) = (content.get().starts_with('{'), message) {
                    let by_device = messages.entry(user_id.clone()).or_default();
                    by_device.insert(device.clone(), message);
                }
            }
        }
        messages
    }
}

impl Node {
    pub(super) async fn receive_to_device(
        &self,
        origin: &str,
        content: &str,
    ) -> Result<Written, NodeError> {
        let content: Content = match serde_json::from_str(content) {
            Ok(content) => content,
            Err(error) => return Ok(pass_over(origin, EDU_TYPE, &error)),
        };
        let sender = &content.sender;
        if !identifier::is_user_id(sender) || identifier::domain(sender) != Some(origin) {
            return Ok(pass_over(origin, EDU_TYPE, &"not a sender of this server"));
        }
        let mut messages = content.messages();
        messages.retain(|user_id, _| self.may_share_user(origin, user_id));
        // So that a message that comes twice at once is taken in once.
        let _one_at_a_time = self
            .lock(Lock::Named(format!("to-device of {origin}")))
            .await;
        let (head, now_ms) = (self.store.head(), self.now_ms());
        let message_id = &content.message_id;
        match to_device::is_received(&head, origin, message_id, now_ms) {
            Ok(false) => {}
            Ok(true) => return Ok(pass_over(origin, EDU_TYPE, &"it came before")),
            Err(users::Error::TooLarge(why)) => return Ok(pass_over(origin, EDU_TYPE, &why)),
            Err(error) => return Err(error.into()),
        }
        let addressed = self.address(&head, &messages)?;
        let parts = to_device::batches(&addressed);
        let mut last = None;
        for (number, part) in (1..).zip(&parts) {
            let mut txn = self.begin();
            to_device::deliver(&mut txn, part);
            if number == parts.len() {
                to_device::note_received(&mut txn, origin, message_id, now_ms);
            }
            let touched = receivers(part);
            let ticket = self.write(txn.into_batch(), &touched)?;
            self.wake_when_durable(ticket, touched);
            last = Some(ticket);
        }
        Ok(last)
    }
}
