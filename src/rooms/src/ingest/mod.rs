//! Events that come from other servers: the checks on receipt, and what is missing for them.
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>
//!
//! [`verify`] makes checks 1 to 3, which need no room. [`RoomWriter::receive`] makes checks 4 to 7 and keeps the
//! event with its verdict. What an event needs and this server does not have is answered as [`Need`], with
//! nothing changed: the caller gets it and comes again.

mod enter;
mod order;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use enter::{Answer, Entered, Part, Staging, enter, enter_staged, users_without_number};
use event::signature::{self, Integrity, VerifyKeys};
use event::state_res::StateKey;
use event::{
    AuthError, AuthEvent, EventId, FormatError, Pdu, RoomRules, SignatureError, auth, identifier,
};
use names::{RoomSn, UserSn};
pub(crate) use order::in_order;
pub use order::{in_auth_order, in_prev_order};
use store::{Position, Read};

use crate::policy::{Opinion, PolicyServer};
use crate::resolve::Difference;
use crate::schema::{EVENT_IDS, EVENTS};
use crate::types::StateAfter;
use crate::writer::{Admission, Before};
use crate::{
    Error, EventNo, Flags, Point, Result, RoomWriter, StoredEvent, auth_index, event_log, graph,
    lines, redactions, state,
};

/// Whether an event is here, in the room's history or as an outlier.
///
/// # Errors
/// If the store fails.
pub fn is_here(from: &impl Read, room: RoomSn, event_id: &str) -> Result<bool> {
    let found = event_log::number(from, event_id)?;
    Ok(found.is_some_and(|(of, _)| of == room))
}

/// An event that is as its sender made it, or redacted where it is not.
#[derive(Clone, Debug)]
pub struct Verified {
    pdu: Pdu,
    /// What a policy server was found to say of it.
    opinion: Option<Opinion>,
}

impl Verified {
    /// The event.
    pub fn pdu(&self) -> &Pdu {
        &self.pdu
    }

    fn new(pdu: Pdu) -> Self {
        Self { pdu, opinion: None }
    }

    /// An event of this server that a policy server has signed.
    pub(crate) fn recommended(pdu: Pdu, server: PolicyServer) -> Self {
        let opinion = Opinion {
            server,
            recommends: true,
        };
        Self {
            pdu,
            opinion: Some(opinion),
        }
    }

    /// The event, of which a policy server was found to say this.
    pub fn with_opinion(self, opinion: Opinion) -> Self {
        Self {
            opinion: Some(opinion),
            ..self
        }
    }

    /// The event with the signature that a policy server gave; as it is, if it would be too large with that.
    ///
    /// # Errors
    /// [`Error::NotRecommended`] if the signature does not hold.
    pub fn signed_by(
        &self,
        rules: &RoomRules,
        server: &PolicyServer,
        signature: &str,
    ) -> Result<Self> {
        let pdu = match server.sign(rules, &self.pdu, signature) {
            Ok(pdu) => pdu,
            Err(Error::TooLarge(_)) => self.pdu.clone(),
            Err(error) => return Err(error),
        };
        Ok(Self::recommended(pdu, server.clone()))
    }
}

/// Why bytes from another server are no event. They are dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Check 1: not a valid event of the room version.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Check 2: the signatures do not hold. [`SignatureError::UnknownKeys`] may be tried again with the keys.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Checks 1 to 3: format, signatures, content hash. An event whose content hash does not hold is redacted.
///
/// # Errors
/// See [`Refusal`].
pub fn verify(
    rules: &RoomRules,
    bytes: &[u8],
    keys: &impl VerifyKeys,
) -> Result<Verified, Refusal> {
    verify_parsed(rules, Pdu::from_federation(rules, bytes)?, keys).map_err(|refused| refused.1)
}

