//! Measures what other servers that behave badly do to those who send messages here.
//!
//!     cargo run --release -p testkit --example bad_peers -- target/release/meyrin [seconds]
//!
//! In each case a fresh server has a room with 16 of its users and one other server. One user, then all 16, send messages in a
//! closed loop for so many seconds, while the other server does what the case is called; in the last case, until it
//! has sent everything. Told are the rate, the median and the 99th percentile of the time until a message is acknowledged, and
//! the latter beside the quiet case. A third argument is the name of a case, which is then the only one beside the quiet one.
//!
//! A real peer computes on a machine of its own. Here what it sends is made and signed before the clock starts, and the threads
//! that send it run only while nothing else wants to (`chrt --idle`): they take no core from the server or from its users, but all that
//! is left. That the server is flooded all the same is seen by the number of requests that it answers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use event::{EventDraft, RoomVersion};
use serde_json::{Value, json};
use testkit::{Peer, PeerAnswer, PeerRoom, Server, ServerOptions, User, encode};

const SENDERS: usize = 16;
/// Connections of a server that floods.
const FLOODERS: usize = 8;
/// Transactions that are made beforehand for each connection, and sent again and again; and their events.
const MADE: usize = 150;
const PDUS: usize = 50;
/// All transactions of the last case, and their events.
const TRANSACTIONS: usize = 10_000;
const FEW_PDUS: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    /// It answers as it should.
    Quiet,
    /// Its port is closed.
    Dead,
    /// It takes connections and says nothing.
    Silent,
    /// What it says is no TLS.
    GarbageBytes,
    /// What it answers is no JSON, and what it sends is no transaction.
    GarbageJson,
    /// It sends transactions of 50 events, into another room.
    Flood,
    /// It sends them into the room in which the others write.
    FloodHere,
    /// It sends 10,000 transactions of 10 events there, each until it is taken in.
    TenThousand,
}

const CASES: [Case; 8] = [
    Case::Quiet,
    Case::Dead,
    Case::Silent,
    Case::GarbageBytes,
    Case::GarbageJson,
    Case::Flood,
    Case::FloodHere,
    Case::TenThousand,
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().expect("the path of the server's binary");
    let seconds = arguments
        .next()
        .map_or(5, |text| text.parse().expect("a number"));
    let only = arguments.next();
    let mut quiet = [0.0; 2];
    for case in CASES {
        let is_wanted = |only: &String| case == Case::Quiet || *only == format!("{case:?}");
        if !only.as_ref().is_none_or(is_wanted) {
            continue;
        }
        for (senders, quiet) in [1, SENDERS].into_iter().zip(&mut quiet) {
            let scene = Scene::start(case, &binary);
            measure(&scene, case, senders, Duration::from_secs(seconds), quiet);
            scene.end();
        }
    }
}

