//! A room as a graph of events made of choices: legal and illegal ones, on forks, with the state that a naive
//! reader would see at each.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use event::auth;
use event::{EventId, EventIdFormat, Pdu, ReferenceFormat, RoomIdFormat, RoomRules, RoomVersion};

use crate::pieces::{self, PEOPLE, TYPES, USERS};
use crate::{Choices, seal};

/// A state: the number of the event by type and state key.
pub type State = BTreeMap<(String, String), usize>;

/// An event of the graph.
#[derive(Clone)]
pub struct Node {
    pub pdu: Pdu,
    /// The state right before it and right after it, where later events win without being judged.
    pub before: State,
    pub after: State,
}

/// The events of one room, each after those that it names. They are not signed.
#[derive(Clone)]
pub struct Graph {
    pub rules: &'static RoomRules,
    pub room_id: String,
    pub nodes: Vec<Node>,
}

impl Graph {
    /// A graph without events; the first says which room it is.
    pub fn new(version: RoomVersion) -> Self {
        Graph {
            rules: version.rules(),
            room_id: "!room:here".to_owned(),
            nodes: Vec::new(),
        }
    }

    /// A room of `@a:here` that everybody may join, with `@c:there` in it.
    pub fn with_beginning(version: RoomVersion) -> Self {
        static MADE: [OnceLock<Graph>; RoomVersion::ALL.len()] =
            [const { OnceLock::new() }; RoomVersion::ALL.len()];
        MADE[version as usize]
            .get_or_init(|| Graph::make_beginning(version))
            .clone()
    }

