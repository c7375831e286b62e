//! Invitations of addresses outside of Matrix: `exchange_third_party_invite`, `3pid/onbind`.
//! <https://spec.matrix.org/v1.19/server-server-api/#third-party-invites>

use axum::Router;
use axum::extract::State;
use axum::routing::put;
use node::federation::{Proof, ProvedInvite};
use serde::Deserialize;

use crate::app::App;
use crate::error::ApiError;
use crate::federation::Signed;
use crate::json::{JsonBody, JsonBytes};
use crate::limits::{Class, Key};
use crate::request::{Arrival, Params};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/_matrix/federation/v1/exchange_third_party_invite/{room_id}",
            put(exchange),
        )
        .route("/_matrix/federation/v1/3pid/onbind", put(on_bind))
}

/// Invitations in one notification that are looked at.
const MOST_INVITES: usize = 20;

#[derive(Deserialize)]
struct Invite {
    signed: Proof,
}

#[derive(Deserialize)]
struct Content {
    membership: String,
    third_party_invite: Invite,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    event_type: String,
    room_id: String,
    sender: String,
    state_key: String,
    content: Content,
}

async fn exchange(
    State(app): State<App>,
    Params(room_id): Params<String>,
    signed: Signed,
) -> Result<JsonBytes, ApiError> {
    let event: Event = signed.json()?;
    if event.event_type != "m.room.member" || event.content.membership != "invite" {
        return Err(ApiError::invalid_param("This is no invitation"));
    }
    if event.room_id != room_id {
        return Err(ApiError::invalid_param("The event is of another room"));
    }
    let invite = ProvedInvite {
        room_id,
        sender: event.sender,
        target: event.state_key,
        proof: event.content.third_party_invite.signed,
    };
    let node = app.node();
    node.exchange_third_party_invite(&signed.origin, &invite)
        .await?;
    Ok(JsonBytes::EMPTY)
}

#[derive(Deserialize)]
struct Pending {
    mxid: String,
    room_id: String,
    sender: String,
    signed: Proof,
}

#[derive(Deserialize)]
struct Binding {
    mxid: String,
    invites: Vec<Pending>,
}

/// Identity servers have no key that could sign the request: each invitation is proved by itself.
async fn on_bind(
    State(app): State<App>,
    arrival: Arrival,
    JsonBody(binding): JsonBody<Binding>,
) -> Result<JsonBytes, ApiError> {
    app.limiter()
        .check(Class::Federation, Key::Address(arrival.address))?;
    let pending = binding.invites.into_iter().take(MOST_INVITES);
    for pending in pending.filter(|pending| pending.mxid == binding.mxid) {
        let invite = ProvedInvite {
            room_id: pending.room_id,
            sender: pending.sender,
            target: pending.mxid,
            proof: pending.signed,
        };
        if let Err(error) = app.node().take_proved_invite(&invite).await {
            tracing::info!(room = invite.room_id, target = invite.target, %error, "no invitation came of a bound address");
        }
    }
    Ok(JsonBytes::EMPTY)
}
