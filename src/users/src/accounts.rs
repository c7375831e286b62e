//! Accounts of this server: who has one, what kind it is, and what it may do.
//!
//! Invariant: an account is never removed, so that its name can't be taken again; deactivation clears
//! the password and stays for good. The server that `names` gives a local number without an account
//! here has only heard of that user id.

use names::UserSn;
use serde::{Deserialize, Serialize};
use store::{Direction, Read, Record, Txn};

use crate::schema::{ACCOUNTS, THREEPIDS};
use crate::{Error, Result};

/// Who stands behind an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A person or bot that registered.
    User,
    /// A guest (client-server API, "Guest Access").
    Guest,
    /// A user of an application service, which acts for it.
    Appservice,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Who stands behind it.
    pub kind: Kind,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// The password as a PHC string; none where there is no login by password.
    pub password_hash: Option<String>,
    /// May use the administration endpoints.
    pub admin: bool,
    /// Every request is refused with a soft logout ("Account locking").
    pub locked: bool,
    /// May read and little else ("Account suspension").
    pub suspended: bool,
    /// Gone for good.
    pub deactivated: bool,
    /// Deactivated with the wish that others who join later no longer see what it wrote.
    pub erased: bool,
}

impl Record for Account {}

impl Account {
    /// A new account without rights.
    pub fn new(kind: Kind, created_ms: u64, password_hash: Option<String>) -> Self {
        Self {
            kind,
            created_ms,
            password_hash,
            admin: false,
            locked: false,
            suspended: false,
            deactivated: false,
            erased: false,
        }
    }
}

/// An address of a user outside Matrix ("Third-party identifiers").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threepid {
    /// When it was added, in milliseconds since 1970.
    pub added_ms: u64,
    /// When it was proved to belong to the user, in milliseconds since 1970.
    pub validated_ms: u64,
}

impl Record for Threepid {}

/// The account of `user`, if there is one.
pub fn get(from: &impl Read, user: UserSn) -> Result<Option<Account>> {
    Ok(ACCOUNTS.get(from, &user)?)
}

/// True if there is an account, deactivated or not.
pub fn exists(from: &impl Read, user: UserSn) -> Result<bool> {
    Ok(ACCOUNTS.contains(from, &user)?)
}

/// Makes an account.
///
/// # Errors
/// [`Error::Exists`] if there is or was one.
pub fn create(txn: &mut Txn, user: UserSn, account: &Account) -> Result<()> {
    if exists(txn, user)? {
        return Err(Error::Exists("account"));
    }
    ACCOUNTS.put(txn, &user, account);
    Ok(())
}

/// Changes an account in place.
///
/// # Errors
/// [`Error::NotFound`] if there is none.
pub fn update(txn: &mut Txn, user: UserSn, change: impl FnOnce(&mut Account)) -> Result<Account> {
    let mut account = get(txn, user)?.ok_or(Error::NotFound("account"))?;
    change(&mut account);
    ACCOUNTS.put(txn, &user, &account);
    Ok(account)
}

/// Closes an account for good: no password, no third-party identifiers, no rights. The caller logs
/// out its devices (`devices::delete_all`) and leaves its rooms.
pub fn deactivate(txn: &mut Txn, user: UserSn, erase: bool) -> Result<()> {
    update(txn, user, |account| {
        account.deactivated = true;
        account.erased |= erase;
        account.password_hash = None;
        account.admin = false;
    })?;
    let threepids = THREEPIDS
        .scan(txn, &(user,), Direction::Forward)
        .collect::<store::Result<Vec<_>>>()?;
    for (key, _) in threepids {
        THREEPIDS.delete(txn, &key);
    }
    Ok(())
}

/// Up to `limit` accounts with numbers after `after`, in order.
pub fn list(
    from: &impl Read,
    after: Option<UserSn>,
    limit: usize,
) -> Result<Vec<(UserSn, Account)>> {
    let start = UserSn(after.map_or(0, |user| user.0.saturating_add(1)));
    Ok(ACCOUNTS
        .scan_from(from, &(), &start)
        .take(limit)
        .collect::<store::Result<_>>()?)
}

/// The third-party identifiers of a user: medium, address and when they came.
pub fn threepids(from: &impl Read, user: UserSn) -> Result<Vec<(String, String, Threepid)>> {
    let mut found = Vec::new();
    for row in THREEPIDS.scan(from, &(user,), Direction::Forward) {
        let ((_, medium, address), threepid) = row?;
        found.push((medium, address, threepid));
    }
    Ok(found)
}

/// The first rule of a localpart that a new user id breaks, if any (appendices, "User Identifiers").
///
/// `user_id` is the whole identifier, which may have 255 bytes.
pub fn localpart_problem(localpart: &str, user_id: &str) -> Option<&'static str> {
    if localpart.is_empty() {
        return Some("A user name can't be empty");
    }
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte);
    if !localpart.bytes().all(allowed) {
        return Some("A user name holds only a-z, 0-9 and the characters . _ = - / +");
    }
    if localpart.starts_with('_') {
        return Some("A user name can't begin with an underscore");
    }
    if user_id.len() > 255 {
        return Some("The user identifier is longer than 255 bytes");
    }
    None
}
