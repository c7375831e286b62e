//! What a server does with what it gets from others: try it, ask for what is missing, answer what it is asked.
//!
//! Events that others name in `auth_events` are fetched to be checked in their place like all others, and become outliers
//! only as part of a state that another server gave: what is an outlier was checked in full by somebody, so that
//! all come to the same verdicts.

use std::collections::BTreeSet;
use std::rc::Rc;

use event::EventId;
use rooms::backfill::Filled;
use rooms::ingest::{Need, Received, Verified};

use crate::network::{Answer, Message, Question};
use crate::simulation::{FAULTY, Simulation};
use crate::wire::Wire;
use crate::{Fault, Trouble};

/// How often others are asked for the sake of one event, before something else has to happen.
const MOST_ASKED: u8 = 4;

impl Simulation {
    /// The next message arrives.
    pub(crate) fn deliver(&mut self) -> Result<(), Trouble> {
        let Some((at_ms, parcel)) = self.network.next() else {
            return Ok(());
        };
        self.now_ms = self.now_ms.max(at_ms);
        let (from, to) = (parcel.from, parcel.to);
        if !self.servers[to].is_in_room() {
            return Ok(());
        }
        match parcel.message {
            Message::Push(events) => {
                for wire in &events {
                    self.take_in(to, wire, from, false);
                }
                self.work(to)
            }
            Message::Ask {
                for_event,
                question,
            } => {
                self.sync(to)?;
                let answer = self.answer(to, &question)?;
                self.send(to, from, Message::Answer { for_event, answer });
                Ok(())
            }
            Message::Answer { for_event, answer } => self.answered(to, from, &for_event, answer),
        }
    }

    /// An event reached a server.
    pub(crate) fn take_in(
        &mut self,
        server: usize,
        wire: &Rc<Wire>,
        from: usize,
        as_outlier: bool,
    ) {
        if self.plan.fault == Some(Fault::LosesAnEvent) && server == FAULTY && self.is_lost(wire) {
            return;
        }
        self.servers[server].inbox.put(wire, from, as_outlier);
    }

    /// Whether the faulty server loses this one: a membership, so that it matters.
    fn is_lost(&self, wire: &Wire) -> bool {
        wire.verified.as_ref().is_ok_and(|event| {
            event.pdu().event_type() == "m.room.member" && event.pdu().depth() % 16 == 15
        })
    }

    /// Tries everything that may have become possible.
    pub(crate) fn work(&mut self, server: usize) -> Result<(), Trouble> {
        while let Some(event_id) = self.servers[server].inbox.next_ready() {
            let Some(pending) = self.servers[server].inbox.get(&event_id) else {
                continue;
            };
            let (wire, outlier, state) =
                (pending.wire.clone(), pending.outlier, pending.state.clone());
            match self.receive(server, &wire, outlier, state.as_deref())? {
                Some(Received::Need(need)) => self.get(server, &event_id, need)?,
                _ => self.servers[server].inbox.settle(&event_id),
            }
        }
        Ok(())
    }

    /// Sees to it that something needed comes.
    fn get(&mut self, server: usize, event_id: &EventId, need: Need) -> Result<(), Trouble> {
        let inbox = &mut self.servers[server].inbox;
        let Some(pending) = inbox.get(event_id) else {
            return Ok(());
        };
        let (from, asked, outlier) = (pending.from, pending.asked, pending.outlier);
        let (ids, as_outliers, prev) = match need {
            Need::PrevEvents(ids) => (ids, false, true),
            Need::AuthEvents(ids) => (ids, outlier, false),
            Need::State(ids) => (ids, true, false),
            Need::Members => return Err(Trouble(format!("{event_id} needs the members"))),
            Need::Users(users) => {
                return Err(Trouble(format!(
                    "{event_id} needs {users:?} again and again"
                )));
            }
            Need::Opinion(_) => {
                return Err(Trouble(format!("{event_id} needs a policy server")));
            }
        };
        let mut absent = Vec::new();
        for id in ids {
            inbox.wait(event_id, &id);
            match inbox.get(&id) {
                None => absent.push(id),
                Some(other) if as_outliers && !other.outlier => {
                    other.outlier = true;
                    inbox.retry(&id);
                }
                Some(_) => {}
            }
        }
        if absent.is_empty() || asked >= MOST_ASKED {
            return Ok(());
        }
        if let Some(pending) = inbox.get(event_id) {
            pending.asked += 1;
        }
        let question = match (prev, asked) {
            (false, _) => Question::Events {
                ids: absent,
                as_outliers,
            },
            (true, 0) => match self.random.chance(800) {
                true => Question::Missing {
                    latest: vec![event_id.clone()],
                    earliest: self.servers[server]
                        .extremities()?
                        .into_iter()
                        .map(EventId::from)
                        .collect(),
                },
                false => Question::Backfill(vec![event_id.clone()]),
            },
            (true, 1) if self.random.chance(500) => Question::Events {
                ids: absent,
                as_outliers,
            },
            (true, _) => Question::StateIds(event_id.clone()),
        };
        let for_event = event_id.clone();
        self.send(
            server,
            from,
            Message::Ask {
                for_event,
                question,
            },
        );
        Ok(())
    }

