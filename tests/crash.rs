//! What was acknowledged survives `kill -9`, and nothing happens twice.
//!
//! Writers send messages, state and account data without a pause; the server is killed at random
//! moments, its database is checked, and it is started again. A writer whose request was cut off
//! does not know whether it took effect: it makes the same request, with the same transaction id,
//! until it is acknowledged. In the end every acknowledged event is in its room, once, under the id
//! that was acknowledged.
//!
//! What a request leaves to a job is done by the next process, once. The same holds for other servers: what they
//! sent and was answered is there, what they send again comes in once, what was to be sent to them is sent, and joining
//! a room of theirs that was cut off can be tried again.
//!
//! `MEYRIN_CRASH_KILLS` is how many times the server is killed (20 if it is not set), and
//! `MEYRIN_CRASH_SEED` repeats the sequence of a run, as far as the system's scheduling allows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use event::RoomVersion;
use serde_json::{Value, json};
use testkit::{Peer, PeerRoom, Server, ServerOptions, User, encode, until};

const WRITERS: usize = 6;

/// The most acknowledgements from one kill to the next; how many it is, is random.
const MOST_BETWEEN_KILLS: u64 = 150;

/// Rooms in which one user is, and how often the server is killed while they hear of a change.
const ROOMS_OF_ONE: u64 = 40;
const KILLS_OF_JOBS: u64 = 5;

/// Events of a transaction, and the most transactions from one kill to the next.
const PDUS: u64 = 10;
const MOST_TRANSACTIONS: u64 = 25;

/// Kills during the transactions of a peer, and during a join.
const KILLS_BESIDE_A_PEER: u64 = 6;

/// Entries of the state of a room that is joined while the server is killed.
const ENTRIES: u64 = 400;

/// What the writers have in common.
struct Load {
    stop: AtomicBool,
    acknowledged: AtomicU64,
}

/// What a writer knows to have happened: event id by message, and its last account data.
#[derive(Default)]
struct Acknowledged {
    messages: Vec<(String, String)>,
    setting: u64,
    topics: u64,
}

#[test]
fn every_acknowledged_event_is_there_once_after_any_kill() {
    let kills = number_from("MEYRIN_CRASH_KILLS").unwrap_or(20);
    let mut random = Random::new();
    let mut options = ServerOptions::new(env!("CARGO_BIN_EXE_meyrin"));
    options.sync = "always".to_owned();
    let mut server = Server::start(options);

    let users: Vec<User> = (0..WRITERS).map(|_| server.register("writer")).collect();
    let shared = users[0].create_public_room();
    let own: Vec<String> = users.iter().map(User::create_public_room).collect();
    for user in &users[1..] {
        user.join(&shared);
    }

    let load = Load {
        stop: AtomicBool::new(false),
        acknowledged: AtomicU64::new(0),
    };
    let known: Vec<Acknowledged> = std::thread::scope(|scope| {
        let writers: Vec<_> = users
            .iter()
            .zip(&own)
            .map(|(user, own)| scope.spawn(|| write(user, [shared.as_str(), own.as_str()], &load)))
            .collect();
        for kill in 0..kills {
            let target =
                load.acknowledged.load(Ordering::Relaxed) + random.below(MOST_BETWEEN_KILLS);
            until("the writers are heard", || {
                (load.acknowledged.load(Ordering::Relaxed) > target).then_some(())
            });
            server.kill();
            assert_clean(&server, kill);
            server.start_again();
        }
        load.stop.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"))
            .collect()
    });

    let mut bodies = users[0].messages_by_text(&shared);
    for (user, room) in users.iter().zip(&own) {
        bodies.extend(user.messages_by_text(room));
    }
    let mut sent = 0;
    for (user, known) in users.iter().zip(&known) {
        for (body, id) in &known.messages {
            assert_eq!(bodies.get(body), Some(&vec![id.clone()]), "{body}");
        }
        sent += known.messages.len();
        let setting = user.get(&setting_path(user)).ok();
        assert_eq!(setting["n"], known.setting);
    }
    assert_eq!(bodies.len(), sent, "nothing but what was sent is there");
    for ((user, room), known) in users.iter().zip(&own).zip(&known) {
        assert_eq!(
            user.state(room, "m.room.topic", "").ok()["topic"],
            known.topics.to_string()
        );
    }
    server.kill();
    assert_clean(&server, kills);
    println!("{kills} kills, {sent} acknowledged messages, each there once");
}

