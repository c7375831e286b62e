//! A whole answer to /sync.

use std::collections::BTreeMap;

use event::auth::Membership;
use event::json;
use names::{RoomSn, UserSn};
use rooms::{UserRoom, event_log, members, outside, partial};
use store::{At, Position, Read, View};
use users::account_data::{self, Item};
use users::filters::Filter;
use users::keys::one_time;
use users::to_device;

use crate::account::ignored;
use crate::devices::{device_changes, write_users};
use crate::key_counts::{write_one_time, write_unused_fallback};
use crate::outside::left;
use crate::presences::write_presences;
use crate::room::{Room, Shared, write_items};
use crate::{Memory, Result, SyncToken};

/// Where the state of a room's part belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateMode {
    /// `state`: before the timeline.
    Before,
    /// `state_after`: after it.
    After,
}

/// What a device asks for.
pub struct Request<'a> {
    /// The user.
    pub user: UserSn,
    /// The user's id.
    pub user_id: &'a str,
    /// The device.
    pub device: &'a str,
    /// Where the device has got to; nothing at first.
    pub since: Option<SyncToken>,
    /// What it wants to see.
    pub filter: &'a Filter,
    /// Whether to tell the whole state of every room again.
    pub full_state: bool,
    /// Where the state belongs.
    pub state_mode: StateMode,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

/// An answer.
pub struct Answer {
    /// The JSON.
    pub body: Vec<u8>,
    /// It holds something that the device did not know: a long poll ends.
    pub news: bool,
    /// The token that the device comes with next.
    pub next: SyncToken,
}

/// To-device messages in one answer.
const MOST_MESSAGES: usize = 100;

/// Builds an answer from one view. `rooms` are the user's rooms in that view; `changed` says whether a
/// room may have something after the request's token.
pub fn build(
    view: &View,
    memory: &Memory,
    rooms: &[(RoomSn, At<UserRoom>)],
    changed: &dyn Fn(RoomSn) -> bool,
    request: &Request<'_>,
) -> Result<Answer> {
    let since = request.since.map(|since| since.position);
    if request.since.is_none() {
        memory.lazy_members.reset(request.user, request.device);
    }
    let told_to = request
        .since
        .map_or(Position::ZERO, |since| since.to_device);
    let waiting = to_device::since(view, request.user, request.device, told_to, MOST_MESSAGES)?;
    let next = SyncToken {
        position: view.position(),
        to_device: waiting.upto,
    };
    let mut news = !waiting.messages.is_empty();
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(format!("{{\"next_batch\":\"{next}\"").as_bytes());

    let data = account_items(view, request)?;
    if !data.global.is_empty() {
        news = true;
        out.extend_from_slice(b",\"account_data\":{\"events\":");
        write_items(&mut out, &data.global);
        out.push(b'}');
    }
    news |= write_rooms(
        &mut out,
        view,
        memory,
        rooms,
        changed,
        request,
        &data.rooms,
        next,
    )?;
    news |= write_presences(&mut out, view, memory, rooms, changed, request)?;
    if !waiting.messages.is_empty() {
        out.extend_from_slice(b",\"to_device\":{\"events\":[");
        out.extend_from_slice(&waiting.messages.join(&b','));
        out.extend_from_slice(b"]}");
    }
    if let Some(since) = since {
        news |= write_device_lists(&mut out, view, rooms, changed, request, since)?;
    }
    news |= write_key_counts(&mut out, view, request)?;
    out.push(b'}');
    Ok(Answer {
        body: out,
        news,
        next,
    })
}

struct AccountItems {
    global: Vec<Item>,
    rooms: BTreeMap<RoomSn, Vec<Item>>,
}

fn account_items(view: &View, request: &Request<'_>) -> Result<AccountItems> {
    let (user, user_id) = (request.user, request.user_id);
    let (mut global, rooms) = match request.since {
        Some(since) => {
            let changes = account_data::since(view, user, user_id, since.position)?;
            (changes.global, changes.rooms)
        }
        None => (account_data::all(view, user, user_id)?, BTreeMap::new()),
    };
    global.retain(|item| request.filter.account_data.shows(&item.kind, None));
    Ok(AccountItems { global, rooms })
}

