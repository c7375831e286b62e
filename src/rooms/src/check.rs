//! The invariants between this crate's tables, for `meyrin db check`: every derived row is what its
//! source says, and nothing is missing.

mod graph;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use event::auth::Membership;
use event::{Pdu, RoomRules, identifier, json};
use names::{RoomSn, UserSn};
use store::{Direction, Read};

use self::graph::Graph;
use crate::held::HeldTotal;
use crate::schema::{
    ALIASES, CITATIONS, HEADS, HELD, HELD_IDS, LINES, MARKS, MEMBERS, OUTSIDE, RECEIPT_LOG,
    RECEIPTS, RELATIONS, REMOTE_ROOMS, ROOM_ALIASES, ROOM_SERVERS, ROOMS_LEFT, ROOMS_OF_SERVER,
    STATE, STATE_HISTORY, STATE_LOG, THREADS, TIMESTAMPS, USER_ROOMS,
};
use crate::{
    EventNo, Flags, Point, Result, RoomHead, StateDelta, StoredEvent, auth_index, event_log, held,
    members, partial, relations, servers, state,
};

/// Checks one room; `report` hears of everything that is not as it must be.
pub fn room(
    from: &impl Read,
    room: RoomSn,
    room_id: &str,
    report: &mut dyn FnMut(String),
) -> Result<()> {
    let Some(head) = event_log::head(from, room)? else {
        return Ok(());
    };
    let mut say = |what: String| report(format!("room {room_id}: {what}"));
    let Some(rules) = head.rules() else {
        say(format!("its version {} is not known", head.version));
        return Ok(());
    };
    for row in event_log::outliers(from, room) {
        let (no, event) = row?;
        if event.flags.has(Flags::STATE) && !event.flags.has(Flags::REJECTED) {
            auth_node(from, room, rules, no, &event, &mut say)?;
        }
    }
    let mut walk = Walk::new(from, room, &head, rules);
    for row in event_log::forwards(from, room, EventNo::MIN) {
        let (no, event) = row?;
        walk.event(no, &event, &mut say)?;
    }
    walk.finish(&mut say)?;
    partial(from, room, &head, &mut say)?;
    receipts(from, room, &mut say)
}

/// What the events say the room must be.
struct Walk<'a, R: Read> {
    from: &'a R,
    room: RoomSn,
    head: &'a RoomHead,
    rules: &'static RoomRules,
    last: Option<(EventNo, StoredEvent)>,
    graph: Graph,
    related: u64,
    threads: BTreeMap<String, (EventNo, u64)>,
    timestamps: u64,
}

impl<'a, R: Read> Walk<'a, R> {
    fn new(from: &'a R, room: RoomSn, head: &'a RoomHead, rules: &'static RoomRules) -> Self {
        Self {
            from,
            room,
            head,
            rules,
            last: None,
            graph: Graph::default(),
            related: 0,
            threads: BTreeMap::new(),
            timestamps: 0,
        }
    }

