//! A full disk: writes are refused in plain words, reads go on, and when there is room again writes go on
//! too, without a restart and with everything that was acknowledged.
//!
//! The disk is a small one in memory, in a mount namespace of its own, which any user may make with
//! `unshare` of util-linux. It lives as long as a process in it does.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Client, Peer, PeerRoom, Response, Server, ServerOptions, User, encode, until};

const DISK: &str = "96m";
const WRITERS: usize = 4;

/// A disk that can be filled.
struct SmallDisk {
    folder: TempDir,
    holder: Child,
}

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = folder.path().join("disk");
        fs::create_dir(&mount).expect("a folder");
        let script = format!(
            "mount -t tmpfs -o size={DISK} tmpfs '{}' && echo mounted && exec cat",
            mount.display()
        );
        let mut holder = Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "--",
                "sh",
                "-c",
                &script,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of util-linux, can be started");
        let mut line = String::new();
        let output = holder.stdout.take().expect("its output");
        let read = BufReader::new(output).read_line(&mut line);
        assert!(
            read.is_ok() && line == "mounted\n",
            "this system lets nobody mount a disk of their own: user namespaces are needed for this test"
        );
        Self { folder, holder }
    }

    /// Where programs in the namespace see the disk.
    fn mount(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// A file of the disk, as it is reached from outside.
    fn reach(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        let mount = self.mount();
        let inside = mount.strip_prefix("/").expect("an absolute path");
        root.join(inside).join(name)
    }

    /// A program that runs `binary` where the disk is.
    fn wrap(&self, binary: &Path) -> PathBuf {
        let wrapper = self.folder.path().join("meyrin");
        let script = format!(
            "#!/bin/sh\nexec nsenter --user --mount --preserve-credentials --target {} '{}' \"$@\"\n",
            self.holder.id(),
            binary.display()
        );
        fs::write(&wrapper, script).expect("a script");
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("a script");
        wrapper
    }

    /// Fills the disk to its last byte.
    fn fill(&self) {
        let mut file = File::create(self.reach("filler")).expect("a file");
        for piece in [1 << 20, 4096, 1] {
            while file.write_all(&vec![7; piece]).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.reach("filler")).expect("the file goes");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It ends by itself when its input does.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[track_caller]
fn refused(answer: &Response) {
    let error = answer.error(507, "M_UNKNOWN");
    let text = error["error"].as_str().unwrap_or_default();
    assert!(text.contains("disk is full"), "{text}");
}

fn upload(client: &Client, content: &[u8]) -> Response {
    let headers = [("Content-Type", "application/octet-stream")];
    client.exchange("POST", "/_matrix/media/v3/upload", &headers, content.into())
}

/// Sends messages without a pause until told to stop: the text and
/// id of each that was acknowledged, and how many were refused.
fn write(user: &User, room: &str, stop: &AtomicBool) -> (Vec<(String, String)>, u64) {
    let client = user.with_own_connections();
    let (mut acknowledged, mut refusals) = (Vec::new(), 0);
    let mut n = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let body = format!("{} {n}", user.id);
        let path = format!("/v3/rooms/{}/send/m.room.message/{n}", encode(room));
        let answer = client.put(
            &path,
            json!({"msgtype": "m.text", "body": body, "padding": "x".repeat(2000)}),
        );
        if answer.status == 200 {
            let id = answer.value()["event_id"].as_str().map(str::to_owned);
            acknowledged.push((body, id.expect("an event id")));
        } else {
            refused(&answer);
            refusals += 1;
        }
    }
    (acknowledged, refusals)
}

/// Tells the writers to stop, also when the test has failed.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_loses_nothing_that_was_acknowledged() {
    let disk = SmallDisk::new();
    let mut options = ServerOptions::new(disk.wrap(Path::new(env!("CARGO_BIN_EXE_meyrin"))));
    options.sync = "always".to_owned();
    options.data_dir = Some(disk.mount().join("data"));
    let mut server = Server::start(options);
    let process = server.process_id();

    let users: Vec<User> = (0..WRITERS).map(|_| server.register("writer")).collect();
    let room = users[0].create_public_room();
    for user in &users[1..] {
        user.join(&room);
    }
    let media = upload(&users[0], b"kept").ok();
    let media = media["content_uri"].as_str().expect("a URI");
    let media = media.strip_prefix("mxc://").expect("an mxc URI");

    // The disk fills, and is emptied, while everybody writes.
    let stop = AtomicBool::new(false);
    let known = std::thread::scope(|scope| {
        let writers: Vec<_> = users
            .iter()
            .map(|user| scope.spawn(|| write(user, &room, &stop)))
            .collect();
        let end = StopAtEnd(&stop);
        for _ in 0..3 {
            disk.fill();
            until("a message is refused", || {
                let answer = users[0].try_send(&room, "m.room.message", json!({"n": 1}));
                (answer.status == 507).then_some(())
            });
            reads_go_on_and_writes_do_not(&server, &users, &room, media);
            disk.empty();
            until("a message is accepted again", || {
                let answer = users[0].try_send(&room, "m.room.message", json!({"n": 2}));
                (answer.status == 200).then_some(())
            });
        }
        drop(end);
        let ended = writers.into_iter().map(|writer| writer.join());
        ended
            .map(|known| known.expect("a writer"))
            .collect::<Vec<_>>()
    });
    assert_eq!(server.process_id(), process);
    upload(&users[0], &[1; 10_000]).ok();

    everything_acknowledged_is_there_once(&users, &room, &known);
    server.kill();
    let check = server.run(&["db", "check"]);
    let output = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{output}");
    server.start_again();
    everything_acknowledged_is_there_once(&users, &room, &known);
}

