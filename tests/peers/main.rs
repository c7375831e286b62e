//! The binary as other homeservers see it, by section of the server-server specification.
//!
//! The other server is a [`testkit::Peer`]: the test signs its requests, joins rooms with it, and says what it answers.

mod access_lists;
mod arriving;
mod directory;
mod endpoints;
mod gaps;
mod keys;
mod media;
mod partners;
mod people;
mod rates;
mod reading;
mod spaces;

use serde_json::Value;
use testkit::{Peer, PeerRoom, Server, ServerOptions, User, encode};

/// A server that other servers can find.
fn server() -> Server {
    Server::start(ServerOptions::new(env!("CARGO_BIN_EXE_meyrin")).federated())
}

/// A peer in a public room of a user of the server.
struct Scene {
    server: Server,
    peer: Peer,
    alice: User,
    room: String,
    joined: PeerRoom,
}

impl Scene {
    /// With a room that is made with these options.
    fn with(options: Value) -> Self {
        let (server, peer) = (server(), Peer::start());
        let alice = server.register("alice");
        let room = alice.create_room(options);
        let joined = PeerRoom::join(&peer, &server, &room, &peer.user("bob"));
        Self {
            server,
            peer,
            alice,
            room,
            joined,
        }
    }

    /// The path of an endpoint about the room; `rest` is what follows the room's id.
    fn path(&self, endpoint: &str, rest: &str) -> String {
        format!(
            "/_matrix/federation/v1/{endpoint}/{}{rest}",
            encode(&self.room)
        )
    }
}

/// The events of a list, by type, in its order.
fn types(events: &Value) -> Vec<&str> {
    let events = events.as_array().into_iter().flatten();
    events.filter_map(|event| event["type"].as_str()).collect()
}
