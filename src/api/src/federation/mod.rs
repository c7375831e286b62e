//! The server-server API: one file per module of the specification, each with its routes.

pub mod joins;
pub mod media;
pub mod openid;
pub mod profiles;
pub mod send;
pub mod signed;
pub mod user_devices;
pub mod user_keys;

use axum::Router;

use crate::app::App;

pub use signed::Signed;

/// All endpoints of the server-server API.
pub fn routes() -> Router<App> {
    Router::new()
        .merge(joins::routes())
        .merge(media::routes())
        .merge(openid::routes())
        .merge(profiles::routes())
        .merge(send::routes())
        .merge(user_devices::routes())
        .merge(user_keys::routes())
}
