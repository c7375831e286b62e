//! Joining a room by way of a server that is in it: `make_join` and `send_join`, played in one step.

use event::EventId;
use rooms::ingest::{Answer, Received, Verdict, Verified};
use serde_json::json;

use crate::Trouble;
use crate::draft::Draft;
use crate::people::{Intention, Sight};
use crate::simulation::Simulation;

/// The most `prev_events` of an event.
const MAX_PREV_EVENTS: usize = 20;

impl Simulation {
    /// A user joins at another server. Their own takes the room over if it is not in there yet, and at times if it is.
    pub(crate) fn join_from_afar(
        &mut self,
        resident: usize,
        joining: usize,
        user: &str,
    ) -> Result<(), Trouble> {
        if resident == joining
            || !self.servers[resident].is_in_room()
            || !self.servers[joining].is_up()
            || self.network.are_apart(resident, joining)
        {
            return Ok(());
        }
        self.sync(resident)?;
        let Some(bytes) = self.join_event(resident, joining, user)? else {
            return Ok(());
        };
        let Some(number) = self.learn(&bytes, "join from afar")? else {
            return Err(Trouble(format!("a join that nobody may have: {bytes}")));
        };
        let wire = self.wires.wire(&bytes);
        let Ok(join) = &wire.verified else {
            return Err(Trouble(format!(
                "a join that is refused by its form: {bytes}"
            )));
        };
        let received = self.receive(resident, &wire, false, None)?;
        let Some(Received::Stored { verdict, .. }) = received else {
            return Err(Trouble(format!(
                "a join at server {resident}: {received:?}"
            )));
        };
        self.servers[resident].sync()?;
        self.holdings[resident].make_safe();
        self.reference.publish(number);
        if verdict != Verdict::Accepted {
            // Nobody else is told.
            return Ok(());
        }
        if !self.servers[joining].is_in_room() || self.random.chance(300) {
            self.take_over(resident, joining, number, join)?;
        }
        self.broadcast(resident, &wire);
        Ok(())
    }

    /// What `send_join` answers makes the joining server's room.
    fn take_over(
        &mut self,
        resident: usize,
        joining: usize,
        number: usize,
        join: &Verified,
    ) -> Result<(), Trouble> {
        let event_id = self.reference.entry(number).pdu().event_id().clone();
        let Some((state, chain)) = self.servers[resident].state_ids(&event_id)? else {
            return Err(Trouble(format!(
                "server {resident} does not know the state before #{number}"
            )));
        };
        self.check_state_ids(resident, &event_id, &state)?;
        let (state, auth_chain) = (self.verified(&state)?, self.verified(&chain)?);
        let answer = Answer {
            state: &state,
            auth_chain: &auth_chain,
            join,
        };
        self.servers[joining].enter(self.now_ms, self.rules, &answer)?;
        self.statistics.entered += 1;
        self.rescan(joining)?;
        self.check_extremities(joining)
    }

    fn verified(&mut self, ids: &[EventId]) -> Result<Vec<Verified>, Trouble> {
        let mut events = Vec::with_capacity(ids.len());
        for id in ids {
            let number = self.number(id)?;
            events.extend(self.wire_of(number).verified.clone().ok());
        }
        Ok(events)
    }

    /// The join that the resident server proposes and the joining one signs.
    fn join_event(
        &mut self,
        resident: usize,
        joining: usize,
        user: &str,
    ) -> Result<Option<String>, Trouble> {
        let mut content = json!({ "membership": "join" });
        let asked = self.servers[resident].content("m.room.join_rules", "");
        let restricted =
            self.rules.auth.restricted && asked.unwrap_or_default().contains("restricted");
        if restricted {
            let authoriser = self.random.pick(&self.people.of[resident]).cloned();
            content["join_authorised_via_users_server"] = authoriser.into();
        }
        let mut extremities = self.numbers(&self.servers[resident].extremities()?)?;
        extremities.truncate(MAX_PREV_EVENTS);
        let state = self.reference.merged(&extremities)?;
        let wanted = Intention::member("join from afar", user.to_owned(), user, content);
        let key = &self.servers[joining].key;
        let event_id = format!("${:x}.{joining}.far:{}", self.now_ms, key.server_name());
        let (reference, now_ms) = (&self.reference, self.now_ms);
        let draft = Draft::new(reference, wanted, &extremities, &state, now_ms, event_id);
        let Some(pdu) = draft.seal(reference, key) else {
            return Ok(None);
        };
        if !restricted {
            return Ok(Some(pdu.json().to_owned()));
        }
        let signed = event::add_signature(self.rules, pdu.json(), &self.servers[resident].key);
        signed.map(Some).map_err(|error| Trouble(error.to_string()))
    }
}
