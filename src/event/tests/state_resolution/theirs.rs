//! The same questions to an independent implementation.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use event::auth::AuthEvent;
use event::state_res::StateMap;
use event::{RoomRules, RoomVersion};
use ruma_common::room_version_rules::RoomVersionRules;
use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
};
use ruma_events::{StateEventType, TimelineEventType};
use ruma_state_res::utils::event_id_set::EventIdSet;
use serde_json::value::RawValue;

use crate::room::graph::Graph;

/// An event as the other implementation wants it.
pub struct Theirs {
    event_id: OwnedEventId,
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    event_type: TimelineEventType,
    state_key: String,
    content: Box<RawValue>,
    time: MilliSecondsSinceUnixEpoch,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    rejected: bool,
}

impl Theirs {
    pub fn read(event: &AuthEvent) -> Theirs {
        let pdu = event.pdu();
        let id = |id: &str| OwnedEventId::try_from(id).unwrap();
        Theirs {
            event_id: id(pdu.event_id()),
            room_id: pdu.has_room_id().then(|| pdu.room_id().try_into().unwrap()),
            sender: pdu.sender().try_into().unwrap(),
            event_type: pdu.event_type().into(),
            state_key: pdu.state_key().unwrap().to_owned(),
            content: RawValue::from_string(pdu.content().to_owned()).unwrap(),
            time: serde_json::from_value(pdu.origin_server_ts().into()).unwrap(),
            prev_events: pdu.prev_events().map(id).collect(),
            auth_events: pdu.auth_events().map(id).collect(),
            rejected: event.is_rejected(),
        }
    }
}

impl ruma_state_res::Event for Theirs {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
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
        Some(&self.state_key)
    }
    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }
    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }
    fn redacts(&self) -> Option<&OwnedEventId> {
        None
    }
    fn rejected(&self) -> bool {
        self.rejected
    }
}

fn their_rules(rules: &RoomRules) -> RoomVersionRules {
    match rules.version {
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

/// The events of a graph for the other implementation, kept up as the graph grows.
#[derive(Default)]
pub struct Oracle {
    events: Vec<Arc<Theirs>>,
    by_id: HashMap<OwnedEventId, Arc<Theirs>>,
    /// For each event all that can be reached from it, itself included.
    chains: HashMap<OwnedEventId, HashSet<OwnedEventId>>,
}

impl Oracle {
    pub fn follow(&mut self, graph: &Graph) {
        for event in &graph.events[self.events.len()..] {
            let theirs = Arc::new(Theirs::read(event));
            let mut chain = self.chain(&theirs.auth_events);
            chain.insert(theirs.event_id.clone());
            self.chains.insert(theirs.event_id.clone(), chain);
            self.by_id.insert(theirs.event_id.clone(), theirs.clone());
            self.events.push(theirs);
        }
    }

    /// Everything that can be reached from some events, themselves included.
    fn chain<'a>(&self, ids: impl IntoIterator<Item = &'a OwnedEventId>) -> HashSet<OwnedEventId> {
        let chains = ids.into_iter().flat_map(|id| &self.chains[id]);
        chains.cloned().collect()
    }

    pub fn resolve(&self, graph: &Graph, states: &[&StateMap<usize>]) -> StateMap<usize> {
        let rules = their_rules(graph.rules);
        let maps: Vec<ruma_state_res::StateMap<OwnedEventId>> = states
            .iter()
            .map(|state| {
                let entry = |((event_type, state_key), number): (&(Box<str>, Box<str>), &usize)| {
                    let key = (StateEventType::from(&**event_type), state_key.to_string());
                    (key, self.events[*number].event_id.clone())
                };
                state.iter().map(entry).collect()
            })
            .collect();
        let chains = maps
            .iter()
            .map(|map| {
                self.chain(map.values())
                    .into_iter()
                    .collect::<EventIdSet<_>>()
            })
            .collect();
        let resolved = ruma_state_res::resolve(
            &rules.authorization,
            rules.state_res.v2_rules().unwrap(),
            maps.iter(),
            chains,
            |id| self.by_id.get(id).cloned(),
            |conflicted| {
                let set: HashSet<&OwnedEventId> = conflicted.values().flatten().collect();
                let below = self.chain(set.iter().copied());
                let reaches_back =
                    |id: &OwnedEventId| self.chains[id].iter().any(|id| set.contains(id));
                Some(below.into_iter().filter(reaches_back).collect())
            },
        )
        .unwrap();
        resolved
            .into_iter()
            .map(|((event_type, key), id)| {
                (
                    (event_type.to_string().into(), key.into()),
                    graph.by_id[id.as_str()],
                )
            })
            .collect()
    }

    /// What the other implementation says about an event in a state.
    pub fn allows(&self, graph: &Graph, event: &AuthEvent, state: &StateMap<usize>) -> bool {
        let rules = their_rules(graph.rules).authorization;
        ruma_state_res::check_state_dependent_auth_rules(
            &rules,
            Theirs::read(event),
            |event_type, key| {
                let number = state.get(&(event_type.to_string().into(), key.into()))?;
                Some(self.events[*number].clone())
            },
        )
        .is_ok()
    }
}
