//! The door by which events of other servers enter a room. The input is a program: it makes events, legal and not,
//! on forks, and lets them arrive live, after gaps, as outliers or as history, in any order and number, between
//! events of this server. No event may damage the room: its tables stay what `db check` says they are, what needs
//! something changes nothing, and what came once is known when it comes again.
#![no_main]

use std::cell::OnceCell;
use std::sync::OnceLock;

use event::{EventId, RoomVersion};
use libfuzzer_sys::fuzz_target;
use meyrin_fuzz::{Choices, Graph, pieces, seal};
use names::RoomSn;
use rooms::backfill::Filled;
use rooms::ingest::{self, Answer, Arrival, Entered, Need, Received, Verified};
use rooms::membership::Action;
use rooms::{Error, EventNo, Flags, RoomWriter, event_log, graph, state};
use serde_json::Map;
use store::memory::Memory;
use testkit::{World, public_room};

/// A program does no more steps: what comes after says nothing new and takes time.
const MOST_STEPS: usize = 60;

/// A server with one room, and the events there are in the world.
struct Run {
    world: World,
    room: RoomSn,
    graph: Graph,
    /// By event: what came of its signatures, once that was asked.
    verified: Vec<OnceCell<Option<Verified>>>,
}

/// What every run in a room of its own begins with.
struct Beginning {
    engine: Memory,
    room: RoomSn,
    now_ms: u64,
    graph: Graph,
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let version = choices.pick(&RoomVersion::ALL);
    let mut run = match choices.one_in(2) {
        false => Run::in_own_room(version),
        true => Run::in_room_of_others(version, &mut choices),
    };
    for _ in 0..MOST_STEPS {
        if choices.is_empty() {
            break;
        }
        run.step(&mut choices);
    }
    run.check();
});

impl Run {
    /// The server's own room, made as users make them.
    fn in_own_room(version: RoomVersion) -> Self {
        static MADE: [OnceLock<Beginning>; RoomVersion::ALL.len()] =
            [const { OnceLock::new() }; RoomVersion::ALL.len()];
        let made = MADE[version as usize].get_or_init(|| Run::make_own_room(version));
        // All that was written, on an engine of its own.
        let mut world = World::on(Box::new(made.engine.after_power_loss(u64::from(u32::MAX))));
        world.now_ms = made.now_ms;
        Run::new(world, made.room, made.graph.clone())
    }

    fn make_own_room(version: RoomVersion) -> Beginning {
        let engine = Memory::default();
        let mut world = World::on(Box::new(engine.clone()));
        let new = public_room(world.user("@a:here"));
        let room = world.create(version, &new, Map::new());
        let mut run = Run::new(world, room, Graph::new(version));
        run.take_over();
        Beginning {
            engine,
            room,
            now_ms: run.world.now_ms,
            graph: run.graph,
        }
    }

    fn new(world: World, room: RoomSn, graph: Graph) -> Self {
        Run {
            world,
            room,
            graph,
            verified: Vec::new(),
        }
    }

    /// A room that others made, which the server enters with the answer to a join.
    fn in_room_of_others(version: RoomVersion, choices: &mut Choices<'_>) -> Self {
        let mut graph = Graph::with_beginning(version);
        for _ in 0..choices.below(8) {
            graph.grow(choices);
        }
        let world = World::new();
        let prev = graph.choose_prev(choices);
        let content = r#"{"membership":"join"}"#;
        let join = graph.draft(&prev, "@b:here", "m.room.member", Some("@b:here"), content);
        let join = graph.add(&join, &prev);
        let room = world.names.room(&world.store, &graph.room_id);
        let room = room.expect("a number");
        let mut run = Run::new(world, room, graph);
        let Some(join) = join else { return run };
        let state = run.graph.nodes[join].before.clone();
        let state: Vec<Verified> = state
            .values()
            .filter_map(|number| run.verified(*number))
            .collect();
        let auth_chain: Vec<Verified> = (0..join)
            .filter(|_| !choices.one_in(16))
            .filter_map(|number| run.verified(number))
            .collect();
        let Some(join) = run.verified(join) else {
            return run;
        };
        let answer = Answer {
            state: &state,
            auth_chain: &auth_chain,
            join: &join,
        };
        run.enter(&answer);
        run
    }

    fn enter(&mut self, answer: &Answer<'_>) {
        // Users, and nothing else, can be had.
        for _ in 0..2 {
            let mut txn = self.world.store.begin();
            let rules = self.graph.rules;
            match ingest::enter(&mut txn, self.world.context(), rules, self.room, answer) {
                Ok(Entered::Need(Need::Users(users))) => self.number_users(&users),
                Ok(Entered::Need(_)) => return,
                Ok(Entered::Done(_)) => {
                    self.world.store.commit(txn).expect("in memory");
                    return;
                }
                Err(error) => return expected(&error),
            }
        }
        panic!("users were numbered");
    }

