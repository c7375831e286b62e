//! Entering a room that another server has.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use event::{EventId, RoomRules, identifier};
use names::RoomSn;
use store::{Read, Txn};

use super::order::in_order;
use super::{Arrival, Need, Received, Verdict, Verified};
use crate::partial::Omitted;
use crate::{Context, Effects, Error, Result, RoomWriter, event_log};

/// What came of entering a room.
#[derive(Debug)]
pub enum Entered {
    /// This server is in the room.
    Done(Effects),
    /// Nothing was changed. Get these and come again.
    Need(Need),
}

/// Enters a room that another server has: with the answer of `send_join`, all of the state before the join and of
/// its auth chain, in any order.
///
/// # Errors
/// [`Error::BadEvent`] if the events do not make a room in which the join is allowed.
pub fn enter(
    txn: &mut Txn,
    context: Context<'_>,
    rules: &'static RoomRules,
    room: RoomSn,
    answer: &Answer<'_>,
) -> Result<Entered> {
    let events = answer.state.iter().chain(answer.auth_chain);
    let unknown = users_without_number(txn, events.chain([answer.join]))?;
    if !unknown.is_empty() {
        return Ok(Entered::Need(Need::Users(unknown)));
    }
    let events = answer.in_order()?;
    let create = events
        .iter()
        .find(|event| event.pdu.event_type() == "m.room.create")
        .ok_or_else(|| Error::BadEvent("the state has no create event".to_owned()))?;
    let mut writer = match writer_of(txn, context, rules, room, create)? {
        Ok(writer) => writer,
        Err(need) => return Ok(Entered::Need(need)),
    };
    for event in events {
        if let Received::Need(need) = writer.receive(event, Arrival::Outlier)? {
            return Ok(Entered::Need(need));
        }
    }
    let state: Vec<EventId> = answer
        .state
        .iter()
        .map(|event| event.pdu.event_id().clone())
        .collect();
    join(writer, answer.join, &state, None)
}

/// Enters a room whose state was brought here before, by [`Staging`], with all its members or without most of
/// them ([`crate::partial`]).
///
/// # Errors
/// [`Error::BadEvent`] if the events do not make a room in which the join is allowed.
pub fn enter_staged(
    txn: &mut Txn,
    context: Context<'_>,
    rules: &'static RoomRules,
    room: RoomSn,
    staging: &Staging,
    entering: &Verified,
) -> Result<Entered> {
    let omitted = staging.omitted.as_ref();
    if omitted.is_some() && event_log::head(txn, room)?.is_some() {
        // What the room says already is not the beginning that members could be put below.
        return Err(Error::Invalid(
            "a room that is known is entered with all its members".to_owned(),
        ));
    }
    let writer = match writer_of(txn, context, rules, room, &staging.create)? {
        Ok(writer) => writer,
        Err(need) => return Ok(Entered::Need(need)),
    };
    let Some(omitted) = omitted else {
        return join(writer, entering, &staging.state, None);
    };
    let mut state = staging.state.clone();
    state.extend(named_members(&writer, entering, &staging.members)?);
    join(writer, entering, &state, Some(omitted))
}

/// The members whom the join itself names as who authorises it, and who are not in the state that was given: the user as they
/// were before, and who lets them in. Who made the template had the whole state to choose them from.
fn named_members(
    writer: &RoomWriter<'_>,
    entering: &Verified,
    given: &BTreeSet<Box<str>>,
) -> Result<Vec<EventId>> {
    let mut found = BTreeMap::new();
    for id in entering.pdu.auth_events() {
        let Some((room, no)) = event_log::number(writer.read(), id)? else {
            continue;
        };
        if room != writer.room() {
            continue;
        }
        let event = writer
            .cache()
            .auth_event(writer.read(), writer.rules(), room, no)?;
        if let Some(user_id) = event.pdu().state_key()
            && event.pdu().event_type() == "m.room.member"
            && !given.contains(user_id)
        {
            found.insert(user_id.to_owned(), event.pdu().event_id().clone());
        }
    }
    Ok(found.into_values().collect())
}

/// The writer of a room that is entered; what it may need is the number of the room's creator.
fn writer_of<'a>(
    txn: &'a mut Txn,
    context: Context<'a>,
    rules: &'static RoomRules,
    room: RoomSn,
    create: &Verified,
) -> Result<Result<RoomWriter<'a>, Need>> {
    if event_log::head(txn, room)?.is_some() {
        return Ok(Ok(RoomWriter::open(txn, context, room)?));
    }
    let mut writer = RoomWriter::begin_empty(txn, context, rules, room, &create.pdu)?;
    let no = match writer.known(&create.pdu)? {
        Some(no) => no,
        None => match writer.users(&create.pdu)? {
            Err(need) => return Ok(Err(need)),
            Ok(users) => writer.keep_outlier(&create.pdu, &users, &[], &Verdict::Accepted)?,
        },
    };
    writer.created_by(no);
    Ok(Ok(writer))
}