    fn make_beginning(version: RoomVersion) -> Self {
        let mut graph = Graph::new(version);
        let create = format!(r#"{{"creator":"@a:here","room_version":"{version}"}}"#);
        let users = match graph.rules.auth.creators_privileged {
            true => r#"{"users":{"@c:there":50}}"#,
            false => r#"{"users":{"@a:here":100,"@c:there":50}}"#,
        };
        let [a, c, join] = ["@a:here", "@c:there", r#"{"membership":"join"}"#];
        let beginning = [
            (a, "m.room.create", "", &*create),
            (a, "m.room.member", a, join),
            (a, "m.room.power_levels", "", users),
            (a, "m.room.join_rules", "", r#"{"join_rule":"public"}"#),
            (c, "m.room.member", c, join),
        ];
        for (sender, event_type, state_key, content) in beginning {
            let last = graph.nodes.len().checked_sub(1);
            let event = graph.draft(
                last.as_slice(),
                sender,
                event_type,
                Some(state_key),
                content,
            );
            let added = graph.add(&event, last.as_slice());
            assert!(added.is_some(), "an ordinary event: {event:?}");
        }
        graph
    }

    pub fn ids(&self) -> Vec<&str> {
        self.nodes
            .iter()
            .map(|node| node.pdu.event_id().as_str())
            .collect()
    }

    /// The number of an event.
    pub fn number(&self, id: &str) -> Option<usize> {
        self.nodes
            .iter()
            .position(|node| node.pdu.event_id().as_str() == id)
    }

    /// The state of those that an event follows, where later events win.
    pub fn state_after(&self, prev: &[usize]) -> State {
        let mut state = State::new();
        for number in prev {
            for (key, event) in &self.nodes[*number].after {
                let entry = state.entry(key.clone()).or_insert(*event);
                *entry = (*entry).max(*event);
            }
        }
        state
    }

    /// An event as it should be, but for whether it is allowed: its members as JSON texts.
    pub fn draft(
        &self,
        prev: &[usize],
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: &str,
    ) -> BTreeMap<&'static str, String> {
        let state = self.state_after(prev);
        let keys = auth::auth_types(self.rules, event_type, sender, state_key, content);
        let named: Vec<usize> = keys
            .into_iter()
            .filter_map(|(of, key)| state.get(&(of.to_owned(), key.into_owned())).copied())
            .collect();
        let depth = prev
            .iter()
            .map(|number| self.nodes[*number].pdu.depth() + 1)
            .max();
        let mut event = BTreeMap::new();
        event.insert("type", pieces::quoted(event_type));
        event.insert("sender", pieces::quoted(sender));
        event.insert("content", content.to_owned());
        event.insert(
            "depth",
            depth.unwrap_or(1).min(self.rules.max_depth).to_string(),
        );
        event.insert("origin_server_ts", (1000 + self.nodes.len()).to_string());
        event.insert("prev_events", self.references(&self.ids_of(prev)));
        event.insert("auth_events", self.references(&self.ids_of(&named)));
        event.insert("hashes", "{}".to_owned());
        event.insert("signatures", "{}".to_owned());
        if let Some(state_key) = state_key {
            event.insert("state_key", pieces::quoted(state_key));
        }
        let hashed = self.rules.room_id == RoomIdFormat::CreateHash;
        if event_type != "m.room.create" || !hashed {
            event.insert("room_id", pieces::quoted(&self.room_id));
        }
        if self.rules.event_id == EventIdFormat::Chosen {
            let domain = event::identifier::domain(sender).unwrap_or("here");
            let id = format!("${}:{domain}", self.nodes.len());
            event.insert("event_id", pieces::quoted(&id));
        }
        event
    }

    fn ids_of(&self, numbers: &[usize]) -> Vec<&str> {
        numbers
            .iter()
            .map(|number| self.nodes[*number].pdu.event_id().as_str())
            .collect()
    }

    /// A list of events as the room version writes it.
    pub fn references(&self, ids: &[&str]) -> String {
        let ids: Vec<String> = ids
            .iter()
            .map(|id| match self.rules.references {
                ReferenceFormat::Plain => pieces::quoted(id),
                _ => format!("[{},{{\"sha256\":\"\"}}]", pieces::quoted(id)),
            })
            .collect();
        format!("[{}]", ids.join(","))
    }

    /// Numbers of events to be followed, mostly near the newest.
    pub fn choose_prev(&self, choices: &mut Choices<'_>) -> Vec<usize> {
        let count = choices.pick(&[1, 1, 1, 2, 3, 0]);
        let mut prev: Vec<usize> = Vec::new();
        for _ in 0..count.min(self.nodes.len()) {
            let back = choices.pick(&[0, 0, 0, 1, 1, 2, 3, 4, 6, 9]);
            prev.push(self.nodes.len() - 1 - back.min(self.nodes.len() - 1));
        }
        prev.sort_unstable();
        prev.dedup();
        prev
    }

    /// An event made of choices, and those that it follows.
    pub fn choose(
        &self,
        choices: &mut Choices<'_>,
    ) -> (BTreeMap<&'static str, String>, Vec<usize>) {
        let prev = self.choose_prev(choices);
        let sender = match choices.one_in(32) {
            true => choices.pick(&USERS),
            false => choices.pick(&USERS[..PEOPLE]),
        };
        let event_type = choices.pick(&TYPES);
        let ids = self.ids();
        let content = pieces::content(choices, event_type, &ids);
        let state_key = match event_type {
            "m.room.message" | "m.room.redaction" | "m.reaction" => {
                choices.one_in(16).then(|| choices.pick(&USERS))
            }
            "m.room.member" => Some(match choices.below(2) {
                0 => sender,
                _ => choices.pick(&USERS),
            }),
            "m.room.third_party_invite" => Some(choices.pick(&["token", ""])),
            _ if choices.one_in(16) => choices.pick(&[None, Some("other"), Some("@a:here")]),
            _ => Some(""),
        };
        let mut event = self.draft(&prev, sender, event_type, state_key, &content);
        if event_type == "m.room.redaction" {
            event.insert("redacts", pieces::quoted(pieces::reference(choices, &ids)));
        }
        if choices.one_in(6) {
            self.distort(choices, &mut event, &ids);
        }
        (event, prev)
    }

    /// Makes an event otherwise than it should be.
    fn distort(
        &self,
        choices: &mut Choices<'_>,
        event: &mut BTreeMap<&'static str, String>,
        ids: &[&str],
    ) {
        let list = |choices: &mut Choices<'_>| {
            let count = choices.pick(&[1, 2, 3, 10, 11, 20, 21]);
            let chosen: Vec<&str> = (0..count)
                .map(|_| pieces::reference(choices, ids))
                .collect();
            self.references(&chosen)
        };
        match choices.below(12) {
            0 => event.insert("prev_events", list(choices)),
            1 | 2 => event.insert("auth_events", list(choices)),
            3 => event.insert(
                "depth",
                choices
                    .pick(&[
                        "0",
                        "-1",
                        "1",
                        "9007199254740991",
                        "9223372036854775807",
                        "1.0",
                    ])
                    .to_owned(),
            ),
            4 => event.insert(
                "origin_server_ts",
                choices
                    .pick(&["0", "-1", "9007199254740991", "-9223372036854775808"])
                    .to_owned(),
            ),
            5 => event.insert("room_id", "\"!other:here\"".to_owned()),
            6 => event.insert("state_key", quoted_text(choices)),
            7 => event.insert("redacts", pieces::odd(choices)),
            8 => event.insert("unsigned", pieces::odd(choices)),
            9 => event.insert("event_id", quoted_id(choices)),
            10 => {
                let key = choices.pick(&[
                    "type",
                    "sender",
                    "content",
                    "depth",
                    "hashes",
                    "signatures",
                    "state_key",
                    "room_id",
                    "origin_server_ts",
                    "origin",
                    "membership",
                    "prev_state",
                ]);
                event.insert(key, pieces::odd(choices))
            }
            _ => {
                let key = choices.pick(&["type", "sender", "depth", "room_id", "state_key"]);
                event.remove(key)
            }
        };
    }

    /// Adds an event that is one at all. Its number, if it is new.
    pub fn add(&mut self, event: &BTreeMap<&'static str, String>, prev: &[usize]) -> Option<usize> {
        let pdu = seal::hashed(self.rules, event)?.ok()?;
        self.push(pdu, prev)
    }

    /// Adds an event that is one already.
    pub fn take(&mut self, event: &str, prev: &[usize]) -> Option<usize> {
        let pdu = Pdu::from_federation(self.rules, event.as_bytes()).ok()?;
        self.push(pdu, prev)
    }

    fn push(&mut self, pdu: Pdu, prev: &[usize]) -> Option<usize> {
        if self.number(pdu.event_id()).is_some() {
            return None;
        }
        if self.nodes.is_empty() {
            self.room_id = pdu.room_id().to_owned();
        }
        let before = self.state_after(prev);
        let mut after = before.clone();
        let number = self.nodes.len();
        if let Some(state_key) = pdu.state_key() {
            after.insert((pdu.event_type().to_owned(), state_key.to_owned()), number);
        }
        self.nodes.push(Node { pdu, before, after });
        Some(number)
    }

    /// Adds an event made of choices.
    pub fn grow(&mut self, choices: &mut Choices<'_>) -> Option<usize> {
        let (event, prev) = self.choose(choices);
        self.add(&event, &prev)
    }

    /// The ids of a state's events.
    pub fn ids_of_state(&self, state: &State) -> Vec<EventId> {
        state
            .values()
            .map(|number| self.nodes[*number].pdu.event_id().clone())
            .collect()
    }
}

fn quoted_text(choices: &mut Choices<'_>) -> String {
    pieces::quoted(&choices.text())
}

fn quoted_id(choices: &mut Choices<'_>) -> String {
    pieces::quoted(choices.pick(&["$2:here", "$3:there", "$id", "$a:b:8448", ""]))
}
