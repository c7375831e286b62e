//! What goes beside rooms: messages to the device, keys, account data, receipts, typing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use event::auth::Membership;
use event::json;
use names::RoomSn;
use rooms::{EventNo, UserRoom, receipts};
use store::{At, Position, Read};
use users::account_data::{self, Item};
use users::keys::one_time;
use users::to_device;

use crate::Result;
use crate::devices::{device_changes, write_users};
use crate::ephemeral::write_typing;
use crate::key_counts::{write_one_time, write_unused_fallback};
use crate::room::write_items;
use crate::sliding::connection::{State, Told};
use crate::sliding::request::{Scope, ToDevice};
use crate::sliding::room::Shared;
use crate::sliding::room_list::Listed;

/// The most messages to a device in one answer.
const MOST_MESSAGES: usize = 100;

/// A room that the request's rules show.
pub struct Match<'a> {
    /// The room.
    pub listed: &'a Listed,
    /// The lists that show it, a bit each.
    pub lists: u128,
    /// It is subscribed to.
    pub subscribed: bool,
    /// Older events of it are told with this answer: the places of all that are.
    pub shown: Option<Vec<EventNo>>,
}

/// What the connection is told of rooms: as it was, and what this answer changes.
pub struct Progress<'a> {
    before: Option<&'a HashMap<RoomSn, Arc<Told>>>,
    changed: HashMap<RoomSn, Told>,
}

impl<'a> Progress<'a> {
    /// From what was told before.
    pub fn new(before: Option<&'a HashMap<RoomSn, Arc<Told>>>) -> Self {
        Self {
            before,
            changed: HashMap::new(),
        }
    }

    /// What was told of a room before this answer.
    pub fn before(&self, room: RoomSn) -> Option<&'a Told> {
        self.before?.get(&room).map(|told| &**told)
    }

    /// What is told of a room with this answer.
    pub fn set(&mut self, room: RoomSn, told: Told) {
        self.changed.insert(room, told);
    }

    fn get(&self, room: RoomSn) -> Option<&Told> {
        self.changed.get(&room).or_else(|| self.before(room))
    }

    fn edit(&mut self, room: RoomSn, edit: impl FnOnce(&mut Told)) {
        if let Some(mut told) = self.get(room).cloned() {
            edit(&mut told);
            self.changed.insert(room, told);
        }
    }

    /// What changed.
    pub fn into_changed(self) -> HashMap<RoomSn, Told> {
        self.changed
    }
}

/// The extensions of one answer while they are written.
pub struct Writer<'a, 'p> {
    /// What all parts share.
    pub shared: &'a Shared<'a>,
    /// The user's rooms.
    pub rooms: &'a [(RoomSn, At<UserRoom>)],
    /// The rooms that the rules show.
    pub matches: &'a [Match<'a>],
    /// What the connection was told before.
    pub base: Option<&'a State>,
    /// What it is told of rooms.
    pub progress: &'p mut Progress<'a>,
    /// Something was written that the client did not know.
    pub news: bool,
}

