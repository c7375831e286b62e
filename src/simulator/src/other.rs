//! The second opinion on state resolution: ruma's resolver, over whole state maps and walked auth chains.
//!
//! It knows no room version 1; there the reference has one opinion only, as where joins lack join rules.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use event::auth::{AuthEvent, Membership};
use event::{RoomRules, RoomVersion};
use ruma_common::room_version_rules::RoomVersionRules;
use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
};
use ruma_events::{StateEventType, TimelineEventType};
use ruma_state_res::utils::event_id_set::EventIdSet;
use serde_json::value::RawValue;

use crate::reference::State;

type Id = OwnedEventId;

/// An event as the other implementation wants it.
struct Theirs {
    event_id: Id,
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    event_type: TimelineEventType,
    state_key: Option<String>,
    content: Box<RawValue>,
    time: MilliSecondsSinceUnixEpoch,
    prev_events: Vec<Id>,
    auth_events: Vec<Id>,
    rejected: bool,
}

impl ruma_state_res::Event for Theirs {
    type Id = Id;

    fn event_id(&self) -> &Id {
        &self.event_id
    }
    fn room_id(&self) -> Option<&RoomId> {
        self.room_id.as_deref()
    }
    fn sender(&self) -> &UserId {
        &self.sender
    }
    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.time
    }
    fn event_type(&self) -> &TimelineEventType {
        &self.event_type
    }
    fn content(&self) -> &RawValue {
        &self.content
    }
    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }
    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Id> + '_> {
        Box::new(self.prev_events.iter())
    }
    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Id> + '_> {
        Box::new(self.auth_events.iter())
    }
    fn redacts(&self) -> Option<&Id> {
        None
    }
    fn rejected(&self) -> bool {
        self.rejected
    }
}

/// The events of a room for the other implementation, under the same numbers as in the reference.
pub(crate) struct Other {
    rules: RoomVersionRules,
    events: Vec<Option<Arc<Theirs>>>,
    /// The auth chain of each event, itself included.
    chains: Vec<BTreeSet<usize>>,
    numbers: HashMap<Id, usize>,
    /// Joins whose `auth_events` have no join rules.
    unruled: BTreeSet<usize>,
}

impl Other {
    pub(crate) fn new(rules: &RoomRules) -> Self {
        Other {
            rules: their_rules(rules.version),
            events: Vec::new(),
            chains: Vec::new(),
            numbers: HashMap::new(),
            unruled: BTreeSet::new(),
        }
    }

    /// Takes the next event.
    pub(crate) fn learn(&mut self, event: &AuthEvent) {
        let number = self.events.len();
        let mut chain = BTreeSet::from([number]);
        let theirs = read(event).map(Arc::new);
        if let Some(theirs) = &theirs {
            for id in &theirs.auth_events {
                if let Some(of) = self.numbers.get(id) {
                    chain.extend(&self.chains[*of]);
                }
            }
            self.numbers.insert(theirs.event_id.clone(), number);
        }
        let has_rules = chain_starts(&theirs).any(|id| {
            let rules = self
                .numbers
                .get(id)
                .and_then(|of| self.events[*of].as_ref());
            rules.is_some_and(|of| of.event_type == TimelineEventType::RoomJoinRules)
        });
        if event.membership() == Some(Membership::Join) && !has_rules {
            self.unruled.insert(number);
        }
        self.events.push(theirs);
        self.chains.push(chain);
    }

