//! Events that this server makes: from what a client wants to the signed event on the room's extremities.

use std::borrow::Cow;

use event::{AuthEvent, EventDraft, EventId, FirstFormat, Pdu, ReferenceFormat, auth, hash, json};
use names::UserSn;

use crate::ingest::{Arrival, Received};
use crate::policy::PolicyServer;
use crate::writer::{Admission, Before};
use crate::{Error, EventNo, Flags, Result, RoomWriter, Sender, event_log};

/// An event to be made.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    /// Who sends it.
    pub sender: Sender<'a>,
    /// The type.
    pub event_type: &'a str,
    /// The state key of a state event.
    pub state_key: Option<&'a str>,
    /// Of a member event: the number of the user it is about.
    pub target: Option<UserSn>,
    /// The content, a JSON object in any spelling.
    pub content: &'a str,
    /// Of a redaction: the event to be redacted.
    pub redacts: Option<&'a str>,
    /// The time of an event that an application service dates; now otherwise.
    pub origin_server_ts: Option<u64>,
}

impl<'a> NewEvent<'a> {
    /// A message event.
    pub fn message(sender: Sender<'a>, event_type: &'a str, content: &'a str) -> Self {
        NewEvent {
            sender,
            event_type,
            state_key: None,
            target: None,
            content,
            redacts: None,
            origin_server_ts: None,
        }
    }

    /// A state event, but not of a member.
    pub fn state(
        sender: Sender<'a>,
        event_type: &'a str,
        state_key: &'a str,
        content: &'a str,
    ) -> Self {
        NewEvent {
            state_key: Some(state_key),
            ..NewEvent::message(sender, event_type, content)
        }
    }

    /// A member event.
    pub fn member(sender: Sender<'a>, target: Sender<'a>, content: &'a str) -> Self {
        NewEvent {
            target: Some(target.user),
            ..NewEvent::state(sender, "m.room.member", target.user_id, content)
        }
    }

    fn outline(&self) -> Outline<'a> {
        Outline {
            sender: self.sender.user_id,
            event_type: self.event_type,
            state_key: self.state_key,
            content: self.content,
            redacts: self.redacts,
            origin_server_ts: self.origin_server_ts,
        }
    }
}

/// What an event says, whoever sends it: somebody with a number here, or a user of another server.
#[derive(Clone, Copy, Debug)]
pub struct Outline<'a> {
    /// The user id of who sends it.
    pub sender: &'a str,
    /// The type.
    pub event_type: &'a str,
    /// The state key of a state event.
    pub state_key: Option<&'a str>,
    /// The content, a JSON object in any spelling.
    pub content: &'a str,
    /// Of a redaction: the event to be redacted.
    pub redacts: Option<&'a str>,
    /// Milliseconds since 1970; now if there is nothing.
    pub origin_server_ts: Option<u64>,
}

impl<'a> Outline<'a> {
    /// A member event.
    pub fn member(sender: &'a str, target: &'a str, content: &'a str) -> Self {
        Outline {
            sender,
            event_type: "m.room.member",
            state_key: Some(target),
            content,
            redacts: None,
            origin_server_ts: None,
        }
    }
}

/// An event that this server made and that is allowed, and where it stands.
pub(crate) struct Composed {
    /// The event.
    pub pdu: Pdu,
    /// The events that it names in `auth_events`.
    pub auth_events: Vec<EventNo>,
    /// The events that it follows.
    pub prev_events: Vec<(EventNo, String)>,
    /// The state before it.
    pub before: Before,
}

/// See [`FirstFormat`].
struct First {
    event_id: String,
    prev_hashes: Vec<[u8; 32]>,
    auth_hashes: Vec<[u8; 32]>,
}