#[test]
fn a_changed_name_reaches_every_room_once_whenever_the_server_is_killed() {
    let mut random = Random::new();
    let mut options = ServerOptions::new(env!("CARGO_BIN_EXE_meyrin"));
    options.sync = "always".to_owned();
    let mut server = Server::start(options);
    let alice = server.register("alice");
    let rooms: Vec<String> = (0..ROOMS_OF_ONE)
        .map(|_| alice.create_public_room())
        .collect();
    let shows = |room: &String, name: &str| {
        let path = format!(
            "/v3/rooms/{}/state/m.room.member/{}",
            encode(room),
            encode(&alice.id)
        );
        let answer = alice.try_exchange("GET", &path, &[], Vec::new()).ok()?;
        (answer.status == 200 && answer.value()["displayname"] == name).then_some(())
    };

    let mut names = Vec::new();
    for kill in 0..KILLS_OF_JOBS {
        let name = format!("Alice {kill}");
        let watched = &rooms[random.below(ROOMS_OF_ONE) as usize];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let client = alice.with_own_connections();
                let path = format!("/v3/profile/{}/displayname", encode(&alice.id));
                let body = json!({"displayname": &name}).to_string().into_bytes();
                let headers = [("Content-Type", "application/json")];
                // It is cut off by the kill, or not.
                let _ = client.try_exchange("PUT", &path, &headers, body);
            });
            until("a room shows the name", || shows(watched, &name));
            server.kill();
        });
        assert_clean(&server, kill);
        server.start_again();
        for room in &rooms {
            until("every room shows the name", || shows(room, &name));
        }
        names.push(name);
    }

    for room in &rooms {
        let filter = encode(r#"{"types":["m.room.member"]}"#);
        let path = format!(
            "/v3/rooms/{}/messages?dir=b&limit=100&filter={filter}",
            encode(room)
        );
        let page = alice.get(&path).ok();
        let events = page["chunk"].as_array().expect("events");
        for name in &names {
            let told = events
                .iter()
                .filter(|event| event["content"]["displayname"] == **name);
            assert_eq!(told.count(), 1, "{name} in {room}");
        }
    }
    let list = server.run(&["job", "list"]);
    assert!(
        list.status.success() && list.stdout.is_empty(),
        "no job is left"
    );
}

fn federated() -> Server {
    let mut options = ServerOptions::new(env!("CARGO_BIN_EXE_meyrin"));
    options.sync = "always".to_owned();
    Server::start(options.federated())
}

#[test]
fn a_transaction_that_was_answered_survives_any_kill_and_one_that_is_repeated_comes_in_once() {
    let mut random = Random::new();
    let mut server = federated();
    let alice = server.register("alice");
    let room = alice.create_public_room();
    let peer = Peer::start();
    let bob = peer.user("bob");
    let joined = PeerRoom::join(&peer, &server, &room, &bob);

    let load = Load {
        stop: AtomicBool::new(false),
        acknowledged: AtomicU64::new(0),
    };
    let (client, name) = (
        server.client().with_own_connections(),
        server.name().to_owned(),
    );
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = Vec::new();
            while !load.stop.load(Ordering::Relaxed) {
                let first = sent.len() as u64;
                let texts = (first..first + PDUS).map(|n| format!("of the peer {n}"));
                let pdus: Vec<(String, Value)> = texts
                    .map(|text| (text.clone(), joined.say(&bob, &text)))
                    .collect();
                let events: Vec<&Value> = pdus.iter().map(|(_, pdu)| pdu).collect();
                let path = format!("/_matrix/federation/v1/send/{first}");
                let body = json!({"origin": peer.name(), "origin_server_ts": 1, "pdus": events});
                let authorization = peer.authorization(&name, "PUT", &path, Some(&body));
                let headers = [
                    ("Authorization", authorization.as_str()),
                    ("Content-Type", "application/json"),
                ];
                let answer = until("a transaction is answered", || {
                    let body = body.to_string().into_bytes();
                    let answer = client.try_exchange("PUT", &path, &headers, body).ok()?;
                    (answer.status == 200).then(|| answer.value())
                });
                for (text, pdu) in pdus {
                    let id = joined.event_id(&pdu);
                    assert_eq!(answer["pdus"][&id], json!({}), "{answer}");
                    sent.push((text, id));
                }
                load.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            sent
        });
        for kill in 0..KILLS_BESIDE_A_PEER {
            let target =
                load.acknowledged.load(Ordering::Relaxed) + random.below(MOST_TRANSACTIONS);
            until("the peer is heard", || {
                (load.acknowledged.load(Ordering::Relaxed) > target).then_some(())
            });
            server.kill();
            assert_clean(&server, kill);
            server.start_again();
        }
        load.stop.store(true, Ordering::Relaxed);
        sender.join().expect("a sender")
    });
    let bodies = alice.messages_by_text(&room);
    assert_eq!(
        bodies.len(),
        sent.len(),
        "nothing but what was sent is there"
    );
    for (text, id) in sent {
        assert_eq!(bodies.get(&text), Some(&vec![id]), "{text}");
    }
}

