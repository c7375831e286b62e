//! Memberships that cross servers: invitations, their refusal and withdrawal, knocks, joins without the members. The binary under
//! test talks to a peer of the test's own, or to another of its kind.

mod by_address;
mod handed_over;
mod invited;
mod inviting;
mod knocking;
mod partial;
mod partial_interrupted;
mod policy_servers;
mod reaching;
mod two_servers;

use event::RoomVersion;
use serde_json::{Value, json};
use testkit::{Peer, PeerRoom, Response, Server, ServerOptions, encode};

fn server() -> Server {
    Server::start(ServerOptions::new(env!("CARGO_BIN_EXE_meyrin")).federated())
}

/// A peer, and a room of its user `host`.
fn hosted(version: RoomVersion) -> (Peer, PeerRoom, String) {
    let peer = Peer::start();
    let host = peer.user("host");
    let room = PeerRoom::create(&peer, version, &host);
    room.event(&host, "m.room.name", Some(""), json!({"name": "Elsewhere"}));
    (peer, room, host)
}

fn invite_path(version: &str, room: &PeerRoom, event: &Value) -> String {
    let (room_id, event_id) = (encode(&room.id()), encode(&room.event_id(event)));
    format!("/_matrix/federation/{version}/invite/{room_id}/{event_id}")
}

/// What an invitation says of the room.
fn described(room: &PeerRoom) -> Value {
    let types = ["m.room.create", "m.room.name", "m.room.join_rules"];
    types.iter().filter_map(|of| room.state(of, "")).collect()
}

/// Sends an invitation to the server under test.
#[track_caller]
fn send_invite(peer: &Peer, server: &Server, room: &PeerRoom, event: &Value) -> Response {
    let body = json!({
        "room_version": room.version().as_str(), "event": event, "invite_room_state": described(room),
    });
    peer.put(server, &invite_path("v2", room, event), body)
}

/// The stripped event of a type in a list of them.
fn of_type<'a>(events: &'a Value, event_type: &str) -> &'a Value {
    let events = events.as_array().map(Vec::as_slice).unwrap_or_default();
    let found = events.iter().find(|event| event["type"] == event_type);
    found.unwrap_or(&Value::Null)
}
