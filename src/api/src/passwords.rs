//! Passwords: argon2id on the bulk lane, and what new ones must be like.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{CustomizedPasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use config::Password;
use node::{Lane, Node};

use crate::error::{ApiError, ErrCode};

/// The longest password, in bytes.
const MAX_PASSWORD_BYTES: usize = 512;

/// How new passwords are hashed.
pub struct Passwords {
    params: Params,
}

impl Passwords {
    /// Hashing as configured; where the library can't do what is configured, with its own parameters.
    pub fn new(config: &Password) -> Self {
        let memory_kib = u32::try_from(config.hash_memory.bytes() / 1024).unwrap_or(u32::MAX);
        let params = Params::new(memory_kib, config.hash_passes, 1, None).unwrap_or_else(|error| {
            tracing::warn!(%error, "password.hash_memory or hash_passes can't be used");
            Params::default()
        });
        Self { params }
    }

    /// The PHC string of a password.
    pub async fn hash(&self, node: &Node, password: String) -> Result<String, ApiError> {
        let params = self.params.clone();
        let salt: [u8; 16] = node.random();
        let hash = move || {
            let argon2 = Argon2::default();
            let hash = argon2.hash_password_customized(
                password.as_bytes(),
                &salt,
                Some(Algorithm::Argon2id.ident().as_str()),
                Some(Version::V0x13.into()),
                params,
            );
            hash.map(|hash: PasswordHash| hash.to_string())
        };
        node.run(Lane::Bulk, hash)
            .await?
            .map_err(ApiError::internal)
    }

    /// Whether the password belongs to `hash`. Without a hash it takes as long and is false, so that
    /// the time tells nobody who has an account.
    pub async fn verify(
        &self,
        node: &Node,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, ApiError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let Some(hash) = hash else {
            self.hash(node, password).await?;
            return Ok(false);
        };
        let verify = move || match PasswordHash::new(&hash) {
            Ok(hash) => Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok(),
            Err(_) => false,
        };
        Ok(node.run(Lane::Bulk, verify).await?)
    }
}

/// A kind of character that new passwords may need: whether they do, what it is, and its name.
type Rule = (bool, fn(char) -> bool, &'static str);

/// Refuses new passwords that the configuration does not allow.
pub fn check_new(config: &Password, password: &str) -> Result<(), ApiError> {
    let weak = |why: String| Err(ApiError::new(ErrCode::WeakPassword, why));
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(ApiError::invalid_param(
            "The password has more than 512 bytes",
        ));
    }
    if password.is_empty() || password.chars().count() < config.min_length as usize {
        let least = config.min_length.max(1);
        return weak(format!("The password needs at least {least} characters"));
    }
    let rules: [Rule; 4] = [
        (config.require_digit, |c| c.is_ascii_digit(), "a digit"),
        (config.require_symbol, |c| !c.is_alphanumeric(), "a symbol"),
        (
            config.require_lowercase,
            char::is_lowercase,
            "a small letter",
        ),
        (
            config.require_uppercase,
            char::is_uppercase,
            "a capital letter",
        ),
    ];
    for (required, is_one, what) in rules {
        if required && !password.chars().any(is_one) {
            return weak(format!("The password needs {what}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_passwords_follow_the_configured_policy() {
        let lax = Password::default();
        assert!(check_new(&lax, "x").is_ok());
        assert!(check_new(&lax, "").is_err());
        assert!(check_new(&lax, &"x".repeat(513)).is_err());
        let strict = Password {
            min_length: 6,
            require_digit: true,
            require_symbol: true,
            require_lowercase: true,
            require_uppercase: true,
            ..Password::default()
        };
        assert!(check_new(&strict, "aB3!éé").is_ok());
        for weak in ["aB3!é", "aBc!ef", "aB3def", "AB3!EF", "ab3!ef"] {
            let error = check_new(&strict, weak).expect_err("refused");
            assert_eq!(error.code(), Some(ErrCode::WeakPassword), "{weak}");
        }
    }
}
