//! What the shell does with other servers: fetching keys and events, taking in what they send, sending to them.

pub mod key_ring;
mod verification;