    fn event(
        &mut self,
        no: EventNo,
        event: &StoredEvent,
        say: &mut dyn FnMut(String),
    ) -> Result<()> {
        let id = &event.event_id;
        if event_log::find(self.from, id)? != Some((self.room, no)) {
            say(format!("event {id} is not found by its id"));
        }
        if no >= self.head.next {
            say(format!("event {id} lies after the room's head"));
        }
        if let Some((before, last)) = &self.last
            && !before.is_past()
            && !no.is_past()
            && last.position > event.position
        {
            say(format!(
                "event {id} was committed before the event in front of it"
            ));
        }
        let ts = json::member(&event.json, "origin_server_ts").and_then(json::integer);
        let ts = ts.and_then(|ts| u64::try_from(ts).ok()).unwrap_or(0);
        if !TIMESTAMPS.contains(self.from, &(self.room, ts, no))? {
            say(format!("event {id} is not found by its time"));
        }
        self.timestamps += 1;
        if event.flags.has(Flags::STATE) && !event.flags.has(Flags::REJECTED) {
            self.state_event(no, event, say)?;
        }
        let of = (self.room, self.rules);
        self.graph.add(self.from, of, no, event, say)?;
        if !event.flags.is_visible() {
            self.last = Some((no, event.clone()));
            return Ok(());
        }
        let content = json::member(&event.json, "content").unwrap_or("{}");
        let redacted = event_log::marks(self.from, self.room, id)?
            .redacted_by
            .is_some();
        if let Some(relation) = relations::parse(content).filter(|_| !redacted) {
            self.related += 1;
            if !RELATIONS.contains(self.from, &(self.room, relation.event_id.clone(), no))? {
                say(format!("the relation of event {id} is missing"));
            }
            if !MARKS.contains(self.from, &(self.room, relation.event_id.clone()))? {
                say(format!(
                    "event {} does not know that {id} refers to it",
                    relation.event_id
                ));
            }
            if relation.rel_type == "m.thread" {
                let thread = self.threads.entry(relation.event_id).or_insert((no, 0));
                *thread = (no, thread.1 + 1);
            }
        }
        self.last = Some((no, event.clone()));
        Ok(())
    }

    /// An accepted state event is in the log where it stands, and in the graph of auth events.
    fn state_event(
        &self,
        no: EventNo,
        event: &StoredEvent,
        say: &mut dyn FnMut(String),
    ) -> Result<()> {
        let (id, number) = (&event.event_id, event.number(no));
        if let Some(point) = event.state_after(no) {
            let log = state::change_of(self.from, self.room, point)?;
            if !log.iter().any(|change| change.after == Some(number)) {
                say(format!(
                    "the change of state by event {id} is not in the log"
                ));
            }
        }
        auth_node(self.from, self.room, self.rules, number, event, say)
    }

    fn finish(self, say: &mut dyn FnMut(String)) -> Result<()> {
        let Some((last, _)) = &self.last else {
            say("it has no events".to_owned());
            return Ok(());
        };
        // What changed by history that was filled in has a place of its own, without an event.
        if self.head.next <= *last {
            say("the head does not follow the last event".to_owned());
        }
        self.graph.check(self.head, say);
        let current = self.lines(say)?;
        self.members(&current, say)?;
        let related = RELATIONS
            .scan(self.from, &(self.room,), Direction::Forward)
            .count() as u64;
        if related != self.related {
            say(format!(
                "{related} relations are kept, the events have {}",
                self.related
            ));
        }
        for row in THREADS.scan(self.from, &(self.room,), Direction::Forward) {
            let ((_, root), summary) = row?;
            if self.threads.get(&root) != Some(&(summary.latest, summary.count)) {
                say(format!("the summary of thread {root} is wrong"));
            }
        }
        let times = TIMESTAMPS
            .scan(self.from, &(self.room,), Direction::Forward)
            .count() as u64;
        if times != self.timestamps {
            say(format!(
                "{times} times are kept for {} events",
                self.timestamps
            ));
        }
        Ok(())
    }

