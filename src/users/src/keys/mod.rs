//! The public keys of users and their devices, which the server keeps and hands out but never uses.
//!
//! A file for each kind of key, and [`device_lists`], which tells others that keys changed. Invariant:
//! whatever changes what [`query`] shows of a user also marks the user in [`device_lists`], in the same
//! change. Everything here that reads rows of a user and writes them is called under that user's lock.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#end-to-end-encryption>.

pub mod cross_signing;
pub mod device_keys;
pub mod device_lists;
pub mod one_time;
pub mod query;
pub mod remote;
pub mod signatures;
mod signed;
pub mod user_signatures;

use names::UserSn;
use store::Txn;

pub(crate) use signed::canonical_text;

use crate::{Result, dehydrated, to_device};

/// A user by number and by name.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The number.
    pub user: UserSn,
    /// The user id.
    pub user_id: &'a str,
}

/// Forgets everything that is kept for a device: its keys and the messages that wait for it. For the
/// deletion of the device.
pub fn remove_device(txn: &mut Txn, user: UserSn, device: &str) -> Result<()> {
    one_time::remove(txn, user, device)?;
    to_device::remove(txn, user, device)?;
    dehydrated::forget(txn, user, device)?;
    if device_keys::remove(txn, user, device)? {
        device_lists::mark_device(txn, user, device)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
