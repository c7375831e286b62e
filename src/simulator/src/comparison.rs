//! What must hold: after every event that a server takes in, and at the end.
//!
//! - An event is rejected by a server exactly if it is by the reference, whatever reached the server when.
//! - It is soft-failed exactly if the state of the server's extremities at that moment does not allow it. So this may differ
//!   from server to server, and with it the extremities and the current state; nothing else may.
//! - A server's extremities are the accepted events that no accepted event follows, also not by way of rejected and
//!   soft-failed ones; its current state is what the states after them resolve to.
//! - The state before and after every event is that of the reference.
//! - What was acknowledged is there, and at the end every server has every event that any has.

use std::rc::Rc;

use event::EventId;
use event::auth::AuthError;
use rooms::Flags;
use rooms::ingest::{Received, Verdict};

use crate::draft::Draft;
use crate::people::Intention;
use crate::reading::{Entries, is_outlier};
use crate::reference::State;
use crate::simulation::Simulation;
use crate::wire::Wire;
use crate::{Trouble, picture};

/// How a server has an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    Outlier,
    Placed { soft_failed: bool },
}

/// Which events a server has, by number in the reference.
#[derive(Default)]
pub struct Holding {
    held: Vec<Option<Held>>,
    /// What it had when its disk was synced last.
    pub safe: Vec<usize>,
    /// What it made and was told to be safe.
    pub acknowledged: Vec<usize>,
}

impl Holding {
    fn set(&mut self, number: usize, held: Held) {
        if self.held.len() <= number {
            self.held.resize(number + 1, None);
        }
        self.held[number] = Some(held);
    }

    /// An event got a place in the room's history.
    pub fn place(&mut self, number: usize, soft_failed: bool) {
        self.set(number, Held::Placed { soft_failed });
    }

    fn get(&self, number: usize) -> Option<Held> {
        self.held.get(number).copied().flatten()
    }

    /// Whether it has an event at all.
    pub fn has(&self, number: usize) -> bool {
        self.get(number).is_some()
    }

    /// Whether the event is part of the room's history there.
    pub fn is_placed(&self, number: usize) -> bool {
        matches!(self.get(number), Some(Held::Placed { .. }))
    }

    /// Whether it was allowed by its own state, but not by that of the server when it came.
    pub fn is_soft_failed(&self, number: usize) -> bool {
        self.get(number) == Some(Held::Placed { soft_failed: true })
    }

    /// The events of the room's history there.
    pub fn placed(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.held.len()).filter(|number| self.is_placed(*number))
    }

    /// All of it is on the disk.
    pub fn make_safe(&mut self) {
        self.safe = (0..self.held.len())
            .filter(|number| self.has(*number))
            .collect();
    }
}

impl Simulation {
    /// The number of an event that a server has.
    pub(crate) fn number(&self, event_id: &str) -> Result<usize, Trouble> {
        self.reference
            .find(event_id)
            .ok_or_else(|| Trouble(format!("nobody may have {event_id}")))
    }

    /// A server receives an event, and must come to the right verdict.
    pub(crate) fn receive(
        &mut self,
        server: usize,
        wire: &Rc<Wire>,
        outlier: bool,
        state: Option<&[EventId]>,
    ) -> Result<Option<Received>, Trouble> {
        let Ok(event) = &wire.verified else {
            return Err(Trouble("what was refused is received".to_owned()));
        };
        let before = self.servers[server].extremities()?;
        let received = self.servers[server].receive(self.now_ms, event, outlier, state)?;
        let verdict = match &received {
            Some(Received::Stored { verdict, .. }) => verdict,
            None if self.reference.find(event.pdu().event_id()).is_some() => {
                return Err(Trouble(format!(
                    "server {server} refuses {}",
                    event.pdu().event_id()
                )));
            }
            _ => return Ok(received),
        };
        self.statistics.received += 1;
        let number = self.number(event.pdu().event_id())?;
        let expected = self.verdict(number, &before, outlier)?;
        if *verdict != expected {
            return Err(Trouble(format!(
                "server {server} has #{number} as {verdict:?}, but it is {expected:?} (extremities before: {:?})",
                self.numbers(&before)?
            )));
        }
        match verdict {
            Verdict::Rejected(_) => self.statistics.rejected += 1,
            Verdict::SoftFailed(_) | Verdict::NotRecommended => self.statistics.soft_failed += 1,
            Verdict::Accepted => {}
        }
        if outlier {
            self.holdings[server].set(number, Held::Outlier);
        } else {
            let soft_failed = matches!(verdict, Verdict::SoftFailed(_));
            self.holdings[server].place(number, soft_failed);
        }
        self.check_extremities(server)?;
        Ok(received)
    }

