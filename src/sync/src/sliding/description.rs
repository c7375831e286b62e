//! How a room is described: name, picture, heroes, counts, and where it stands among others.

use event::json;
use names::{RoomSn, UserSn};
use rooms::{EventNo, StateDelta, event_log, partial};
use store::{Position, View};

use crate::sliding::connection::Told;
use crate::sliding::facts::content_text;
use crate::sliding::request::Dialect;
use crate::sliding::required_state::MEMBER;
use crate::sliding::room::Open;
use crate::unread::Subject;
use crate::{Result, summary};

/// Events looked at in search of the one that a room's `bump_stamp` comes from.
const MOST_LOOKED_AT: usize = 200;
/// Events that bring a room up in a list of rooms (MSC4186, "Room results").
const BUMPS: [&str; 7] = [
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "m.beacon_info",
];
/// The same under the names from before they were in the specification.
const UNSTABLE_BUMPS: [&str; 2] = [
    "org.matrix.msc3381.poll.start",
    "org.matrix.msc3672.beacon_info",
];

impl Open<'_> {
    /// Where the room was last brought up.
    pub fn write_bump_stamp(&self, out: &mut Vec<u8>, told: &mut Told) -> Result<bool> {
        let before = self.before().map(|before| before.bump_stamp);
        let stamp = if !self.joined {
            Some(self.part.listed.of.position.0)
        } else {
            newest_bump(self.shared.view, self.room, self.new_from, self.end)?.map(|at| at.0)
        };
        let Some(stamp) = stamp.filter(|stamp| before != Some(*stamp)) else {
            return Ok(false);
        };
        told.bump_stamp = stamp;
        out.extend_from_slice(format!(",\"bump_stamp\":{stamp}").as_bytes());
        Ok(true)
    }

    /// Name, picture and, without a name, the members that give it one.
    pub fn write_description(&self, out: &mut Vec<u8>, changes: &[StateDelta]) -> Result<bool> {
        let mut news = false;
        let changed = |of: &str| {
            (changes.iter()).any(|change| change.event_type == of && change.state_key.is_empty())
        };
        if !self.joined && !self.visibility.was_joined() {
            return Ok(false);
        }
        let fields = [
            ("name", "m.room.name", "name"),
            ("avatar", "m.room.avatar", "url"),
        ];
        for (field, event_type, key) in fields {
            if !self.initial && !changed(event_type) {
                continue;
            }
            if let Some(text) = self.text(event_type, key)? {
                out.extend_from_slice(format!(",\"{field}\":").as_bytes());
                json::write_string(out, &text);
            } else if !self.initial && self.shared.asked.request.dialect == Dialect::Stable {
                out.extend_from_slice(format!(",\"{field}\":null").as_bytes());
            }
            news = true;
        }
        let members_changed = changes.iter().any(|change| change.event_type == MEMBER);
        let due =
            self.initial || members_changed || changed("m.room.name") || self.members_learnt()?;
        if due && self.joined && self.text("m.room.name", "name")?.is_none() {
            news |= self.write_heroes(out)?;
        }
        Ok(news)
    }

    /// Whether the members became known that the room was entered without, since it was told last.
    fn members_learnt(&self) -> Result<bool> {
        let Some(before) = self.before() else {
            return Ok(false);
        };
        let completed = partial::completed(self.shared.view, self.room)?;
        Ok(completed.is_some_and(|at| at > before.at))
    }

    fn text(&self, event_type: &str, key: &str) -> Result<Option<String>> {
        let view = self.shared.view;
        match self.when.entry(view, self.room, event_type, "")? {
            Some(no) => content_text(view, self.room, no, key),
            None => Ok(None),
        }
    }

    fn write_heroes(&self, out: &mut Vec<u8>) -> Result<bool> {
        let view = self.shared.view;
        let heroes = summary::members_for_a_name(view, self.room, self.shared.asked.user)?;
        if heroes.is_empty() {
            return Ok(false);
        }
        let places: Vec<EventNo> = heroes.iter().map(|(_, member)| member.event).collect();
        let events = event_log::get_many(view, self.room, &places)?;
        let users: Vec<UserSn> = heroes.iter().map(|(user, _)| *user).collect();
        out.extend_from_slice(b",\"heroes\":[");
        for (n, ((_, member), id)) in heroes
            .iter()
            .zip(names::user_ids(view, &users)?)
            .enumerate()
        {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"user_id\":");
            json::write_string(out, &id);
            let event = events.iter().find(|(no, _)| *no == member.event);
            let content = event
                .and_then(|(_, event)| json::member(&event.json, "content"))
                .unwrap_or("{}");
            for key in ["displayname", "avatar_url"] {
                if let Some(text) = json::member(content, key).and_then(json::string) {
                    out.extend_from_slice(format!(",\"{key}\":").as_bytes());
                    json::write_string(out, &text);
                }
            }
            out.push(b'}');
        }
        out.push(b']');
        Ok(true)
    }

    /// Whether it is a direct room, if that changed.
    pub fn write_is_dm(&self, out: &mut Vec<u8>, told: &Told) -> bool {
        let changed = match self.before() {
            Some(before) => before.is_dm != told.is_dm,
            None => told.is_dm,
        };
        if changed {
            out.extend_from_slice(format!(",\"is_dm\":{}", told.is_dm).as_bytes());
        }
        changed
    }

    /// How many are in, if that changed.
    pub fn write_members(&self, out: &mut Vec<u8>, told: &mut Told) -> bool {
        let before = self.before().map(|before| before.members);
        told.members = (self.head.joined, self.head.invited);
        let (joined, invited) = told.members;
        if before.map(|before| before.0) != Some(joined) {
            out.extend_from_slice(format!(",\"joined_count\":{joined}").as_bytes());
        }
        if before.map(|before| before.1) != Some(invited) {
            out.extend_from_slice(format!(",\"invited_count\":{invited}").as_bytes());
        }
        before != Some(told.members)
    }

    /// Unread counts; the proposal as merged leaves them to clients.
    pub fn write_unread(&self, out: &mut Vec<u8>, told: &mut Told) -> Result<bool> {
        let asked = self.shared.asked;
        if asked.request.dialect == Dialect::Stable {
            return Ok(false);
        }
        let own = self.part.listed.of.value.place;
        let subject = Subject {
            user: asked.user,
            user_id: asked.user_id,
            room: self.room,
            room_id: &self.part.listed.room_id,
            head: &self.head,
            joined_at: self.visibility.joined_since().unwrap_or(own),
        };
        let unread = self
            .shared
            .memory
            .unread
            .count(self.shared.view, &subject)?;
        let count = unread.total();
        let before = self.before().map(|before| before.unread);
        told.unread = (count.notification_count, count.highlight_count);
        out.extend_from_slice(
            format!(
                ",\"notification_count\":{},\"highlight_count\":{}",
                told.unread.0, told.unread.1
            )
            .as_bytes(),
        );
        Ok(before != Some(told.unread))
    }
}

/// Where the newest event was committed that brings a room up, among those from `start` on; of a whole
/// room, if there is none among the newest, where the last was that was looked at.
fn newest_bump(
    view: &View,
    room: RoomSn,
    start: EventNo,
    end: EventNo,
) -> Result<Option<Position>> {
    let mut last = None;
    for row in event_log::backwards(view, room, end).take(MOST_LOOKED_AT) {
        let (no, event) = row?;
        if no < start {
            return Ok(None);
        }
        if no.is_past() {
            continue;
        }
        let event_type = json::member(&event.json, "type").and_then(json::string);
        let bumps = event_type.is_some_and(|of| {
            BUMPS.contains(&of.as_ref()) || UNSTABLE_BUMPS.contains(&of.as_ref())
        });
        if bumps && event.flags.is_visible() {
            return Ok(Some(event.position));
        }
        last = Some(event.position);
    }
    Ok(last.filter(|_| start == EventNo::MIN))
}