fn join(
    mut writer: RoomWriter<'_>,
    event: &Verified,
    state: &[EventId],
    omitted: Option<&Omitted>,
) -> Result<Entered> {
    match writer.receive(event, Arrival::AfterGap { state })? {
        Received::Need(need) => Ok(Entered::Need(need)),
        Received::Stored {
            verdict: Verdict::Rejected(error),
            ..
        } => Err(Error::NotAllowed(error)),
        Received::Stored { .. } | Received::Known(_) => {
            if let Some(omitted) = omitted {
                writer.mark_partial(event.pdu.event_id(), omitted)?;
            }
            Ok(Entered::Done(writer.finish()))
        }
    }
}

/// What a server answers when a user of this server joins a room there.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    /// The state before the join.
    pub state: &'a [Verified],
    /// The auth chain of the state.
    pub auth_chain: &'a [Verified],
    /// The join.
    pub join: &'a Verified,
}

impl Answer<'_> {
    /// The events of the state and of the auth chain, each after those that it names in `auth_events`.
    fn in_order(&self) -> Result<Vec<&Verified>> {
        let mut by_id: BTreeMap<&str, &Verified> = BTreeMap::new();
        for event in self.state.iter().chain(self.auth_chain) {
            by_id.insert(event.pdu.event_id().as_str(), event);
        }
        in_order(&by_id, |event| event.pdu.auth_events().collect())
            .ok_or_else(|| Error::BadEvent("the auth events go in a circle".to_owned()))
    }
}

/// The users that the events speak of and that have no number yet.
///
/// # Errors
/// If the store fails.
pub fn users_without_number<'e>(
    from: &impl Read,
    events: impl IntoIterator<Item = &'e Verified>,
) -> Result<Vec<String>> {
    let mut unknown = BTreeSet::new();
    for event in events {
        let pdu = &event.pdu;
        let member = pdu
            .state_key()
            .filter(|key| pdu.event_type() == "m.room.member" && identifier::is_user_id(key));
        for id in [Some(pdu.sender()), member].into_iter().flatten() {
            if !unknown.contains(id) && names::user_sn(from, id)?.is_none() {
                unknown.insert(id.to_owned());
            }
        }
    }
    Ok(unknown.into_iter().collect())
}

/// The events of a room that is going to be entered, brought here as outliers in several changes, so that a large
/// room needs no large change. Nobody sees anything of it before [`enter_staged`], and the room has no head until then; what
/// was kept when it ends early is known when it is tried again.
///
/// The events may come in any order: one that comes before what authorises it waits for that. What waits in the end
/// is left out.
#[derive(Debug)]
pub struct Staging {
    create: Verified,
    /// Those of the state that are here, in the order in which they came.
    state: Vec<EventId>,
    /// The members among them, where most are left out.
    members: BTreeSet<Box<str>>,
    omitted: Option<Omitted>,
    /// By the id of an auth event that is not here.
    waiting: HashMap<EventId, Vec<Part>>,
}

/// An event of what a server answers to a join.
#[derive(Clone, Debug)]
pub struct Part {
    /// The event.
    pub event: Verified,
    /// It is of the state itself, and not only of its auth chain.
    pub is_state: bool,
}

impl Staging {
    /// For a room that begins with this event.
    pub fn new(create: Verified) -> Self {
        Self::of(create, None)
    }

    /// For a room that is given without most of its members.
    pub fn without_members(create: Verified, omitted: Omitted) -> Self {
        Self::of(create, Some(omitted))
    }

    fn of(create: Verified, omitted: Option<Omitted>) -> Self {
        Self {
            create,
            state: Vec::new(),
            members: BTreeSet::new(),
            omitted,
            waiting: HashMap::new(),
        }
    }

    /// How many events of the state are here.
    pub fn state_count(&self) -> usize {
        self.state.len()
    }

    /// How many events wait for what authorises them.
    pub fn waiting_count(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// Keeps events, all of whose users have numbers ([`users_without_number`]).
    ///
    /// # Errors
    /// If the store fails, or the create event is none. An event that can't belong to the room is left out.
    pub fn keep(
        &mut self,
        txn: &mut Txn,
        context: Context<'_>,
        rules: &'static RoomRules,
        room: RoomSn,
        parts: Vec<Part>,
    ) -> Result<()> {
        let mut writer = match writer_of(txn, context, rules, room, &self.create)? {
            Ok(writer) => writer,
            Err(_) => return Err(Error::BadEvent("its creator has no number".to_owned())),
        };
        let mut open: VecDeque<Part> = parts.into();
        while let Some(part) = open.pop_front() {
            let id = part.event.pdu.event_id();
            match writer.receive(&part.event, Arrival::Outlier) {
                Ok(Received::Need(Need::AuthEvents(missing))) => {
                    if let Some(missing) = missing.into_iter().next() {
                        self.waiting.entry(missing).or_default().push(part);
                    }
                }
                Ok(Received::Known(_) | Received::Stored { .. }) => {
                    open.extend(self.waiting.remove(id).unwrap_or_default());
                    if part.is_state {
                        self.state.push(id.clone());
                        let pdu = &part.event.pdu;
                        if self.omitted.is_some() && pdu.event_type() == "m.room.member" {
                            self.members.extend(pdu.state_key().map(Into::into));
                        }
                    }
                }
                // Nothing was changed: it is this event alone that is wrong.
                Ok(Received::Need(_)) | Err(Error::BadEvent(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