    pub(crate) fn numbers(&self, ids: &[String]) -> Result<Vec<usize>, Trouble> {
        ids.iter().map(|id| self.number(id)).collect()
    }

    /// What a server with these extremities must make of an event.
    fn verdict(
        &mut self,
        number: usize,
        extremities: &[String],
        outlier: bool,
    ) -> Result<Verdict, Trouble> {
        if let Some(error) = &self.reference.entry(number).rejected {
            return Ok(Verdict::Rejected(*error));
        }
        if outlier {
            return Ok(Verdict::Accepted);
        }
        let numbers = self.numbers(extremities)?;
        let current = self.reference.merged(&numbers)?;
        Ok(
            match self
                .reference
                .check_in(self.reference.entry(number).pdu(), &current)
            {
                Ok(()) => Verdict::Accepted,
                Err(error) => Verdict::SoftFailed(error),
            },
        )
    }

    /// What a server refused to one of its users must be refused by the state of its extremities.
    pub(crate) fn check_refusal(
        &mut self,
        server: usize,
        wanted: &Intention,
        error: AuthError,
    ) -> Result<(), Trouble> {
        let extremities = self.servers[server].extremities()?;
        let numbers = self.numbers(&extremities)?;
        let state = self.reference.merged(&numbers)?;
        let (reference, event_id) = (
            &self.reference,
            format!("$refused:{}", self.servers[server].name),
        );
        let draft = Draft::new(
            reference,
            wanted.clone(),
            &numbers,
            &state,
            self.now_ms,
            event_id,
        );
        let Some(pdu) = draft.seal(reference, &self.servers[server].key) else {
            return Ok(());
        };
        match self.reference.check_in(&pdu, &state) {
            Err(expected) if expected == error => Ok(()),
            expected => Err(Trouble(format!(
                "server {server} refuses {wanted:?} by {error}, but it is {expected:?} after {numbers:?}"
            ))),
        }
    }

    /// A server's extremities must follow from which events it has and which of them it soft-failed.
    pub(crate) fn check_extremities(&self, server: usize) -> Result<(), Trouble> {
        let mut found = self.numbers(&self.servers[server].extremities()?)?;
        found.sort_unstable();
        let expected = self.expected_extremities(server);
        if found != expected {
            return Err(Trouble(format!(
                "server {server} has the extremities {found:?}, but they are {expected:?}"
            )));
        }
        Ok(())
    }

    fn expected_extremities(&self, server: usize) -> Vec<usize> {
        let holding = &self.holdings[server];
        self.reference.extremities(
            |number| holding.is_placed(number),
            |number| holding.is_soft_failed(number),
        )
    }

    /// Reads anew what a server has, after it came by much at once.
    pub(crate) fn rescan(&mut self, server: usize) -> Result<(), Trouble> {
        self.holdings[server].held.clear();
        if !self.servers[server].is_in_room() {
            return Ok(());
        }
        let mut events = self.servers[server].all_outliers()?;
        events.extend(self.servers[server].all_events()?);
        for (_, event) in events {
            let number = self.number(&event.event_id)?;
            let rejected = self.reference.entry(number).rejected.is_some();
            if event.flags.has(Flags::REJECTED) != rejected {
                return Err(Trouble(format!(
                    "server {server} does not have #{number} as rejected: {rejected}"
                )));
            }
            if event.json != self.reference.entry(number).pdu().json().into() {
                return Err(Trouble(format!(
                    "server {server} has other bytes of #{number}: {}",
                    event.json
                )));
            }
            let held = match is_outlier(&event) {
                true => Held::Outlier,
                false => Held::Placed {
                    soft_failed: event.flags.has(Flags::SOFT_FAILED),
                },
            };
            self.holdings[server].set(number, held);
        }
        Ok(())
    }

    /// The state that a server names as that before an event.
    pub(crate) fn check_state_ids(
        &self,
        server: usize,
        event_id: &str,
        state: &[EventId],
    ) -> Result<(), Trouble> {
        let number = self.number(event_id)?;
        let mut found = Vec::with_capacity(state.len());
        for id in state {
            found.push(self.number(id)?);
        }
        found.sort_unstable();
        let mut expected: Vec<usize> = self
            .reference
            .entry(number)
            .before
            .values()
            .copied()
            .collect();
        expected.sort_unstable();
        match found == expected {
            true => Ok(()),
            false => Err(Trouble(format!(
                "server {server} names {found:?} as the state before #{number}, but it is {expected:?}"
            ))),
        }
    }

    /// The end of a run: everything is exchanged, every server builds on everything, and all is compared.
    ///
    /// # Errors
    /// If something is not as it must be.
    pub fn finish(&mut self) -> Result<(), Trouble> {
        self.recover()?;
        self.settle()?;
        let mut speakers = Vec::new();
        for _ in 0..2 {
            speakers.clear();
            for server in 0..self.servers.len() {
                if self.build_on_everything(server)? {
                    speakers.push(server);
                }
                self.settle()?;
            }
        }
        for server in 0..self.servers.len() {
            if self.servers[server].is_in_room() {
                self.compare(server)?;
            }
        }
        self.compare_all(&speakers)
    }

