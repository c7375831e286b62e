//! What users say about each other: a user's signature over another's master key.
//!
//! "Users will not be able to see signatures made by other users' user-signing keys": so these are not
//! kept with the key that they sign but by their signer, who alone reads them.
//!
//! A user-signing key signs a master key once; a row holds the newest, for the keys of both as they
//! were then. A log by position tells the signer's other devices.

use names::UserSn;
use serde::{Deserialize, Serialize};
use store::{At, Position, Read, Record, Txn};

use crate::Result;
use crate::schema::{USER_SIGNATURE_LOG, USER_SIGNATURES};

/// A signature over a master key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSignature {
    /// The public master key that is signed, unpadded base64.
    pub master_key: String,
    /// The signer's key id, `ed25519:` and the public user-signing key.
    pub key_id: String,
    /// The signature, unpadded base64.
    pub signature: String,
}

impl Record for UserSignature {}

/// Stores what `signer` says about `owner`; false if that is known already.
pub(super) fn put(
    txn: &mut Txn,
    signer: UserSn,
    owner: UserSn,
    signature: UserSignature,
) -> Result<bool> {
    let present = USER_SIGNATURES.get(txn, &(signer, owner))?;
    if let Some(present) = present {
        if present.value == signature {
            return Ok(false);
        }
        USER_SIGNATURE_LOG.delete(txn, &(signer, present.position, owner));
    }
    USER_SIGNATURES.put(txn, &(signer, owner), &At::now(signature));
    USER_SIGNATURE_LOG.put(txn, &(signer, Position::PENDING, owner), &());
    Ok(true)
}

/// What `signer` says about `owner`, if anything.
pub(super) fn get(
    from: &impl Read,
    signer: UserSn,
    owner: UserSn,
) -> Result<Option<UserSignature>> {
    Ok(USER_SIGNATURES
        .get(from, &(signer, owner))?
        .map(|at| at.value))
}
