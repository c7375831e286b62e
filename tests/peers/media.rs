//! Media across servers.

use testkit::{Peer, PeerAnswer, Response, User};

use crate::server;

const DOWNLOAD: &str = "/_matrix/federation/v1/media/download/";
const OLD_DOWNLOAD: &str = "/_matrix/media/v3/download/";

fn two_parts(content: &[u8]) -> PeerAnswer {
    let head = "--xx\r\nContent-Type: application/json\r\n\r\n{}\r\n--xx\r\nContent-Type: text/plain\r\n\
                Content-Disposition: inline; filename=\"a b.txt\"\r\n\r\n";
    PeerAnswer {
        status: 200,
        content_type: "multipart/mixed; boundary=xx".to_owned(),
        body: [head.as_bytes(), content, b"\r\n--xx--\r\n"].concat(),
    }
}

fn download(user: &User, peer: &Peer, id: &str) -> Response {
    user.get(&format!("/v1/media/download/{}/{id}", peer.name()))
}

#[test]
fn content_of_another_server_is_fetched_once_and_kept() {
    let (server, mut peer) = (server(), Peer::start());
    let alice = server.register("alice");
    let content = b"--x\r\n".repeat(100_000);
    let sent = content.clone();
    peer.on("GET", DOWNLOAD, move |request| {
        match request.segment(5).as_str() {
            "known" => two_parts(&sent),
            "broken" => PeerAnswer {
                body: b"--xx\r\n\r\n{}\r\n--xx\r\n\r\ncut".to_vec(),
                ..two_parts(b"")
            },
            _ => PeerAnswer::error(404, "M_NOT_FOUND"),
        }
    });
    let waiting: Vec<_> = std::thread::scope(|scope| {
        let each = |_| scope.spawn(|| download(&alice, &peer, "known"));
        let threads: Vec<_> = (0..4).map(each).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for answer in waiting {
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(answer.body, content);
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        let disposition = answer.header("content-disposition").unwrap_or_default();
        assert!(disposition.contains("a b.txt"), "{disposition}");
    }
    assert_eq!(peer.requests(DOWNLOAD).len(), 1);
    for _ in 0..2 {
        download(&alice, &peer, "none").error(404, "M_NOT_FOUND");
        assert_eq!(download(&alice, &peer, "broken").status, 502);
    }
    // What failed a moment ago is not tried again.
    assert_eq!(peer.requests(DOWNLOAD).len(), 3);
    assert_eq!(peer.requests(OLD_DOWNLOAD).len(), 0);
    peer.go_away();
    assert_eq!(download(&alice, &peer, "known").body, content);
    assert_eq!(download(&alice, &peer, "other").status, 502);
    let local_only = format!("{OLD_DOWNLOAD}{}/known?allow_remote=false", peer.name());
    alice.get(&local_only).error(404, "M_NOT_FOUND");
}

#[test]
fn an_old_server_is_asked_as_clients_ask() {
    let (server, peer) = (server(), Peer::start());
    let alice = server.register("alice");
    peer.on("GET", OLD_DOWNLOAD, |request| {
        assert_eq!(request.query("allow_remote"), ["false"]);
        PeerAnswer {
            status: 200,
            content_type: "text/plain".to_owned(),
            body: b"old".to_vec(),
        }
    });
    let answer = download(&alice, &peer, "known");
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, b"old".as_slice())
    );
}

#[test]
fn another_server_gets_content_in_two_parts() {
    let (server, peer) = (server(), Peer::start());
    let alice = server.register("alice");
    let path = "/_matrix/media/v3/upload?filename=a.txt";
    let content = b"content \r\n--".to_vec();
    let uploaded = alice.exchange(
        "POST",
        path,
        &[("Content-Type", "text/plain")],
        content.clone(),
    );
    let uri = uploaded.ok()["content_uri"].as_str().unwrap().to_owned();
    let id = uri.rsplit('/').next().unwrap();
    let answer = peer.get(&server, &format!("{DOWNLOAD}{id}"));
    assert_eq!(answer.status, 200, "{answer}");
    let content_type = answer.header("content-type").unwrap_or_default();
    let boundary = content_type
        .strip_prefix("multipart/mixed; boundary=")
        .unwrap();
    let body = String::from_utf8(answer.body.clone()).unwrap();
    let parts: Vec<&str> = body.split(&format!("--{boundary}")).collect();
    assert_eq!(parts.len(), 4, "{body}");
    assert_eq!(parts[1], "\r\nContent-Type: application/json\r\n\r\n{}\r\n");
    let expected =
        "\r\nContent-Type: text/plain\r\nContent-Disposition: inline; filename=\"a.txt\"\r\n\r\n";
    let content = String::from_utf8(content).unwrap();
    assert_eq!(parts[2], format!("{expected}{content}\r\n"));
    assert_eq!(parts[3], "--\r\n");
    peer.get(&server, &format!("{DOWNLOAD}none"))
        .error(404, "M_NOT_FOUND");
    let thumbnail = format!("/_matrix/federation/v1/media/thumbnail/{id}?width=8&height=8");
    peer.get(&server, &thumbnail).error(400, "M_UNKNOWN");
    // Of itself it has to be asked, not of others.
    let unsigned = server.client().get(&format!("{DOWNLOAD}{id}"));
    unsigned.error(401, "M_UNAUTHORIZED");
}
