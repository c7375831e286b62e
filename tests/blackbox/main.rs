//! The binary as clients see it, by section of the client-server specification.
//!
//! A test starts a server of its own and knows nothing of it but the specification. What needs
//! a particular configuration stands in `configured`; everything else can be tried on any homeserver
//! (`HOMESERVER_URL=http://... cargo test --test blackbox -- --skip configured::`).

mod account;
mod account_data;
mod configured;
mod coverage;
mod cross_signing;
mod device_keys;
mod devices;
mod directory;
mod discovery;
mod ephemeral;
mod errors;
mod events;
mod filters;
mod history;
mod key_backup;
mod login;
mod media;
mod membership;
mod moderation;
mod presence;
mod profile;
mod push_rules;
mod registration;
mod relations;
mod room_creation;
mod room_summary;
mod search;
mod sliding_extensions;
mod sliding_sync;
mod sync;
mod sync_rooms;
mod to_device;
mod upgrade;
mod visibility;

use serde_json::Value;
use testkit::{Server, ServerOptions, User};

/// A server with open registration and no rate limits.
fn server() -> Server {
    Server::start(options())
}

fn options() -> ServerOptions {
    ServerOptions::new(env!("CARGO_BIN_EXE_meyrin"))
}

/// Two users in a public room of the first.
fn pair(server: &Server) -> (User, User, String) {
    let (first, second) = (server.register("alice"), server.register("bob"));
    let room = first.create_public_room();
    second.join(&room);
    (first, second, room)
}

/// The strings in a list, in its order.
fn strings(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// The values under `key` of a list of objects, in its order.
fn column<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row[key].as_str())
        .collect()
}
