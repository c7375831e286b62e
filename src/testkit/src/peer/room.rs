//! A room as a peer has it: joined on the server under test, or made by the peer and hosted for others.
//!
//! The peer believes everybody and resolves nothing: where its history forks, the state after the last of several
//! events wins. What it makes is hashed, signed and right by the rules of the room's version as long as the test
//! asks for what is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use event::auth::auth_types;
use event::{
    EventDraft, EventIdFormat, FirstFormat, Pdu, ReferenceFormat, RoomIdFormat, RoomRules,
    RoomVersion, SigningKey, add_signature, hash, hash_and_sign, identifier,
};
use serde_json::{Value, json};

use crate::client::encode;
use crate::peer::{Peer, PeerAnswer, PeerRequest, held, now_ms};
use crate::server::Server;
use crate::user::unique;

/// Event ids by type and state key.
type State = BTreeMap<(String, String), String>;

/// A room on a peer. Clones are the same room.
#[derive(Clone)]
pub struct PeerRoom(Arc<Mutex<Inner>>);

struct Inner {
    key: SigningKey,
    id: String,
    version: RoomVersion,
    events: BTreeMap<String, Pdu>,
    /// The state right before each event, and right after it.
    before: BTreeMap<String, State>,
    after: BTreeMap<String, State>,
    /// What the next event follows.
    tips: Vec<String>,
    /// The members that are given to who asks for a state without members.
    omitted_but: Option<Vec<String>>,
}

impl PeerRoom {
    /// Joins a room of `server` as a user of the peer, by `make_join` and `send_join`.
    #[track_caller]
    pub fn join(peer: &Peer, server: &Server, room: &str, user: &str) -> Self {
        let versions: Vec<String> = RoomVersion::ALL
            .iter()
            .map(|version| format!("ver={version}"))
            .collect();
        let path = format!(
            "/_matrix/federation/v1/make_join/{}/{}?{}",
            encode(room),
            encode(user),
            versions.join("&")
        );
        let template = peer.get(server, &path).ok();
        let version = template["room_version"].as_str().unwrap_or("1");
        let version: RoomVersion = version.parse().expect("a room version");
        let mut join = template["event"].clone();
        join["origin_server_ts"] = now_ms().into();
        if version.rules().event_id == EventIdFormat::Chosen {
            join["event_id"] = format!("${}:{}", unique("join"), peer.name()).into();
        }
        let join = hash_and_sign(version.rules(), &join.to_string(), peer.key());
        let join = join.expect("a template that can be signed");
        let pdu = parsed(version.rules(), &join);
        let path = format!(
            "/_matrix/federation/v2/send_join/{}/{}",
            encode(room),
            encode(pdu.event_id().as_str())
        );
        let body: Value = serde_json::from_str(&join).expect("JSON");
        let answer = peer.put(server, &path, body).ok();
        let mut inner = Inner::new(peer, room.to_owned(), version);
        let mut state = State::new();
        for part in ["auth_chain", "state"] {
            for event in answer[part].as_array().into_iter().flatten() {
                let pdu = parsed(version.rules(), &event.to_string());
                if let (true, Some(key)) = (part == "state", key_of(&pdu)) {
                    state.insert(key, pdu.event_id().to_string());
                }
                inner.events.insert(pdu.event_id().to_string(), pdu);
            }
        }
        // With a restricted join the resident server signs too.
        let joined = match answer["event"].is_object() {
            true => parsed(version.rules(), &answer["event"].to_string()),
            false => pdu,
        };
        inner.put(joined, state);
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Makes a room that anybody may join and hosts it: `make_join`, `send_join` and everything that is read of a
    /// room over federation.
    pub fn create(peer: &Peer, version: RoomVersion, creator: &str) -> Self {
        let rules = version.rules();
        let id = format!("!{}:{}", unique("room"), peer.name());
        let room = Self(Arc::new(Mutex::new(Inner::new(peer, id, version))));
        let by_hash = rules.room_id == RoomIdFormat::CreateHash;
        let content = json!({"room_version": version.as_str(), "creator": creator});
        let create = room.event(creator, "m.room.create", Some(""), content);
        if by_hash {
            let id = room.event_id(&create).replacen('$', "!", 1);
            room.held().id = id;
        }
        let join = json!({"membership": "join"});
        room.event(creator, "m.room.member", Some(creator), join);
        let levels = match by_hash {
            true => json!({}),
            false => json!({"users": {creator: 100}}),
        };
        room.event(creator, "m.room.power_levels", Some(""), levels);
        let public = json!({"join_rule": "public"});
        room.event(creator, "m.room.join_rules", Some(""), public);
        let shared = json!({"history_visibility": "shared"});
        room.event(creator, "m.room.history_visibility", Some(""), shared);
        room.host(peer);
        room
    }

    fn held(&self) -> MutexGuard<'_, Inner> {
        held(&self.0)
    }

