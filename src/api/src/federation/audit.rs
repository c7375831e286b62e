//! What other servers ask, for the record of what crosses (`federation.audit`).
//!
//! The record is made when the answer begins, around all endpoints; who asked is known once [`super::Signed`] has found it
//! out. Requests without a signature are of nobody, and not in it.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::body::HttpBody;
use axum::extract::{OriginalUri, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::header;
use node::federation::{Crossing, Direction};
use remote::authorization::Authorization;

use crate::app::App;

/// Who sent a request, and its body, once that is proved.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<OnceLock<(Arc<str>, Bytes)>>);

impl Seen {
    /// The request is of `origin`.
    pub fn is(&self, origin: &Arc<str>, body: &Bytes) {
        // Each request is read once.
        let _ = self.0.set((Arc::clone(origin), body.clone()));
    }
}

/// Answers a request, and notes it if the configuration asks for that.
pub async fn note(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if !app.node().audits() {
        return next.run(request).await;
    }
    let seen = Seen::default();
    request.extensions_mut().insert(seen.clone());
    let claimed = request.headers().get(header::AUTHORIZATION);
    let claimed = claimed.and_then(|value| Authorization::parse(value.to_str().ok()?));
    let method = request.method().clone();
    let original = request.extensions().get::<OriginalUri>();
    let uri = original.map_or_else(|| request.uri().clone(), |uri| uri.0.clone());
    let begun = Instant::now();
    let response = next.run(request).await;
    let proved = seen.0.get();
    let server = match (proved, &claimed) {
        (Some((origin, _)), _) => origin,
        (None, Some(claim)) => claim.origin.as_str(),
        (None, None) => return response,
    };
    app.node().note_crossing(&Crossing {
        direction: Direction::In,
        server,
        is_proved: proved.is_some(),
        method: method.as_str(),
        target: uri.path_and_query().map_or("/", |target| target.as_str()),
        body: proved.map_or(&[][..], |(_, body)| body),
        answer_bytes: response.body().size_hint().exact(),
        outcome: Ok(response.status().as_u16()),
        took: begun.elapsed(),
    });
    response
}