impl<'a> Writer<'a, '_> {
    /// Which rooms an extension is for.
    fn scope(&self, scope: &Scope) -> Vec<&'a Match<'a>> {
        let lists = &self.shared.asked.request.rules.lists;
        let mut wanted = 0u128;
        for (n, (name, _)) in lists.iter().enumerate() {
            if scope.lists.iter().any(|one| one == "*" || one == name) {
                wanted |= 1 << n;
            }
        }
        let all = scope.rooms.iter().any(|one| one == "*");
        let matches: &'a [Match<'a>] = self.matches;
        (matches.iter())
            .filter(|one| {
                one.lists & wanted != 0
                    || (all && one.subscribed)
                    || scope.rooms.iter().any(|id| **id == *one.listed.room_id)
            })
            .collect()
    }

    /// Messages to the device: all that it has not shown to have.
    pub fn messages(&mut self, out: &mut Vec<u8>, asked: ToDevice) -> Result<()> {
        let (view, of) = (self.shared.view, self.shared.asked);
        let since = asked.since.unwrap_or(Position::ZERO);
        let limit = asked.limit.clamp(1, MOST_MESSAGES);
        let waiting = to_device::since(view, of.user, of.device, since, limit)?;
        // A token from the future stays what it is.
        let next = match since > view.position() {
            true => since,
            false => waiting.upto,
        };
        self.news |= !waiting.messages.is_empty();
        out.extend_from_slice(format!("\"to_device\":{{\"next_batch\":\"{next}\"").as_bytes());
        out.extend_from_slice(b",\"events\":[");
        out.extend_from_slice(&waiting.messages.join(&b','));
        out.extend_from_slice(b"]}");
        Ok(())
    }

    /// Key counts, and whose keys changed.
    pub fn e2ee(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let (view, of) = (self.shared.view, self.shared.asked);
        let since = self.base.and_then(|base| base.e2ee);
        let counts = one_time::counts(view, of.user, of.device)?;
        self.news |= since.is_some_and(|since| counts.position > since);
        out.extend_from_slice(b"\"e2ee\":{\"device_one_time_keys_count\":");
        write_one_time(out, &counts.value);
        out.extend_from_slice(b",\"device_unused_fallback_key_types\":");
        write_unused_fallback(out, &counts.value);
        if let Some(since) = since {
            let changes = self.shared.changes;
            let changed = |room| changes.room(room, since);
            let lists = device_changes(view, of.user, of.user_id, self.rooms, changed, since)?;
            if !lists.changed.is_empty() || !lists.left.is_empty() {
                self.news = true;
                out.extend_from_slice(b",\"device_lists\":{\"changed\":");
                write_users(out, view, &lists.changed)?;
                out.extend_from_slice(b",\"left\":");
                write_users(out, view, &lists.left)?;
                out.push(b'}');
            }
        }
        out.push(b'}');
        Ok(())
    }

    /// Account data: the global, and that of the rooms in scope. Gives the rooms of which something was
    /// told before and that changed out of sight, and since when.
    pub fn account_data(
        &mut self,
        out: &mut Vec<u8>,
        scope: &Scope,
    ) -> Result<Option<BTreeMap<RoomSn, Position>>> {
        let (view, of) = (self.shared.view, self.shared.asked);
        let since = self.base.and_then(|base| base.account_data);
        let (global, mut changed) = match since {
            None => (
                account_data::all(view, of.user, of.user_id)?,
                BTreeMap::new(),
            ),
            Some(since) if self.shared.changes.user(since) => {
                let changes = account_data::since(view, of.user, of.user_id, since)?;
                (changes.global, changes.rooms)
            }
            Some(_) => (Vec::new(), BTreeMap::new()),
        };
        self.news |= !global.is_empty();
        out.extend_from_slice(b"\"account_data\":{\"global\":");
        write_items(out, &global);
        out.extend_from_slice(b",\"rooms\":{");
        let begin = out.len();
        let missed_before = self.base.map(|base| &*base.account_data_missed);
        let mut missed = missed_before.cloned().unwrap_or_default();
        for one in self.scope(scope) {
            let room = one.listed.room;
            let Some(told) = self.progress.get(room) else {
                continue;
            };
            let items: Vec<Item> = if !told.account_data {
                self.progress.edit(room, |told| told.account_data = true);
                account_data::all_room(view, of.user, room)?
            } else if let Some(since) = missed.remove(&room) {
                let mut changes = account_data::since(view, of.user, of.user_id, since)?;
                changes.rooms.remove(&room).unwrap_or_default()
            } else {
                changed.get(&room).cloned().unwrap_or_default()
            };
            changed.remove(&room);
            if items.is_empty() {
                continue;
            }
            begin_member(out, begin, &one.listed.room_id);
            write_items(out, &items);
        }
        self.news |= out.len() > begin;
        out.extend_from_slice(b"}}");
        if let Some(since) = since {
            let told = |room| (self.progress.get(room)).is_some_and(|told| told.account_data);
            for room in changed.into_keys().filter(|room| told(*room)) {
                missed.entry(room).or_insert(since);
            }
        }
        Ok((missed_before != Some(&missed)).then_some(missed))
    }

    /// Receipts of the rooms in scope: what changed; of a room that is told anew, those of the events told
    /// and the user's own.
    pub fn receipts(&mut self, out: &mut Vec<u8>, scope: &Scope) -> Result<()> {
        let (view, of) = (self.shared.view, self.shared.asked);
        out.extend_from_slice(b"\"receipts\":{\"rooms\":{");
        let begin = out.len();
        for one in self.scope(scope) {
            let room = one.listed.room;
            let Some(told) = self.progress.get(room) else {
                continue;
            };
            if one.listed.membership() != Membership::Join {
                continue;
            }
            let since = told.receipts.filter(|_| one.shown.is_none());
            if since.is_some_and(|since| !self.shared.changes.room(room, since)) {
                continue;
            }
            self.progress
                .edit(room, |told| told.receipts = Some(view.position()));
            let mut found = receipts::since(view, room, of.user, since)?;
            let shown = one.shown.as_deref().unwrap_or_default();
            found.retain(|receipt| {
                let told = since.is_some() || shown.contains(&receipt.receipt.event);
                receipt.user == of.user
                    || (told && !self.shared.user.ignored.contains(&receipt.user))
            });
            if !found.is_empty() {
                begin_member(out, begin, &one.listed.room_id);
                receipts::render(out, &found, |user| Ok(names::user_id(view, user)?))?;
            }
        }
        self.news |= out.len() > begin;
        out.extend_from_slice(b"}}");
        Ok(())
    }

    /// Who is typing in the rooms in scope.
    pub fn typing(&mut self, out: &mut Vec<u8>, scope: &Scope) -> Result<()> {
        let view = self.shared.view;
        out.extend_from_slice(b"\"typing\":{\"rooms\":{");
        let begin = out.len();
        for one in self.scope(scope) {
            let room = one.listed.room;
            let Some(told) = self.progress.get(room) else {
                continue;
            };
            if one.listed.membership() != Membership::Join {
                continue;
            }
            let since = told.typing;
            if since.is_some_and(|since| !self.shared.changes.room(room, since)) {
                continue;
            }
            self.progress
                .edit(room, |told| told.typing = Some(view.position()));
            let Some(mut users) = self.shared.memory.typing.since(room, since) else {
                continue;
            };
            users.retain(|user| !self.shared.user.ignored.contains(user));
            begin_member(out, begin, &one.listed.room_id);
            write_typing(out, view, &users)?;
        }
        self.news |= out.len() > begin;
        out.extend_from_slice(b"}}");
        Ok(())
    }
}

fn begin_member(out: &mut Vec<u8>, begin: usize, name: &str) {
    if out.len() > begin {
        out.push(b',');
    }
    json::write_string(out, name);
    out.push(b':');
}