    fn number_users(&self, users: &[String]) {
        assert!(!users.is_empty());
        for user in users {
            self.world
                .names
                .user(&self.world.store, user)
                .expect("a number");
        }
    }

    /// The event as it comes, if its signatures hold.
    fn verified(&mut self, number: usize) -> Option<Verified> {
        let count = self.graph.nodes.len();
        self.verified.resize_with(count, OnceCell::new);
        let verify = || {
            let (rules, pdu) = (self.graph.rules, &self.graph.nodes[number].pdu);
            let signed = seal::signed(rules, pdu)?;
            ingest::verify(rules, signed.as_bytes(), &seal::known_keys).ok()
        };
        self.verified[number].get_or_init(verify).clone()
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        self.world.now_ms += 1;
        match choices.below(8) {
            // Made and sent by others.
            0..=2 => {
                if let Some(number) = self.graph.grow(choices) {
                    self.deliver(number, choices);
                }
            }
            // Made by others; it may come later.
            3 => drop(self.graph.grow(choices)),
            4 => {
                let number = choices.below(self.graph.nodes.len());
                self.deliver(number, choices);
            }
            5 => self.backfill(choices),
            6 => self.act(choices),
            _ => {
                let bytes = choices.rest();
                if let Ok(event) = ingest::verify(self.graph.rules, bytes, &seal::known_keys) {
                    self.receive(&event, Arrival::Live);
                }
            }
        }
    }

    /// Lets an event arrive, with what it needs or without.
    fn deliver(&mut self, number: usize, choices: &mut Choices<'_>) {
        if number >= self.graph.nodes.len() {
            return;
        }
        let Some(event) = self.verified(number) else {
            return;
        };
        let state = match choices.one_in(4) {
            false => self.graph.nodes[number].before.clone(),
            true => self.graph.nodes[choices.below(self.graph.nodes.len())]
                .after
                .clone(),
        };
        let mut state = self.graph.ids_of_state(&state);
        if choices.one_in(8) {
            state.truncate(choices.below(state.len()));
        }
        let arrival = match choices.below(4) {
            0 | 1 => Arrival::Live,
            2 => Arrival::AfterGap { state: &state },
            _ => Arrival::Outlier,
        };
        // What is needed comes, if it is anywhere, or it does not.
        for _ in 0..choices.pick(&[4, 4, 1, 12]) {
            let missing = match self.receive(&event, arrival) {
                Some(Need::AuthEvents(ids) | Need::State(ids)) => (ids, Arrival::Outlier),
                Some(Need::PrevEvents(ids)) => (ids, Arrival::Live),
                Some(Need::Users(_) | Need::Opinion(_) | Need::Members) | None => return,
            };
            let (ids, arrival) = missing;
            for id in ids {
                let number = self.graph.number(&id);
                if let Some(event) = number.and_then(|number| self.verified(number)) {
                    self.receive(&event, arrival);
                }
            }
        }
    }

    /// Receives an event in a change of its own. What else it needs than users.
    fn receive(&mut self, event: &Verified, arrival: Arrival<'_>) -> Option<Need> {
        for _ in 0..2 {
            let mut txn = self.world.store.begin();
            let opened = RoomWriter::open(&mut txn, self.world.context(), self.room);
            let mut writer = match opened {
                Ok(writer) => writer,
                // It was not entered.
                Err(error) => {
                    expected(&error);
                    return None;
                }
            };
            let received = writer.receive(event, arrival);
            let effects = writer.finish();
            match received {
                Ok(Received::Need(need)) => {
                    assert!(txn.is_empty(), "nothing is changed by {need:?}");
                    match need {
                        Need::Users(users) => self.number_users(&users),
                        need => return Some(need),
                    }
                }
                Ok(Received::Known(no)) => {
                    assert!(txn.is_empty() && effects.appended.is_empty());
                    self.is_here(event.pdu().event_id(), no);
                    return None;
                }
                Ok(Received::Stored { no, .. }) => {
                    self.world.store.commit(txn).expect("in memory");
                    self.is_here(event.pdu().event_id(), no);
                    return None;
                }
                Err(error) => {
                    expected(&error);
                    return None;
                }
            }
        }
        panic!("users were numbered");
    }

    fn is_here(&self, id: &EventId, no: EventNo) {
        let view = self.world.store.view();
        let event = event_log::get(&view, self.room, no).expect("readable");
        assert_eq!(event.expect("it is there").event_id, *id);
    }

