//! The server-server API: one file per module of the specification, each with its routes.

pub mod handovers;
pub mod invites;
pub mod joins;
pub mod send;
pub mod signed;

use axum::Router;

use crate::app::App;

pub use signed::Signed;

/// All endpoints of the server-server API.
pub fn routes() -> Router<App> {
    Router::new()
        .merge(handovers::routes())
        .merge(invites::routes())
        .merge(joins::routes())
        .merge(send::routes())
}
