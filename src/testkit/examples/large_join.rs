//! Measures joining a large room over federation.
//!
//!     cargo run --release -p testkit --example large_join -- target/release/meyrin [members] [state events]
//!
//! A peer hosts a synthetic room, signed by the keys of five servers: joined members, then as many other events that
//! the state has one by one as are asked for in all: a third of them members who have left (whose joins are in the auth chain),
//! the rest entries of a type of their own. A fresh server joins it that is given all of the state, and then another one that
//! is given it without the members, and learns them afterwards. Told are the time until the join is answered, until the
//! first message is sent, until a first `/sync` with lazy members shows the room, and until all members are listed; the
//! server's CPU time and the most memory it ever had.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use event::{EventDraft, Pdu, RoomVersion, SigningKey};
use serde_json::{Value, json};
use testkit::{Peer, PeerAnswer, Server, ServerOptions, User, encode};

/// Servers whose users are in the room.
const SERVERS: usize = 5;
const VERSION: RoomVersion = RoomVersion::V11;
/// 2026-01-01, in milliseconds.
const BEGIN_MS: i64 = 1_767_225_600_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().expect("the path of the server's binary");
    let mut number = |otherwise| match arguments.next() {
        Some(text) => text.parse().expect("a number"),
        None => otherwise,
    };
    let (members, entries) = (number(50_000), number(100_000));
    let peers: Vec<Peer> = (0..SERVERS).map(|_| Peer::start()).collect();
    let begun = Instant::now();
    let room = Room::with(&peers, members, entries);
    println!(
        "made a room of {} state events and {} more of their auth chain in {:.1?}",
        room.state.len(),
        room.auth_chain.len(),
        begun.elapsed()
    );
    let id = room.id.clone();
    room.host(&peers[0]);
    for (way, with_members) in [("with its members", true), ("without its members", false)] {
        println!("\njoining the room {way}");
        let mut options = ServerOptions {
            sync: "always".to_owned(),
            ..ServerOptions::new(&binary)
        };
        options.federation = format!("faster_joins = {}\n", !with_members);
        measure(options, &id, peers[0].name(), members);
    }
    for peer in &peers {
        let requests = peer.requests("/").len();
        println!("requests to {}: {requests}", peer.name());
    }
}

/// A fresh server joins the room.
fn measure(options: ServerOptions, id: &str, via: &str, members: usize) {
    let server = Server::start(options.federated());
    let alice = server.register("alice");
    report("before", &server);
    let begun = Instant::now();
    join(&alice, id, via);
    println!("joined after {:.2?}", begun.elapsed());
    report("joined", &server);
    let message = json!({"msgtype": "m.text", "body": "Here I am"});
    let path = format!("/v3/rooms/{}/send/m.room.message/1", encode(id));
    alice.put(&path, message).ok();
    println!("sent a message after {:.2?}", begun.elapsed());
    let filter = json!({"room": {"state": {"lazy_load_members": true}, "timeline": {"limit": 20}}});
    let sync = format!("/v3/sync?filter={}", encode(&filter.to_string()));
    let shown = alice.get(&sync).ok();
    let timeline = &shown["rooms"]["join"][id]["timeline"]["events"];
    assert!(timeline.as_array().is_some_and(|events| !events.is_empty()));
    println!("shown by /sync after {:.2?}", begun.elapsed());
    let members_path = format!("/v3/rooms/{}/joined_members", encode(id));
    let joined = alice.get(&members_path).ok();
    let count = joined["joined"].as_object().map_or(0, |users| users.len());
    assert_eq!(count, members + 2, "everybody is there");
    println!("all members listed after {:.2?}", begun.elapsed());
    report("used", &server);
}

fn join(user: &User, room: &str, via: &str) {
    let path = format!("/v3/join/{}?server_name={}", encode(room), encode(via));
    user.post(&path, json!({})).ok();
}

/// The memory and CPU time of the server's process.
fn report(when: &str, server: &Server) {
    let process = server.process_id().expect("the server runs");
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let memory = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) / 1024
    };
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .into_iter()
        .flat_map(|rest| rest.split_whitespace().skip(11).take(2))
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    println!(
        "{when}: resident {} MiB, at most {} MiB; CPU time {:.2} s",
        memory("VmRSS:"),
        memory("VmHWM:"),
        ticks as f64 / 100.0
    );
}

/// A room that is only its state.
struct Room {
    id: String,
    state: Vec<Pdu>,
    auth_chain: Vec<Pdu>,
    /// The ids of the create event, the power levels and the join rules.
    basis: Vec<String>,
    last: String,
    depth: u64,
}

