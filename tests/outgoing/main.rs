//! What the server sends to others: events, messages to devices, and what is not kept; to peers that answer, go away
//! and come back, and over restarts.

mod counted;
mod devices;
mod ephemeral;
mod events;
mod outages;

use testkit::{Peer, PeerRoom, Server, ServerOptions, User};

fn server() -> Server {
    Server::start(ServerOptions::new(env!("CARGO_BIN_EXE_meyrin")).federated())
}

/// A user's public room that a user of a peer is in.
struct Shared {
    server: Server,
    peer: Peer,
    user: User,
    /// The peer's user.
    other: String,
    room: String,
    theirs: PeerRoom,
}

fn shared() -> Shared {
    let (server, peer) = (server(), Peer::start());
    let user = server.register("alice");
    let room = user.create_public_room();
    let other = peer.user("olga");
    let theirs = PeerRoom::join(&peer, &server, &room, &other);
    Shared {
        server,
        peer,
        user,
        other,
        room,
        theirs,
    }
}

/// Waits until a message with this text comes to the peer.
#[track_caller]
fn hears(peer: &Peer, text: &str) {
    peer.pdu(text, |pdu| pdu["content"]["body"] == text);
}

/// The texts that came to the peer, in order, without repetitions.
fn texts(peer: &Peer) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for pdu in peer.pdus() {
        if let Some(text) = pdu["content"]["body"].as_str()
            && !texts.iter().any(|known| known == text)
        {
            texts.push(text.to_owned());
        }
    }
    texts
}
