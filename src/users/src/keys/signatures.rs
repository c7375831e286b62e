//! `/keys/signatures/upload`: users sign their own devices, their own master key, and others' master keys.
//!
//! Each signed object is judged by itself: it must be what is stored, apart from its signatures, and
//! have at least one signature of the signer by a key that may sign it; every signature by such a key
//! must hold. A user writes only rows of their own: the caller holds the signer's lock.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keyssignaturesupload>.

use names::UserSn;
use store::{Read, Txn};

use super::cross_signing::{self, CrossSigningKey, Usage};
use super::signed::{Signature, SignedObject};
use super::user_signatures::{self, UserSignature};
use super::{Owner, device_keys, device_lists};
use crate::{Error, Result};

/// Takes in what `signer` signed of `owner`'s key `key_id`, a device id or a public master key. True if
/// that was news.
///
/// [`Error::NotFound`] if there is no such key, or none to sign with; [`Error::InvalidSignature`] if
/// the object is not the stored one, or a signature is missing or wrong; [`Error::Malformed`] if it is
/// no signed object.
pub fn upload(
    txn: &mut Txn,
    signer: Owner<'_>,
    owner: UserSn,
    key_id: &str,
    json: &str,
) -> Result<bool> {
    let signed = SignedObject::from_upload(json)?;
    if owner != signer.user {
        return sign_other(txn, signer, owner, key_id, &signed);
    }
    match device_keys::load(txn, owner, key_id)? {
        Some(device) => {
            let news = sign_device(txn, signer, key_id, device, &signed)?;
            if news {
                device_lists::mark_device(txn, owner, key_id)?;
            }
            Ok(news)
        }
        None => {
            let news = sign_own_master(txn, signer, key_id, &signed)?;
            if news {
                device_lists::mark_cross_signing(txn, owner)?;
            }
            Ok(news)
        }
    }
}

/// The owner's self-signing key signs a device. The device's own signature may stand beside it and is
/// not taken again.
fn sign_device(
    txn: &mut Txn,
    signer: Owner<'_>,
    device: &str,
    mut stored: SignedObject,
    signed: &SignedObject,
) -> Result<bool> {
    let self_signing = cross_signing::load(txn, signer.user, Usage::SelfSigning)?
        .ok_or(Error::NotFound("self-signing key"))?;
    let news = merge(signer, &mut stored, signed, &|key_id| {
        Ok((key_id == self_signing.key_id()).then(|| self_signing.public_key.clone()))
    })?;
    if news {
        // Those of self-signing keys before this one say nothing any longer.
        let own_id = format!("ed25519:{device}");
        stored.retain_signatures_of(signer.user_id, |key_id| {
            Ok(key_id == own_id || key_id == self_signing.key_id())
        })?;
        device_keys::store_signed(txn, signer.user, device, &stored)?;
    }
    Ok(news)
}

/// The owner's devices sign the master key.
fn sign_own_master(
    txn: &mut Txn,
    signer: Owner<'_>,
    key_id: &str,
    signed: &SignedObject,
) -> Result<bool> {
    let mut master = load_master(txn, signer.user, key_id)?;
    let news = merge(signer, &mut master.object, signed, &|key_id| {
        let Some(device) = key_id.strip_prefix("ed25519:") else {
            return Ok(None);
        };
        let keys = device_keys::load(&*txn, signer.user, device)?;
        Ok(keys.and_then(|keys| keys.public_key(key_id).map(str::to_owned)))
    })?;
    if news {
        // Devices come and go; the signatures of those that are gone can't be checked by anyone.
        master
            .object
            .retain_signatures_of(signer.user_id, |key_id| {
                match key_id.strip_prefix("ed25519:") {
                    Some(device) => device_keys::exists(&*txn, signer.user, device),
                    None => Ok(false),
                }
            })?;
        cross_signing::store_signed_master(txn, signer.user, &master)?;
    }
    Ok(news)
}

/// The signer's user-signing key signs another user's master key.
fn sign_other(
    txn: &mut Txn,
    signer: Owner<'_>,
    owner: UserSn,
    key_id: &str,
    signed: &SignedObject,
) -> Result<bool> {
    let user_signing = cross_signing::load(txn, signer.user, Usage::UserSigning)?
        .ok_or(Error::NotFound("user-signing key"))?;
    let master = load_master(txn, owner, key_id)?;
    check_same(&master.object, signed)?;
    let signing_id = user_signing.key_id();
    let signature = signed
        .signatures_of(signer.user_id)
        .find(|(id, _)| *id == signing_id)
        .map(|(_, signature)| signature.to_owned());
    let checked = signed.check(signer.user_id, &signing_id, &user_signing.public_key)?;
    let (Some(signature), Signature::Right) = (signature, checked) else {
        return Err(Error::InvalidSignature(
            "not signed by the user-signing key".into(),
        ));
    };
    let signature = UserSignature {
        master_key: master.public_key,
        key_id: signing_id,
        signature,
    };
    user_signatures::put(txn, signer.user, owner, signature)
}

fn load_master(from: &impl Read, owner: UserSn, key_id: &str) -> Result<CrossSigningKey> {
    cross_signing::load(from, owner, Usage::Master)?
        .filter(|master| master.public_key == key_id)
        .ok_or(Error::NotFound("key"))
}

fn check_same(stored: &SignedObject, signed: &SignedObject) -> Result<()> {
    if stored.says_the_same(signed) {
        Ok(())
    } else {
        Err(Error::InvalidSignature(
            "what is signed is not the key that was uploaded".into(),
        ))
    }
}

/// Checks the signer's signatures in `signed` by the keys that `public_key` knows, and takes them into
/// `stored`.
fn merge(
    signer: Owner<'_>,
    stored: &mut SignedObject,
    signed: &SignedObject,
    public_key: &dyn Fn(&str) -> Result<Option<String>>,
) -> Result<bool> {
    check_same(stored, signed)?;
    let mut news = false;
    let mut signed_by_any = false;
    for (key_id, signature) in signed.signatures_of(signer.user_id) {
        let Some(public_key) = public_key(key_id)? else {
            continue;
        };
        if signed.check(signer.user_id, key_id, &public_key)? != Signature::Right {
            return Err(Error::InvalidSignature(
                format!("the signature by {key_id} is wrong").into(),
            ));
        }
        signed_by_any = true;
        news |= stored.add_signature(signer.user_id, key_id, signature);
    }
    if signed_by_any {
        Ok(news)
    } else {
        Err(Error::InvalidSignature(
            "not signed by a key that may sign this".into(),
        ))
    }
}
