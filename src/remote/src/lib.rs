//! Outgoing requests to other homeservers: where a server is, and how it is asked.
//!
//! Invariants: every request goes to an address that the rules for outgoing requests allow, checked after the name
//! was resolved; has a time limit; and reads no more of an answer than was asked for.

pub mod authority;
pub mod authorization;
mod client;
mod connect;
mod download;
mod error;
pub mod guard;
pub mod names;
mod request;
mod tls;

pub use client::{Options, Remote};
pub use download::Download;
pub use error::RemoteError;
pub use request::{Answer, Request, path};