#[test]
fn a_join_that_came_in_by_this_server_is_told_to_the_others_after_a_kill() {
    let mut server = federated();
    let alice = server.register("alice");
    let room = alice.create_public_room();
    let mut there = Peer::start();
    PeerRoom::join(&there, &server, &room, &there.user("bob"));
    there.go_away();
    let newcomer = Peer::start();
    let carol = newcomer.user("carol");
    PeerRoom::join(&newcomer, &server, &room, &carol);
    server.kill();
    there.come_back();
    server.start_again();
    there.pdu("carol's join", |pdu| {
        pdu["type"] == "m.room.member" && pdu["state_key"] == *carol
    });
}

#[test]
fn joining_a_room_elsewhere_is_tried_again_after_a_kill_at_any_time() {
    let mut random = Random::new();
    let mut server = federated();
    let alice = server.register("alice");
    let peer = Peer::start();
    let host = peer.user("host");
    let room = PeerRoom::create(&peer, RoomVersion::V11, &host);
    for n in 0..ENTRIES {
        let key = n.to_string();
        room.event(&host, "org.example.entry", Some(&key), json!({"n": n}));
    }
    let join = format!(
        "/v3/join/{}?server_name={}",
        encode(&room.id()),
        encode(peer.name())
    );
    let entering = "/_matrix/federation/v2/send_join/";
    for kill in 0..KILLS_BESIDE_A_PEER {
        let asked = peer.requests(entering).len();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let client = alice.with_own_connections();
                let headers = [("Content-Type", "application/json")];
                // It is cut off by the kill, or not.
                let _ = client.try_exchange("POST", &join, &headers, b"{}".to_vec());
            });
            until("the peer is asked", || {
                (peer.requests(entering).len() > asked || is_in(&alice, &room)).then_some(())
            });
            for _ in 0..random.below(60) {
                server.client().get("/_matrix/client/versions").ok();
            }
            server.kill();
        });
        assert_clean(&server, kill);
        server.start_again();
    }
    alice.post(&join, json!({})).ok();
    for n in [0, ENTRIES / 2, ENTRIES - 1] {
        let entry = alice.state(&room.id(), "org.example.entry", &n.to_string());
        assert_eq!(entry.ok()["n"], n);
    }
    let id = alice.say(&room.id(), "I am in");
    peer.pdu("the message", |pdu| {
        pdu["type"] == "m.room.message" && room.event_id(pdu) == id
    });
    server.kill();
    assert_clean(&server, KILLS_BESIDE_A_PEER);
}

fn is_in(user: &User, room: &PeerRoom) -> bool {
    let answer = user.try_exchange("GET", "/v3/joined_rooms", &[], Vec::new());
    let Ok(answer) = answer else { return false };
    let rooms = answer.value()["joined_rooms"].clone();
    rooms
        .as_array()
        .is_some_and(|rooms| rooms.contains(&json!(room.id())))
}

/// Writes until it is told to stop. Every tenth round also sets state and account data.
fn write(user: &User, rooms: [&str; 2], load: &Load) -> Acknowledged {
    let client = user.with_own_connections();
    let acknowledged = |path: &str, body: &Value| -> Value {
        until("a request is acknowledged", || {
            let headers = [("Content-Type", "application/json")];
            let body = body.to_string().into_bytes();
            let answer = client.try_exchange("PUT", path, &headers, body).ok()?;
            assert_eq!(answer.status, 200, "{answer}");
            load.acknowledged.fetch_add(1, Ordering::Relaxed);
            Some(answer.value())
        })
    };
    let mut known = Acknowledged::default();
    let mut round = 0_u64;
    while !load.stop.load(Ordering::Relaxed) || round == 0 {
        let room = rooms[usize::from(round.is_multiple_of(3))];
        let body = format!("{} {round}", user.id);
        let path = format!("/v3/rooms/{}/send/m.room.message/{round}", encode(room));
        let answer = acknowledged(&path, &json!({"msgtype": "m.text", "body": body}));
        let id = answer["event_id"].as_str().expect("an event id");
        known.messages.push((body, id.to_owned()));
        if round.is_multiple_of(10) {
            acknowledged(&setting_path(user), &json!({"n": round}));
            known.setting = round;
            let path = format!("/v3/rooms/{}/state/m.room.topic/", encode(rooms[1]));
            acknowledged(&path, &json!({"topic": round.to_string()}));
            known.topics = round;
        }
        round += 1;
    }
    known
}

fn setting_path(user: &User) -> String {
    format!(
        "/v3/user/{}/account_data/org.example.round",
        encode(&user.id)
    )
}

#[track_caller]
fn assert_clean(server: &Server, kill: u64) {
    let check = server.run(&["db", "check"]);
    assert!(
        check.status.success(),
        "the database is not clean after kill {kill}:\n{}{}",
        String::from_utf8_lossy(&check.stdout),
        String::from_utf8_lossy(&check.stderr)
    );
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number, not {text}")),
    )
}

/// A small generator of the xorshift family; what it is good for is being repeatable.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = number_from("MEYRIN_CRASH_SEED").unwrap_or_else(|| {
            let time = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            u64::from(time.subsec_nanos())
        });
        println!("MEYRIN_CRASH_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
