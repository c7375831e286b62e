//! A room as a graph of events with the state after each, grown by random legal actions on random forks.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use event::auth::{self, AuthEvent, StateLookup};
use event::state_res::{self, EventSource, StateMap};
use event::{
    EventDraft, EventId, EventIdFormat, FirstFormat, Pdu, RoomIdFormat, RoomRules, RoomVersion,
    SigningKey,
};
use proptest::prelude::*;
use serde_json::{Value, json};

pub const USERS: [&str; 6] = [
    "@u0:a.org",
    "@u1:a.org",
    "@u2:b.org",
    "@u3:b.org",
    "@u4:c.org",
    "@u5:c.org",
];

/// One random step, interpreted against the graph as it is by then.
#[derive(Clone, Debug)]
pub struct Action {
    /// How far back the previous events are, counted from the newest event.
    pub back: [u8; 3],
    pub sender: u8,
    pub kind: u8,
    pub target: u8,
    pub value: u8,
    pub time: u16,
}

/// Actions on forks of some length.
pub fn any_action() -> impl Strategy<Value = Action> {
    (any::<[u8; 3]>(), any::<[u8; 4]>(), 0..1000u16).prop_map(
        |(back, [sender, kind, target, value], time)| {
            // Mostly near the newest event, so that forks have some length.
            let back =
                back.map(|back| [0, 0, 0, 1, 1, 2, 3, 4, 5, 7, 9, 12][usize::from(back) % 12]);
            Action {
                back,
                sender: sender % 6,
                kind: kind % 20,
                target: target % 6,
                value,
                time,
            }
        },
    )
}

pub struct Graph {
    pub rules: &'static RoomRules,
    pub room_id: String,
    pub events: Vec<Arc<AuthEvent>>,
    pub auth: Vec<Arc<[usize]>>,
    pub generations: Vec<u32>,
    pub by_id: HashMap<EventId, usize>,
    /// The state after each event.
    pub states: Vec<StateMap<usize>>,
    key: SigningKey,
    /// Of the identity server behind third-party invites.
    identity: SigningKey,
}

/// A state by event numbers, for the authorisation rules.
pub struct State<'a>(pub &'a Graph, pub &'a StateMap<usize>);

impl StateLookup for State<'_> {
    fn get(&self, event_type: &str, state_key: &str) -> Option<&AuthEvent> {
        self.0.current(self.1, event_type, state_key)
    }
}

impl EventSource for Graph {
    type Id = usize;
    type Error = Infallible;

    fn event(&self, id: usize) -> Result<Option<Arc<AuthEvent>>, Infallible> {
        Ok(self.events.get(id).cloned())
    }

    fn auth_events(&self, id: usize) -> Result<Option<Arc<[usize]>>, Infallible> {
        Ok(self.auth.get(id).cloned())
    }

    fn generation(&self, id: usize) -> Result<Option<u32>, Infallible> {
        Ok(self.generations.get(id).copied())
    }

    fn create(&self) -> Result<Option<Arc<AuthEvent>>, Infallible> {
        Ok(self.events.first().cloned())
    }
}

impl Graph {
    /// Create, the first user's join, power levels (user 1 at 50), join rules, and the second user's join.
    pub fn new(version: RoomVersion) -> Graph {
        let mut graph = Graph {
            rules: version.rules(),
            room_id: "!room:a.org".into(),
            events: Vec::new(),
            auth: Vec::new(),
            generations: Vec::new(),
            by_id: HashMap::new(),
            states: Vec::new(),
            key: super::key(),
            identity: SigningKey::generate("identity.org", [9; 32]),
        };
        let [creator, second] = [USERS[0], USERS[1]];
        let content = json!({"creator": creator, "room_version": version.as_str()});
        let create = graph.make(
            &[],
            &StateMap::new(),
            creator,
            "m.room.create",
            "",
            content,
            0,
        );
        graph.room_id = create.room_id().to_owned();
        graph.add(create, StateMap::new());
        let mut users = json!({second: 50});
        if !graph.rules.auth.creators_privileged {
            users[creator] = 100.into();
        }
        let first = [
            (
                creator,
                "m.room.member",
                creator,
                json!({"membership": "join"}),
            ),
            (creator, "m.room.power_levels", "", json!({"users": users})),
            (
                creator,
                "m.room.join_rules",
                "",
                json!({"join_rule": "public"}),
            ),
            (
                second,
                "m.room.member",
                second,
                json!({"membership": "join"}),
            ),
        ];
        for (sender, event_type, state_key, content) in first {
            let last = graph.events.len() - 1;
            let state = graph.states[last].clone();
            let pdu = graph.make(
                &[last],
                &state,
                sender,
                event_type,
                state_key,
                content,
                last as i64,
            );
            assert_eq!(
                auth::check(graph.rules, &pdu, &State(&graph, &state)),
                Ok(())
            );
            graph.add(pdu, state);
        }
        graph
    }