    /// What a server answers.
    fn answer(&mut self, server: usize, question: &Question) -> Result<Answer, Trouble> {
        let host = &self.servers[server];
        let found = match question {
            Question::Missing { latest, earliest } => host.missing_events(latest, earliest)?,
            Question::Backfill(latest) => host.backfill(latest)?,
            Question::Events { ids, as_outliers } => {
                let known: Vec<usize> = ids
                    .iter()
                    .filter_map(|id| self.number_at(server, id))
                    .collect();
                let events = known
                    .into_iter()
                    .map(|number| self.wire_of(number))
                    .collect();
                return Ok(Answer::Events {
                    events,
                    as_outliers: *as_outliers,
                });
            }
            Question::StateIds(event_id) => {
                let found = host.state_ids(event_id)?;
                let Some((mut state, chain)) = found else {
                    return Ok(Answer::StateIds(None));
                };
                self.check_state_ids(server, event_id, &state)?;
                if self.plan.fault == Some(Fault::AnswersAFalseState) && server == FAULTY {
                    state.pop();
                }
                return Ok(Answer::StateIds(Some((state, chain))));
            }
        };
        let events = found
            .iter()
            .map(|event| self.wires.wire(&event.json))
            .collect();
        Ok(Answer::Events {
            events,
            as_outliers: false,
        })
    }

    /// The number of an event that a server has, as an outlier at least.
    fn number_at(&self, server: usize, event_id: &str) -> Option<usize> {
        self.reference
            .find(event_id)
            .filter(|number| self.holdings[server].has(*number))
    }

    /// An answer arrived.
    fn answered(
        &mut self,
        server: usize,
        from: usize,
        for_event: &EventId,
        answer: Answer,
    ) -> Result<(), Trouble> {
        match answer {
            Answer::Events {
                events,
                as_outliers,
            } => {
                for wire in &events {
                    self.take_in(server, wire, from, as_outliers);
                }
                self.servers[server].inbox.retry(for_event);
            }
            Answer::StateIds(None) => self.servers[server].inbox.retry(for_event),
            Answer::StateIds(Some((state, chain))) => {
                let mut absent = Vec::new();
                for id in state.iter().chain(&chain) {
                    if self.number_at(server, id).is_none() && !self.servers[server].inbox.has(id) {
                        absent.push(id.clone());
                    }
                }
                if let Some(pending) = self.servers[server].inbox.get(for_event) {
                    self.statistics.gaps += 1;
                    pending.state = Some(state);
                    pending.asked = 1;
                }
                if absent.is_empty() {
                    self.servers[server].inbox.retry(for_event);
                } else {
                    let question = Question::Events {
                        ids: absent,
                        as_outliers: true,
                    };
                    let for_event = for_event.clone();
                    self.send(
                        server,
                        from,
                        Message::Ask {
                            for_event,
                            question,
                        },
                    );
                }
            }
        }
        self.work(server)
    }

    /// A server gets history from before what it has from another, as when a client pages back: `/backfill`, and
    /// `/state_ids` for where that ends.
    pub(crate) fn page_back(&mut self, server: usize, other: usize) -> Result<(), Trouble> {
        let both = self.servers[server].is_in_room() && self.servers[other].is_in_room();
        if server == other || !both || self.network.are_apart(server, other) {
            return Ok(());
        }
        let gaps = self.servers[server].after_gaps()?;
        let Some(from) = self.random.pick(&gaps).cloned() else {
            return Ok(());
        };
        self.sync(other)?;
        let mut batch = BTreeSet::new();
        for event in self.servers[other].backfill(&[from])? {
            let number = self.number(&event.event_id)?;
            if !self.holdings[server].is_placed(number) {
                batch.insert(number);
            }
        }
        let state = match self.cut(server, &mut batch) {
            Some(lowest) => {
                let event_id = self.reference.entry(lowest).pdu().event_id().clone();
                let Some((state, chain)) = self.servers[other].state_ids(&event_id)? else {
                    return Ok(());
                };
                self.keep_as_outliers(server, state.iter().chain(&chain))?;
                state
            }
            None => Vec::new(),
        };
        let wires: Vec<Rc<Wire>> = batch.iter().map(|number| self.wire_of(*number)).collect();
        let events: Vec<Verified> = wires
            .iter()
            .filter_map(|wire| wire.verified.clone().ok())
            .collect();
        let filled = self.servers[server].fill_in(self.now_ms, &events, &state)?;
        if let Filled::Need(Need::AuthEvents(_)) = filled {
            // Something beside the state names it; paging back is tried again later.
            return Ok(());
        }
        let Filled::Stored(count) = filled else {
            return Err(Trouble(format!(
                "server {server} pages back and needs {filled:?}"
            )));
        };
        self.statistics.paged_back += count as u64;
        self.rescan(server)?;
        if let Some(number) = batch
            .iter()
            .find(|number| self.holdings[server].is_soft_failed(**number))
        {
            return Err(Trouble(format!(
                "server {server} soft-fails #{number}, which is history"
            )));
        }
        self.check_extremities(server)
    }

