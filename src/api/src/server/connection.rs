//! One connection, from the handshake to its close.
//!
//! Runs hyper (HTTP/1.1 or HTTP/2, by what the peer speaks) over the timed stream and hands each request to the
//! door. At shutdown the connection closes when it is idle, or else after the requests in flight, or at the drain
//! deadline, whichever comes first.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::door::{Door, Visitor};
use super::idle::{Activity, StreamTimeouts, Timed};
use super::listener::Stream;
use super::options::ServerOptions;

/// The longest head of an HTTP/1.1 request, and the most that is read ahead of a body.
const READ_BUFFER_BYTES: usize = 128 * 1024;

/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 128;

/// The longest list of headers on HTTP/2.
const HTTP2_HEADER_BYTES: u32 = 32 * 1024;

/// Peers that vanished without a word are noticed by a ping that is not answered.
const HTTP2_PING_EVERY: Duration = Duration::from_secs(40);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What the connections of one listener share.
#[derive(Clone)]
pub(super) struct ConnectionContext {
    pub door: Arc<Door>,
    pub options: Arc<ServerOptions>,
    pub tls: Option<TlsAcceptor>,
    pub shutdown: CancellationToken,
}

impl ConnectionContext {
    pub async fn serve(self, stream: Stream, peer: Option<SocketAddr>) {
        let stream = match (&self.tls, stream) {
            (Some(tls), Stream::Tcp(stream)) => {
                let handshake = tls.accept(stream);
                match tokio::time::timeout(self.options.header_timeout, handshake).await {
                    Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                    Ok(Err(error)) => {
                        tracing::debug!(?peer, %error, "TLS handshake failed");
                        return;
                    }
                    Err(_elapsed) => {
                        tracing::debug!(?peer, "TLS handshake took too long");
                        return;
                    }
                }
            }
            (_, stream) => stream,
        };
        self.serve_http(stream, peer).await;
    }

    async fn serve_http(self, stream: Stream, peer: Option<SocketAddr>) {
        let activity = Activity::new();
        let timeouts = StreamTimeouts {
            header: self.options.header_timeout,
            idle: self.options.idle_timeout,
            write: self.options.write_stall_timeout,
        };
        let stream = TokioIo::new(Timed::new(stream, Arc::clone(&activity), timeouts));
        let visitor = self.door.visitor(peer);
        let door = self.door;
        let service = service_fn(move |request| {
            let in_flight = activity.begin(request.version() == http::Version::HTTP_2);
            let door = Arc::clone(&door);
            let visitor: Visitor = visitor;
            async move { Ok::<_, Infallible>(door.answer(request, visitor, in_flight).await) }
        });
        let builder = http_builder();
        let mut connection = pin!(builder.serve_connection(stream, service));
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(self.options.drain_timeout, connection).await {
                    Ok(result) => result,
                    Err(_elapsed) => {
                        tracing::info!(?peer, "a request did not end before the server did");
                        return;
                    }
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(?peer, %error, "connection ended");
        }
    }
}

fn http_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The timed stream watches over heads, and tells them from idle connections.
        .header_read_timeout(None)
        .max_buf_size(READ_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(HTTP2_HEADER_BYTES)
        .adaptive_window(true)
        .keep_alive_interval(HTTP2_PING_EVERY)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT);
    builder
}
