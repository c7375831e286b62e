//! What a server finds that asks more often than it may.

use std::time::{Duration, Instant};

use testkit::{Peer, Response, Server, ServerOptions};

/// A server that lets others ask so often, and whom it answers.
struct Scene {
    server: Server,
    peer: Peer,
}

impl Scene {
    fn with(per_second: f64, burst: u32) -> Self {
        let options = ServerOptions {
            limits: true,
            more: format!("[limits.federation]\nper_second = {per_second}\nburst = {burst}\n"),
            ..ServerOptions::new(env!("CARGO_BIN_EXE_meyrin"))
        };
        Self {
            server: Server::start(options.federated()),
            peer: Peer::start(),
        }
    }

    fn ask(&self) -> Response {
        self.peer
            .get(&self.server, "/_matrix/federation/v1/publicRooms")
    }
}

#[test]
fn who_is_over_the_rate_is_answered_when_its_turn_comes() {
    let scene = Scene::with(20.0, 1);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let asking = || scope.spawn(|| scene.ask().ok());
        for asked in [(); 6].map(|()| asking()) {
            asked.join().expect("it is answered");
        }
    });
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(250), "{took:?}");
}

#[test]
fn who_is_far_over_the_rate_is_refused_after_a_second_and_learns_when_to_come_again() {
    let scene = Scene::with(0.01, 1);
    scene.ask().ok();
    let begun = Instant::now();
    let refused = scene.ask().error(429, "M_LIMIT_EXCEEDED");
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    let retry_after_ms = refused["retry_after_ms"].as_u64().expect("a time");
    assert!(retry_after_ms > 90_000, "{refused}");
}
