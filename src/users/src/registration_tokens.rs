//! Registration tokens: who has one may make an account (client-server API, "Token-authenticated
//! registration"). Tokens of the configuration are not here; these are made by administrators.

use serde::{Deserialize, Serialize};
use store::{Direction, Read, Record, Txn};

use crate::schema::REGISTRATION_TOKENS;
use crate::{Error, Result};

/// The longest token (m.login.registration_token: up to 64 characters of `[A-Za-z0-9._~-]`).
pub const MAX_TOKEN_BYTES: usize = 64;

/// A registration token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationToken {
    /// How many accounts may be made with it; none: any number.
    pub uses_allowed: Option<u64>,
    /// How many were made.
    pub completed: u64,
    /// When it stops working, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
}

impl Record for RegistrationToken {}

impl RegistrationToken {
    /// True if an account can be made with it now.
    pub fn is_valid(&self, now_ms: u64) -> bool {
        self.expires_ms.is_none_or(|expires| expires > now_ms)
            && self.uses_allowed.is_none_or(|uses| self.completed < uses)
    }
}

/// Makes a token, or replaces its bounds.
///
/// # Errors
/// [`Error::Invalid`] for characters or a length that the specification does not allow.
pub fn put(txn: &mut Txn, token: &str, row: &RegistrationToken) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !token.bytes().all(allowed) {
        return Err(Error::invalid(
            "A registration token has 1 to 64 characters of A-Z, a-z, 0-9 and . _ ~ -",
        ));
    }
    REGISTRATION_TOKENS.put(txn, &token.to_owned(), row);
    Ok(())
}

/// The token, valid or not.
pub fn get(from: &impl Read, token: &str) -> Result<Option<RegistrationToken>> {
    if token.len() > MAX_TOKEN_BYTES {
        return Ok(None);
    }
    Ok(REGISTRATION_TOKENS.get(from, &token.to_owned())?)
}

/// All tokens.
pub fn list(from: &impl Read) -> Result<Vec<(String, RegistrationToken)>> {
    Ok(REGISTRATION_TOKENS
        .scan(from, &(), Direction::Forward)
        .collect::<store::Result<_>>()?)
}

/// Removes a token; returns false if there was none.
pub fn delete(txn: &mut Txn, token: &str) -> Result<bool> {
    let found = get(txn, token)?.is_some();
    if found {
        REGISTRATION_TOKENS.delete(txn, &token.to_owned());
    }
    Ok(found)
}

/// Counts an account made with the token. Call under a lock named after the token.
///
/// # Errors
/// [`Error::NotFound`] if it is unknown, expired or used up.
pub fn take(txn: &mut Txn, token: &str, now_ms: u64) -> Result<()> {
    let mut row = get(txn, token)?
        .filter(|row| row.is_valid(now_ms))
        .ok_or(Error::NotFound("registration token"))?;
    row.completed += 1;
    REGISTRATION_TOKENS.put(txn, &token.to_owned(), &row);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::store;

    #[test]
    fn a_token_works_until_it_is_used_up_or_expires() {
        let store = store();
        let mut txn = store.begin();
        let twice = RegistrationToken {
            uses_allowed: Some(2),
            completed: 0,
            expires_ms: Some(100),
        };
        put(&mut txn, "twice", &twice).unwrap();
        assert!(take(&mut txn, "twice", 100).is_err());
        take(&mut txn, "twice", 99).unwrap();
        take(&mut txn, "twice", 99).unwrap();
        assert!(take(&mut txn, "twice", 99).is_err());
        assert!(take(&mut txn, "other", 99).is_err());
        assert!(put(&mut txn, "not allowed", &twice).is_err());
        assert!(delete(&mut txn, "twice").unwrap());
        assert!(!delete(&mut txn, "twice").unwrap());
    }
}
