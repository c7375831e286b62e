//! One room's part of an answer: joined, or left.

use std::collections::{BTreeSet, HashSet};

use event::auth::Membership;
use event::json;
use names::{RoomSn, UserSn};
use rooms::render::{Renderer, Viewer};
use rooms::visibility::Visibility;
use rooms::{
    EventNo, Flags, Point, RoomHead, StateDelta, StoredEvent, UserRoom, event_log, partial,
    receipts,
};
use store::{At, Position, View};
use users::account_data::Item;
use users::filters::EventFormat;

use crate::ephemeral::write_typing;
use crate::fields::Fields;
use crate::filtered::{Piece, Selection, shows};
use crate::response::{Request, StateMode};
use crate::room_state::{self, Entries, Members};
use crate::unread::Subject;
use crate::{Memory, PaginationToken, Result, summary};

/// Events of a timeline where the filter does not say.
const DEFAULT_LIMIT: u64 = 10;
/// The most events of a timeline, whatever the filter says.
const MOST_LIMIT: u64 = 100;

/// What the parts of one answer share.
pub struct Shared<'a> {
    /// What was asked.
    pub request: &'a Request<'a>,
    /// The view that the answer is built from.
    pub view: &'a View,
    /// What is kept in memory.
    pub memory: &'a Memory,
    /// Users whose messages are not shown.
    pub ignored: HashSet<UserSn>,
    /// There are rooms whose members are not all known.
    pub any_partial: bool,
}

impl Shared<'_> {
    /// Whether a room is not told of yet: who does not load members lazily takes the members that it is told for all of them.
    pub fn waits_for_members(&self, room: RoomSn) -> Result<bool> {
        let lazy = self.request.filter.room.state.lazy_load_members;
        Ok(self.any_partial && !lazy && partial::is_partial(self.view, room)?)
    }
}

/// A room while its part is made.
pub struct Room<'a> {
    shared: &'a Shared<'a>,
    room: RoomSn,
    room_id: String,
    entry: At<UserRoom>,
    head: RoomHead,
    visibility: Visibility,
    /// The first place that is new to the client.
    new_from: EventNo,
    /// The client knows nothing of the room yet, or nothing of the time in it that has begun since.
    anew: bool,
    /// The user was in the room at some time that is new to the client.
    inside: bool,
    /// The room was entered without its members, and they became known since.
    members_learnt: bool,
}

/// Changes of a room's state, in order, and where they were made.
type Changes = Vec<(EventNo, StateDelta)>;

/// The entries of the state that events of a timeline set.
fn entries_of(piece: &Piece) -> HashSet<(String, String)> {
    let mut entries = HashSet::new();
    for (_, event) in &piece.events {
        let text = |key| json::member(&event.json, key).and_then(json::string);
        if event.flags.has(Flags::STATE)
            && let (Some(of), Some(key)) = (text("type"), text("state_key"))
        {
            entries.insert((of.into_owned(), key.into_owned()));
        }
    }
    entries
}

/// What a room's part tells the answer as a whole.
#[derive(Default)]
pub struct Told {
    /// Something was written that the client did not know.
    pub news: bool,
    /// Members whose events were shown.
    pub members: Vec<UserSn>,
}

impl<'a> Room<'a> {
    /// Reads what every part needs; nothing if the room has nothing to show.
    pub fn read(shared: &'a Shared<'a>, room: RoomSn, entry: At<UserRoom>) -> Result<Option<Self>> {
        let (view, request) = (shared.view, shared.request);
        let Some(head) = event_log::head(view, room)? else {
            return Ok(None);
        };
        let viewer = Some((request.user, request.user_id));
        let visibility = Visibility::of(view, room, viewer)?;
        let (mut new_from, mut anew) = (EventNo::MIN, true);
        let mut inside = visibility.was_joined();
        let mut members_learnt = false;
        if let Some(since) = request.since {
            new_from = event_log::after_position(view, room, since.position)?;
            let before = EventNo(new_from.0.saturating_sub(1));
            inside = visibility.was_joined_from(new_from);
            anew = inside && visibility.membership_at(before) != Membership::Join;
            members_learnt = partial::completed(view, room)?.is_some_and(|at| at > since.position);
            // Who loads all members was not told of the room before.
            anew |= members_learnt && inside && !request.filter.room.state.lazy_load_members;
        }
        let room_id = names::room_id(view, room)?;
        Ok(Some(Self {
            shared,
            room,
            room_id,
            entry,
            head,
            visibility,
            new_from,
            anew,
            inside,
            members_learnt,
        }))
    }