/// `quiet` is the 99th percentile in the quiet case.
fn measure(scene: &Scene, case: Case, senders: usize, time: Duration, quiet: &mut f64) {
    let taken_before = scene.taken.load(Ordering::SeqCst);
    let begun = Instant::now();
    let is_over = || match case {
        Case::TenThousand => scene.flooding.load(Ordering::SeqCst) == 0,
        _ => begun.elapsed() >= time,
    };
    let mut times = scene.send(senders, is_over);
    let seconds = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let p99 = ms(times[times.len() * 99 / 100]);
    if case == Case::Quiet {
        *quiet = p99;
    }
    println!(
        "{case:?}, {senders} senders: {:.0}/s, p50 {:.2} ms, p99 {p99:.2} ms ({:.1} x quiet), longest {:.1} ms; {:.0} requests of the peer answered a second",
        times.len() as f64 / seconds,
        ms(times[times.len() / 2]),
        p99 / *quiet,
        ms(times[times.len() - 1]),
        (scene.taken.load(Ordering::SeqCst) - taken_before) as f64 / seconds,
    );
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

struct Scene {
    server: Server,
    users: Vec<User>,
    room: String,
    ended: Arc<AtomicBool>,
    /// Requests of the bad server that were answered.
    taken: Arc<AtomicU64>,
    /// Connections over which it has something to send.
    flooding: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
    _peer: Peer,
}

impl Scene {
    fn start(case: Case, binary: &str) -> Self {
        let free = "per_second = 1e6\nburst = 1000000\n";
        let options = ServerOptions {
            sync: "always".to_owned(),
            limits: true,
            more: format!(
                "[limits.message]\n{free}[limits.request]\n{free}[limits.registration]\n{free}[limits.join]\n{free}"
            ),
            ..ServerOptions::new(binary)
        };
        let server = Server::start(options.federated());
        let users: Vec<User> = (0..SENDERS).map(|_| server.register("sender")).collect();
        let room = users[0].create_public_room();
        for user in &users[1..] {
            user.join(&room);
        }
        let mut peer = Peer::start();
        let bob = peer.user("bob");
        let joined = PeerRoom::join(&peer, &server, &room, &bob);
        let mut scene = Self {
            server,
            users,
            room,
            ended: Arc::default(),
            taken: Arc::default(),
            flooding: Arc::default(),
            threads: Vec::new(),
            _peer: Peer::start(),
        };
        match case {
            Case::Quiet => {}
            Case::Dead => peer.go_away(),
            Case::Silent => {
                peer.go_away();
                let listener = TcpListener::bind(peer.name()).expect("its port");
                thread::spawn(move || {
                    let open: Vec<_> = listener.incoming().collect();
                    drop(open);
                });
            }
            Case::GarbageBytes => {
                peer.go_away();
                let listener = TcpListener::bind(peer.name()).expect("its port");
                thread::spawn(move || {
                    for mut stream in listener.incoming().flatten() {
                        let _ = stream.read(&mut [0; 512]);
                        let _ = stream.write_all(&[b'~'; 4096]);
                    }
                });
            }
            Case::GarbageJson => {
                peer.on("PUT", "/_matrix/federation/v1/send/", |_| PeerAnswer {
                    status: 200,
                    content_type: "application/json".to_owned(),
                    body: br#"{"pdus":[[[[]]},{"#.to_vec(),
                });
                scene.send_garbage(&peer);
            }
            Case::Flood => {
                let other = scene.users[0].create_public_room();
                let joined = PeerRoom::join(&peer, &scene.server, &other, &bob);
                scene.flood(&peer, &joined, &bob, Flood::WITHOUT_END);
            }
            Case::FloodHere => scene.flood(&peer, &joined, &bob, Flood::WITHOUT_END),
            Case::TenThousand => scene.flood(&peer, &joined, &bob, Flood::TO_THE_END),
        }
        scene._peer = peer;
        scene
    }

    fn end(self) {
        self.ended.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("the bad server has not panicked");
        }
    }

    /// The times of all messages that were sent.
    fn send(&self, senders: usize, is_over: impl Fn() -> bool + Sync) -> Vec<Duration> {
        let room = encode(&self.room);
        let send = |(n, user): (usize, &User)| {
            let mut times = Vec::new();
            while !is_over() {
                let path = format!(
                    "/v3/rooms/{room}/send/m.room.message/{senders}.{n}.{}",
                    times.len()
                );
                let message =
                    json!({"msgtype": "m.text", "body": "Nobody should have to wait for this"});
                let begun = Instant::now();
                user.put(&path, message).ok();
                times.push(begun.elapsed());
            }
            times
        };
        thread::scope(|scope| {
            let users = self.users[..senders].iter().enumerate();
            let threads = users.map(|user| scope.spawn(move || send(user)));
            let threads: Vec<_> = threads.collect();
            let times = threads.into_iter().map(|thread| thread.join());
            times
                .flat_map(|times| times.expect("messages are sent"))
                .collect()
        })
    }

    /// Sends requests in a thread, each as soon as the one before is answered: over and over, or to their end, each until it is
    /// taken in.
    fn keep_sending(&mut self, requests: Vec<(String, String, Vec<u8>)>, has_end: bool) {
        let client = self.server.client().with_own_connections();
        let (ended, taken) = (Arc::clone(&self.ended), Arc::clone(&self.taken));
        let flooding = Arc::clone(&self.flooding);
        flooding.fetch_add(1, Ordering::SeqCst);
        let rounds = if has_end { 1 } else { usize::MAX };
        self.threads.push(thread::spawn(move || {
            stand_back();
            'all: for _ in 0..rounds {
                for (path, authorization, body) in &requests {
                    let headers = [
                        ("Authorization", authorization.as_str()),
                        ("Content-Type", "application/json"),
                    ];
                    loop {
                        if ended.load(Ordering::SeqCst) {
                            break 'all;
                        }
                        let answer = client.try_exchange("PUT", path, &headers, body.clone());
                        let is_taken = answer.is_ok_and(|answer| answer.status == 200);
                        taken.fetch_add(u64::from(is_taken), Ordering::SeqCst);
                        if is_taken || !has_end {
                            break;
                        }
                    }
                }
            }
            flooding.fetch_sub(1, Ordering::SeqCst);
        }));
    }

    fn request(&self, peer: &Peer, name: &str, pdus: &[Value]) -> (String, String, Vec<u8>) {
        let path = format!("/_matrix/federation/v1/send/{name}");
        let body = json!({"origin": peer.name(), "origin_server_ts": 1, "pdus": pdus, "edus": []});
        let authorization = peer.authorization(self.server.name(), "PUT", &path, Some(&body));
        (path, authorization, body.to_string().into_bytes())
    }

    fn send_garbage(&mut self, peer: &Peer) {
        let room = self.room.clone();
        let junk = vec![
            json!(1),
            json!({"room_id": room, "type": [], "depth": "deep"}),
            json!({"room_id": room, "type": "m.room.message", "sender": peer.user("bob"), "content": {}, "depth": 1,
                "origin_server_ts": 1, "prev_events": [], "auth_events": [], "hashes": {}, "signatures": {}}),
        ];
        let mut requests = Vec::new();
        for n in 0..100 {
            let good = self.request(peer, &format!("junk{n}"), &junk);
            requests.push((good.0.clone(), good.1.clone(), b"{\"pdus\":[[[".to_vec()));
            requests.push((
                good.0.clone(),
                "X-Matrix nonsense".to_owned(),
                good.2.clone(),
            ));
            requests.push(good);
        }
        for _ in 0..2 {
            self.keep_sending(requests.clone(), false);
        }
    }

    fn flood(&mut self, peer: &Peer, joined: &PeerRoom, sender: &str, flood: Flood) {
        // All is made before the first is sent: what is measured is not to find the flood half over.
        let mut made = Vec::new();
        for flooder in 0..FLOODERS {
            let count = flood.transactions * flood.pdus;
            let mut events = chain(peer, joined, sender, flooder, count).into_iter();
            let mut requests = Vec::new();
            for n in 0..flood.transactions {
                let pdus: Vec<Value> = events.by_ref().take(flood.pdus).collect();
                requests.push(self.request(peer, &format!("flood{flooder}.{n}"), &pdus));
            }
            made.push(requests);
        }
        for requests in made {
            self.keep_sending(requests, flood.has_end);
        }
    }
}

