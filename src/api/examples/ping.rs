//! The server with two endpoints that do nothing: what a request costs before any endpoint's work.
//!
//! `cargo run --release -p api --example ping -- 127.0.0.1:8009`, then
//! `wrk -t1 -c32 -d10 http://127.0.0.1:8009/_matrix/client/v3/ping`. One thread serves.

use api::json::JsonBytes;
use api::request::Params;
use api::server::{ListenerOptions, RequestMetrics, Routers, Server, ServerOptions};
use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use config::Bind;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:8009".to_owned());
    let text = Bytes::from(format!(
        "[{}1]",
        "{\"type\":\"m.room.message\"},".repeat(800)
    ));
    let client = Router::new()
        .route(
            "/_matrix/client/v3/ping",
            get(|| async { JsonBytes::EMPTY }),
        )
        .route(
            "/_matrix/client/v3/rooms/{room}/state/{kind}",
            get(|Params((_room, _kind)): Params<(String, String)>| async { JsonBytes::EMPTY }),
        )
        .route(
            "/_matrix/client/v3/text",
            get(move || async move { JsonBytes(text.clone()) }),
        );
    let routers = Routers {
        client,
        ..Routers::default()
    };
    let options = ServerOptions {
        listeners: vec![ListenerOptions::plain(Bind::Tcp(address.parse()?))],
        ..ServerOptions::default()
    };
    let metrics = RequestMetrics::register(&mut Registry::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::bind(options, &routers, Some(metrics))?;
        server.run(CancellationToken::new()).await;
        Ok(())
    })
}