    pub fn current(
        &self,
        state: &StateMap<usize>,
        event_type: &str,
        state_key: &str,
    ) -> Option<&AuthEvent> {
        let number = state.get(&(event_type.into(), state_key.into()))?;
        Some(&self.events[*number])
    }

    #[allow(clippy::too_many_arguments, reason = "an event has that many parts")]
    pub fn make(
        &self,
        prev: &[usize],
        state: &StateMap<usize>,
        sender: &str,
        event_type: &str,
        state_key: &str,
        content: Value,
        time: i64,
    ) -> Pdu {
        let content = content.to_string();
        let auth_types =
            auth::auth_types(self.rules, event_type, sender, Some(state_key), &content);
        let auth_events: Vec<&str> = auth_types
            .iter()
            .filter_map(|(event_type, state_key)| self.current(state, event_type, state_key))
            .map(|event| event.pdu().event_id().as_str())
            .collect();
        let prev_events: Vec<&str> = prev
            .iter()
            .map(|number| self.events[*number].pdu().event_id().as_str())
            .collect();
        let depth = prev
            .iter()
            .map(|number| self.events[*number].pdu().depth() + 1)
            .max()
            .unwrap_or(1);
        let hashed =
            event_type == "m.room.create" && self.rules.room_id == RoomIdFormat::CreateHash;
        let event_id = format!("${}:a.org", self.events.len());
        let hashes = [[0; 32]; 20];
        let first_format = (self.rules.event_id == EventIdFormat::Chosen).then(|| FirstFormat {
            event_id: &event_id,
            prev_hashes: &hashes[..prev_events.len()],
            auth_hashes: &hashes[..auth_events.len()],
        });
        EventDraft {
            room_id: (!hashed).then_some(&*self.room_id),
            sender,
            event_type,
            state_key: Some(state_key),
            content: &content,
            redacts: None,
            origin_server_ts: time,
            prev_events: &prev_events,
            auth_events: &auth_events,
            depth,
            first_format,
        }
        .seal(self.rules, &self.key)
        .unwrap()
    }

    /// Adds a state event on top of the state before it.
    pub fn add(&mut self, pdu: Pdu, mut state: StateMap<usize>) -> usize {
        let number = self.events.len();
        let auth: Arc<[usize]> = pdu.auth_events().map(|id| self.by_id[id]).collect();
        let below = auth.iter().map(|number| self.generations[*number] + 1);
        self.generations.push(below.max().unwrap_or(0));
        let key = (pdu.event_type().into(), pdu.state_key().unwrap().into());
        state.insert(key, number);
        self.by_id.insert(pdu.event_id().clone(), number);
        self.events.push(Arc::new(AuthEvent::new(self.rules, pdu)));
        self.auth.push(auth);
        self.states.push(state);
        number
    }

    pub fn resolve(&self, states: &[&StateMap<usize>]) -> StateMap<usize> {
        state_res::resolve(self.rules, states, None, self).unwrap()
    }

    /// The events an action builds on.
    pub fn prev(&self, action: &Action) -> Vec<usize> {
        let newest = self.events.len() - 1;
        let mut prev: Vec<usize> = action
            .back
            .iter()
            .map(|back| newest - usize::from(*back).min(newest - 4))
            .collect();
        prev.sort_unstable();
        prev.dedup();
        prev
    }

