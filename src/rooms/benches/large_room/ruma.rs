//! The same fork by `ruma-state-res`, over full state maps and full auth chains.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use event::{Pdu, RoomVersion};
use names::RoomSn;
use rooms::{EventNo, Point, event_log, state};
use ruma_common::room_version_rules::RoomVersionRules;
use ruma_common::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
};
use ruma_events::{StateEventType, TimelineEventType};
use ruma_state_res::utils::event_id_set::EventIdSet;
use serde_json::value::RawValue;
use store::View;
use testkit::World;

struct Theirs {
    event_id: OwnedEventId,
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    event_type: TimelineEventType,
    state_key: String,
    content: Box<RawValue>,
    time: MilliSecondsSinceUnixEpoch,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
}

impl Theirs {
    fn read(pdu: &Pdu) -> Theirs {
        let id = |id: &str| OwnedEventId::try_from(id).expect("an event id");
        Theirs {
            event_id: id(pdu.event_id()),
            room_id: pdu
                .has_room_id()
                .then(|| pdu.room_id().try_into().expect("a room id")),
            sender: pdu.sender().try_into().expect("a user id"),
            event_type: pdu.event_type().into(),
            state_key: pdu.state_key().expect("a state event").to_owned(),
            content: RawValue::from_string(pdu.content().to_owned()).expect("JSON"),
            time: serde_json::from_value(pdu.origin_server_ts().into()).expect("a time"),
            prev_events: pdu.prev_events().map(id).collect(),
            auth_events: pdu.auth_events().map(id).collect(),
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
        false
    }
}

type Events = HashMap<OwnedEventId, Arc<Theirs>>;

/// Loads an event and its auth chain.
fn load(view: &View, room: RoomSn, no: EventNo, events: &mut Events) -> OwnedEventId {
    let stored = event_log::get(view, room, no)
        .expect("readable")
        .expect("there");
    let first: OwnedEventId = stored.event_id.as_str().try_into().expect("an event id");
    let mut open = vec![first.clone()];
    while let Some(id) = open.pop() {
        if events.contains_key(&id) {
            continue;
        }
        let no = event_log::find_in(view, room, id.as_str())
            .expect("readable")
            .expect("there");
        let stored = event_log::get(view, room, no)
            .expect("readable")
            .expect("there");
        let rules = RoomVersion::V12.rules();
        let pdu = Pdu::from_stored(rules, stored.event_id.clone(), stored.json.as_bytes());
        let event = Theirs::read(&pdu.expect("an event"));
        open.extend(event.auth_events.iter().cloned());
        events.insert(id, Arc::new(event));
    }
    first
}

/// Resolves the states after the room's two extremities, and compares with the current state.
pub fn compare(world: &World, room: RoomSn) {
    let view = world.store.view();
    let head = event_log::head(&view, room)
        .expect("readable")
        .expect("there");
    let begun = Instant::now();
    let mut events = Events::new();
    let mut maps: Vec<ruma_state_res::StateMap<OwnedEventId>> = Vec::new();
    for (no, _) in &head.extremities {
        let event = event_log::get(&view, room, *no)
            .expect("readable")
            .expect("there");
        let point: Point = event.state_after(*no).expect("known");
        let mut map = ruma_state_res::StateMap::new();
        for entry in state::all_at(&view, room, point).expect("readable") {
            let id = load(&view, room, entry.event, &mut events);
            map.insert(
                (StateEventType::from(entry.event_type), entry.state_key),
                id,
            );
        }
        maps.push(map);
    }
    assert_eq!(maps.len(), 2, "the room is forked");
    let loaded = begun.elapsed();
    let begun = Instant::now();
    let chains: Vec<EventIdSet<OwnedEventId>> = maps
        .iter()
        .map(|map| {
            let mut chain = HashSet::new();
            let mut open: Vec<&OwnedEventId> = map.values().collect();
            while let Some(id) = open.pop() {
                if chain.insert(id.clone()) {
                    open.extend(&events[id].auth_events);
                }
            }
            chain.into_iter().collect()
        })
        .collect();
    let chained = begun.elapsed();
    let begun = Instant::now();
    let rules = RoomVersionRules::V12;
    let resolved = ruma_state_res::resolve(
        &rules.authorization,
        rules.state_res.v2_rules().expect("version 2 or later"),
        maps.iter(),
        chains,
        |id: &EventId| events.get(id).cloned(),
        |conflicted| Some(conflicted.values().flatten().cloned().collect()),
    )
    .expect("a resolution");
    println!(
        "the same by ruma-state-res: maps loaded in {loaded:?}, auth chains in {chained:?}, resolved in {:?}",
        begun.elapsed()
    );
    let current = state::all_current(&view, room).expect("readable");
    assert_eq!(current.len(), resolved.len());
    for entry in current {
        let event = event_log::get(&view, room, entry.event)
            .expect("readable")
            .expect("there");
        let key = (StateEventType::from(entry.event_type), entry.state_key);
        assert_eq!(resolved[&key].as_str(), event.event_id.as_str(), "{key:?}");
    }
}