    /// The room's id.
    pub fn room_id(&self) -> &str {
        &self.room_id
    }

    /// Whether the client knows nothing of the room yet, or of the time in it that has begun since.
    pub fn is_anew(&self) -> bool {
        self.anew
    }

    fn since(&self) -> Option<Position> {
        self.shared.request.since.map(|since| since.position)
    }

    fn timeline(&self, end: EventNo) -> Result<Piece> {
        let filter = &self.shared.request.filter.room.timeline;
        let limit = filter.event.limit.unwrap_or(DEFAULT_LIMIT).min(MOST_LIMIT);
        let selection = Selection {
            room: self.room,
            start: if self.anew {
                EventNo::MIN
            } else {
                self.new_from
            },
            end,
            limit: limit as usize,
            visibility: &self.visibility,
            filter,
            ignored: &self.shared.ignored,
        };
        selection.read(self.shared.view)
    }

    fn renderer(&self) -> Option<Renderer<'_, View>> {
        let request = self.shared.request;
        let viewer = Viewer {
            user: request.user,
            user_id: request.user_id,
            device: Some(request.device),
        };
        let rules = self.head.rules()?;
        let (view, now_ms) = (self.shared.view, request.now_ms);
        let mut renderer = Renderer::new(view, self.room, rules, viewer, &self.visibility, now_ms);
        renderer.with_room_id = false;
        renderer.federation_format = request.filter.event_format == EventFormat::Federation;
        Some(renderer)
    }

    /// Appends a list of events with the fields that the client wants.
    fn write_events(
        &self,
        out: &mut Vec<u8>,
        renderer: &Renderer<'_, View>,
        events: &[(EventNo, StoredEvent)],
    ) -> Result<()> {
        let start = out.len();
        renderer.list(out, events)?;
        if let Some(paths) = &self.shared.request.filter.event_fields {
            Fields::new(paths).choose(out, start);
        }
        Ok(())
    }

    /// Whose member events go with a timeline that is loaded lazily: the senders', those that name the
    /// room, and the viewer's own.
    fn senders(&self, piece: &Piece, heroes: &[UserSn]) -> Result<BTreeSet<String>> {
        let request = self.shared.request;
        let mut users: Vec<UserSn> = piece.events.iter().map(|(_, event)| event.sender).collect();
        users.extend_from_slice(heroes);
        users.sort_unstable();
        users.dedup();
        let lazy = &request.filter.room.state;
        if let Some(since) = self.since()
            && !self.anew
            && !lazy.include_redundant_members
        {
            let lazy_members = &self.shared.memory.lazy_members;
            lazy_members.unseen(request.user, request.device, self.room, since, &mut users);
        }
        let mut ids: BTreeSet<String> = names::user_ids(self.shared.view, &users)?
            .into_iter()
            .collect();
        if self.anew {
            ids.insert(request.user_id.to_owned());
        }
        Ok(ids)
    }

    /// What changed in the room's state since the client's, or where the client has none, since the timeline begins.
    fn changes(&self, start: EventNo) -> Result<Changes> {
        let first = match self.anew {
            true => start,
            false => self.new_from.min(start),
        };
        let (view, room) = (self.shared.view, self.room);
        Ok(rooms::state::changes(view, room, first, EventNo::MAX)?)
    }

    /// The state that goes with the timeline, which begins at `start`: that before it, or where clients ask so, after it.
    fn state(
        &self,
        piece: &Piece,
        heroes: &[UserSn],
        (start, end): (EventNo, EventNo),
        changes: &Changes,
    ) -> Result<Entries> {
        let (view, request) = (self.shared.view, self.shared.request);
        let lazy = request.filter.room.state.lazy_load_members;
        let upto = match request.state_mode {
            StateMode::Before => start,
            StateMode::After => end,
        };
        let between = |from: EventNo, to: EventNo| {
            let those = changes
                .iter()
                .filter(move |(no, _)| *no >= from && *no < to);
            those.map(|(_, change)| change)
        };
        // What the events of the timeline do not tell of what changed there: that resolution came to something else.
        let told = match between(upto, end).next() {
            Some(_) => entries_of(piece),
            None => HashSet::new(),
        };
        let untold = between(upto, end).filter(|change| {
            let key = (change.event_type.as_str(), change.state_key.as_str());
            !told.iter().any(|(of, of_key)| (&**of, &**of_key) == key)
        });
        let senders = if lazy {
            self.senders(piece, heroes)?
        } else {
            BTreeSet::new()
        };
        if self.anew || request.full_state {
            let members = if lazy {
                Members::Only(&senders)
            } else {
                Members::All
            };
            let later = between(upto, EventNo::MAX);
            let mut entries = room_state::without(view, self.room, later, &members)?;
            let untold = untold.filter(|change| members.has(change));
            room_state::apply(&mut entries, untold);
            return Ok(entries);
        }
        let mut entries = Entries::new();
        room_state::apply(&mut entries, between(self.new_from, upto).chain(untold));
        if lazy {
            // Members that the device knows are kept true, whoever wrote.
            let mut unknown = Vec::new();
            for (of, key) in entries.keys().filter(|(of, _)| of == "m.room.member") {
                if !senders.contains(key) && key != request.user_id && !self.may_know(key)? {
                    unknown.push((of.clone(), key.clone()));
                }
            }
            for key in unknown {
                entries.remove(&key);
            }
            let keys: Vec<_> = senders
                .iter()
                .map(|id| ("m.room.member", id.as_str()))
                .collect();
            let current = rooms::state::current_many(view, self.room, &keys)?;
            for (id, event) in senders.iter().zip(current) {
                let key = ("m.room.member".to_owned(), id.clone());
                if let Some(event) = event
                    && event < upto
                {
                    entries.entry(key).or_insert(event);
                } else if event.is_some()
                    && let Some(event) = rooms::state::at(
                        view,
                        self.room,
                        "m.room.member",
                        id,
                        Point::main(upto.previous()),
                    )?
                {
                    entries.entry(key).or_insert(event);
                }
            }
        }
        Ok(entries)
    }

    fn may_know(&self, member: &str) -> Result<bool> {
        let (request, memory) = (self.shared.request, self.shared.memory);
        let Some(member) = names::user_sn(self.shared.view, member)? else {
            return Ok(true);
        };
        Ok(memory
            .lazy_members
            .may_know(request.user, request.device, self.room, member))
    }

    fn state_events(&self, entries: Entries) -> Result<Vec<(EventNo, StoredEvent)>> {
        let filter = &self.shared.request.filter.room.state;
        let mut places: Vec<EventNo> = entries.into_values().collect();
        places.sort_unstable();
        let mut events = event_log::get_many(self.shared.view, self.room, &places)?;
        events.retain(|(_, event)| shows(filter, event));
        Ok(events)
    }

    /// Appends the part of a room that the user is joined to.
    pub fn joined(&self, out: &mut Vec<u8>, account_data: &[Item]) -> Result<Told> {
        let Some(renderer) = self.renderer() else {
            return Ok(Told::default());
        };
        let (view, request) = (self.shared.view, self.shared.request);
        let mut told = Told::default();
        let end = self.head.next;
        let piece = self.timeline(end)?;
        let start = match piece.events.first() {
            Some((no, _)) => *no,
            None if piece.limited => end,
            None => end.min(self.new_from.max(EventNo::FIRST)),
        };
        let changes = self.changes(start)?;
        let is_member = |change: &StateDelta| change.event_type == "m.room.member";
        let members_changed =
            self.anew || self.members_learnt || changes.iter().any(|(_, change)| is_member(change));
        let heroes = match members_changed {
            true => summary::heroes(view, self.room, request.user)?,
            false => None,
        };
        let shown_heroes = heroes.as_deref().unwrap_or_default();
        let entries = self.state(&piece, shown_heroes, (start, end), &changes)?;
        told.members = self.shown_members(&entries, &piece)?;
        let state = self.state_events(entries)?;
        out.extend_from_slice(b"{\"timeline\":{\"events\":");
        self.write_events(out, &renderer, &piece.events)?;
        let prev_batch = PaginationToken::Place(start);
        let limited = piece.limited || (self.anew && self.since().is_some());
        out.extend_from_slice(
            format!(",\"prev_batch\":\"{prev_batch}\",\"limited\":{limited}}}").as_bytes(),
        );
        self.write_state(out, &renderer, &state)?;
        let ephemeral = self.write_ephemeral(out)?;
        write_account_data(out, account_data);
        if members_changed {
            out.extend_from_slice(b",\"summary\":");
            summary::render(out, view, &self.head, heroes.as_deref())?;
        }
        self.write_unread(out)?;
        out.push(b'}');
        told.news = self.anew
            || !piece.events.is_empty()
            || !state.is_empty()
            || ephemeral
            || members_changed
            || !account_data.is_empty();
        Ok(told)
    }

    /// The members that the device is shown, by number, if it loads members lazily.
    fn shown_members(&self, entries: &Entries, piece: &Piece) -> Result<Vec<UserSn>> {
        if !self.shared.request.filter.room.state.lazy_load_members {
            return Ok(Vec::new());
        }
        let mut users = Vec::new();
        for (_, event) in piece
            .events
            .iter()
            .filter(|(_, event)| event.flags.has(Flags::STATE))
        {
            let is_member = json::member(&event.json, "type") == Some("\"m.room.member\"");
            if is_member
                && let Some(key) = json::member(&event.json, "state_key").and_then(json::string)
                && let Some(user) = names::user_sn(self.shared.view, &key)?
            {
                users.push(user);
            }
        }
        for (of, key) in entries.keys() {
            if of == "m.room.member"
                && let Some(user) = names::user_sn(self.shared.view, key)?
            {
                users.push(user);
            }
        }
        Ok(users)
    }

    fn write_state(
        &self,
        out: &mut Vec<u8>,
        renderer: &Renderer<'_, View>,
        state: &[(EventNo, StoredEvent)],
    ) -> Result<()> {
        out.extend_from_slice(match self.shared.request.state_mode {
            StateMode::Before => b",\"state\":{\"events\":".as_slice(),
            StateMode::After => b",\"state_after\":{\"events\":".as_slice(),
        });
        let from = out.len();
        self.write_events(out, renderer, state)?;
        out.push(b'}');
        if self.shared.request.state_mode == StateMode::After {
            // The name from before it was in the specification.
            let events = out[from..].to_vec();
            out.extend_from_slice(b",\"org.matrix.msc4222.state_after\":{\"events\":");
            out.extend_from_slice(&events);
        }
        Ok(())
    }

    fn write_ephemeral(&self, out: &mut Vec<u8>) -> Result<bool> {
        let (view, request) = (self.shared.view, self.shared.request);
        let filter = &request.filter.room.ephemeral;
        let since = if self.anew { None } else { self.since() };
        out.extend_from_slice(b",\"ephemeral\":{\"events\":[");
        let before = out.len();
        if filter.event.shows("m.receipt", None) {
            let mut found = receipts::since(view, self.room, request.user, since)?;
            found.retain(|shown| !self.shared.ignored.contains(&shown.user));
            if !found.is_empty() {
                receipts::render(out, &found, |user| Ok(names::user_id(view, user)?))?;
            }
        }
        if filter.event.shows("m.typing", None)
            && let Some(mut users) = self.shared.memory.typing.since(self.room, since)
        {
            users.retain(|user| !self.shared.ignored.contains(user));
            if out.len() > before {
                out.push(b',');
            }
            write_typing(out, view, &users)?;
        }
        let any = out.len() > before;
        out.extend_from_slice(b"]}");
        Ok(any)
    }

    fn write_unread(&self, out: &mut Vec<u8>) -> Result<()> {
        let request = self.shared.request;
        let subject = Subject {
            user: request.user,
            user_id: request.user_id,
            room: self.room,
            room_id: &self.room_id,
            head: &self.head,
            joined_at: self
                .visibility
                .joined_since()
                .unwrap_or(self.entry.value.place),
        };
        let unread = self
            .shared
            .memory
            .unread
            .count(self.shared.view, &subject)?;
        let by_thread = request.filter.room.timeline.unread_thread_notifications;
        let count = if by_thread {
            unread.main
        } else {
            unread.total()
        };
        out.extend_from_slice(
            format!(
                ",\"unread_notifications\":{{\"highlight_count\":{},\"notification_count\":{}}}",
                count.highlight_count, count.notification_count
            )
            .as_bytes(),
        );
        if by_thread && !unread.threads.is_empty() {
            out.extend_from_slice(b",\"unread_thread_notifications\":{");
            for (n, (root, count)) in unread.threads.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                json::write_string(out, root);
                out.extend_from_slice(
                    format!(
                        ":{{\"highlight_count\":{},\"notification_count\":{}}}",
                        count.highlight_count, count.notification_count
                    )
                    .as_bytes(),
                );
            }
            out.push(b'}');
        }
        Ok(())
    }

    /// Appends the part of a room that the user has left: what was new up to the leaving. Whoever had left
    /// before, and is banned, say, is told of that alone.
    pub fn left(&self, out: &mut Vec<u8>, account_data: &[Item]) -> Result<Told> {
        let Some(renderer) = self.renderer() else {
            return Ok(Told::default());
        };
        let end = self.entry.value.place.next();
        let piece = self.timeline(end)?;
        let start = piece.events.first().map_or(end, |(no, _)| *no);
        // Who was not in sees the leaving, not the state, and nobody sees the state from after they left.
        let mut entries = match self.visibility.left_at() {
            Some(left) if self.inside || self.shared.request.full_state => {
                let known = left.next();
                let (start, end) = (start.min(known), end.min(known));
                let changes = self.changes(start)?;
                self.state(&piece, &[], (start, end), &changes)?
            }
            _ => Entries::new(),
        };
        if self.shared.request.state_mode == StateMode::After {
            // Clients that take the state from there alone learn of the leaving there.
            let own = (
                "m.room.member".to_owned(),
                self.shared.request.user_id.to_owned(),
            );
            let member =
                rooms::members::get(self.shared.view, self.room, self.shared.request.user)?;
            entries.extend(member.map(|member| (own, member.event)));
        }
        let state = self.state_events(entries)?;
        out.extend_from_slice(b"{\"timeline\":{\"events\":");
        self.write_events(out, &renderer, &piece.events)?;
        let prev_batch = PaginationToken::Place(start);
        let limited = piece.limited || (self.anew && self.since().is_some());
        out.extend_from_slice(
            format!(",\"prev_batch\":\"{prev_batch}\",\"limited\":{limited}}}").as_bytes(),
        );
        self.write_state(out, &renderer, &state)?;
        write_account_data(out, account_data);
        out.push(b'}');
        Ok(Told {
            news: true,
            members: Vec::new(),
        })
    }
}

/// Appends a list of account data items.
pub fn write_items(out: &mut Vec<u8>, items: &[Item]) {
    out.push(b'[');
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"type\":");
        json::write_string(out, &item.kind);
        out.extend_from_slice(b",\"content\":");
        out.extend_from_slice(&item.content);
        out.push(b'}');
    }
    out.push(b']');
}

fn write_account_data(out: &mut Vec<u8>, items: &[Item]) {
    out.extend_from_slice(b",\"account_data\":{\"events\":");
    write_items(out, items);
    out.push(b'}');
}
