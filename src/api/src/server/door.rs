//! The door: what happens to every request before and after its endpoint.
//!
//! In this order: preflights are answered (no endpoint sees an `OPTIONS`), an old or unstable path is
//! turned into the stable one, the arrival is noted, the router is called, a panic becomes a 500, the
//! body is compressed if the client asked for it, and the CORS headers go on. One service does all of
//! it, for each further layer would cost an allocation per request.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::OriginalUri;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use ipnet::IpNet;
use tower::Service;

use super::body::{Content, RequestBody, ResponseBody};
use super::idle::InFlight;
use super::options::ServerOptions;
use super::{compress, forwarded, rewrite};
use crate::error::ApiError;
use crate::request::Arrival;

/// Client-server API, "Web Browser Clients".
const ALLOW_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS");
const ALLOW_HEADERS: HeaderValue =
    HeaderValue::from_static("X-Requested-With, Content-Type, Authorization, Date");

/// A day: browsers then send few preflights.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// What one listener's requests pass through.
#[derive(Debug)]
pub(super) struct Door {
    router: Router,
    options: Arc<ServerOptions>,
    trusted_proxies: Arc<ArcSwap<Vec<IpNet>>>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visitor {
    address: Option<IpAddr>,
    is_proxy: bool,
}

impl Door {
    pub fn new(
        router: Router,
        options: Arc<ServerOptions>,
        trusted_proxies: Arc<ArcSwap<Vec<IpNet>>>,
    ) -> Self {
        Self {
            router,
            options,
            trusted_proxies,
        }
    }

    /// Looks at who has connected.
    pub fn visitor(&self, peer: Option<SocketAddr>) -> Visitor {
        let address = peer.map(|peer| peer.ip().to_canonical());
        let is_proxy = forwarded::is_trusted(address, &self.trusted_proxies.load());
        Visitor { address, is_proxy }
    }

    /// The response to a request; never an error.
    pub async fn answer(
        &self,
        mut request: Request<Incoming>,
        visitor: Visitor,
        in_flight: InFlight,
    ) -> Response<ResponseBody> {
        if request.method() == Method::OPTIONS {
            return preflight(in_flight);
        }
        let coding = match *request.method() {
            Method::HEAD => None,
            _ => compress::negotiate(request.headers()),
        };
        if let Some(uri) = rewrite::stable(request.uri()) {
            let original = std::mem::replace(request.uri_mut(), uri);
            request.extensions_mut().insert(OriginalUri(original));
        }
        let arrival = self.arrival(visitor, request.headers());
        request.extensions_mut().insert(arrival);

        let stall = self.options.body_stall_timeout;
        let request = request.map(|incoming| {
            if http_body::Body::is_end_stream(&incoming) {
                Body::empty()
            } else {
                Body::new(RequestBody::new(incoming, &in_flight, stall))
            }
        });
        let mut router = self.router.clone();
        let response = catch_panic(router.call(request)).await;
        let mut response = compress::apply(coding, response)
            .await
            .map(|content| ResponseBody::new(content, in_flight));
        cors(&mut response);
        response
    }

    fn arrival(&self, visitor: Visitor, headers: &HeaderMap) -> Arrival {
        let address = if visitor.is_proxy {
            forwarded::client_address(visitor.address, headers, &self.trusted_proxies.load())
        } else {
            visitor.address
        };
        Arrival {
            address,
            json_limit_bytes: self.options.json_limit_bytes,
            json_timeout: self.options.json_timeout,
        }
    }
}

/// Runs an endpoint; its panic is a bug of ours, seen by one request only.
async fn catch_panic<E>(endpoint: impl Future<Output = Result<Response, E>>) -> Response {
    let mut endpoint = pin!(endpoint);
    let outcome = std::future::poll_fn(|context| {
        // After a panic the future is dropped and never polled again, so nothing half-done is seen.
        match catch_unwind(AssertUnwindSafe(|| endpoint.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(result.ok()),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<&'static str>()
                    .copied()
                    .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                tracing::error!(
                    panic = text.unwrap_or("without a text"),
                    "an endpoint panicked"
                );
                Poll::Ready(None)
            }
        }
    })
    .await;
    outcome.unwrap_or_else(|| {
        ApiError::new(crate::error::ErrCode::Unknown, "Internal server error").into_response()
    })
}

/// "The server MUST NOT perform any logic defined for the endpoints when approached with an `OPTIONS`
/// request": whatever the path, the headers are the answer.
fn preflight(in_flight: InFlight) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::new(Content::Plain(Body::empty()), in_flight));
    *response.status_mut() = StatusCode::NO_CONTENT;
    cors(&mut response);
    response
        .headers_mut()
        .insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    response
}

fn cors<B>(response: &mut Response<B>) {
    let limited = response.status() == StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOW_METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
    if limited {
        // Scripts may not read `Retry-After` across origins unless told so.
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Retry-After"),
        );
    }
}
