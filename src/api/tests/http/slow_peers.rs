//! Peers that hold a connection without moving are dropped; the others never notice.

use std::time::Duration;

use api::server::ServerOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::{Answer, PATIENCE, ask, options, read_to_close, start};

/// Short enough for a test, long enough for a busy machine to send a small request within it.
const SHORT: Duration = Duration::from_millis(800);

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let house = start(ServerOptions {
        header_timeout: SHORT,
        ..options()
    });
    let stream = TcpStream::connect(house.address)
        .await
        .expect("the server listens");
    let (mut reader, mut writer) = stream.into_split();
    let drip = tokio::spawn(async move {
        // Never a pause as long as the deadline: only the whole head counts.
        let mut ticks = tokio::time::interval(SHORT / 20);
        while writer.write_all(b"a").await.is_ok() {
            ticks.tick().await;
        }
    });
    assert!(read_to_close(&mut reader).await.is_empty());
    drip.abort();
    assert_eq!(
        ask(house.address, "GET", "/_matrix/client/v3/ping", "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_second_head_that_does_not_end_is_cut_off_though_idling_is_allowed() {
    let house = start(ServerOptions {
        header_timeout: SHORT,
        ..options()
    });
    let mut stream = TcpStream::connect(house.address)
        .await
        .expect("the server listens");
    let whole = b"GET /_matrix/client/v3/ping HTTP/1.1\r\nHost: h\r\n\r\n";
    stream.write_all(whole).await.expect("sent");
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).await.expect("an answer");
    assert_eq!(Answer::parse(&answer[..length]).status, 200);
    stream.write_all(b"GET /_matrix/cl").await.expect("sent");
    read_to_close(&mut stream).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time_and_not_after_the_shorter_one_of_heads() {
    let house = start(ServerOptions {
        header_timeout: SHORT,
        idle_timeout: 3 * SHORT,
        ..options()
    });
    let mut stream = TcpStream::connect(house.address)
        .await
        .expect("the server listens");
    let request = b"GET /_matrix/client/v3/ping HTTP/1.1\r\nHost: h\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let began = std::time::Instant::now();
    let bytes = read_to_close(&mut stream).await;
    assert_eq!(Answer::parse(&bytes).status, 200);
    assert!(
        began.elapsed() >= 2 * SHORT,
        "closed after {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_request_that_takes_long_outlives_the_deadlines_of_heads_and_idling() {
    let house = start(ServerOptions {
        header_timeout: SHORT,
        idle_timeout: SHORT,
        ..options()
    });
    let waiting = ask(house.address, "GET", "/_matrix/client/v3/wait", "");
    tokio::pin!(waiting);
    let early = tokio::time::timeout(3 * SHORT, &mut waiting).await;
    assert!(
        early.is_err(),
        "nothing comes as long as the endpoint waits"
    );
    house.shutdown.cancel();
    assert_eq!(waiting.await.status, 200);
}

#[tokio::test]
async fn a_body_that_stands_still_is_answered_408() {
    let house = start(ServerOptions {
        body_stall_timeout: SHORT,
        ..options()
    });
    stalled_body(&house).await;
}

#[tokio::test]
async fn a_json_body_that_takes_too_long_in_whole_is_answered_408() {
    let house = start(ServerOptions {
        json_timeout: SHORT,
        ..options()
    });
    stalled_body(&house).await;
}

async fn stalled_body(house: &crate::house::House) {
    let mut stream = TcpStream::connect(house.address)
        .await
        .expect("the server listens");
    let head = b"POST /_matrix/client/v3/named HTTP/1.1\r\nHost: h\r\nContent-Length: 90\r\n\r\n{";
    stream.write_all(head).await.expect("sent");
    let answer = Answer::parse(&read_to_close(&mut stream).await);
    assert_eq!(
        (answer.status, answer.errcode().as_str()),
        (408, "M_UNKNOWN")
    );
}

#[tokio::test]
async fn a_peer_that_takes_no_bytes_is_cut_off() {
    let house = start(ServerOptions {
        write_stall_timeout: SHORT,
        max_connections: 1,
        ..options()
    });
    let mut stream = TcpStream::connect(house.address)
        .await
        .expect("the server listens");
    let request = b"GET /_matrix/client/v3/large HTTP/1.1\r\nHost: h\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    stream.read_u8().await.expect("the response begins");
    // It reads no further; its place becomes free, which the next peer sees.
    let free = async {
        while ask(house.address, "GET", "/_matrix/client/v3/ping", "")
            .await
            .status
            != 200
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, free)
        .await
        .expect("the slow peer is dropped");
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_and_a_freed_place_is_given_again() {
    let house = start(ServerOptions {
        max_connections: 1,
        ..options()
    });
    let mut first = TcpStream::connect(house.address)
        .await
        .expect("the server listens");
    let request = b"GET /_matrix/client/v3/ping HTTP/1.1\r\nHost: h\r\n\r\n";
    first.write_all(request).await.expect("sent");
    first
        .read_u8()
        .await
        .expect("the first connection is served");
    let mut second = TcpStream::connect(house.address)
        .await
        .expect("the server listens");
    let answer = Answer::parse(&read_to_close(&mut second).await);
    assert_eq!(
        (answer.status, answer.errcode().as_str()),
        (503, "M_UNKNOWN")
    );
    drop(first);
    let free = async {
        while ask(house.address, "GET", "/_matrix/client/v3/ping", "")
            .await
            .status
            != 200
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, free)
        .await
        .expect("the place is free again");
}
