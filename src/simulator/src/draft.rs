//! An event built outside the core: by a forger, for a join from afar, or to see whether a refusal was right.

use event::{EventDraft, EventIdFormat, FirstFormat, Pdu, SigningKey, auth, hash};

use crate::people::Intention;
use crate::reference::{Reference, State};

/// The parts of an event, as they should be at a place in the graph. They can be changed before they are sealed.
pub struct Draft {
    /// What somebody wants to send.
    pub intention: Intention,
    /// `prev_events`.
    pub prev: Vec<String>,
    /// `auth_events`.
    pub auth: Vec<String>,
    /// `depth`.
    pub depth: u64,
    /// `origin_server_ts`.
    pub time: i64,
    /// The id, where events choose theirs.
    pub event_id: String,
}

impl Draft {
    /// The event on some others, after which the room has `state`.
    pub fn new(
        reference: &Reference,
        intention: Intention,
        prev: &[usize],
        state: &State,
        now_ms: u64,
        event_id: String,
    ) -> Self {
        let id = |number: usize| reference.entry(number).pdu().event_id().to_string();
        let content = intention.content.to_string();
        let keys = auth::auth_types(
            reference.rules(),
            intention.event_type,
            &intention.sender,
            intention.state_key.as_deref(),
            &content,
        );
        let auth = keys
            .into_iter()
            .filter_map(|(of, key)| state.get(&(of.into(), key.as_ref().into())))
            .map(|number| id(*number))
            .collect();
        let depth = prev
            .iter()
            .map(|number| reference.entry(*number).pdu().depth())
            .max();
        Draft {
            intention,
            prev: prev.iter().map(|number| id(*number)).collect(),
            auth,
            depth: depth.unwrap_or_default().saturating_add(1),
            time: now_ms as i64,
            event_id,
        }
    }

    /// Hashes and signs the event; nothing if the parts make none.
    pub fn seal(&self, reference: &Reference, key: &SigningKey) -> Option<Pdu> {
        let rules = reference.rules();
        let content = self.intention.content.to_string();
        let hashes_of = |ids: &[String]| -> Vec<[u8; 32]> {
            let hash = |id: &String| {
                let known = reference.find(id);
                known.map_or([0; 32], |number| {
                    hash::reference_hash(rules, reference.entry(number).pdu().json())
                })
            };
            match rules.event_id {
                EventIdFormat::Chosen => ids.iter().map(hash).collect(),
                _ => Vec::new(),
            }
        };
        let (prev_hashes, auth_hashes) = (hashes_of(&self.prev), hashes_of(&self.auth));
        let draft = EventDraft {
            room_id: Some(reference.room_id()),
            sender: &self.intention.sender,
            event_type: self.intention.event_type,
            state_key: self.intention.state_key.as_deref(),
            content: &content,
            redacts: self.intention.redacts.as_deref(),
            origin_server_ts: self.time,
            prev_events: &self.prev.iter().map(String::as_str).collect::<Vec<_>>(),
            auth_events: &self.auth.iter().map(String::as_str).collect::<Vec<_>>(),
            depth: self.depth,
            first_format: Some(FirstFormat {
                event_id: &self.event_id,
                prev_hashes: &prev_hashes,
                auth_hashes: &auth_hashes,
            }),
        };
        draft.seal(rules, key).ok()
    }
}
