//! The invariants between this crate's tables, for `meyrin db check`: every derived row is what its
//! source says, and nothing is missing.

use std::collections::BTreeMap;

use event::auth::Membership;
use event::json;
use names::{RoomSn, UserSn};
use store::{Direction, Read};

use crate::append::string_member;
use crate::schema::{
    ALIASES, EVENT_IDS, HEADS, MARKS, MEMBERS, RECEIPT_LOG, RECEIPTS, RELATIONS, ROOM_ALIASES,
    STATE, STATE_HISTORY, STATE_LOG, THREADS, TIMESTAMPS, USER_ROOMS,
};
use crate::{EventNo, Flags, Result, RoomHead, StoredEvent, event_log, relations};

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
    let mut walk = Walk::new(from, room, &head);
    for row in event_log::forwards(from, room, EventNo::MIN) {
        let (no, event) = row?;
        walk.event(no, &event, &mut say)?;
    }
    walk.finish(&mut say)?;
    receipts(from, room, &mut say)
}

/// What the events say the room must be.
struct Walk<'a, R: Read> {
    from: &'a R,
    room: RoomSn,
    head: &'a RoomHead,
    last: Option<(EventNo, StoredEvent)>,
    state: BTreeMap<(String, String), EventNo>,
    related: u64,
    threads: BTreeMap<String, (EventNo, u64)>,
    timestamps: u64,
}

impl<'a, R: Read> Walk<'a, R> {
    fn new(from: &'a R, room: RoomSn, head: &'a RoomHead) -> Self {
        Self {
            from,
            room,
            head,
            last: None,
            state: BTreeMap::new(),
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
        if EVENT_IDS.get(self.from, &id.to_string())? != Some((self.room, no)) {
            say(format!("event {id} is not found by its id"));
        }
        if no >= self.head.next {
            say(format!("event {id} lies after the room's head"));
        }
        if let Some((_, last)) = &self.last
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
        if event.flags.has(Flags::STATE) {
            let event_type = string_member(&event.json, "type")
                .unwrap_or_default()
                .into_owned();
            let state_key = string_member(&event.json, "state_key")
                .unwrap_or_default()
                .into_owned();
            self.state_event(no, event, event_type, state_key, say)?;
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

    fn state_event(
        &mut self,
        no: EventNo,
        event: &StoredEvent,
        event_type: String,
        state_key: String,
        say: &mut dyn FnMut(String),
    ) -> Result<()> {
        let id = &event.event_id;
        let (room, branch) = (self.room, event.branch);
        let history = (
            room,
            event_type.clone(),
            state_key.clone(),
            branch,
            std::cmp::Reverse(no),
        );
        if STATE_HISTORY.get(self.from, &history)? != Some(no) {
            say(format!("state event {id} is not in the state's history"));
        }
        let before = self
            .state
            .insert((event_type.clone(), state_key.clone()), no);
        let log = STATE_LOG
            .get(self.from, &(room, branch, no))?
            .unwrap_or_default();
        let noted = log.iter().any(|change| {
            change.event_type == event_type
                && change.state_key == state_key
                && change.before == before
                && change.after == no
        });
        if !noted {
            say(format!(
                "the change of state by event {id} is not in the log"
            ));
        }
        Ok(())
    }

    fn finish(self, say: &mut dyn FnMut(String)) -> Result<()> {
        let Some((last, event)) = &self.last else {
            say("it has no events".to_owned());
            return Ok(());
        };
        if self.head.next != last.next() {
            say("the head does not follow the last event".to_owned());
        }
        if self.head.extremities != [(*last, event.event_id.to_string())] {
            say("the last event is not the room's extremity".to_owned());
        }
        let mut current = BTreeMap::new();
        for row in STATE.scan(self.from, &(self.room,), Direction::Forward) {
            let ((_, event_type, state_key), no) = row?;
            current.insert((event_type, state_key), no);
        }
        if current != self.state {
            say("the current state is not what the events make of it".to_owned());
        }
        self.members(say)?;
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

    fn members(&self, say: &mut dyn FnMut(String)) -> Result<()> {
        let (mut joined, mut invited, mut members) = (0, 0, 0usize);
        for row in MEMBERS.scan(self.from, &(self.room,), Direction::Forward) {
            let ((_, user), member) = row?;
            members += 1;
            joined += u64::from(member.membership() == Membership::Join);
            invited += u64::from(member.membership() == Membership::Invite);
            let id = names::user_id(self.from, user)?;
            let entry = ("m.room.member".to_owned(), id.clone());
            if self.state.get(&entry) != Some(&member.event) {
                say(format!("member {id} is not as the state says"));
            }
            if user.is_local() {
                let own = USER_ROOMS.get(self.from, &(user, self.room))?;
                let same = own.is_some_and(|own| {
                    own.value.event == member.event && own.value.membership() == member.membership()
                });
                if !same {
                    say(format!("{id} has the room otherwise than it has {id}"));
                }
            }
        }
        if (joined, invited) != (self.head.joined, self.head.invited) {
            say("the head counts the members wrongly".to_owned());
        }
        let in_state = self
            .state
            .keys()
            .filter(|(of, _)| of == "m.room.member")
            .count();
        if in_state != members {
            say(format!(
                "{members} members are kept, the state has {in_state}"
            ));
        }
        Ok(())
    }
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
    for row in USER_ROOMS.scan(from, &(), Direction::Forward) {
        let ((user, room), _): ((UserSn, RoomSn), _) = row?;
        if !MEMBERS.contains(from, &(room, user))? {
            report(format!(
                "user {} has room {} but is no member",
                user.0, room.0
            ));
        }
    }
    Ok(rooms)
}
