//! How servers know each other: keys, signed requests, and who is let in. The binary under test talks to peers of the
//! test's own.

mod keys;
mod requests;

use testkit::{Server, ServerOptions};

/// A server that trusts no notary, with more of `[federation]`.
fn server(federation: &str) -> Server {
    let federation = match federation.contains("trusted_key_servers") {
        true => federation.to_owned(),
        false => format!("trusted_key_servers = []\n{federation}"),
    };
    Server::start(ServerOptions {
        federation,
        ..ServerOptions::new(env!("CARGO_BIN_EXE_meyrin")).federated()
    })
}

/// An endpoint that every server may ask and that must be signed for.
const SIGNED: &str = "/_matrix/federation/v1/publicRooms?limit=1";