impl RoomWriter<'_> {
    /// Makes, checks and appends an event.
    ///
    /// # Errors
    /// [`Error::NotAllowed`], [`Error::BadEvent`], [`Error::TooLarge`], [`Error::MembersMissing`]; nothing was changed then.
    /// [`Error::NotRecommended`] where the room's policy server has to sign the event first ([`crate::policy`]): the
    /// change is to be dropped then.
    pub fn append(&mut self, new: &NewEvent<'_>) -> Result<(EventNo, EventId)> {
        let outline = new.outline();
        if let Some(server) = self.policy_server_for(outline.event_type, outline.state_key)? {
            return self.append_signed(&outline, server);
        }
        let composed = self.compose(&outline)?;
        let place = self.insert(Admission {
            pdu: &composed.pdu,
            sender: new.sender.user,
            target: new.target,
            auth_events: composed.auth_events,
            prev_events: composed.prev_events,
            missing: Vec::new(),
            before: composed.before,
            verdict: Flags::default(),
            outlier: None,
            followed: None,
        })?;
        Ok((place, composed.pdu.event_id().clone()))
    }

    /// Appends an event that the policy server has signed when the change was made before; else makes and checks it, and
    /// leaves it to be signed. What was signed may follow what are not the newest events any more.
    fn append_signed(
        &mut self,
        outline: &Outline<'_>,
        server: PolicyServer,
    ) -> Result<(EventNo, EventId)> {
        if let Some(event) = self.signed().and_then(|signed| signed.come_to(outline)) {
            if let Received::Stored { no, verdict } = self.receive(&event, Arrival::Live)? {
                verdict.must_count()?;
                return Ok((no, event.pdu().event_id().clone()));
            }
            // The room has another policy server now; or another event was given the id meanwhile.
            if let Some(signed) = self.signed() {
                signed.forget_last();
            }
        }
        let (rules, pdu) = (self.rules(), self.compose(outline)?.pdu);
        if let Some(signed) = self.signed() {
            signed.want(server, rules, outline, pdu);
        }
        Err(Error::NotRecommended)
    }

    /// Makes an event that follows the newest ones, and checks it; it does not enter the room by that.
    pub(crate) fn compose(&mut self, new: &Outline<'_>) -> Result<Composed> {
        let (prev_events, before) = self.next_prev_events()?;
        let keys = auth::auth_types(
            self.rules(),
            new.event_type,
            new.sender,
            new.state_key,
            new.content,
        );
        if self.lacks_members() && self.lacks_member(&keys)? {
            return Err(Error::MembersMissing);
        }
        let events = self.state_events(keys, before)?;
        let auth_events: Vec<&AuthEvent> = events.selected().collect();
        let auth_ids: Vec<&str> = auth_events
            .iter()
            .map(|event| event.pdu().event_id().as_str())
            .collect();
        let prev_ids: Vec<&str> = prev_events.iter().map(|(_, id)| id.as_str()).collect();
        let first = self.first_format(&prev_events, &auth_events)?;
        let draft = EventDraft {
            room_id: Some(self.room_id()),
            sender: new.sender,
            event_type: new.event_type,
            state_key: new.state_key,
            content: new.content,
            redacts: new.redacts,
            origin_server_ts: new.origin_server_ts.unwrap_or(self.now_ms()) as i64,
            prev_events: &prev_ids,
            auth_events: &auth_ids,
            depth: self.head().depth.saturating_add(1),
            first_format: first.as_ref().map(|first| FirstFormat {
                event_id: &first.event_id,
                prev_hashes: &first.prev_hashes,
                auth_hashes: &first.auth_hashes,
            }),
        };
        let pdu = draft
            .seal(self.rules(), self.key())
            .map_err(Error::from_draft)?;
        auth::check(self.rules(), &pdu, &events)?;
        Ok(Composed {
            pdu,
            auth_events: events.selected_numbers(),
            prev_events,
            before,
        })
    }

    /// What events of room versions 1 and 2 have beside: an id that is chosen, and hashes of the events
    /// they refer to.
    fn first_format(
        &self,
        prev_events: &[(EventNo, String)],
        auth_events: &[&AuthEvent],
    ) -> Result<Option<First>> {
        if self.rules().references == ReferenceFormat::Plain {
            return Ok(None);
        }
        let mut first = First {
            // Unique here by room and place; by time as well, should the database ever begin anew.
            event_id: format!(
                "${:x}.{:x}.{:x}:{}",
                self.now_ms(),
                self.room().0,
                self.head().next.0,
                self.server_name()
            ),
            prev_hashes: Vec::with_capacity(prev_events.len()),
            auth_hashes: Vec::with_capacity(auth_events.len()),
        };
        for (no, _) in prev_events {
            let event = event_log::get(self.read(), self.room(), *no)?.ok_or(Error::Damaged {
                room: self.room().0,
                why: "an event that others refer to is gone",
            })?;
            first
                .prev_hashes
                .push(hash::reference_hash(self.rules(), &event.json));
        }
        for event in auth_events {
            let json = event.pdu().json();
            first
                .auth_hashes
                .push(hash::reference_hash(self.rules(), json));
        }
        Ok(Some(first))
    }
}

impl Error {
    pub(crate) fn from_draft(error: event::DraftError) -> Error {
        match error {
            event::DraftError::TooLarge(_) => Error::TooLarge(error.to_string()),
            error => Error::BadEvent(error.to_string()),
        }
    }
}

/// A string member of a JSON object.
pub(crate) fn string_member<'a>(object: &'a str, key: &str) -> Option<Cow<'a, str>> {
    json::member(object, key).and_then(json::string)
}