/// Checks 2 and 3 of an event that [`Pdu::from_federation`] read: so that it is read once, though its keys come later.
///
/// # Errors
/// The event, and why it is refused.
pub fn verify_parsed(
    rules: &RoomRules,
    pdu: Pdu,
    keys: &impl VerifyKeys,
) -> Result<Verified, Box<(Pdu, Refusal)>> {
    match signature::verify_event(rules, &pdu, keys) {
        Ok(Integrity::Whole) => Ok(Verified::new(pdu)),
        Ok(Integrity::Redacted) => match pdu.redacted(rules) {
            Ok(pdu) => Ok(Verified::new(pdu)),
            Err(error) => Err(Box::new((pdu, error.into()))),
        },
        Err(error) => Err(Box::new((pdu, error.into()))),
    }
}

/// How an event came.
#[derive(Clone, Copy, Debug)]
pub enum Arrival<'a> {
    /// In a transaction, or to fill the gap before one that did: its `prev_events` must be here.
    Live,
    /// Some of its `prev_events` can't be had: the state right before it, as a peer has it. The events must be
    /// here, as outliers at least.
    AfterGap {
        /// The ids of the state's events.
        state: &'a [EventId],
    },
    /// Only because other events name it in `auth_events` or in a state.
    Outlier,
}

impl<'a> Arrival<'a> {
    /// The state before the event, if a peer gave it.
    fn given(self) -> Option<&'a [EventId]> {
        match self {
            Arrival::AfterGap { state } => Some(state),
            Arrival::Live | Arrival::Outlier => None,
        }
    }
}

/// What became of an event.
#[derive(Debug)]
pub enum Received {
    /// It was here already, at this place or under this number.
    Known(EventNo),
    /// It is kept.
    Stored {
        /// Its place, or its number as an outlier.
        no: EventNo,
        /// What was found.
        verdict: Verdict,
    },
    /// Nothing was changed. Get these and come again.
    Need(Need),
}

/// Whether an event counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is part of the room.
    Accepted,
    /// Check 6: the room's current state does not allow it. Part of the graph; not shown, and nothing is built on it.
    SoftFailed(AuthError),
    /// Check 7: the room's policy server does not recommend it. Soft-failed as well.
    NotRecommended,
    /// Checks 4 and 5: not allowed when it was made. Kept to be recognised.
    Rejected(AuthError),
}

impl Verdict {
    fn flags(&self) -> Flags {
        match self {
            Verdict::Accepted => Flags::default(),
            Verdict::SoftFailed(_) | Verdict::NotRecommended => Flags::SOFT_FAILED,
            Verdict::Rejected(_) => Flags::REJECTED,
        }
    }

    /// Nothing, if the event counts.
    ///
    /// # Errors
    /// [`Error::NotAllowed`], [`Error::NotRecommended`] if it does not.
    pub fn must_count(self) -> Result<()> {
        match self {
            Verdict::Accepted => Ok(()),
            Verdict::Rejected(error) | Verdict::SoftFailed(error) => Err(Error::NotAllowed(error)),
            Verdict::NotRecommended => Err(Error::NotRecommended),
        }
    }
}

/// What an event needs that is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Users without a number: [`names::Names::user`].
    Users(Vec<String>),
    /// Events that it names in `auth_events`.
    AuthEvents(Vec<EventId>),
    /// Events that it follows.
    PrevEvents(Vec<EventId>),
    /// Events of the state before it.
    State(Vec<EventId>),
    /// What the room's policy server says of it: [`Verified::signed_by`] or [`Verified::with_opinion`].
    Opinion(PolicyServer),
    /// The room's members, who are not all known yet: [`crate::partial`].
    Members,
}

/// The users that an event speaks of.
struct Users {
    sender: UserSn,
    target: Option<UserSn>,
}

/// What an event follows.
struct Predecessors {
    here: Vec<(EventNo, String)>,
    missing: Vec<String>,
}