    /// Some history from before what is here: mostly what leads to a gap, with the state that a peer would give,
    /// else any events and any state.
    fn backfill(&mut self, choices: &mut Choices<'_>) {
        let view = self.world.store.view();
        let gaps = graph::backward_extremities(&view, self.room).expect("readable");
        let gaps: Vec<usize> = gaps
            .iter()
            .filter_map(|(id, _)| self.graph.number(id))
            .collect();
        let count = 1 + choices.below(8);
        let last = match gaps.is_empty() || choices.one_in(4) {
            true => choices.below(self.graph.nodes.len()),
            false => choices.pick(&gaps),
        };
        let first = (last + 1).saturating_sub(count);
        let numbers = first..self.graph.nodes.len().min(last + 1);
        let events: Vec<Verified> = numbers.filter_map(|number| self.verified(number)).collect();
        let at = match choices.one_in(4) {
            true => choices.below(self.graph.nodes.len()),
            false => first,
        };
        let Some(node) = self.graph.nodes.get(at) else {
            return;
        };
        let state = self.graph.ids_of_state(&node.before);
        for _ in 0..8 {
            let mut txn = self.world.store.begin();
            let opened = RoomWriter::open(&mut txn, self.world.context(), self.room);
            let Ok(mut writer) = opened else { return };
            let filled = writer.backfill(&events, &state);
            let effects = writer.finish();
            assert!(effects.appended.is_empty(), "it is no news");
            let need = match filled {
                Ok(Filled::Stored(_)) => None,
                Ok(Filled::Need(need)) => Some(need),
                Err(error) => return expected(&error),
            };
            self.world.store.commit(txn).expect("in memory");
            match need {
                Some(Need::Users(users)) => self.number_users(&users),
                Some(Need::AuthEvents(ids) | Need::State(ids)) => {
                    for id in ids {
                        let number = self.graph.number(&id);
                        if let Some(event) = number.and_then(|number| self.verified(number)) {
                            self.receive(&event, Arrival::Outlier);
                        }
                    }
                }
                Some(Need::PrevEvents(_) | Need::Opinion(_) | Need::Members) | None => return,
            }
        }
    }

    /// A user of this server does something.
    fn act(&mut self, choices: &mut Choices<'_>) {
        let by = choices.pick(&["@a:here", "@b:here"]);
        let to = choices.pick(&pieces::USERS[..pieces::PEOPLE]);
        let acted = match choices.below(6) {
            0 => self.world.act(self.room, Action::Join, by, by),
            1 => self.world.act(self.room, Action::Leave, by, by),
            2 => self.world.act(self.room, Action::Invite, by, to),
            3 => self.world.act(self.room, Action::Ban, by, to),
            4 => self.world.say(self.room, by, "text"),
            _ => {
                let event_type = choices.pick(&pieces::TYPES);
                let ids = self.graph.ids();
                let content = pieces::content(choices, event_type, &ids);
                match serde_json::from_str(&content) {
                    Ok(content) => self.world.set(self.room, by, (event_type, ""), &content),
                    Err(_) => return,
                }
            }
        };
        match acted {
            Ok(_) => self.take_over(),
            Err(error) => expected(&error),
        }
    }

    /// The world learns of the events that this server made.
    fn take_over(&mut self) {
        let view = self.world.store.view();
        let rows = event_log::forwards(&view, self.room, EventNo::MIN);
        let events: Vec<_> = rows.map(|row| row.expect("readable").1).collect();
        for event in events {
            if self.graph.number(&event.event_id).is_some() {
                continue;
            }
            let text = event::json::member(&event.json, "prev_events").unwrap_or("[]");
            let prev: Vec<usize> = (0..self.graph.nodes.len())
                .filter(|number| text.contains(self.graph.nodes[*number].pdu.event_id().as_str()))
                .collect();
            self.graph.take(&event.json, &prev);
        }
    }

    /// What must hold of the room, whatever came.
    fn check(&mut self) {
        for number in 0..self.graph.nodes.len() {
            let id = self.graph.nodes[number].pdu.event_id().clone();
            let view = self.world.store.view();
            let here = event_log::find_in(&view, self.room, &id).expect("readable");
            if here.is_some()
                && let Some(event) = self.verified(number)
            {
                // Known, says receive, or nothing at all.
                assert_eq!(self.receive(&event, Arrival::Live), None);
                let _state = graph::state_ids(&view, self.room, &id).expect("readable");
            }
        }
        let view = self.world.store.view();
        let mut found = Vec::new();
        rooms::check::all(&view, &mut |what| found.push(what), &mut |_| {}).expect("readable");
        assert!(found.is_empty(), "{found:#?}");
        let Some(head) = event_log::head(&view, self.room).expect("readable") else {
            return;
        };
        for entry in state::all_current(&view, self.room).expect("readable") {
            let event = event_log::get(&view, self.room, entry.event).expect("readable");
            let flags = event.expect("an entry has its event").flags;
            assert!(
                !flags.has(Flags::REJECTED),
                "rejected events are in no state"
            );
        }
        let ends: Vec<EventId> = head
            .extremities
            .iter()
            .map(|(_, id)| id.as_str().into())
            .collect();
        graph::backfill(&view, self.room, &ends, 100).expect("readable");
        graph::missing_events(&view, self.room, &ends, &[], 100, 0).expect("readable");
    }
}

/// An event may be refused; the room is not damaged by it and the store does not fail.
fn expected(error: &Error) {
    assert!(
        !matches!(error, Error::Damaged { .. } | Error::Store(_)),
        "{error}"
    );
}
