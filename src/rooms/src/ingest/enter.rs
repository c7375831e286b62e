//! Entering a room that another server has.
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::collections::{BTreeMap, BTreeSet};

use event::{EventId, RoomRules, identifier};
use names::RoomSn;
use store::Txn;

use super::order::in_order;
use super::{Arrival, Need, Received, Verdict, Verified};
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
    let unknown = answer.users_without_number(txn)?;
    if !unknown.is_empty() {
        return Ok(Entered::Need(Need::Users(unknown)));
    }
    let bad = |why: &str| Error::BadEvent(why.to_owned());
    let events = answer.in_order()?;
    let mut writer = match event_log::head(txn, room)? {
        Some(_) => RoomWriter::open(txn, context, room)?,
        None => {
            let create = events
                .iter()
                .find(|event| event.pdu.event_type() == "m.room.create")
                .ok_or_else(|| bad("the state has no create event"))?;
            if create.pdu.room_id() != answer.join.pdu.room_id() {
                return Err(bad("the create event is of another room"));
            }
            let mut writer = RoomWriter::begin_empty(txn, context, rules, room, &create.pdu)?;
            match writer.users(&create.pdu)? {
                Err(need) => return Ok(Entered::Need(need)),
                Ok(users) => {
                    let no = writer.keep_outlier(&create.pdu, &users, &[], &Verdict::Accepted)?;
                    writer.head_mut().create = no;
                }
            }
            writer
        }
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
    match writer.receive(answer.join, Arrival::AfterGap { state: &state })? {
        Received::Need(need) => Ok(Entered::Need(need)),
        Received::Stored {
            verdict: Verdict::Rejected(error),
            ..
        } => Err(Error::NotAllowed(error)),
        Received::Stored { .. } | Received::Known(_) => Ok(Entered::Done(writer.finish())),
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
    fn users_without_number(&self, txn: &Txn) -> Result<Vec<String>> {
        let mut unknown = BTreeSet::new();
        let events = self.state.iter().chain(self.auth_chain).chain([self.join]);
        for event in events {
            let pdu = &event.pdu;
            let member = pdu
                .state_key()
                .filter(|key| pdu.event_type() == "m.room.member" && identifier::is_user_id(key));
            for id in [Some(pdu.sender()), member].into_iter().flatten() {
                if !unknown.contains(id) && names::user_sn(txn, id)?.is_none() {
                    unknown.insert(id.to_owned());
                }
            }
        }
        Ok(unknown.into_iter().collect())
    }

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
