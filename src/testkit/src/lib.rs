//! For tests only: a running server, users who talk to it over HTTP, and bounded waiting.
//!
//! [`Server`] is the real binary in a process of its own, on a data directory of its own; [`Client`]
//! is HTTP and JSON with answers that explain themselves when a test expected another; [`User`] is a
//! logged-in client with the requests that every test makes; [`Follower`] is what a client does with
//! `/sync`. Everything panics with the whole story when it is disappointed, as a test should, and
//! nothing waits without a limit. [`Peer`] is another homeserver under the test's control, and [`PeerRoom`] a room
//! as it has it. [`World`] is rooms on a store in memory, for what needs no server.

mod authority;
mod client;
mod peer;
mod server;
mod sync;
mod user;
mod wait;
mod world;

pub use authority::{Authority, Issued, authority};
pub use client::{Client, Response, encode};
pub use peer::{Peer, PeerAnswer, PeerRequest, PeerRoom};
pub use server::{Server, ServerOptions};
pub use sync::{Follower, SyncAnswer};
pub use user::User;
pub use wait::{LIMIT, until};
pub use world::{SERVER_NAME, World, public_room};