/// The four kinds of rooms in an answer.
#[derive(Default)]
struct Sections {
    join: Vec<u8>,
    invite: Vec<u8>,
    knock: Vec<u8>,
    leave: Vec<u8>,
}

/// Begins an entry of a section; ends it where it began if it turns out to be nothing.
fn entry<T>(
    section: &mut Vec<u8>,
    room_id: &str,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(bool, T)>,
) -> Result<(bool, T)> {
    let before = section.len();
    if before > 0 {
        section.push(b',');
    }
    json::write_string(section, room_id);
    section.push(b':');
    let (keep, told) = write(section)?;
    if !keep {
        section.truncate(before);
    }
    Ok((keep, told))
}

#[expect(clippy::too_many_arguments, reason = "the parts of one answer")]
fn write_rooms(
    out: &mut Vec<u8>,
    view: &View,
    memory: &Memory,
    rooms: &[(RoomSn, At<UserRoom>)],
    changed: &dyn Fn(RoomSn) -> bool,
    request: &Request<'_>,
    account_items: &BTreeMap<RoomSn, Vec<Item>>,
    next: SyncToken,
) -> Result<bool> {
    let shared = Shared {
        request,
        view,
        memory,
        ignored: ignored(view, request.user)?,
        any_partial: partial::any(view)?,
    };
    let mut sections = Sections::default();
    let mut shown: Vec<(RoomSn, UserSn)> = Vec::new();
    for (room, of) in rooms {
        let moved = request
            .since
            .is_none_or(|since| of.position > since.position);
        let membership = of.value.membership();
        let items = account_items.get(room);
        let look = match membership {
            Membership::Join => moved || request.full_state || items.is_some() || changed(*room),
            Membership::Invite | Membership::Knock => moved,
            // That somebody else ended it has to be told, however soon after it the first sync comes.
            _ if request.since.is_none() => {
                request.filter.room.include_leave || was_put_out(view, request.user, *room)?
            }
            _ => moved || (request.full_state && request.filter.room.include_leave),
        };
        // A room that was left and forgotten since is told as left, once.
        let gone = of.value.forgotten && membership != Membership::Join;
        if !look || (gone && !(moved && request.since.is_some())) {
            continue;
        }
        write_room(&mut sections, &shared, *room, *of, items, &mut shown)?;
    }
    let (user, device) = (request.user, request.device);
    memory
        .lazy_members
        .note(user, device, next.position, shown.into_iter());
    let all = [
        ("join", sections.join),
        ("invite", sections.invite),
        ("knock", sections.knock),
        ("leave", sections.leave),
    ];
    let any = all.iter().any(|(_, section)| !section.is_empty());
    if any {
        out.extend_from_slice(b",\"rooms\":{");
        let mut first = true;
        for (name, section) in all.iter().filter(|(_, section)| !section.is_empty()) {
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(format!("\"{name}\":{{").as_bytes());
            out.extend_from_slice(section);
            out.push(b'}');
        }
        out.push(b'}');
    }
    Ok(any)
}

/// Whether another than the user ended the user's time in the room.
fn was_put_out(view: &View, user: UserSn, room: RoomSn) -> Result<bool> {
    let Some(member) = members::get(view, room, user)? else {
        return Ok(false);
    };
    let event = event_log::get(view, room, member.event)?;
    Ok(event.is_some_and(|event| event.sender != user))
}

fn write_room(
    sections: &mut Sections,
    shared: &Shared<'_>,
    number: RoomSn,
    of: At<UserRoom>,
    items: Option<&Vec<Item>>,
    shown: &mut Vec<(RoomSn, UserSn)>,
) -> Result<()> {
    let (view, request) = (shared.view, shared.request);
    let room_filter = &request.filter.room;
    match of.value.membership() {
        membership @ (Membership::Invite | Membership::Knock) => {
            let room_id = names::room_id(view, number)?;
            if !room_filter.shows_room(&room_id) || is_from_ignored(shared, number)? {
                return Ok(());
            }
            let stripped = members::stripped_state(view, request.user, number)?;
            let (section, name) = if membership == Membership::Invite {
                (&mut sections.invite, "invite_state")
            } else {
                (&mut sections.knock, "knock_state")
            };
            entry(section, &room_id, |out| {
                out.extend_from_slice(format!("{{\"{name}\":{{\"events\":").as_bytes());
                out.extend_from_slice(stripped.as_deref().unwrap_or(b"[]"));
                out.extend_from_slice(b"}}");
                Ok((true, ()))
            })?;
        }
        Membership::Join => write_open_room(sections, shared, number, of, items, shown)?,
        _ => match outside::get(view, number, request.user)? {
            Some(outside) => {
                let room_id = names::room_id(view, number)?;
                if room_filter.shows_room(&room_id) {
                    entry(&mut sections.leave, &room_id, |out| {
                        left(out, request, &outside)?;
                        Ok((true, ()))
                    })?;
                }
            }
            None => write_open_room(sections, shared, number, of, items, shown)?,
        },
    }
    Ok(())
}

