//! Whom messages to devices reach on this server, whoever sent them.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>.

use std::collections::BTreeMap;

use names::UserSn;
use store::Read;
use users::devices;
use users::to_device::{Addressed, Message};

use crate::{Node, NodeError, Touched};

/// The device id that means all devices of a user.
const ALL_DEVICES: &str = "*";

/// Messages by receiving user id and device id, or `*`.
pub type ByDevice = BTreeMap<String, BTreeMap<String, Message>>;

impl Node {
    /// Finds the devices that messages are for. Users of other servers, and devices and users that do not exist, get none.
    ///
    /// # Errors
    /// If the store fails.
    pub fn address<'m>(
        &self,
        from: &impl Read,
        messages: &'m ByDevice,
    ) -> Result<Vec<Addressed<'m>>, NodeError> {
        let mut addressed = Vec::new();
        for (user_id, by_device) in messages {
            let user = match self.names.is_local_id(user_id) {
                true => self.names.known_user(from, user_id)?,
                false => None,
            };
            let Some(user) = user else { continue };
            let to_all = by_device.get(ALL_DEVICES);
            for (device, _) in devices::list(from, user)? {
                if let Some(message) = by_device.get(&device).or(to_all) {
                    addressed.push(Addressed {
                        user,
                        device,
                        message,
                    });
                }
            }
        }
        Ok(addressed)
    }
}

/// Whom a change concerns that delivers these.
pub fn receivers(messages: &[Addressed<'_>]) -> Touched {
    let mut users: Vec<UserSn> = messages.iter().map(|addressed| addressed.user).collect();
    users.dedup();
    Touched {
        users,
        ..Touched::nobody()
    }
}
