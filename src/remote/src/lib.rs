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
mod gate;
pub mod guard;
pub mod names;
mod observer;
mod proxy;
mod request;
mod tls;
mod web;
mod well_known;

pub use client::{MOST_CONNECTIONS, Options, Remote, Rules};
pub use download::Download;
pub use error::RemoteError;
pub use observer::{Exchange, Observer};
pub use proxy::Proxy;
pub use request::{Answer, Request, path};
