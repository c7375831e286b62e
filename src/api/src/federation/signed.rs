//! Requests of other servers: signed with the key of the server that sends them.
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use serde::Deserialize;

use crate::app::App;
use crate::error::ApiError;
use crate::json::parse_object_or_empty;

/// A request of another server: who sent it, and its body, unparsed. Goes last among a handler's arguments.
#[derive(Debug)]
pub struct Signed {
    /// The server that sent and signed the request.
    pub origin: Arc<str>,
    body: Bytes,
}

impl Signed {
    /// The body as an object; no body is an empty object.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        parse_object_or_empty(&self.body)
    }

    /// The body's bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl FromRequest<App> for Signed {
    type Rejection = ApiError;

    async fn from_request(_request: Request, _app: &App) -> Result<Self, ApiError> {
        Err(ApiError::forbidden(
            "No requests of other servers are taken yet",
        ))
    }
}
