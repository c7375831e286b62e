//! Sending messages from device to device.
//!
//! Source: <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::put;
use node::federation::outgoing::to_device::{ToServer, changes, note_to_servers};
use node::to_device::{ByDevice, receivers};
use node::{Lock, Node};
use serde::Deserialize;
use serde_json::value::RawValue;
use users::to_device::{self, Message, Transaction};

use crate::app::App;
use crate::auth::GuestSession;
use crate::error::ApiError;
use crate::json::{JsonBody, JsonBytes};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new().route(
        "/_matrix/client/v3/sendToDevice/{event_type}/{transaction_id}",
        put(send),
    )
}

#[derive(Deserialize)]
struct Send {
    messages: BTreeMap<String, BTreeMap<String, Box<RawValue>>>,
}

async fn send(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params((event_type, transaction_id)): Params<(String, String)>,
    JsonBody(body): JsonBody<Send>,
) -> Result<impl IntoResponse, ApiError> {
    let messages = build(&session.user_id, &event_type, &body)?;
    let transaction = Transaction {
        user: session.user,
        device: &session.device,
        event_type: &event_type,
        transaction_id: &transaction_id,
    };
    let node = app.node();
    // Of the sender: so that a request that is sent twice at once is done once.
    let guard = node.lock(Lock::User(session.user)).await;
    let now_ms = node.now_ms();
    let head = node.store().head();
    if to_device::is_done(&head, transaction, now_ms)? {
        return Ok(JsonBytes::EMPTY);
    }
    let addressed = node.address(&head, &messages)?;
    let mut changes = Vec::new();
    for part in to_device::batches(&addressed) {
        let mut txn = node.begin();
        to_device::deliver(&mut txn, part);
        changes.push((txn, receivers(part)));
    }
    for part in elsewhere(node, &session.user_id, &event_type, &body) {
        let mut txn = node.begin();
        let touched = note_to_servers(&mut txn, part);
        changes.push((txn, touched));
    }
    if let Some((txn, _)) = changes.last_mut() {
        to_device::note_done(txn, transaction, now_ms);
    }
    let mut written = Vec::with_capacity(changes.len());
    for (txn, touched) in changes {
        written.push((node.write(txn.into_batch(), &touched)?, touched));
    }
    drop(guard);
    for (ticket, touched) in written {
        node.durable(ticket, touched).await?;
    }
    Ok(JsonBytes::EMPTY)
}

/// What goes to devices of other servers' users, by changes.
fn elsewhere(node: &Node, sender: &str, event_type: &str, body: &Send) -> Vec<Vec<ToServer>> {
    if !node.config().federation.enabled {
        return Vec::new();
    }
    let messages = body.messages.iter();
    let messages = messages
        .filter(|(user_id, _)| !node.names().is_local_id(user_id))
        .map(|(user_id, by_device)| (user_id.as_str(), by_device))
        .collect();
    changes(node.to_servers(sender, event_type, &messages))
}

fn build(sender: &str, event_type: &str, body: &Send) -> Result<ByDevice, ApiError> {
    let mut messages = ByDevice::new();
    for (user_id, contents) in &body.messages {
        let by_device = messages.entry(user_id.clone()).or_default();
        for (device, content) in contents {
            if !content.get().starts_with('{') {
                return Err(ApiError::bad_json("A message's content must be an object"));
            }
            let message = Message::new(sender, event_type, content.get())?;
            by_device.insert(device.clone(), message);
        }
    }
    Ok(messages)
}
