//! What the shell does with other servers: fetching keys and events, taking in what they send, sending to them.

mod device_lists;
mod edus;
pub(crate) mod profiles;
pub(crate) mod remote_keys;
mod to_device;

pub use remote_keys::{Answered, KeysOfOther, KeysOfOthers};
