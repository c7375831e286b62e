//! The accounts in the operator's hands, with and without a running server.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::supervised::{Supervised, meyrin_with_input};

fn succeeds(arguments: &[&str], input: &str, folder: &TempDir) -> String {
    let (good, output, log) = meyrin_with_input(arguments, input, folder);
    assert!(good, "{arguments:?}: {output}{log}");
    output
}

fn fails(arguments: &[&str], input: &str, folder: &TempDir) -> String {
    let (good, output, log) = meyrin_with_input(arguments, input, folder);
    assert!(!good, "{arguments:?}: {output}{log}");
    log
}

/// Logs in by password: the status and the answer.
fn log_in(folder: &TempDir, user: &str, password: &str) -> (u16, Value) {
    let body = json!({
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user},
        "password": password,
    })
    .to_string();
    let mut stream = UnixStream::connect(folder.path().join("client.sock")).expect("the socket");
    let length = body.len();
    let request = format!(
        "POST /_matrix/client/v3/login HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream
        .write_all(request.as_bytes())
        .expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    (
        status.expect("a status"),
        serde_json::from_str(body).expect("JSON"),
    )
}

#[test]
fn accounts_are_made_listed_and_closed_while_the_server_runs() {
    let server = Supervised::start("");
    let folder = server.folder.clone();
    let made = succeeds(&["user", "create", "alice", "--admin"], "first\n", &folder);
    assert!(made.contains("made @alice:example.org"), "{made}");
    assert_eq!(log_in(&folder, "alice", "first").0, 200);
    assert_eq!(log_in(&folder, "alice", "second").0, 403);

    succeeds(
        &["user", "reset-password", "@alice:example.org"],
        "second\n",
        &folder,
    );
    assert_eq!(log_in(&folder, "alice", "first").0, 403);
    assert_eq!(log_in(&folder, "alice", "second").0, 200);

    succeeds(&["user", "create", "bob", "--no-password"], "", &folder);
    let list = succeeds(&["user", "list"], "", &folder);
    let lines: Vec<Vec<&str>> = list
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!((lines[0][0], lines[0][2]), ("@alice:example.org", "admin"));
    assert_eq!((lines[1][0], lines[1][2]), ("@bob:example.org", ""));

    succeeds(&["user", "deactivate", "alice"], "", &folder);
    assert_eq!(log_in(&folder, "alice", "second").0, 403);
    assert!(!succeeds(&["user", "list"], "", &folder).contains("alice"));
    let all = succeeds(&["user", "list", "--deactivated"], "", &folder);
    assert!(all.contains("deactivated"), "{all}");
    let log = fails(&["user", "create", "alice"], "third\n", &folder);
    assert!(log.contains("taken"), "{log}");
    let (status, log) = server.stop(Signal::TERM);
    assert!(status.success());
    assert!(!log.contains("second"), "a password is in the log");
}

#[test]
fn accounts_made_without_a_server_are_there_when_it_runs() {
    let server = Supervised::start("");
    let folder = server.folder.clone();
    assert!(server.stop(Signal::TERM).0.success());
    succeeds(&["user", "create", "alice"], "secret\n", &folder);
    assert!(succeeds(&["user", "list"], "", &folder).contains("@alice:example.org"));
    let server = Supervised::start_in(folder.clone());
    assert_eq!(log_in(&folder, "alice", "secret").0, 200);
    assert!(server.stop(Signal::TERM).0.success());
}

#[test]
fn names_and_passwords_that_may_not_be_are_refused() {
    let server = Supervised::start("[password]\nmin_length = 8\n");
    let folder = server.folder.clone();
    let log = fails(&["user", "create", "Alice B"], "long enough\n", &folder);
    assert!(log.contains("can't be the name of an account"), "{log}");
    let log = fails(
        &["user", "create", "@alice:other.example"],
        "long enough\n",
        &folder,
    );
    assert!(log.contains("can't be the name of an account"), "{log}");
    let log = fails(&["user", "create", "alice"], "short\n", &folder);
    assert!(log.contains("at least 8 characters"), "{log}");
    let log = fails(
        &["user", "reset-password", "nobody"],
        "long enough\n",
        &folder,
    );
    assert!(
        log.contains("there is no account @nobody:example.org"),
        "{log}"
    );
    let log = fails(&["user", "deactivate", "nobody"], "", &folder);
    assert!(log.contains("there is no account"), "{log}");
    assert_eq!(succeeds(&["user", "list"], "", &folder), "");
    assert!(server.stop(Signal::TERM).0.success());
}
