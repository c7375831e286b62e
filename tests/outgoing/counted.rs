//! What whoever watches over a server is told of its sending and receiving.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use testkit::{Peer, PeerRoom, Server, ServerOptions, until};

use crate::hears;

/// The value of a metric.
fn metric(address: &str, name: &str) -> u64 {
    let mut stream = TcpStream::connect(address).expect("the listener for metrics");
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let mut lines = answer.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no {name} in {answer}"));
    value.parse().expect("a number")
}

#[test]
fn what_is_sent_received_and_waits_is_counted() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("its address").to_string();
    drop(socket);
    let options = ServerOptions {
        more: format!("[[listen]]\nbind = {address:?}\napis = [\"metrics\"]\n"),
        ..ServerOptions::new(env!("CARGO_BIN_EXE_meyrin")).federated()
    };
    let (server, mut peer) = (Server::start(options), Peer::start());
    let user = server.register("alice");
    let room = user.create_public_room();
    let other = peer.user("olga");
    let theirs = PeerRoom::join(&peer, &server, &room, &other);
    let count = |name: &str| metric(&address, &format!("meyrin_federation_{name}"));

    user.say(&room, "Out");
    hears(&peer, "Out");
    until("the message is counted", || {
        (count("events_sent_total") >= 1).then_some(())
    });
    assert!(count("transactions_sent_total") >= 1);
    assert_eq!(count("servers_failing"), 0);

    let before = count("events_received_total");
    peer.send(&server, &[theirs.say(&other, "In")], &[]).ok();
    assert_eq!(count("events_received_total"), before + 1);
    assert_eq!(count("events_refused_total"), 0);
    assert!(count("transactions_received_total") >= 1);

    peer.go_away();
    user.say(&room, "Waits");
    until("the failure is counted", || {
        (count("transactions_failed_total") >= 1 && count("servers_failing") == 1).then_some(())
    });
    assert_eq!(count("servers_waiting"), 1);
}