    /// The history by entry says the same as the log by time, on every line; the current state is what the main
    /// line ends in. Gives the current state.
    fn lines(&self, say: &mut dyn FnMut(String)) -> Result<BTreeMap<(String, String), EventNo>> {
        let (from, room) = (self.from, self.room);
        let mut current = BTreeMap::new();
        let mut logged = 0u64;
        for row in STATE_LOG.scan(from, &(room,), Direction::Forward) {
            let ((_, line, place), changes) = row?;
            if line > self.head.side_lines || (line > 0 && !LINES.contains(from, &(room, line))?) {
                say(format!("line {line} of its state history was never begun"));
                continue;
            }
            let point = Point {
                line,
                place: place.previous(),
            };
            for change in changes {
                logged += 1;
                let (of, key) = (change.event_type, change.state_key);
                let row = (room, of.clone(), key.clone(), line, Reverse(place));
                let after = change.after.unwrap_or(EventNo::MIN);
                if STATE_HISTORY.get(from, &row)? != Some(after) {
                    say(format!(
                        "the history of {of} {key:?} does not have the change at {}",
                        place.0
                    ));
                }
                let before = match line {
                    0 => current.get(&(of.clone(), key.clone())).copied(),
                    _ => state::at(from, room, &of, &key, point)?,
                };
                if before != change.before {
                    say(format!(
                        "the change of {of} {key:?} at {} is from what was not there",
                        place.0
                    ));
                }
                match change.after {
                    _ if line > 0 => {}
                    Some(after) => {
                        current.insert((of, key), after);
                    }
                    None => {
                        current.remove(&(of, key));
                    }
                }
            }
        }
        let kept = STATE_HISTORY
            .scan(from, &(room,), Direction::Forward)
            .count() as u64;
        if kept != logged {
            say(format!(
                "{kept} changes of state are kept by entry, {logged} by time"
            ));
        }
        let mut state = BTreeMap::new();
        for row in STATE.scan(from, &(room,), Direction::Forward) {
            let ((_, event_type, state_key), no) = row?;
            state.insert((event_type, state_key), no);
        }
        if current != state {
            say("the current state is not what its history ends in".to_owned());
        }
        Ok(state)
    }

    fn members(
        &self,
        state: &BTreeMap<(String, String), EventNo>,
        say: &mut dyn FnMut(String),
    ) -> Result<()> {
        let (mut joined, mut invited, mut members) = (0, 0, 0usize);
        let mut servers: BTreeMap<String, u64> = BTreeMap::new();
        for row in MEMBERS.scan(self.from, &(self.room,), Direction::Forward) {
            let ((_, user), member) = row?;
            members += 1;
            joined += u64::from(member.membership() == Membership::Join);
            invited += u64::from(member.membership() == Membership::Invite);
            let id = names::user_id(self.from, user)?;
            let entry = ("m.room.member".to_owned(), id.clone());
            if state.get(&entry) != Some(&member.event) {
                say(format!("member {id} is not as the state says"));
            }
            if !user.is_local() && member.membership() == Membership::Join {
                let server = identifier::domain(&id).unwrap_or_default();
                *servers.entry(server.to_owned()).or_default() += 1;
                if !REMOTE_ROOMS.contains(self.from, &(user, self.room))? {
                    say(format!("the rooms of {id} lack this one"));
                }
            }
            if user.is_local() {
                let own = USER_ROOMS.get(self.from, &(user, self.room))?;
                let same = match own {
                    // After this server had left.
                    Some(_) if OUTSIDE.contains(self.from, &(self.room, user))? => true,
                    Some(own) => {
                        let point = Point::main(own.value.place);
                        let changes = state::change_of(self.from, self.room, point)?;
                        let is_it = |change: &StateDelta| {
                            change.state_key == id && change.after == Some(member.event)
                        };
                        changes.iter().any(is_it) && own.value.membership() == member.membership()
                    }
                    None => false,
                };
                if !same {
                    say(format!("{id} has the room otherwise than it has {id}"));
                }
            }
        }
        self.servers(&servers, say)?;
        if (joined, invited) != (self.head.joined, self.head.invited) {
            say("the head counts the members wrongly".to_owned());
        }
        let in_state = state
            .keys()
            .filter(|(of, key)| of == "m.room.member" && identifier::is_user_id(key))
            .count();
        if in_state != members {
            say(format!(
                "{members} members are kept, the state has {in_state}"
            ));
        }
        Ok(())
    }