impl RoomWriter<'_> {
    /// Makes checks 4 to 7 and keeps the event.
    ///
    /// # Errors
    /// [`Error::BadEvent`] for an event that can't belong to this room; nothing was changed then. [`Error::MembersMissing`] if
    /// this server left the room before its members were known.
    pub fn receive(&mut self, event: &Verified, arrival: Arrival<'_>) -> Result<Received> {
        let pdu = &event.pdu;
        if pdu.room_id() != self.room_id() {
            return Err(Error::BadEvent("it is of another room".to_owned()));
        }
        let known = self.known(pdu)?;
        let as_outlier = matches!(arrival, Arrival::Outlier);
        if let Some(known) = known {
            match event_log::place_of(self.read(), self.room(), known)? {
                Some(place) => return Ok(Received::Known(place)),
                None if as_outlier => return Ok(Received::Known(known)),
                None => {}
            }
        }
        if self.is_abandoned() && !as_outlier {
            return Err(Error::MembersMissing);
        }
        // With previous events it is one more event to be rejected.
        let begins = pdu.event_type() == "m.room.create" && pdu.prev_events().len() == 0;
        if begins && known.is_none() {
            return Err(Error::BadEvent("a room is created once".to_owned()));
        }
        let users = match self.users(pdu)? {
            Ok(users) => users,
            Err(need) => return Ok(Received::Need(need)),
        };
        let (auth_events, by_auth_events) = match self.check_by_auth_events(pdu)? {
            Ok(checked) => checked,
            Err(need) => return Ok(Received::Need(need)),
        };
        if as_outlier {
            let no = self.keep_outlier(pdu, &users, &auth_events, &by_auth_events)?;
            let verdict = by_auth_events;
            return Ok(Received::Stored { no, verdict });
        }
        let prev_events = self.predecessors(pdu)?;
        let some_missing = !prev_events.missing.is_empty();
        if self.lacks_members() && self.waits_for_members(pdu, &prev_events.here, some_missing)? {
            return Ok(Received::Need(Need::Members));
        }
        let given = match arrival.given() {
            _ if prev_events.missing.is_empty() => None,
            Some(state) => match self.numbers(state)? {
                Ok(numbers) => Some(numbers),
                Err(missing) => return Ok(Received::Need(Need::State(missing))),
            },
            None => {
                let missing = prev_events.missing.into_iter().map(EventId::from).collect();
                return Ok(Received::Need(Need::PrevEvents(missing)));
            }
        };
        // Before anything is written, since it may be asked for. An event that is refused anyhow is not worth a question.
        let is_recommended = match by_auth_events {
            Verdict::Accepted if !self.is_in_past() => match self.check_by_policy(event)? {
                Ok(is_recommended) => is_recommended,
                Err(need) => return Ok(Received::Need(need)),
            },
            _ => true,
        };
        let before = self.state_of(&prev_events, given)?;
        let verdict = match by_auth_events {
            Verdict::Accepted => match self.check_by_state(pdu, before)? {
                Verdict::Accepted if !is_recommended => Verdict::NotRecommended,
                other => other,
            },
            other => other,
        };
        let room = self.room();
        let followed = graph::fill(self.txn(), room, pdu.event_id())?;
        let no = self.insert(Admission {
            pdu,
            sender: users.sender,
            target: users.target,
            auth_events,
            prev_events: prev_events.here,
            missing: prev_events.missing,
            before,
            verdict: verdict.flags(),
            outlier: known,
            followed,
        })?;
        if verdict == Verdict::Accepted {
            redactions::catch_up(self, pdu.event_id(), no)?;
        }
        Ok(Received::Stored { no, verdict })
    }

    /// The number of an event that is here.
    fn known(&self, pdu: &Pdu) -> Result<Option<EventNo>> {
        match event_log::number(self.read(), pdu.event_id())? {
            Some((room, _)) if room != self.room() => Err(Error::BadEvent(
                "its id is that of an event of another room".to_owned(),
            )),
            known => Ok(known.map(|(_, no)| no)),
        }
    }

    fn users(&self, pdu: &Pdu) -> Result<Result<Users, Need>> {
        let target = match pdu.event_type() {
            "m.room.member" => pdu.state_key().filter(|key| identifier::is_user_id(key)),
            _ => None,
        };
        let mut unknown = Vec::new();
        let mut number = |id: &str| -> Result<Option<UserSn>> {
            let number = names::user_sn(self.read(), id)?;
            if number.is_none() {
                unknown.push(id.to_owned());
            }
            Ok(number)
        };
        let sender = number(pdu.sender())?;
        let target = match target {
            Some(target) => number(target)?,
            None => None,
        };
        Ok(match sender {
            Some(sender) if unknown.is_empty() => Ok(Users { sender, target }),
            _ => Err(Need::Users(unknown)),
        })
    }

    /// The numbers of events that are here; or those that are not.
    pub(crate) fn numbers(&self, ids: &[EventId]) -> Result<Result<Vec<EventNo>, Vec<EventId>>> {
        let mut numbers = Vec::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match event_log::number(self.read(), id)? {
                Some((room, no)) if room == self.room() => numbers.push(no),
                // An event of another room is here, but not for this one: it will be refused if it is fetched.
                _ => missing.push(id.clone()),
            }
        }
        Ok(if missing.is_empty() {
            Ok(numbers)
        } else {
            Err(missing)
        })
    }

    /// Check 4: is it allowed by the events that it names itself?
    fn check_by_auth_events(&self, pdu: &Pdu) -> Result<Result<(Vec<EventNo>, Verdict), Need>> {
        let ids: Vec<EventId> = pdu.auth_events().map(EventId::from).collect();
        let numbers = match self.numbers(&ids)? {
            Ok(numbers) => numbers,
            Err(missing) => return Ok(Err(Need::AuthEvents(missing))),
        };
        let mut events = Vec::with_capacity(numbers.len());
        for no in &numbers {
            events.push(self.parsed(*no)?);
        }
        let named: Vec<&AuthEvent> = events.iter().map(|event| &**event).collect();
        if let Err(error) = auth::check_auth_events(self.rules(), pdu, &named) {
            return Ok(Ok((numbers, Verdict::Rejected(error))));
        }
        // From room version 12 on the create event is not named.
        if pdu.event_type() != "m.room.create"
            && !events
                .iter()
                .any(|event| event.pdu().is_state("m.room.create", ""))
        {
            events.push(self.parsed(self.head().create)?);
        }
        let verdict = match auth::check(self.rules(), pdu, &Named(&events)) {
            Ok(()) => Verdict::Accepted,
            Err(error) => Verdict::Rejected(error),
        };
        Ok(Ok((numbers, verdict)))
    }

    fn parsed(&self, no: EventNo) -> Result<Arc<AuthEvent>> {
        self.cache()
            .auth_event(self.read(), self.rules(), self.room(), no)
    }

    /// Check 7: is it recommended by the policy server that the room uses now?
    fn check_by_policy(&self, event: &Verified) -> Result<Result<bool, Need>> {
        let pdu = &event.pdu;
        let Some(server) = self.policy_server_for(pdu.event_type(), pdu.state_key())? else {
            return Ok(Ok(true));
        };
        match &event.opinion {
            Some(opinion) if opinion.server == server => Ok(Ok(opinion.recommends)),
            _ if server.has_signed(self.rules(), pdu) => Ok(Ok(true)),
            _ => Ok(Err(Need::Opinion(server))),
        }
    }

    /// Checks 5 and 6: is it allowed by the state before it, and by the room's state of now?
    fn check_by_state(&self, pdu: &Pdu, before: Before) -> Result<Verdict> {
        let check = |state: Before| -> Result<Result<(), AuthError>> {
            let keys = auth::auth_types_of(self.rules(), pdu);
            let events = self.state_events(keys, state)?;
            Ok(auth::check(self.rules(), pdu, &events))
        };
        if let Err(error) = check(before)? {
            return Ok(Verdict::Rejected(error));
        }
        if before != Before::Current
            && !self.is_in_past()
            && let Err(error) = check(Before::Current)?
        {
            return Ok(Verdict::SoftFailed(error));
        }
        Ok(Verdict::Accepted)
    }

    fn predecessors(&self, pdu: &Pdu) -> Result<Predecessors> {
        let mut found = Predecessors {
            here: Vec::new(),
            missing: Vec::new(),
        };
        for id in pdu.prev_events() {
            match event_log::find_in(self.read(), self.room(), id)? {
                Some(no) if found.here.iter().any(|(of, _)| *of == no) => {}
                Some(no) => found.here.push((no, id.to_owned())),
                None => found.missing.push(id.to_owned()),
            }
        }
        Ok(found)
    }

    /// The state right before an event: after those that it follows, or as a peer gave it where some are missing.
    fn state_of(
        &mut self,
        prev_events: &Predecessors,
        given: Option<Vec<EventNo>>,
    ) -> Result<Before> {
        let first = self.head().extremities.is_empty();
        if given.is_none()
            && !self.is_in_past()
            && graph::are_all_extremities(self, &prev_events.here)
            && !first
        {
            return Ok(Before::Current);
        }
        if let Some(given) = given {
            // It is the state before the event, not only that after what is missing: what is here went into it
            // already, and resolving it once more with that could come to something else.
            let base = match self.past() {
                // Most of it is as it was before the gap.
                Some(place) if place > EventNo::FIRST => Point::main(place),
                Some(_) => lines::first(self.read(), self.room())?,
                None => self.now(),
            };
            let difference = self.difference_to(base, given)?;
            if first {
                // The room begins here: this is its current state.
                let place = self.take_place();
                self.set_current(place, &difference, None)?;
                return Ok(Before::Current);
            }
            return self.write_state(base, &difference).map(Before::Point);
        }
        let points = graph::states_of(self.read(), self.room(), &prev_events.here)?;
        self.merge(&points).map(Before::Point)
    }

    /// How the state at `base` differs from one that is given by its events.
    fn difference_to(&self, base: Point, given: Vec<EventNo>) -> Result<Difference> {
        let mut left: HashMap<StateKey, EventNo> = HashMap::new();
        let mut same: HashMap<EventNo, StateKey> = HashMap::new();
        for entry in state::all_at(self.read(), self.room(), base)? {
            let key: StateKey = (entry.event_type.into(), entry.state_key.into());
            same.insert(entry.event, key.clone());
            left.insert(key, entry.event);
        }
        let mut difference = BTreeMap::new();
        let mut kept = Vec::new();
        let two_for_one = || Error::BadEvent("the state has two events for one entry".to_owned());
        for no in given {
            // Most of the state is the same; only what is not has to be read.
            if let Some(key) = same.get(&no) {
                kept.push(key.clone());
                continue;
            }
            let event =
                self.cache()
                    .auth_event_in_passing(self.read(), self.rules(), self.room(), no)?;
            let pdu = event.pdu();
            if let Some(state_key) = pdu.state_key().filter(|_| !event.is_rejected()) {
                let key: StateKey = (pdu.event_type().into(), state_key.into());
                if difference.insert(key, Some(no)).is_some() {
                    return Err(two_for_one());
                }
            }
        }
        for key in kept {
            if difference.contains_key(&key) || left.remove(&key).is_none() {
                return Err(two_for_one());
            }
        }
        for key in difference.keys() {
            left.remove(key);
        }
        difference.extend(left.into_keys().map(|key| (key, None)));
        Ok(difference.into_iter().collect())
    }

    /// Keeps an event that has no place in the room's history.
    fn keep_outlier(
        &mut self,
        pdu: &Pdu,
        users: &Users,
        auth_events: &[EventNo],
        verdict: &Verdict,
    ) -> Result<EventNo> {
        let room = self.room();
        let no = event_log::next_outlier(self.read(), room)?;
        let is_state = pdu.state_key().is_some();
        let mut flags = Flags::OUTLIER.with(verdict.flags());
        if is_state {
            flags = flags.with(Flags::STATE);
        }
        let stored = StoredEvent {
            position: Position::PENDING,
            flags,
            state: StateAfter::Unknown,
            outlier: None,
            sender: users.sender,
            event_id: pdu.event_id().clone(),
            thread_root: None,
            json: pdu.shared_json(),
        };
        EVENTS.put(self.txn(), &(room, no), &stored);
        EVENT_IDS.put(self.txn(), &pdu.event_id().to_string(), &(room, no));
        if is_state && *verdict == Verdict::Accepted {
            auth_index::add(self.txn(), room, no, auth_events)?;
        }
        Ok(no)
    }
}

/// The events that an event names, as a state to check it by.
struct Named<'a>(&'a [Arc<AuthEvent>]);

impl event::StateLookup for Named<'_> {
    fn get(&self, event_type: &str, state_key: &str) -> Option<&AuthEvent> {
        self.0
            .iter()
            .find(|event| event.pdu().is_state(event_type, state_key))
            .map(|event| &**event)
    }
}
