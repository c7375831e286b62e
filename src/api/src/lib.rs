//! Inbound HTTP: authenticate, translate, call, render. Error codes live here.
//!
//! The house every endpoint stands on: [`server`] listens and lets requests in, [`request`] and
//! [`json`] turn them into values, [`error`] turns refusals into responses, [`limits`] says who asks
//! too often. Endpoints import these; these import no endpoint.

mod app;
pub mod auth;
pub mod client;
pub mod error;
pub mod federation;
pub mod interactive_auth;
pub mod json;
mod key_answers;
pub mod limits;
pub mod passwords;
mod refusal;
pub mod request;
pub mod server;

pub use app::App;
