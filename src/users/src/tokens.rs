//! Tokens: access and refresh tokens of devices, and the short-lived tokens of login and OpenID.
//!
//! Only hashes are stored: who reads the database can't act for anybody. A token's text is made here
//! from random bytes of the shell, which tells it to the client and forgets it.
//!
//! Refreshing (client-server API, "Refreshing access tokens"): the new pair names the refresh token it
//! replaces, and the old pair lives until the new access or refresh token is used for the first time,
//! so that a client that never got the answer can ask again. Invariant: a pair whose successor was
//! used is gone, and a refresh token has at most one successor.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use names::UserSn;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::{Direction, Read, Record, Txn};

use crate::schema::{
    ACCESS_TOKENS, DEVICE_TOKENS, LOGIN_TOKENS, OPENID_TOKENS, REFRESH_TOKENS, TOKEN_EXPIRIES,
};
use crate::{Error, Result};

/// The SHA-256 of a token's text.
pub type TokenHash = [u8; 32];

/// The stored form of a token.
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// What a token's text begins with, so that one found in a log or a paste can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An access token.
    Access,
    /// A refresh token.
    Refresh,
    /// A token for `m.login.token`.
    Login,
    /// An OpenID token.
    OpenId,
}

/// The text of a new token.
pub fn text(purpose: Purpose, random: [u8; 24]) -> String {
    let prefix = match purpose {
        Purpose::Access => "mat_",
        Purpose::Refresh => "mar_",
        Purpose::Login => "mlt_",
        Purpose::OpenId => "oid_",
    };
    let mut text = String::with_capacity(prefix.len() + 32);
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(random, &mut text);
    text
}

/// Whom an access token acts for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessToken {
    /// The user.
    pub user: UserSn,
    /// The device.
    pub device: String,
    /// When it stops working, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
    /// The refresh token that dies when this is used for the first time.
    pub replaces: Option<TokenHash>,
}

impl Record for AccessToken {}

impl AccessToken {
    /// True if the token no longer works; its device is still logged in, softly logged out.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires| expires <= now_ms)
    }
}

/// A refresh token, and its places in the chain of pairs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshToken {
    pub(crate) user: UserSn,
    pub(crate) device: String,
    /// The access token given together with it.
    access: TokenHash,
    /// The refresh token that dies when this is used for the first time.
    replaces: Option<TokenHash>,
    /// The refresh token that was given for this one.
    next: Option<TokenHash>,
}

impl Record for RefreshToken {}

/// A token that stands for a user for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortToken {
    /// The user.
    pub user: UserSn,
    /// When it stops working, in milliseconds since 1970.
    pub expires_ms: u64,
}

impl Record for ShortToken {}

/// Which of a device's tokens a row of the index means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceToken {
    /// An access token.
    Access,
    /// A refresh token.
    Refresh,
}

impl Record for DeviceToken {}

/// Gives a device an access token and, if `refresh` is given, a refresh token beside it.
pub fn issue(
    txn: &mut Txn,
    user: UserSn,
    device: &str,
    access: TokenHash,
    refresh: Option<TokenHash>,
    expires_ms: Option<u64>,
) {
    put_access(txn, user, device, access, expires_ms, None);
    if let Some(refresh) = refresh {
        let token = RefreshToken {
            user,
            device: device.to_owned(),
            access,
            replaces: None,
            next: None,
        };
        put_refresh(txn, refresh, &token);
    }
}

fn put_access(
    txn: &mut Txn,
    user: UserSn,
    device: &str,
    access: TokenHash,
    expires_ms: Option<u64>,
    replaces: Option<TokenHash>,
) {
    let device = device.to_owned();
    let token = AccessToken {
        user,
        device: device.clone(),
        expires_ms,
        replaces,
    };
    ACCESS_TOKENS.put(txn, &access, &token);
    DEVICE_TOKENS.put(txn, &(user, device, access), &DeviceToken::Access);
}

fn put_refresh(txn: &mut Txn, refresh: TokenHash, token: &RefreshToken) {
    REFRESH_TOKENS.put(txn, &refresh, token);
    let key = (token.user, token.device.clone(), refresh);
    DEVICE_TOKENS.put(txn, &key, &DeviceToken::Refresh);
}

/// The access token of this hash, expired or not.
pub fn access(from: &impl Read, token: &TokenHash) -> Result<Option<AccessToken>> {
    Ok(ACCESS_TOKENS.get(from, token)?)
}

/// The user of a refresh token: whose lock to take before [`refresh`].
pub fn refresh_user(from: &impl Read, token: &TokenHash) -> Result<Option<UserSn>> {
    Ok(REFRESH_TOKENS.get(from, token)?.map(|token| token.user))
}

/// Notes that an access token with [`AccessToken::replaces`] is in use: the pair before it dies.
pub fn confirm(txn: &mut Txn, access: &TokenHash) -> Result<()> {
    let Some(token) = ACCESS_TOKENS.get(txn, access)? else {
        return Ok(());
    };
    if let Some(old) = token.replaces {
        revoke_replaced(txn, &old)?;
    }
    Ok(())
}