    /// The room's id.
    pub fn id(&self) -> String {
        self.held().id.clone()
    }

    /// The room's version.
    pub fn version(&self) -> RoomVersion {
        self.held().version
    }

    /// Makes an event after everything that is there.
    pub fn event(
        &self,
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Value {
        let tips = self.held().tips.clone();
        self.event_after(&tips, sender, event_type, state_key, content)
    }

    /// Makes an event after events of the test's choice.
    pub fn event_after(
        &self,
        prev_events: &[String],
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Value {
        let mut inner = self.held();
        let pdu = inner.make(prev_events, sender, event_type, state_key, &content);
        let before = inner.state_after(prev_events);
        inner.put(pdu.clone(), before);
        value(&pdu)
    }

    /// An event that would come after everything that is there, and does not enter the room by that.
    pub fn draft(
        &self,
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Value {
        let inner = self.held();
        let pdu = inner.make(&inner.tips, sender, event_type, state_key, &content);
        value(&pdu)
    }

    /// A text message after everything that is there.
    pub fn say(&self, sender: &str, text: &str) -> Value {
        let content = json!({"msgtype": "m.text", "body": text});
        self.event(sender, "m.room.message", None, content)
    }

    /// Takes an event of another server in; what is made next follows it.
    pub fn take(&self, event: &Value) {
        let mut inner = self.held();
        let pdu = parsed(inner.version.rules(), &event.to_string());
        if !inner.events.contains_key(pdu.event_id().as_str()) {
            let prev_events: Vec<String> = pdu.prev_events().map(str::to_owned).collect();
            let before = inner.state_after(&prev_events);
            inner.put(pdu, before);
        }
    }

    /// The id of an event of this room.
    pub fn event_id(&self, event: &Value) -> String {
        let rules = self.held().version.rules();
        parsed(rules, &event.to_string()).event_id().to_string()
    }

    /// An event by its id.
    pub fn get(&self, event_id: &str) -> Option<Value> {
        self.held().events.get(event_id).map(value)
    }

    /// The event that sets an entry of the state.
    pub fn state(&self, event_type: &str, state_key: &str) -> Option<Value> {
        let inner = self.held();
        let state = inner.state_after(&inner.tips);
        let id = state.get(&(event_type.to_owned(), state_key.to_owned()))?;
        inner.events.get(id).map(value)
    }

    /// From now on, who joins and asks for a state without members gets none but these.
    pub fn omit_members_but(&self, kept: &[&str]) {
        let kept = kept.iter().map(|user| (*user).to_owned());
        self.held().omitted_but = Some(kept.collect());
    }

    /// Answers what other servers ask about this room.
    pub fn host(&self, peer: &Peer) {
        let id = encode(&self.id());
        type Answering = fn(&Inner, &PeerRequest) -> Option<Value>;
        let reads: [(&str, &str, Answering); 6] = [
            ("GET", "v1/make_join", Inner::make_join),
            ("GET", "v1/state_ids", Inner::state_ids),
            ("GET", "v1/state", Inner::whole_state),
            ("GET", "v1/event_auth", Inner::event_auth),
            ("GET", "v1/backfill", Inner::backfill),
            ("POST", "v1/get_missing_events", Inner::missing_events),
        ];
        for (method, name, answer) in reads {
            let room = self.clone();
            let path = format!("/_matrix/federation/{name}/{id}");
            peer.on(method, &path, move |request| {
                found(answer(&room.held(), request))
            });
        }
        let room = self.clone();
        peer.on("GET", "/_matrix/federation/v1/event/", move |request| {
            let event = room.get(&request.segment(4));
            found(event.map(|event| transaction(vec![event])))
        });
        let room = self.clone();
        let path = format!("/_matrix/federation/v2/send_join/{id}");
        peer.on("PUT", &path, move |request| {
            PeerAnswer::ok(room.held().send_join(request))
        });
    }
}

impl Inner {
    fn new(peer: &Peer, id: String, version: RoomVersion) -> Self {
        Self {
            key: peer.key().clone(),
            id,
            version,
            events: BTreeMap::new(),
            before: BTreeMap::new(),
            after: BTreeMap::new(),
            tips: Vec::new(),
            omitted_but: None,
        }
    }

    /// Keeps an event that stands on `before`.
    fn put(&mut self, pdu: Pdu, before: State) {
        let id = pdu.event_id().to_string();
        let mut after = before.clone();
        if let Some(key) = key_of(&pdu) {
            after.insert(key, id.clone());
        }
        let prev_events: BTreeSet<&str> = pdu.prev_events().collect();
        self.tips.retain(|tip| !prev_events.contains(tip.as_str()));
        self.tips.push(id.clone());
        self.before.insert(id.clone(), before);
        self.after.insert(id.clone(), after);
        self.events.insert(id, pdu);
    }

    fn state_after(&self, events: &[String]) -> State {
        let states = events.iter().filter_map(|id| self.after.get(id));
        let entries = states.flatten();
        entries.map(|(key, id)| (key.clone(), id.clone())).collect()
    }

    fn auth_events(
        &self,
        state: &State,
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: &str,
    ) -> Vec<String> {
        let types = auth_types(self.version.rules(), event_type, sender, state_key, content);
        let ids = types
            .into_iter()
            .filter_map(|(of, key)| state.get(&(of.to_owned(), key.into_owned())));
        ids.cloned().collect()
    }

    fn make(
        &self,
        prev_events: &[String],
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: &Value,
    ) -> Pdu {
        let rules = self.version.rules();
        let content = content.to_string();
        let state = self.state_after(prev_events);
        let auth_events = self.auth_events(&state, sender, event_type, state_key, &content);
        let event_id = format!("${}:{}", unique("event"), self.key.server_name());
        let (prev_hashes, auth_hashes) = (self.hashes(prev_events), self.hashes(&auth_events));
        let without_id = event_type == "m.room.create" && rules.room_id == RoomIdFormat::CreateHash;
        let draft = EventDraft {
            room_id: Some(self.id.as_str()).filter(|_| !without_id),
            sender,
            event_type,
            state_key,
            content: &content,
            redacts: None,
            origin_server_ts: now_ms() as i64,
            prev_events: &texts(prev_events),
            auth_events: &texts(&auth_events),
            depth: self.depth_after(prev_events),
            first_format: Some(FirstFormat {
                event_id: &event_id,
                prev_hashes: &prev_hashes,
                auth_hashes: &auth_hashes,
            }),
        };
        draft.seal(rules, &self.key).expect("an event")
    }

    fn depth_after(&self, events: &[String]) -> u64 {
        let depths = events
            .iter()
            .filter_map(|id| Some(self.events.get(id)?.depth()));
        depths.max().unwrap_or(0) + 1
    }

    fn hashes(&self, ids: &[String]) -> Vec<[u8; 32]> {
        let rules = self.version.rules();
        let hash = |id: &String| match self.events.get(id) {
            Some(pdu) => hash::reference_hash(rules, pdu.json()),
            None => [0; 32],
        };
        ids.iter().map(hash).collect()
    }

    /// The events of a state, and everything in their auth chains.
    fn with_auth_chain(&self, state: &State) -> (Vec<String>, Vec<String>) {
        let state: Vec<String> = state.values().cloned().collect();
        let mut chain = BTreeSet::new();
        let mut open = state.clone();
        while let Some(id) = open.pop() {
            for id in self.events.get(&id).into_iter().flat_map(Pdu::auth_events) {
                if chain.insert(id.to_owned()) {
                    open.push(id.to_owned());
                }
            }
        }
        (state, chain.into_iter().collect())
    }

    fn values<'a>(&self, ids: impl IntoIterator<Item = &'a String>) -> Vec<Value> {
        let events = ids.into_iter().filter_map(|id| self.events.get(id));
        events.map(value).collect()
    }

    fn make_join(&self, request: &PeerRequest) -> Option<Value> {
        let user = request.segment(5);
        let rules = self.version.rules();
        let state = self.state_after(&self.tips);
        let content = json!({"membership": "join"});
        let auth_events = self.auth_events(
            &state,
            &user,
            "m.room.member",
            Some(&user),
            &content.to_string(),
        );
        let event = json!({
            "room_id": self.id, "sender": user, "state_key": user, "type": "m.room.member",
            "content": content, "origin_server_ts": now_ms(), "origin": self.key.server_name(),
            "depth": self.depth_after(&self.tips),
            "prev_events": self.references(rules, &self.tips),
            "auth_events": self.references(rules, &auth_events),
        });
        Some(json!({"room_version": self.version.as_str(), "event": event}))
    }

    fn references(&self, rules: &RoomRules, ids: &[String]) -> Value {
        if rules.references == ReferenceFormat::Plain {
            return json!(ids);
        }
        let hashes = self.hashes(ids);
        let pairs = ids.iter().zip(hashes);
        pairs
            .map(|(id, hash)| json!([id, {"sha256": hash::base64_encode(&hash)}]))
            .collect()
    }

    fn send_join(&mut self, request: &PeerRequest) -> Value {
        let rules = self.version.rules();
        let signed = add_signature(rules, &canonical(rules, &request.json()), &self.key);
        let pdu = parsed(rules, &signed.expect("an event that can be signed"));
        let prev_events: Vec<String> = pdu.prev_events().map(str::to_owned).collect();
        let before = self.state_after(&prev_events);
        let mut given = before.clone();
        let asked = request
            .query("omit_members")
            .iter()
            .any(|asked| asked == "true");
        let omitted_but = self.omitted_but.as_ref().filter(|_| asked);
        if let Some(kept) = omitted_but {
            given.retain(|(of, key), _| of != "m.room.member" || kept.contains(key));
        }
        let omitted = omitted_but.is_some();
        let (state, mut auth_chain) = self.with_auth_chain(&given);
        // What authorises the join is given as well.
        let named = pdu.auth_events().map(str::to_owned);
        let named: State = named.map(|id| ((String::new(), id.clone()), id)).collect();
        let (named, of_named) = self.with_auth_chain(&named);
        auth_chain.extend(named.into_iter().chain(of_named));
        auth_chain.sort_unstable();
        auth_chain.dedup();
        let mut answer = json!({
            "origin": self.key.server_name(), "members_omitted": omitted, "event": value(&pdu),
            "state": self.values(&state), "auth_chain": self.values(&auth_chain),
        });
        if omitted {
            let members = before.keys().filter(|(of, _)| of == "m.room.member");
            let servers: BTreeSet<&str> = members
                .filter_map(|(_, user_id)| identifier::domain(user_id))
                .collect();
            answer["servers_in_room"] = json!(servers);
        }
        self.put(pdu, before);
        answer
    }

    fn state_asked(&self, request: &PeerRequest) -> Option<(Vec<String>, Vec<String>)> {
        let event_id = request.query("event_id").into_iter().next()?;
        Some(self.with_auth_chain(self.before.get(&event_id)?))
    }

    fn state_ids(&self, request: &PeerRequest) -> Option<Value> {
        let (state, auth_chain) = self.state_asked(request)?;
        Some(json!({"pdu_ids": state, "auth_chain_ids": auth_chain}))
    }

    fn whole_state(&self, request: &PeerRequest) -> Option<Value> {
        let (state, auth_chain) = self.state_asked(request)?;
        let (pdus, auth_chain) = (self.values(&state), self.values(&auth_chain));
        Some(json!({"pdus": pdus, "auth_chain": auth_chain}))
    }

    fn event_auth(&self, request: &PeerRequest) -> Option<Value> {
        let event_id = request.segment(5);
        let only = State::from([((String::new(), String::new()), event_id)]);
        let (_, auth_chain) = self.with_auth_chain(&only);
        Some(json!({"auth_chain": self.values(&auth_chain)}))
    }

    fn backfill(&self, request: &PeerRequest) -> Option<Value> {
        let limit = request.query("limit").first()?.parse().ok()?;
        let events = self.walk(request.query("v"), &BTreeSet::new(), limit);
        Some(transaction(self.values(&events)))
    }

    fn missing_events(&self, request: &PeerRequest) -> Option<Value> {
        let body = request.json();
        let ids = |key: &str| -> BTreeSet<String> {
            let ids = body[key].as_array().into_iter().flatten();
            ids.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let latest = ids("latest_events");
        let begin = latest.iter().filter_map(|id| self.events.get(id));
        let begin = begin.flat_map(|pdu| pdu.prev_events().map(str::to_owned));
        let limit = body["limit"].as_u64().unwrap_or(10) as usize;
        let mut events = self.walk(begin.collect(), &ids("earliest_events"), limit);
        events.reverse();
        Some(json!({"events": self.values(&events)}))
    }

    /// Events and what they follow, the deepest first.
    fn walk(&self, begin: Vec<String>, end: &BTreeSet<String>, limit: usize) -> Vec<String> {
        let deep = |id: String| Some((self.events.get(&id)?.depth(), id));
        let mut open: BTreeSet<(u64, String)> = begin.into_iter().filter_map(deep).collect();
        let mut events = Vec::new();
        while let Some((_, id)) = open.pop_last() {
            if events.len() == limit || end.contains(&id) {
                continue;
            }
            let prev_events = self.events.get(&id).into_iter().flat_map(Pdu::prev_events);
            open.extend(prev_events.filter_map(|id| deep(id.to_owned())));
            events.push(id);
        }
        events
    }
}

fn found(answer: Option<Value>) -> PeerAnswer {
    answer.map_or_else(|| PeerAnswer::error(404, "M_NOT_FOUND"), PeerAnswer::ok)
}

fn transaction(pdus: Vec<Value>) -> Value {
    json!({"origin": "peer", "origin_server_ts": now_ms(), "pdus": pdus})
}

fn canonical(rules: &RoomRules, event: &Value) -> String {
    let text = event.to_string();
    let canonical = event::canonical::from_text(&text, rules.numbers);
    canonical.expect("an event in canonical form").into_owned()
}

#[track_caller]
fn parsed(rules: &RoomRules, event: &str) -> Pdu {
    match Pdu::from_federation(rules, event.as_bytes()) {
        Ok(pdu) => pdu,
        Err(error) => panic!("no event: {error}: {event}"),
    }
}

fn value(pdu: &Pdu) -> Value {
    serde_json::from_str(pdu.json()).expect("events are JSON")
}

fn key_of(pdu: &Pdu) -> Option<(String, String)> {
    let state_key = pdu.state_key()?.to_owned();
    Some((pdu.event_type().to_owned(), state_key))
}

fn texts(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}
