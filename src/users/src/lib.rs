//! Core of accounts: devices, tokens, end-to-end keys, to-device messages, account data, profiles,
//! push rules, unread counts. Synchronous and pure over a view.
//!
//! Functions read from any [`store::Read`] and write into a [`store::Txn`]; they never commit, and time
//! and random bytes come in as arguments. Whoever reads rows of a user and then writes them holds that
//! user's lock in the shell.
//!
//! Deliberately not here: rooms (what crosses is composed in `sync` and `node`), HTTP and its error
//! codes, password hashing (it takes the shell's pool).

pub mod account_data;
pub mod accounts;
pub mod backup;
pub mod check;
pub mod dehydrated;
pub mod devices;
pub mod directory;
pub mod error;
pub mod filters;
pub mod keys;
pub mod profile;
pub mod push;
pub mod pushers;
pub mod registration_tokens;
pub mod reports;
pub mod schema;
#[cfg(test)]
mod testing;
pub mod to_device;
pub mod tokens;
pub mod unread;

pub use error::{Error, Result};
pub use schema::TABLES;