/// The thread that calls this runs from now on only while nothing else wants to, where the system can do that.
fn stand_back() {
    let Ok(thread) = std::fs::read_link("/proc/thread-self") else {
        return;
    };
    let id = thread.file_name().expect("it ends in the thread's id");
    let chrt = Command::new("chrt")
        .args(["--idle", "--pid", "0"])
        .arg(id)
        .status();
    if !chrt.is_ok_and(|status| status.success()) {
        eprintln!("without chrt the bad server takes cores from the one that is measured");
    }
}

/// What is sent over each connection.
#[derive(Clone, Copy)]
struct Flood {
    transactions: usize,
    pdus: usize,
    has_end: bool,
}

impl Flood {
    const WITHOUT_END: Self = Self {
        transactions: MADE,
        pdus: PDUS,
        has_end: false,
    };
    const TO_THE_END: Self = Self {
        transactions: TRANSACTIONS / FLOODERS,
        pdus: FEW_PDUS,
        has_end: true,
    };
}

/// Messages, each after the one before.
fn chain(peer: &Peer, joined: &PeerRoom, sender: &str, of: usize, count: usize) -> Vec<Value> {
    let first = joined.draft(
        sender,
        "m.room.message",
        None,
        json!({"body": "", "msgtype": "m.text"}),
    );
    let version: RoomVersion = joined.version();
    let ids = |key: &str| -> Vec<String> {
        let ids = first[key].as_array().into_iter().flatten();
        ids.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (auth_events, mut prev_events) = (ids("auth_events"), ids("prev_events"));
    let auth_events: Vec<&str> = auth_events.iter().map(String::as_str).collect();
    let depth = first["depth"].as_u64().unwrap_or(1);
    let room = joined.id();
    let mut events = Vec::with_capacity(count);
    for n in 0..count {
        let content = json!({"msgtype": "m.text", "body": format!("flood {of}.{n}")}).to_string();
        let prev: Vec<&str> = prev_events.iter().map(String::as_str).collect();
        let draft = EventDraft {
            room_id: Some(&room),
            sender,
            event_type: "m.room.message",
            state_key: None,
            content: &content,
            redacts: None,
            origin_server_ts: first["origin_server_ts"].as_i64().unwrap_or(1),
            prev_events: &prev,
            auth_events: &auth_events,
            depth: depth + n as u64,
            first_format: None,
        };
        let pdu = draft.seal(version.rules(), peer.key()).expect("an event");
        prev_events = vec![pdu.event_id().to_string()];
        events.push(serde_json::from_str(pdu.json()).expect("JSON"));
    }
    events
}