/// Exchanges a refresh token for a new pair; returns the user and the device.
///
/// # Errors
/// [`Error::NotFound`] if the token is unknown or its successor was used.
pub fn refresh(
    txn: &mut Txn,
    old: &TokenHash,
    access: TokenHash,
    refresh: TokenHash,
    expires_ms: Option<u64>,
) -> Result<(UserSn, String)> {
    let unknown = Error::NotFound("refresh token");
    let token = REFRESH_TOKENS.get(txn, old)?.ok_or(unknown)?;
    if let Some(before) = token.replaces {
        revoke_replaced(txn, &before)?;
    }
    if let Some(next) = token.next {
        // Asked again before the answer was used: nobody has that pair.
        delete_pair(txn, &next)?;
    }
    let (user, device) = (token.user, token.device.clone());
    put_access(txn, user, &device, access, expires_ms, Some(*old));
    let successor = RefreshToken {
        user,
        device: device.clone(),
        access,
        replaces: Some(*old),
        next: None,
    };
    put_refresh(txn, refresh, &successor);
    let token = RefreshToken {
        replaces: None,
        next: Some(refresh),
        ..token
    };
    put_refresh(txn, *old, &token);
    Ok((user, device))
}

/// Removes the pair of `old`, and the mark in its successor that said to do so.
fn revoke_replaced(txn: &mut Txn, old: &TokenHash) -> Result<()> {
    let next = match REFRESH_TOKENS.get(txn, old)? {
        Some(token) => token.next,
        None => None,
    };
    delete_pair(txn, old)?;
    let Some(next) = next else { return Ok(()) };
    let Some(token) = REFRESH_TOKENS.get(txn, &next)? else {
        return Ok(());
    };
    if let Some(access) = ACCESS_TOKENS.get(txn, &token.access)? {
        let access = AccessToken {
            replaces: None,
            ..access
        };
        ACCESS_TOKENS.put(txn, &token.access, &access);
    }
    let token = RefreshToken {
        replaces: None,
        ..token
    };
    REFRESH_TOKENS.put(txn, &next, &token);
    Ok(())
}

fn delete_pair(txn: &mut Txn, refresh: &TokenHash) -> Result<()> {
    let Some(token) = REFRESH_TOKENS.get(txn, refresh)? else {
        return Ok(());
    };
    REFRESH_TOKENS.delete(txn, refresh);
    ACCESS_TOKENS.delete(txn, &token.access);
    for hash in [*refresh, token.access] {
        DEVICE_TOKENS.delete(txn, &(token.user, token.device.clone(), hash));
    }
    Ok(())
}

/// Revokes every token of a device.
pub fn revoke_device(txn: &mut Txn, user: UserSn, device: &str) -> Result<()> {
    let prefix = (user, device.to_owned());
    let rows = DEVICE_TOKENS
        .scan(txn, &prefix, Direction::Forward)
        .collect::<store::Result<Vec<_>>>()?;
    for (key, kind) in rows {
        match kind {
            DeviceToken::Access => ACCESS_TOKENS.delete(txn, &key.2),
            DeviceToken::Refresh => REFRESH_TOKENS.delete(txn, &key.2),
        }
        DEVICE_TOKENS.delete(txn, &key);
    }
    Ok(())
}

/// The kinds of tokens that expire by themselves, as they stand in the keys of their expiries.
pub(crate) const LOGIN: u8 = 1;
pub(crate) const OPENID: u8 = 2;

/// Keeps a token for `m.login.token`.
pub fn put_login(txn: &mut Txn, token: TokenHash, user: UserSn, expires_ms: u64) {
    LOGIN_TOKENS.put(txn, &token, &ShortToken { user, expires_ms });
    TOKEN_EXPIRIES.put(txn, &(expires_ms, LOGIN, token), &());
}

/// The user of a login token that still works.
pub fn login_user(from: &impl Read, token: &TokenHash, now_ms: u64) -> Result<Option<UserSn>> {
    let token = LOGIN_TOKENS.get(from, token)?;
    Ok(token
        .filter(|token| token.expires_ms > now_ms)
        .map(|token| token.user))
}

/// Uses a login token up: it is good for one login. Call under the lock of its user.
///
/// # Errors
/// [`Error::NotFound`] if it is unknown, used or expired.
pub fn take_login(txn: &mut Txn, token: &TokenHash, now_ms: u64) -> Result<UserSn> {
    let found = LOGIN_TOKENS
        .get(txn, token)?
        .ok_or(Error::NotFound("login token"))?;
    if found.expires_ms <= now_ms {
        return Err(Error::NotFound("login token"));
    }
    LOGIN_TOKENS.delete(txn, token);
    TOKEN_EXPIRIES.delete(txn, &(found.expires_ms, LOGIN, *token));
    Ok(found.user)
}

/// Keeps an OpenID token.
pub fn put_openid(txn: &mut Txn, token: TokenHash, user: UserSn, expires_ms: u64) {
    OPENID_TOKENS.put(txn, &token, &ShortToken { user, expires_ms });
    TOKEN_EXPIRIES.put(txn, &(expires_ms, OPENID, token), &());
}