    /// Leaves of a batch what can be filled in with one state: an event whose previous events can't be had, and what
    /// stands on it and on what the server has. Gives that event, if there is one.
    fn cut(&mut self, server: usize, batch: &mut BTreeSet<usize>) -> Option<usize> {
        let mut lowest = None;
        // The numbers grow with the graph.
        for number in batch.clone() {
            let is_here =
                |prev: &usize| batch.contains(prev) || self.holdings[server].is_placed(*prev);
            if self.reference.entry(number).prev.iter().all(is_here) {
                continue;
            }
            if lowest.is_none() {
                lowest = Some(number);
            } else {
                batch.remove(&number);
            }
        }
        lowest
    }

    fn keep_as_outliers<'i>(
        &mut self,
        server: usize,
        ids: impl Iterator<Item = &'i EventId>,
    ) -> Result<(), Trouble> {
        let numbers: Result<BTreeSet<usize>, Trouble> = ids.map(|id| self.number(id)).collect();
        for number in numbers? {
            let wire = self.wire_of(number);
            self.receive(server, &wire, true, None)?;
        }
        Ok(())
    }

    /// All messages arrive.
    pub(crate) fn drain(&mut self) -> Result<(), Trouble> {
        for _ in 0..MOST_MESSAGES {
            if self.network.is_empty() {
                return Ok(());
            }
            self.deliver()?;
        }
        Err(Trouble(format!(
            "{MOST_MESSAGES} messages later the servers still talk"
        )))
    }

    /// Every server gets what another has, until none gets anything new.
    pub(crate) fn settle(&mut self) -> Result<(), Trouble> {
        self.drain()?;
        for _ in 0..MOST_ROUNDS {
            let before: usize = self
                .holdings
                .iter()
                .map(|holding| holding.placed().count())
                .sum();
            for from in 0..self.servers.len() {
                if !self.servers[from].is_in_room() {
                    continue;
                }
                for to in 0..self.servers.len() {
                    if to != from && self.servers[to].is_in_room() {
                        self.hand_over(from, to)?;
                    }
                }
            }
            self.drain()?;
            for server in 0..self.servers.len() {
                let (random, count) = (&mut self.random, self.servers.len());
                self.servers[server].inbox.nudge(|| random.below(count));
                self.work(server)?;
            }
            self.drain()?;
            let after: usize = self
                .holdings
                .iter()
                .map(|holding| holding.placed().count())
                .sum();
            if after == before {
                return self.check_inboxes();
            }
        }
        Err(Trouble(format!(
            "{MOST_ROUNDS} rounds later the servers still have new events for each other"
        )))
    }

    fn hand_over(&mut self, from: usize, to: usize) -> Result<(), Trouble> {
        let new: Vec<usize> = self.holdings[from]
            .placed()
            .filter(|number| !self.holdings[to].is_placed(*number))
            .collect();
        for number in new {
            let wire = self.wire_of(number);
            self.take_in(to, &wire, from, false);
        }
        self.work(to)
    }

    /// What still waits must be what nobody may have.
    fn check_inboxes(&mut self) -> Result<(), Trouble> {
        for server in 0..self.servers.len() {
            for event_id in self.servers[server].inbox.ids() {
                if let Some(number) = self.reference.find(&event_id)
                    && self.reference.entry(number).published
                {
                    return Err(Trouble(format!(
                        "server {server} never gets what #{number} needs"
                    )));
                }
            }
            self.servers[server].inbox.clear();
        }
        Ok(())
    }
}

/// Bounds of the end of a run.
const MOST_MESSAGES: usize = 100_000;
const MOST_ROUNDS: usize = 40;