    /// Other servers are in the room exactly where they have joined users, and came or went where a user of theirs did.
    fn servers(&self, joined: &BTreeMap<String, u64>, say: &mut dyn FnMut(String)) -> Result<()> {
        let mut kept = BTreeMap::new();
        let partial = partial::get(self.from, self.room)?;
        // Servers that were only said to be there came and went without users.
        let was_partial = partial::lacks_members(self.from, self.room)?
            || partial::completed(self.from, self.room)?.is_some();
        let mut joined = joined.clone();
        for server in partial.map(|of| of.servers).unwrap_or_default() {
            *joined.entry(server).or_default() += 1;
        }
        for row in ROOM_SERVERS.scan(self.from, &(self.room,), Direction::Forward) {
            let ((_, server), entry) = row?;
            let is_theirs = |change: &StateDelta| {
                change.event_type == "m.room.member"
                    && identifier::domain(&change.state_key) == Some(&server)
            };
            let changes = state::change_of(self.from, self.room, Point::main(entry.since))?;
            if !was_partial && !changes.iter().any(is_theirs) {
                say(format!("server {server} did not come or go where it says"));
            }
            if servers::is_joined(self.from, self.room, &server)? != (entry.joined > 0) {
                say(format!("the rooms of server {server} are wrong"));
            }
            if entry.joined > 0 {
                kept.insert(server, entry.joined);
            }
        }
        if kept != joined {
            say(format!("its servers are {kept:?}, not {joined:?}"));
        }
        Ok(())
    }
}

/// The graph of auth events has what the event says, both ways.
fn auth_node(
    from: &impl Read,
    room: RoomSn,
    rules: &RoomRules,
    number: EventNo,
    event: &StoredEvent,
    say: &mut dyn FnMut(String),
) -> Result<()> {
    let id = &event.event_id;
    let Ok(pdu) = Pdu::from_stored(rules, id.clone(), event.json.as_bytes()) else {
        say(format!("event {id} does not parse"));
        return Ok(());
    };
    let mut auth_events = Vec::new();
    let mut generation = 0;
    for auth_event in pdu.auth_events() {
        let Some((_, no)) = event_log::number(from, auth_event)? else {
            say(format!("event {id} names {auth_event}, which is not here"));
            continue;
        };
        if let Some(node) = auth_index::node(from, room, no)? {
            generation = generation.max(node.generation + 1);
        }
        if !CITATIONS.contains(from, &(room, no, Reverse(number)))? {
            say(format!(
                "event {auth_event} does not know that {id} names it"
            ));
        }
        auth_events.push(no);
    }
    match auth_index::node(from, room, number)? {
        Some(node) if node.generation == generation => {
            let mut named = node.auth_events;
            named.sort_unstable();
            auth_events.sort_unstable();
            if named != auth_events {
                say(format!("the auth events of {id} are not those it names"));
            }
        }
        _ => say(format!(
            "event {id} is not where it belongs among the auth events"
        )),
    }
    Ok(())
}

/// A room whose members are not all known has no state but the current one over time; what is held is found by its id.
fn partial(
    from: &impl Read,
    room: RoomSn,
    head: &RoomHead,
    say: &mut dyn FnMut(String),
) -> Result<()> {
    let (is_partial, abandoned) = (
        partial::is_partial(from, room)?,
        partial::abandoned(from, room)?,
    );
    if (is_partial || abandoned.is_some()) && head.side_lines > 0 {
        say("its members are missing, and yet it has side lines".to_owned());
    }
    if is_partial && abandoned.is_some() {
        say("its members are missing for two reasons".to_owned());
    }
    if members::is_resident(from, room)? != is_partial && (is_partial || abandoned.is_some()) {
        say("its members are missing for the wrong reason".to_owned());
    }
    let mut held = 0;
    let mut total = HeldTotal::default();
    for row in HELD.scan(from, &(room,), Direction::Forward) {
        let ((_, number), event) = row?;
        held += 1;
        total = total.with(&event.json);
        if HELD_IDS.get(from, &(room, event.event_id.clone()))? != Some(number) {
            say(format!(
                "the held event {} is not found by its id",
                event.event_id
            ));
        }
    }
    if held::total(from, room)? != total {
        say("what is held is counted wrongly".to_owned());
    }
    let by_id = HELD_IDS.scan(from, &(room,), Direction::Forward).count();
    if by_id != held {
        say(format!(
            "{by_id} held events are kept by id, {held} by number"
        ));
    }
    Ok(())
}