/// A room that the user is in, or was in.
fn write_open_room(
    sections: &mut Sections,
    shared: &Shared<'_>,
    number: RoomSn,
    of: At<UserRoom>,
    items: Option<&Vec<Item>>,
    shown: &mut Vec<(RoomSn, UserSn)>,
) -> Result<()> {
    let (view, request) = (shared.view, shared.request);
    let room_filter = &request.filter.room;
    if of.value.membership() == Membership::Join && shared.waits_for_members(number)? {
        return Ok(());
    }
    let Some(room) = Room::read(shared, number, of)? else {
        return Ok(());
    };
    if !room_filter.shows_room(room.room_id()) {
        return Ok(());
    }
    let mut items = match items {
        Some(items) if !room.is_anew() => items.clone(),
        _ if room.is_anew() => account_data::all_room(view, request.user, number)?,
        _ => Vec::new(),
    };
    items.retain(|item| room_filter.account_data.event.shows(&item.kind, None));
    if of.value.membership() == Membership::Join {
        let keep_all = request.since.is_none() || request.full_state;
        let (kept, told) = entry(&mut sections.join, room.room_id(), |out| {
            let told = room.joined(out, &items)?;
            Ok((keep_all || told.news, told))
        })?;
        if kept {
            shown.extend(told.members.into_iter().map(|member| (number, member)));
        }
    } else {
        entry(&mut sections.leave, room.room_id(), |out| {
            let told = room.left(out, &items)?;
            Ok((told.news, ()))
        })?;
    }
    Ok(())
}

fn is_from_ignored(shared: &Shared<'_>, room: RoomSn) -> Result<bool> {
    if shared.ignored.is_empty() {
        return Ok(false);
    }
    if let Some(outside) = outside::get(shared.view, room, shared.request.user)? {
        let by = names::user_sn(shared.view, &outside.sender())?;
        return Ok(by.is_some_and(|by| shared.ignored.contains(&by)));
    }
    let Some(member) = members::get(shared.view, room, shared.request.user)? else {
        return Ok(false);
    };
    let event = event_log::get(shared.view, room, member.event)?;
    Ok(event.is_some_and(|event| shared.ignored.contains(&event.sender)))
}

fn write_device_lists(
    out: &mut Vec<u8>,
    view: &View,
    rooms: &[(RoomSn, At<UserRoom>)],
    changed: &dyn Fn(RoomSn) -> bool,
    request: &Request<'_>,
    since: Position,
) -> Result<bool> {
    let lists = device_changes(view, request.user, request.user_id, rooms, changed, since)?;
    if lists.changed.is_empty() && lists.left.is_empty() {
        return Ok(false);
    }
    out.extend_from_slice(b",\"device_lists\":{\"changed\":");
    write_users(out, view, &lists.changed)?;
    out.extend_from_slice(b",\"left\":");
    write_users(out, view, &lists.left)?;
    out.push(b'}');
    Ok(true)
}

fn write_key_counts(out: &mut Vec<u8>, view: &View, request: &Request<'_>) -> Result<bool> {
    let counts = one_time::counts(view, request.user, request.device)?;
    out.extend_from_slice(b",\"device_one_time_keys_count\":");
    write_one_time(out, &counts.value);
    for name in [
        "device_unused_fallback_key_types",
        "org.matrix.msc2732.device_unused_fallback_key_types",
    ] {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        write_unused_fallback(out, &counts.value);
    }
    Ok(request
        .since
        .is_some_and(|since| counts.position > since.position))
}