    /// What an action says, without asking whether it is allowed.
    pub fn content(
        &self,
        action: &Action,
        state: &StateMap<usize>,
    ) -> (&'static str, String, Value) {
        let sender = USERS[usize::from(action.sender) % USERS.len()];
        let target = USERS[usize::from(action.target) % USERS.len()];
        let level = [0, 10, 50, 51, 100][usize::from(action.value) % 5];
        let token = format!("token{}", action.value % 2);
        let member = |user: &str, membership: &str| {
            (
                "m.room.member",
                user.to_owned(),
                json!({"membership": membership, "n": action.value}),
            )
        };
        match action.kind % 20 {
            0 | 1 => member(sender, "join"),
            2 => member(sender, "leave"),
            3 => member(target, "leave"),
            4 | 5 => member(target, "ban"),
            6 => member(target, "invite"),
            7 => member(sender, "knock"),
            8 | 9 => {
                let mut levels = self.levels(state);
                levels["users"][target] = level.into();
                ("m.room.power_levels", String::new(), levels)
            }
            10 => {
                let mut levels = self.levels(state);
                let field = [
                    "ban",
                    "kick",
                    "invite",
                    "state_default",
                    "users_default",
                    "events_default",
                ];
                levels[field[usize::from(action.target) % field.len()]] = level.into();
                ("m.room.power_levels", String::new(), levels)
            }
            11 => {
                let rules = [
                    "public",
                    "invite",
                    "knock",
                    "restricted",
                    "knock_restricted",
                ];
                let rule = rules[usize::from(action.value) % rules.len()];
                (
                    "m.room.join_rules",
                    String::new(),
                    json!({"join_rule": rule}),
                )
            }
            12 | 19 => {
                let (event_type, state_key, mut content) = member(sender, "join");
                content["join_authorised_via_users_server"] = target.into();
                (event_type, state_key, content)
            }
            18 => {
                let content = json!({"join_rule": "restricted", "n": action.value});
                ("m.room.join_rules", String::new(), content)
            }
            13 => {
                let offer = json!({"display_name": "o", "public_key": self.identity.verify_key().to_base64()});
                ("m.room.third_party_invite", token, offer)
            }
            14 => {
                let mut signed = json!({"mxid": target, "token": token});
                self.identity.sign_value(&mut signed).unwrap();
                let invite = json!({"display_name": "o", "signed": signed});
                let content = json!({"membership": "invite", "third_party_invite": invite});
                ("m.room.member", target.to_owned(), content)
            }
            15 => {
                let mut levels = self.levels(state);
                let [topic, room] = [("events", "m.room.topic"), ("notifications", "room")];
                let (map, key) = if action.target.is_multiple_of(2) {
                    topic
                } else {
                    room
                };
                levels[map][key] = level.into();
                ("m.room.power_levels", String::new(), levels)
            }
            16 => {
                let mut levels = self.levels(state);
                levels["users"][target] = level.to_string().into();
                ("m.room.power_levels", String::new(), levels)
            }
            _ => (
                "m.room.topic",
                String::new(),
                json!({"topic": action.value}),
            ),
        }
    }

    fn levels(&self, state: &StateMap<usize>) -> Value {
        let number = state.get(&("m.room.power_levels".into(), "".into()));
        number.map_or(json!({"users": {}}), |number| {
            serde_json::from_str(self.events[*number].pdu().content()).unwrap()
        })
    }

    /// Takes the action if it is allowed in the state before it.
    pub fn act(&mut self, action: &Action) -> Option<usize> {
        let prev = self.prev(action);
        let states: Vec<&StateMap<usize>> =
            prev.iter().map(|number| &self.states[*number]).collect();
        let state = self.resolve(&states);
        let sender = USERS[usize::from(action.sender) % USERS.len()];
        let (event_type, state_key, content) = self.content(action, &state);
        let pdu = self.make(
            &prev,
            &state,
            sender,
            event_type,
            &state_key,
            content,
            action.time.into(),
        );
        auth::check(self.rules, &pdu, &State(self, &state)).ok()?;
        Some(self.add(pdu, state))
    }
}
