//! What the operator sees of requests: counts, durations, and a log line each at `debug`.
//!
//! A layer around each route, so that it knows the path as it was declared: labels never hold what a client
//! wrote. Requests to unknown paths are not counted by path for the same reason.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{Method, header};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tower::{Layer, Service};
use tracing::Instrument;
use tracing::instrument::Instrumented;

use crate::error::ApiError;

/// Upper bounds in seconds, from a read out of memory to a long-poll that ran its course.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    path: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    path: String,
}

/// The metrics of requests, to be registered once and shared by all listeners.
#[derive(Clone, Debug)]
pub struct RequestMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
}

impl RequestMetrics {
    /// Makes the metrics and adds them to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let new_histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(new_histogram),
        };
        registry.register(
            "meyrin_http_requests",
            "Requests answered, by endpoint and status",
            metrics.requests.clone(),
        );
        registry.register(
            "meyrin_http_request_seconds",
            "Time from a request's head to its response's head, by endpoint",
            metrics.seconds.clone(),
        );
        metrics
    }
}

/// The endpoints of the `metrics` API set: the registry as Prometheus reads it.
pub fn metrics_router(registry: Arc<Mutex<Registry>>) -> Router {
    let render = move || {
        let registry = Arc::clone(&registry);
        async move { render(&registry.lock()) }
    };
    Router::new()
        .route("/_synapse/metrics", get(render.clone()))
        .route("/metrics", get(render))
}

fn render(registry: &Registry) -> Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// Wraps each route.
#[derive(Clone, Debug)]
pub(super) struct ObserveLayer {
    metrics: Option<RequestMetrics>,
}

impl ObserveLayer {
    pub fn new(metrics: Option<RequestMetrics>) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        let metrics = self.metrics.clone();
        Observed {
            inner,
            metrics,
            route: Arc::new(OnceLock::new()),
        }
    }
}

/// A route under observation.
#[derive(Clone, Debug)]
pub(super) struct Observed<S> {
    inner: S,
    metrics: Option<RequestMetrics>,
    route: Arc<OnceLock<Route>>,
}

/// What is the same for all requests of a route, looked up at the first one.
#[derive(Debug)]
struct Route {
    path: String,
    metrics: Option<RouteMetrics>,
}

#[derive(Debug)]
struct RouteMetrics {
    all: RequestMetrics,
    successes: Counter,
    seconds: Histogram,
}

impl Route {
    fn of(request: &Request, metrics: Option<&RequestMetrics>) -> Self {
        let path = request
            .extensions()
            .get::<MatchedPath>()
            .map_or("", MatchedPath::as_str);
        let labels = RouteLabels {
            method: request.method().to_string(),
            path: path.to_owned(),
        };
        let success = RequestLabels {
            method: labels.method.clone(),
            path: labels.path.clone(),
            status: 200,
        };
        let metrics = metrics.map(|all| RouteMetrics {
            successes: all.requests.get_or_create(&success).clone(),
            seconds: all.seconds.get_or_create(&labels).clone(),
            all: all.clone(),
        });
        Self {
            path: path.to_owned(),
            metrics,
        }
    }
}

impl<S: Service<Request, Response = Response>> Service<Request> for Observed<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Observing<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Observing<S::Future> {
        let route = self
            .route
            .get_or_init(|| Route::of(&request, self.metrics.as_ref()));
        let span = tracing::debug_span!("request", method = %request.method(), path = route.path);
        let method = request.method().clone();
        let inner = self.inner.call(request).instrument(span);
        Observing {
            inner,
            began: Instant::now(),
            method,
            route: Arc::clone(&self.route),
        }
    }
}

pin_project_lite::pin_project! {
    /// The response to come, and what to note when it does.
    pub(super) struct Observing<F> {
        #[pin]
        inner: Instrumented<F>,
        began: Instant,
        method: Method,
        route: Arc<OnceLock<Route>>,
    }
}

impl<F: Future<Output = Result<Response, E>>, E> Future for Observing<F> {
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = std::task::ready!(this.inner.poll(context));
        if let (Ok(response), Some(route)) = (&result, this.route.get()) {
            note(route, this.method, response, *this.began);
        }
        Poll::Ready(result)
    }
}

fn note(route: &Route, method: &Method, response: &Response, began: Instant) {
    let elapsed = began.elapsed();
    let status = response.status().as_u16();
    tracing::debug!(
        %method,
        path = route.path,
        status,
        micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        "answered"
    );
    let Some(metrics) = &route.metrics else {
        return;
    };
    metrics.seconds.observe(elapsed.as_secs_f64());
    if status == 200 {
        metrics.successes.inc();
        return;
    }
    let labels = RequestLabels {
        method: method.to_string(),
        path: route.path.clone(),
        status,
    };
    metrics.all.requests.get_or_create(&labels).inc();
}