    /// The resolution of some states; `None` in room version 1, and where joins without join rules are in question: the
    /// specification does not say what holds then, and the other implementation refuses them all, while members who
    /// join again were always let in.
    pub(crate) fn resolve(&self, states: &[&State]) -> Option<Result<State, String>> {
        let rules = self.rules.state_res.v2_rules()?;
        let id = |number: &usize| {
            let event = self.events[*number].as_ref();
            event
                .map(|event| event.event_id.clone())
                .ok_or("an event in a state can't be read")
        };
        let maps: Result<Vec<ruma_state_res::StateMap<Id>>, &str> = states
            .iter()
            .map(|state| {
                let entry = |((event_type, state_key), number): (&(Box<str>, Box<str>), &usize)| {
                    let key = (StateEventType::from(&**event_type), state_key.to_string());
                    Ok((key, id(number)?))
                };
                state.iter().map(entry).collect()
            })
            .collect();
        let maps = match maps {
            Ok(maps) => maps,
            Err(error) => return Some(Err(error.to_owned())),
        };
        let chains: Vec<BTreeSet<usize>> = states
            .iter()
            .map(|state| {
                state
                    .values()
                    .flat_map(|number| &self.chains[*number])
                    .copied()
                    .collect()
            })
            .collect();
        let shared = |number: &usize| chains.iter().all(|chain| chain.contains(number));
        if chains
            .iter()
            .flatten()
            .any(|number| self.unruled.contains(number) && !shared(number))
        {
            return None;
        }
        let chains = chains
            .iter()
            .map(|chain| {
                chain
                    .iter()
                    .filter_map(|number| id(number).ok())
                    .collect::<EventIdSet<Id>>()
            })
            .collect();
        let resolved = ruma_state_res::resolve(
            &self.rules.authorization,
            rules,
            maps.iter(),
            chains,
            |id| self.events[*self.numbers.get(id)?].clone(),
            |conflicted| Some(self.subgraph(conflicted)),
        );
        Some(resolved.map_err(|error| error.to_string()).map(|resolved| {
            let entry = |((event_type, state_key), id): ((StateEventType, String), Id)| {
                (
                    (event_type.to_string().into(), state_key.into()),
                    self.numbers[&id],
                )
            };
            resolved.into_iter().map(entry).collect()
        }))
    }

    /// The events between two of the set: in the chain of one, with another in their own.
    fn subgraph(&self, conflicted: &ruma_state_res::StateMap<Vec<Id>>) -> EventIdSet<Id> {
        let set: BTreeSet<usize> = conflicted
            .values()
            .flatten()
            .filter_map(|id| self.numbers.get(id).copied())
            .collect();
        let below: BTreeSet<usize> = set
            .iter()
            .flat_map(|number| &self.chains[*number])
            .copied()
            .collect();
        below
            .iter()
            .filter(|number| {
                self.chains[**number]
                    .iter()
                    .any(|other| set.contains(other))
            })
            .filter_map(|number| self.events[*number].as_ref())
            .map(|event| event.event_id.clone())
            .collect()
    }
}

fn chain_starts(event: &Option<Arc<Theirs>>) -> impl Iterator<Item = &Id> {
    event.iter().flat_map(|event| &event.auth_events)
}

fn read(event: &AuthEvent) -> Option<Theirs> {
    let pdu = event.pdu();
    let ids = |ids: Vec<&str>| -> Option<Vec<Id>> { ids.into_iter().map(|id| name(id)).collect() };
    Some(Theirs {
        event_id: name(pdu.event_id())?,
        room_id: match pdu.has_room_id() {
            true => Some(pdu.room_id().try_into().ok()?),
            false => None,
        },
        sender: pdu.sender().try_into().ok()?,
        event_type: pdu.event_type().into(),
        state_key: pdu.state_key().map(str::to_owned),
        content: RawValue::from_string(pdu.content().to_owned()).ok()?,
        time: serde_json::from_value(pdu.origin_server_ts().into()).ok()?,
        prev_events: ids(pdu.prev_events().collect())?,
        auth_events: ids(pdu.auth_events().collect())?,
        rejected: event.is_rejected(),
    })
}

fn name(id: &str) -> Option<Id> {
    id.try_into().ok()
}

fn their_rules(version: RoomVersion) -> RoomVersionRules {
    match version {
        RoomVersion::V1 => RoomVersionRules::V1,
        RoomVersion::V2 => RoomVersionRules::V2,
        RoomVersion::V3 => RoomVersionRules::V3,
        RoomVersion::V4 => RoomVersionRules::V4,
        RoomVersion::V5 => RoomVersionRules::V5,
        RoomVersion::V6 => RoomVersionRules::V6,
        RoomVersion::V7 => RoomVersionRules::V7,
        RoomVersion::V8 => RoomVersionRules::V8,
        RoomVersion::V9 => RoomVersionRules::V9,
        RoomVersion::V10 => RoomVersionRules::V10,
        RoomVersion::V11 => RoomVersionRules::V11,
        RoomVersion::V12 => RoomVersionRules::V12,
    }
}
