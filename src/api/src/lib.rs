//! Inbound HTTP: authenticate, translate, call, render. Error codes live here.
//!
//! The house every endpoint stands on: [`server`] listens and lets requests in, [`request`] and
//! [`json`] turn them into values, [`error`] turns refusals into responses, [`limits`] says who asks
//! too often. Endpoints import these; these import no endpoint.

pub mod error;
pub mod json;
pub mod limits;
pub mod request;
pub mod server;