fn receipts(from: &impl Read, room: RoomSn, say: &mut dyn FnMut(String)) -> Result<()> {
    let mut logged = 0;
    for row in RECEIPT_LOG.scan(from, &(room,), Direction::Forward) {
        let ((_, position, user, kind, thread), ()) = row?;
        logged += 1;
        let receipt = RECEIPTS.get(from, &(room, user, kind, thread))?;
        if receipt.is_none_or(|receipt| receipt.position != position) {
            say(format!(
                "a receipt of user {} is not as the log says",
                user.0
            ));
        }
    }
    let kept = RECEIPTS.scan(from, &(room,), Direction::Forward).count();
    if kept != logged {
        say(format!("{kept} receipts are kept, {logged} are in the log"));
    }
    Ok(())
}

/// Checks everything in this crate's tables. `progress` hears of every room that was checked.
/// Returns the number of rooms.
pub fn all(
    from: &impl Read,
    report: &mut dyn FnMut(String),
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let mut rooms = 0;
    for row in HEADS.scan(from, &(), Direction::Forward) {
        let (number, _) = row?;
        let room_id = names::room_id(from, number)?;
        room(from, number, &room_id, report)?;
        rooms += 1;
        progress(rooms);
    }
    for row in ALIASES.scan(from, &(), Direction::Forward) {
        let (alias, of) = row?;
        if !ROOM_ALIASES.contains(from, &(of.room, alias.clone()))? {
            report(format!("alias {alias} is missing at its room"));
        }
    }
    for row in ROOM_ALIASES.scan(from, &(), Direction::Forward) {
        let ((room, alias), ()) = row?;
        if ALIASES.get(from, &alias)?.is_none_or(|of| of.room != room) {
            report(format!(
                "alias {alias} does not point at the room that has it"
            ));
        }
    }
    for row in ROOMS_OF_SERVER.scan(from, &(), Direction::Forward) {
        let ((server, room), ()) = row?;
        let entry = ROOM_SERVERS.get(from, &(room, server.clone()))?;
        if entry.is_none_or(|entry| entry.joined == 0) {
            report(format!(
                "server {server} has room {} but is not in it",
                room.0
            ));
        }
    }
    for row in ROOMS_LEFT.scan(from, &(), Direction::Forward) {
        let ((server, room), ()) = row?;
        let entry = ROOM_SERVERS.get(from, &(room, server.clone()))?;
        if entry.is_none_or(|entry| entry.joined > 0) {
            report(format!(
                "server {server} has left room {} but is in it",
                room.0
            ));
        }
    }
    for row in REMOTE_ROOMS.scan(from, &(), Direction::Forward) {
        let ((user, room), _) = row?;
        if members::membership(from, room, user)? != Membership::Join {
            report(format!(
                "user {} has room {} but is not in it",
                user.0, room.0
            ));
        }
    }
    for row in USER_ROOMS.scan(from, &(), Direction::Forward) {
        let ((user, room), entry): ((UserSn, RoomSn), _) = row?;
        let left = entry.value.membership() == Membership::Leave;
        let outside = OUTSIDE.get(from, &(room, user))?;
        let same = match outside {
            Some(outside) => outside.membership() == entry.value.membership(),
            None => left || MEMBERS.contains(from, &(room, user))?,
        };
        if !same {
            report(format!(
                "user {} has room {} but is no member",
                user.0, room.0
            ));
        }
    }
    for row in OUTSIDE.scan(from, &(), Direction::Forward) {
        let ((room, user), _) = row?;
        if !USER_ROOMS.contains(from, &(user, room))? {
            report(format!(
                "user {} has a membership outside of room {} without having the room",
                user.0, room.0
            ));
        }
    }
    Ok(rooms)
}
