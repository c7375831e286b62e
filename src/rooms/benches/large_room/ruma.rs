//! The same fork by `ruma-state-res`, over full state maps and full auth chains.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use event::{Pdu, RoomVersion};
use names::RoomSn;
use oracle::Theirs;
use rooms::{EventNo, Point, event_log, state};
use ruma_common::{EventId, OwnedEventId};
use ruma_events::StateEventType;
use ruma_state_res::utils::event_id_set::EventIdSet;
use store::View;
use testkit::World;

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
        let event = Theirs::read(&pdu.expect("an event"), false).expect("readable");
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
    let rules = oracle::rules(RoomVersion::V12);
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
