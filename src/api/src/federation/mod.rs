//! The server-server API: one file per module of the specification, each with its routes.

pub mod audit;
pub mod backfill;
pub mod event_auth;
pub mod events;
pub mod handovers;
pub mod invites;
pub mod joins;
pub mod keys;
pub mod media;
pub mod openid;
pub mod profiles;
pub mod public_rooms;
pub mod query;
mod room_door;
pub mod send;
pub mod signed;
pub mod space_hierarchy;
pub mod third_party_invites;
pub mod user_devices;
pub mod user_keys;

use axum::{Router, middleware};

use crate::app::App;

pub use signed::Signed;

/// All endpoints of the server-server API, with the record of what crosses.
pub fn router(app: &App) -> Router {
    routes()
        .layer(middleware::from_fn_with_state(app.clone(), audit::note))
        .with_state(app.clone())
}

/// All endpoints of the server-server API.
fn routes() -> Router<App> {
    Router::new()
        .merge(backfill::routes())
        .merge(event_auth::routes())
        .merge(events::routes())
        .merge(handovers::routes())
        .merge(invites::routes())
        .merge(joins::routes())
        .merge(keys::routes())
        .merge(media::routes())
        .merge(openid::routes())
        .merge(profiles::routes())
        .merge(public_rooms::routes())
        .merge(query::routes())
        .merge(send::routes())
        .merge(space_hierarchy::routes())
        .merge(user_devices::routes())
        .merge(user_keys::routes())
        .merge(third_party_invites::routes())
}