fn reads_go_on_and_writes_do_not(server: &Server, users: &[User], room: &str, media: &str) {
    let alice = &users[0];
    let name = format!("/v3/profile/{}/displayname", encode(&alice.id));
    refused(&alice.put(&name, json!({"displayname": "Another"})));
    refused(&alice.try_set_state(room, "m.room.topic", "", json!({"topic": "none"})));
    refused(&alice.post("/v3/createRoom", json!({})));
    refused(&upload(alice, &[1; 10_000]));
    // Refused before all of it has come, so that the connection is of no use afterwards.
    refused(&upload(&alice.with_own_connections(), &[1; 2_000_000]));
    let since = alice.sync(None, "");
    alice.sync(Some(since.next_batch()), "");
    assert_eq!(
        alice.state(room, "m.room.topic", "").status,
        404,
        "nothing was set"
    );
    let messages = format!("/v3/rooms/{}/messages?dir=b", encode(room));
    alice.get(&messages).ok();
    let kept = alice.get(&format!("/v1/media/download/{media}"));
    assert_eq!((kept.status, kept.body.as_slice()), (200, &b"kept"[..]));
    server.client().get("/_matrix/client/versions").ok();
}

fn everything_acknowledged_is_there_once(
    users: &[User],
    room: &str,
    known: &[(Vec<(String, String)>, u64)],
) {
    let bodies = users[0].messages_by_text(room);
    let mut sent = 0;
    for (acknowledged, refusals) in known {
        assert!(*refusals > 0, "each writer met the full disk");
        for (body, id) in acknowledged {
            assert_eq!(bodies.get(body), Some(&vec![id.clone()]), "{body}");
        }
        sent += acknowledged.len();
    }
    assert_eq!(bodies.len(), sent, "what was refused is not there");
    println!("{sent} acknowledged messages, each there once");
}

#[test]
fn a_transaction_that_meets_a_full_disk_is_refused_and_taken_in_when_there_is_room_again() {
    let disk = SmallDisk::new();
    let mut options = ServerOptions::new(disk.wrap(Path::new(env!("CARGO_BIN_EXE_meyrin"))));
    options.sync = "always".to_owned();
    options.data_dir = Some(disk.mount().join("data"));
    let mut server = Server::start(options.federated());
    let alice = server.register("alice");
    let room = alice.create_public_room();
    let peer = Peer::start();
    let bob = peer.user("bob");
    let joined = PeerRoom::join(&peer, &server, &room, &bob);

    let mut sent = Vec::new();
    let mut made = || {
        let text = format!("of the peer {}", sent.len());
        let pdu = joined.say(&bob, &text);
        sent.push((text, joined.event_id(&pdu)));
        pdu
    };
    for _ in 0..3 {
        peer.send(&server, &[made(), made()], &[]).ok();
        disk.fill();
        let cut_off = until("a transaction is refused", || {
            let pdus = [made(), made()];
            let answer = peer.send(&server, &pdus, &[]);
            if answer.status == 200 {
                return None;
            }
            refused(&answer);
            Some(pdus)
        });
        disk.empty();
        until("it is taken in", || {
            let answer = peer.send(&server, &cut_off, &[]);
            (answer.status == 200).then_some(())
        });
    }
    let everything_is_there_once = || {
        let bodies = alice.messages_by_text(&room);
        assert_eq!(bodies.len(), sent.len(), "nothing else is there");
        for (text, id) in &sent {
            assert_eq!(bodies.get(text), Some(&vec![id.clone()]), "{text}");
        }
    };
    everything_is_there_once();
    server.kill();
    let check = server.run(&["db", "check"]);
    let output = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{output}");
    server.start_again();
    everything_is_there_once();
}

#[test]
fn a_server_whose_disk_is_full_says_so_at_its_start() {
    let disk = SmallDisk::new();
    let mut options = ServerOptions::new(disk.wrap(Path::new(env!("CARGO_BIN_EXE_meyrin"))));
    options.data_dir = Some(disk.mount().join("data"));
    let mut server = Server::start(options);
    let alice = server.register("alice");
    server.kill();
    disk.fill();
    let start = server.run(&["serve"]);
    assert!(!start.status.success());
    let log = String::from_utf8_lossy(&start.stderr);
    assert!(log.contains("disk") && log.contains("full"), "{log}");
    disk.empty();
    server.start_again();
    let me: Value = alice.get("/v3/account/whoami").ok();
    assert_eq!(me["user_id"], alice.id);
}