impl Room {
    fn with(peers: &[Peer], members: usize, entries: usize) -> Self {
        let founder = peers[0].user("founder");
        let key = peers[0].key();
        let mut room = Self {
            id: format!("!large:{}", peers[0].name()),
            state: Vec::with_capacity(entries),
            auth_chain: Vec::new(),
            basis: Vec::new(),
            last: String::new(),
            depth: 0,
        };
        let version = json!({"room_version": VERSION.as_str()});
        let create = room.state(key, &founder, "m.room.create", "", version, &[]);
        room.basis = vec![create];
        let join = json!({"membership": "join"});
        let member = room.state(key, &founder, "m.room.member", &founder, join.clone(), &[]);
        let with = [member.clone()];
        let levels = json!({"users": {&founder: 100}});
        let levels = room.state(key, &founder, "m.room.power_levels", "", levels, &with);
        room.basis.push(levels);
        let public = json!({"join_rule": "public"});
        let rules = room.state(key, &founder, "m.room.join_rules", "", public, &with);
        let shared = json!({"history_visibility": "shared"});
        room.state(
            key,
            &founder,
            "m.room.history_visibility",
            "",
            shared,
            &with,
        );
        let of_founder = member;
        for n in 0..members {
            let peer = &peers[n % peers.len()];
            let user = peer.user(&format!("member{n}"));
            let content =
                json!({"membership": "join", "displayname": format!("Member {n} of the room")});
            room.state(
                peer.key(),
                &user,
                "m.room.member",
                &user,
                content,
                std::slice::from_ref(&rules),
            );
        }
        let others = entries.saturating_sub(room.state.len());
        for n in 0..others {
            if n % 3 > 0 {
                let content = json!({"about": format!("entry {n} of this room")});
                let key_of = format!("entry {n}");
                let with = [of_founder.clone()];
                room.state(key, &founder, "org.example.entry", &key_of, content, &with);
                continue;
            }
            let peer = &peers[n % peers.len()];
            let user = peer.user(&format!("former{n}"));
            let with = [rules.clone()];
            let joined = room.state(
                peer.key(),
                &user,
                "m.room.member",
                &user,
                join.clone(),
                &with,
            );
            room.auth_chain.extend(room.state.pop());
            let left = json!({"membership": "leave"});
            room.state(peer.key(), &user, "m.room.member", &user, left, &[joined]);
        }
        room
    }

    /// Makes a state event after the last one; its id.
    fn state(
        &mut self,
        key: &SigningKey,
        sender: &str,
        event_type: &str,
        state_key: &str,
        content: Value,
        auth_events: &[String],
    ) -> String {
        let content = content.to_string();
        let basis = self.basis.iter().chain(auth_events);
        let auth_events: Vec<&str> = basis.map(String::as_str).collect();
        let prev_events: Vec<&str> = [self.last.as_str()]
            .into_iter()
            .filter(|id| !id.is_empty())
            .collect();
        self.depth += 1;
        let draft = EventDraft {
            room_id: Some(&self.id),
            sender,
            event_type,
            state_key: Some(state_key),
            content: &content,
            redacts: None,
            origin_server_ts: BEGIN_MS + self.depth as i64,
            prev_events: &prev_events,
            auth_events: &auth_events,
            depth: self.depth,
            first_format: None,
        };
        let pdu = draft.seal(VERSION.rules(), key).expect("an event");
        self.last = pdu.event_id().to_string();
        self.state.push(pdu);
        self.last.clone()
    }

    /// Lets others join at the peer.
    fn host(self, peer: &Peer) {
        let (id, last, basis, depth) = (
            self.id.clone(),
            self.last.clone(),
            self.basis.clone(),
            self.depth,
        );
        let rules = self.state[3].event_id().to_string();
        peer.on("GET", "/_matrix/federation/v1/make_join/", move |request| {
            let user = request.segment(5);
            let mut auth_events = basis.clone();
            auth_events.push(rules.clone());
            PeerAnswer::ok(json!({"room_version": VERSION.as_str(), "event": {
                "room_id": id, "sender": user, "state_key": user, "type": "m.room.member",
                "content": {"membership": "join"}, "depth": depth + 1,
                "prev_events": [last], "auth_events": auth_events,
            }}))
        });
        let is_member = |pdu: &&Pdu| pdu.event_type() == "m.room.member";
        let founders = &self.state[..4];
        // All but the members, and of these the founder.
        let mut few: Vec<&Pdu> = self.state.iter().filter(|pdu| !is_member(pdu)).collect();
        few.push(&self.state[1]);
        let all: Vec<&Pdu> = self.state.iter().collect();
        let chain: Vec<&Pdu> = self.auth_chain.iter().chain(founders).collect();
        let few_chain: Vec<&Pdu> = founders.iter().collect();
        let entry = |omitted: bool, chain: &[&Pdu], state: &[&Pdu]| {
            let body = format!(
                r#"{{"members_omitted":{omitted},"servers_in_room":["{name}"],"origin":"{name}","auth_chain":[{}],"state":[{}]}}"#,
                texts(chain),
                texts(state),
                name = peer.name(),
            );
            println!("an answer to send_join has {} MiB", body.len() >> 20);
            Arc::<[u8]>::from(body.into_bytes())
        };
        let (whole, without) = (entry(false, &chain, &all), entry(true, &few_chain, &few));
        peer.on("PUT", "/_matrix/federation/v2/send_join/", move |request| {
            let omits = request
                .query("omit_members")
                .iter()
                .any(|asked| asked == "true");
            answer(if omits { &without } else { &whole })
        });
        let state = format!(
            r#"{{"pdus":[{}],"auth_chain":[{}]}}"#,
            texts(&all),
            texts(&chain)
        );
        let state: Arc<[u8]> = Arc::from(state.into_bytes());
        peer.on("GET", "/_matrix/federation/v1/state/", move |_| {
            answer(&state)
        });
        let ids = |events: &[&Pdu]| -> Vec<String> {
            events
                .iter()
                .map(|pdu| pdu.event_id().to_string())
                .collect()
        };
        let ids = json!({"pdu_ids": ids(&all), "auth_chain_ids": ids(&chain)}).to_string();
        let ids: Arc<[u8]> = Arc::from(ids.into_bytes());
        peer.on("GET", "/_matrix/federation/v1/state_ids/", move |_| {
            answer(&ids)
        });
    }
}

fn texts(events: &[&Pdu]) -> String {
    let texts: Vec<&str> = events.iter().map(|pdu| pdu.json()).collect();
    texts.join(",")
}

fn answer(body: &Arc<[u8]>) -> PeerAnswer {
    PeerAnswer {
        status: 200,
        content_type: "application/json".to_owned(),
        body: body.to_vec(),
    }
}