    /// Some user of the server who may speaks, so that all its extremities become one. Whether there was one.
    fn build_on_everything(&mut self, server: usize) -> Result<bool, Trouble> {
        if !self.servers[server].is_in_room() {
            return Ok(false);
        }
        let mut spoken = false;
        for sender in self.people.of[server].clone() {
            let wanted = Intention {
                name: "last word",
                ..Intention::message(sender, 0)
            };
            if self.try_out(server, &wanted)? {
                spoken = true;
                break;
            }
        }
        self.sync(server)?;
        Ok(spoken)
    }

    /// Compares everything that a server has with what must be.
    pub(crate) fn compare(&mut self, server: usize) -> Result<(), Trouble> {
        let before = self.holdings[server].held.clone();
        self.rescan(server)?;
        if let Some(number) =
            (0..before.len()).find(|number| before[*number] != self.holdings[server].get(*number))
        {
            return Err(Trouble(format!(
                "server {server} changed its mind about #{number}"
            )));
        }
        if let Some(number) = self.holdings[server]
            .acknowledged
            .iter()
            .find(|number| !self.holdings[server].is_placed(**number))
        {
            return Err(Trouble(format!(
                "server {server} lost its own #{number}, which was acknowledged"
            )));
        }
        self.check_extremities(server)?;
        let extremities = self.expected_extremities(server);
        let expected = self.reference.merged(&extremities)?;
        let current = self.servers[server].current_state()?;
        self.same_state(
            &format!("the current state of server {server}"),
            current,
            &expected,
        )?;
        let whole = self.plan.thorough || self.random.below(2 * self.servers.len()) == 0;
        for (no, event) in self.servers[server].all_events()? {
            if !whole && !self.random.chance(50) {
                continue;
            }
            let number = self.number(&event.event_id)?;
            let [before, after] = self.servers[server].states_around(no, &event)?;
            let entry = self.reference.entry(number);
            let (expected_before, expected_after) = (entry.before.clone(), entry.after.clone());
            self.same_state(
                &format!("the state before #{number} on server {server}"),
                before,
                &expected_before,
            )?;
            self.same_state(
                &format!("the state after #{number} on server {server}"),
                after,
                &expected_after,
            )?;
            self.statistics.states_compared += 2;
        }
        self.check_tables(server)
    }

    /// Nothing in a server's tables may contradict anything else.
    pub(crate) fn check_tables(&self, server: usize) -> Result<(), Trouble> {
        match self.servers[server].contradictions()?.as_slice() {
            [] => Ok(()),
            found => Err(Trouble(format!(
                "the tables of server {server} contradict each other: {found:#?}"
            ))),
        }
    }

    fn same_state(&self, what: &str, found: Entries, expected: &State) -> Result<(), Trouble> {
        let count = found.len();
        let mut state = State::new();
        for (event_type, state_key, event_id) in found {
            state.insert(
                (event_type.into(), state_key.into()),
                self.number(&event_id)?,
            );
        }
        if state == *expected && count == state.len() {
            return Ok(());
        }
        let told =
            picture::difference(&self.reference, ("it", &state), ("the reference", expected));
        Err(Trouble(format!("{what} is not as it must be: {told}")))
    }

    /// Every server has what any has, and they differ in nothing but soft failure. Where nobody may speak any more a
    /// server is left with extremities that it can't build on, so those who could are compared.
    fn compare_all(&mut self, speakers: &[usize]) -> Result<(), Trouble> {
        let inside: Vec<usize> = (0..self.servers.len())
            .filter(|server| self.servers[*server].is_in_room())
            .collect();
        for number in 0..self.reference.entries().len() {
            let having = inside
                .iter()
                .filter(|server| self.holdings[**server].is_placed(number))
                .count();
            if having != 0 && having != inside.len() {
                let without: Vec<&usize> = inside
                    .iter()
                    .filter(|server| !self.holdings[**server].is_placed(number))
                    .collect();
                return Err(Trouble(format!(
                    "servers {without:?} do not have #{number}"
                )));
            }
            if having == 0 && self.reference.entry(number).published {
                return Err(Trouble(format!(
                    "#{number} was safe somewhere and is nowhere now"
                )));
            }
        }
        let agree = speakers
            .windows(2)
            .all(|two| self.expected_extremities(two[0]) == self.expected_extremities(two[1]));
        match agree {
            true => self.statistics.agreeing += 1,
            false => self.statistics.apart_by_soft_failure += 1,
        }
        Ok(())
    }
}