/// The user of an OpenID token that still works.
pub fn openid_user(from: &impl Read, token: &TokenHash, now_ms: u64) -> Result<Option<UserSn>> {
    let token = OPENID_TOKENS.get(from, token)?;
    Ok(token
        .filter(|token| token.expires_ms > now_ms)
        .map(|token| token.user))
}

/// Removes up to `limit` login and OpenID tokens that have expired; returns how many.
pub fn remove_expired(txn: &mut Txn, now_ms: u64, limit: usize) -> Result<usize> {
    let start = (0, 0, [0; 32]);
    let end = (now_ms.saturating_add(1), 0, [0; 32]);
    let rows = TOKEN_EXPIRIES
        .range(txn, &start, &end, Direction::Forward)
        .take(limit)
        .collect::<store::Result<Vec<_>>>()?;
    for (key, ()) in &rows {
        match key.1 {
            LOGIN => LOGIN_TOKENS.delete(txn, &key.2),
            _ => OPENID_TOKENS.delete(txn, &key.2),
        }
        TOKEN_EXPIRIES.delete(txn, key);
    }
    Ok(rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::store;

    const ALICE: UserSn = UserSn(1);

    fn h(n: u8) -> TokenHash {
        [n; 32]
    }

    #[test]
    fn the_old_pair_lives_until_the_new_access_token_is_used() {
        let store = store();
        let mut txn = store.begin();
        issue(&mut txn, ALICE, "D", h(1), Some(h(2)), Some(100));
        refresh(&mut txn, &h(2), h(3), h(4), Some(200)).unwrap();
        assert!(access(&txn, &h(1)).unwrap().is_some());
        assert!(REFRESH_TOKENS.contains(&txn, &h(2)).unwrap());
        confirm(&mut txn, &h(3)).unwrap();
        assert!(access(&txn, &h(1)).unwrap().is_none());
        assert_eq!(access(&txn, &h(3)).unwrap().unwrap().replaces, None);
        let again = refresh(&mut txn, &h(2), h(5), h(6), None);
        assert!(matches!(again, Err(Error::NotFound(_))));
        // The new refresh token goes on working.
        refresh(&mut txn, &h(4), h(7), h(8), None).unwrap();
    }

    #[test]
    fn a_refresh_asked_twice_leaves_one_successor() {
        let store = store();
        let mut txn = store.begin();
        issue(&mut txn, ALICE, "D", h(1), Some(h(2)), None);
        refresh(&mut txn, &h(2), h(3), h(4), None).unwrap();
        refresh(&mut txn, &h(2), h(5), h(6), None).unwrap();
        assert!(access(&txn, &h(3)).unwrap().is_none());
        assert!(refresh(&mut txn, &h(4), h(7), h(8), None).is_err());
        // Using the new refresh token revokes the old pair, too.
        refresh(&mut txn, &h(6), h(7), h(8), None).unwrap();
        assert!(access(&txn, &h(1)).unwrap().is_none());
        assert!(refresh(&mut txn, &h(2), h(9), h(10), None).is_err());
        assert!(access(&txn, &h(5)).unwrap().is_some());
    }

    #[test]
    fn revoking_a_device_leaves_no_token_of_it_and_all_of_others() {
        let store = store();
        let mut txn = store.begin();
        issue(&mut txn, ALICE, "D", h(1), Some(h(2)), None);
        issue(&mut txn, ALICE, "D2", h(3), None, None);
        refresh(&mut txn, &h(2), h(4), h(5), None).unwrap();
        revoke_device(&mut txn, ALICE, "D").unwrap();
        for n in [1, 4] {
            assert!(access(&txn, &h(n)).unwrap().is_none());
        }
        for n in [2, 5] {
            assert!(refresh_user(&txn, &h(n)).unwrap().is_none());
        }
        assert!(access(&txn, &h(3)).unwrap().is_some());
        let left = DEVICE_TOKENS.scan(&txn, &(ALICE,), Direction::Forward);
        assert_eq!(left.count(), 1);
    }

    #[test]
    fn a_login_token_is_good_for_one_login_before_it_expires() {
        let store = store();
        let mut txn = store.begin();
        put_login(&mut txn, h(1), ALICE, 1_000);
        put_login(&mut txn, h(2), ALICE, 1_000);
        assert_eq!(take_login(&mut txn, &h(1), 999).unwrap(), ALICE);
        assert!(take_login(&mut txn, &h(1), 999).is_err());
        assert!(take_login(&mut txn, &h(2), 1_000).is_err());
        put_openid(&mut txn, h(3), ALICE, 2_000);
        assert_eq!(remove_expired(&mut txn, 1_500, 10).unwrap(), 1);
        assert_eq!(openid_user(&txn, &h(3), 1_999).unwrap(), Some(ALICE));
        assert_eq!(openid_user(&txn, &h(3), 2_000).unwrap(), None);
    }
}
