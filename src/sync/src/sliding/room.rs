//! One room's part of an answer: its timeline and state. How it is described stands in `description`.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use event::auth::Membership;
use event::json;
use names::{RoomSn, UserSn};
use rooms::outside::{self, Outside};
use rooms::render::{Renderer, Viewer};
use rooms::visibility::Visibility;
use rooms::{EventNo, RoomHead, StateDelta, StoredEvent, event_log, members, partial};
use store::{Position, Read, View};
use users::filters::RoomEventFilter;

use crate::filtered::{Piece, Selection};
use crate::outside::write_event;
use crate::room_state::Entries;
use crate::sliding::connection::Told;
use crate::sliding::facts::UserFacts;
use crate::sliding::request::{Dialect, RoomConfig};
use crate::sliding::required_state::MEMBER;
use crate::sliding::room_list::Listed;
use crate::sliding::state::When;
use crate::sliding::{Asked, Changes};
use crate::{Memory, PaginationToken, Result};

/// The most events of a timeline, whatever the request says.
const MOST_LIMIT: u64 = 100;
/// What the parts of one answer share.
pub struct Shared<'a> {
    /// Who asks, and for what.
    pub asked: &'a Asked<'a>,
    /// The view that the answer is built from.
    pub view: &'a View,
    /// What is kept in memory.
    pub memory: &'a Memory,
    /// What changed when.
    pub changes: &'a Changes<'a>,
    /// The user's account data.
    pub user: &'a UserFacts,
    /// Where the connection has got to; nothing at first.
    pub since: Option<Position>,
}

/// A room and what is asked of it.
pub struct Part<'a> {
    /// The room.
    pub listed: &'a Listed,
    /// What is asked.
    pub config: &'a Arc<RoomConfig>,
    /// The names of the lists that show it.
    pub lists: Vec<&'a str>,
    /// What the connection was told of it.
    pub told: Option<&'a Told>,
}

/// What became of a part.
pub struct Written {
    /// What the connection is told of the room with this answer.
    pub told: Told,
    /// The part says something that the client did not know.
    pub news: bool,
    /// If the client is told older events of the room: the places of all that it is told.
    pub shown: Option<Vec<EventNo>>,
}

/// Whether the user is out of a room that they were in, or invited to.
pub fn is_out(membership: Membership) -> bool {
    matches!(membership, Membership::Leave | Membership::Ban)
}

impl<'a> Part<'a> {
    /// Whether the room has to be looked at.
    pub fn is_due(&self, shared: &Shared<'_>) -> bool {
        let Some(told) = self.told else {
            return true;
        };
        let membership = self.listed.membership();
        let is_dm = shared.user.direct.contains(&self.listed.room);
        self.listed.of.position > told.at
            || membership != told.membership
            || is_dm != told.is_dm
            || (!Arc::ptr_eq(self.config, &told.config) && self.asks_more(told))
            || (membership == Membership::Join && shared.changes.room(self.listed.room, told.at))
    }

    /// Whether the room is not told of yet: a connection that is told all members takes those that it is told for all of them.
    pub fn waits_for_members(&self, shared: &Shared<'_>) -> Result<bool> {
        Ok(self.told.is_none()
            && self.listed.membership() == Membership::Join
            && self.config.required_state.wants_all_members()
            && partial::is_partial(shared.view, self.listed.room)?)
    }

    fn asks_more(&self, told: &Told) -> bool {
        self.config.timeline_limit.min(MOST_LIMIT) > told.limit
            || self.config.required_state != told.config.required_state
    }

    /// Appends the part to `out`, an object; nothing if the room has nothing to show.
    pub fn write(&self, out: &mut Vec<u8>, shared: &Shared<'_>) -> Result<Option<Written>> {
        let membership = self.listed.membership();
        let name = match membership {
            Membership::Join => "join",
            Membership::Invite => "invite",
            Membership::Knock => "knock",
            Membership::Ban => "ban",
            Membership::Leave | Membership::Other => "leave",
        };
        out.extend_from_slice(format!("{{\"membership\":\"{name}\"").as_bytes());
        if !self.lists.is_empty() {
            out.extend_from_slice(b",\"lists\":[");
            for (n, list) in self.lists.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                json::write_string(out, list);
            }
            out.push(b']');
        }
        let written = match membership {
            Membership::Invite | Membership::Knock => Some(self.invited(out, shared)?),
            Membership::Join => Open::read(self, shared)?
                .map(|open| open.write(out))
                .transpose()?,
            _ => match outside::get(shared.view, self.listed.room, shared.asked.user)? {
                Some(outside) => Some(self.left_outside(out, shared, &outside)),
                None => Open::read(self, shared)?
                    .map(|open| open.write(out))
                    .transpose()?,
            },
        };
        out.push(b'}');
        Ok(written)
    }

    /// What the connection is told, before anything is known of the room.
    fn begin(&self, shared: &Shared<'_>) -> Told {
        let before = self.told.cloned();
        let mut told = before.unwrap_or_else(|| Told {
            at: Position::ZERO,
            membership: Membership::Leave,
            config: Arc::clone(self.config),
            limit: 0,
            seen_from: EventNo::MAX,
            is_dm: false,
            bump_stamp: 0,
            members: (0, 0),
            unread: (0, 0),
            lazy_members: Arc::default(),
            receipts: None,
            typing: None,
            account_data: false,
        });
        told.at = shared.view.position();
        told.membership = self.listed.membership();
        told.config = Arc::clone(self.config);
        told.is_dm = shared.user.direct.contains(&self.listed.room);
        told
    }

    /// A room that the user is invited to, or has knocked on.
    fn invited(&self, out: &mut Vec<u8>, shared: &Shared<'_>) -> Result<Written> {
        let (view, asked) = (shared.view, shared.asked);
        let mut told = self.begin(shared);
        let moved = self.told.is_none_or(|before| {
            before.membership != told.membership || self.listed.of.position > before.at
        });
        let is_dm_changed = self.told.is_some_and(|before| before.is_dm != told.is_dm);
        told.bump_stamp = self.listed.of.position.0;
        told.lazy_members = Arc::default();
        (told.limit, told.seen_from) = (0, EventNo::MAX);
        if moved {
            let name = match asked.request.dialect {
                Dialect::Stable => "stripped_state",
                Dialect::Unstable => "invite_state",
            };
            let stripped = members::stripped_state(view, asked.user, self.listed.room)?;
            out.extend_from_slice(
                format!(",\"initial\":true,\"bump_stamp\":{}", told.bump_stamp).as_bytes(),
            );
            out.extend_from_slice(format!(",\"{name}\":").as_bytes());
            out.extend_from_slice(stripped.as_deref().unwrap_or(b"[]"));
        }
        if is_dm_changed || (moved && told.is_dm) {
            out.extend_from_slice(format!(",\"is_dm\":{}", told.is_dm).as_bytes());
        }
        Ok(Written {
            told,
            news: moved || is_dm_changed,
            shown: None,
        })
    }

    /// A room that this server is not in, and that the user was invited to or had knocked on.
    fn left_outside(&self, out: &mut Vec<u8>, shared: &Shared<'_>, outside: &Outside) -> Written {
        let mut told = self.begin(shared);
        let news = self.told.is_none_or(|before| {
            before.membership != told.membership || self.listed.of.position > before.at
        });
        told.bump_stamp = self.listed.of.position.0;
        told.lazy_members = Arc::default();
        (told.limit, told.seen_from) = (0, EventNo::MAX);
        if news {
            let mut event = Vec::new();
            write_event(&mut event, outside, shared.asked.now_ms);
            out.extend_from_slice(
                format!(",\"initial\":true,\"bump_stamp\":{}", told.bump_stamp).as_bytes(),
            );
            out.extend_from_slice(b",\"timeline\":[");
            out.extend_from_slice(&event);
            out.extend_from_slice(b"],\"limited\":false,\"num_live\":1");
            if self
                .config
                .required_state
                .wants(MEMBER, shared.asked.user_id)
            {
                out.extend_from_slice(b",\"required_state\":[");
                out.extend_from_slice(&event);
                out.push(b']');
            }
        }
        Written {
            told,
            news,
            shown: None,
        }
    }
}

/// A room that the user is in or was in, while its part is made.
pub struct Open<'a> {
    /// The room, and what is asked of it.
    pub part: &'a Part<'a>,
    /// What the parts of the answer share.
    pub shared: &'a Shared<'a>,
    /// The room's number.
    pub room: RoomSn,
    /// Where the room has got to.
    pub head: RoomHead,
    /// What the user may see of it.
    pub visibility: Visibility,
    /// The place after the last that the user may see.
    pub end: EventNo,
    /// The state that the user may see.
    pub when: When,
    /// The first place that is new to the client.
    pub new_from: EventNo,
    /// The client is told the room as if it had never been.
    pub initial: bool,
    /// The user is in the room.
    pub joined: bool,
}

/// A timeline as it is told.
struct Timeline {
    piece: Piece,
    /// It holds events from before what is new, that were not told yet.
    expanded: bool,
    /// The first place of it.
    start: EventNo,
}

impl<'a> Open<'a> {
    fn read(part: &'a Part<'a>, shared: &'a Shared<'a>) -> Result<Option<Self>> {
        let (view, asked) = (shared.view, shared.asked);
        let room = part.listed.room;
        let Some(head) = event_log::head(view, room)? else {
            return Ok(None);
        };
        let visibility = Visibility::of(view, room, Some((asked.user, asked.user_id)))?;
        let joined = part.listed.membership() == Membership::Join;
        let place = part.listed.of.value.place;
        let (end, when) = match joined {
            true => (head.next, When::Now),
            false => (place.next(), When::After(place)),
        };
        let known = part.told.filter(|told| match told.membership {
            Membership::Join => true,
            Membership::Invite | Membership::Knock => false,
            _ => !joined,
        });
        let new_from = match known {
            Some(told) => event_log::after_position(view, room, told.at)?,
            None => EventNo::MIN,
        };
        Ok(Some(Self {
            part,
            shared,
            room,
            head,
            visibility,
            end,
            when,
            new_from,
            initial: known.is_none(),
            joined,
        }))
    }

    /// What was told of the room before, if it is not told anew.
    pub fn before(&self) -> Option<&Told> {
        self.part.told.filter(|_| !self.initial)
    }

    fn limit(&self) -> u64 {
        self.part.config.timeline_limit.min(MOST_LIMIT)
    }

    fn select(&self, start: EventNo) -> Result<Piece> {
        let selection = Selection {
            room: self.room,
            start,
            end: self.end,
            limit: self.limit() as usize,
            visibility: &self.visibility,
            filter: &RoomEventFilter::default(),
            ignored: &self.shared.user.ignored,
        };
        selection.read(self.shared.view)
    }

    fn timeline(&self) -> Result<Timeline> {
        let mut expanded = false;
        let mut piece = self.select(self.new_from)?;
        if let Some(before) = self.before()
            && self.limit() > before.limit
        {
            let whole = self.select(EventNo::MIN)?;
            let first = whole.events.first().map(|(no, _)| *no);
            if first.is_some_and(|first| first < before.seen_from && first < self.new_from) {
                (piece, expanded) = (whole, true);
            }
        }
        let start = match piece.events.first() {
            Some((no, _)) => *no,
            None => self.end.min(self.new_from.max(EventNo::FIRST)),
        };
        let start = match piece.limited && piece.events.is_empty() {
            true => self.end,
            false => start,
        };
        Ok(Timeline {
            piece,
            expanded,
            start,
        })
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<Written> {
        let view = self.shared.view;
        let mut told = self.part.begin(self.shared);
        let timeline = self.timeline()?;
        let anew = self.initial || timeline.expanded;
        if anew || timeline.piece.limited {
            told.limit = self.limit();
            told.seen_from = match timeline.piece.limited {
                true => timeline.start,
                false => EventNo::MIN,
            };
        } else {
            told.limit = told.limit.max(self.limit());
        }
        let changes = match self.initial {
            true => Vec::new(),
            false => {
                let changes = rooms::state::changes(view, self.room, self.new_from, self.end)?;
                changes.into_iter().map(|(_, change)| change).collect()
            }
        };
        let renderer = self.renderer();
        let mut news = self.initial
            || self
                .part
                .told
                .is_some_and(|before| before.membership != told.membership);
        if self.initial {
            out.extend_from_slice(b",\"initial\":true");
        }
        news |= self.write_bump_stamp(out, &mut told)?;
        let entries = self.state(&timeline.piece, &changes, &mut told)?;
        if let Some(renderer) = &renderer {
            news |= write_timeline(out, renderer, &timeline, self)?;
            news |= !entries.is_empty();
            if !entries.is_empty() {
                let mut places: Vec<EventNo> = entries.into_values().collect();
                places.sort_unstable();
                out.extend_from_slice(b",\"required_state\":");
                renderer.list_at(out, &places)?;
            }
        }
        news |= self.write_description(out, &changes)?;
        news |= self.write_is_dm(out, &told);
        if self.joined {
            news |= self.write_members(out, &mut told);
            news |= self.write_unread(out, &mut told)?;
        }
        let places = timeline.piece.events.iter().map(|(no, _)| *no);
        Ok(Written {
            told,
            news,
            shown: anew.then(|| places.collect()),
        })
    }

    fn renderer(&self) -> Option<Renderer<'_, View>> {
        let asked = self.shared.asked;
        let viewer = Viewer {
            user: asked.user,
            user_id: asked.user_id,
            device: Some(asked.device),
        };
        let rules = self.head.rules()?;
        let (view, now_ms) = (self.shared.view, asked.now_ms);
        let mut renderer = Renderer::new(view, self.room, rules, viewer, &self.visibility, now_ms);
        renderer.with_room_id = false;
        Some(renderer)
    }

    /// The entries of the state that go with the timeline. Notes which members are shown.
    fn state(&self, piece: &Piece, changes: &[StateDelta], told: &mut Told) -> Result<Entries> {
        let (view, required) = (self.shared.view, &self.part.config.required_state);
        let own = (MEMBER, self.shared.asked.user_id);
        if !self.joined && !self.visibility.was_joined() {
            // Who was never in sees the leaving, not the state.
            let member = members::get(view, self.room, self.shared.asked.user)?;
            let wanted = member.filter(|_| required.wants(own.0, own.1));
            return Ok(match wanted {
                Some(member) => {
                    Entries::from([((own.0.to_owned(), own.1.to_owned()), member.event)])
                }
                None => Entries::new(),
            });
        }
        let mut entries = Entries::new();
        if self.initial {
            entries = self.when.wanted(view, self.room, required)?;
        } else {
            for change in changes {
                if required.wants(&change.event_type, &change.state_key) {
                    let key = (change.event_type.clone(), change.state_key.clone());
                    match change.after {
                        Some(after) => entries.insert(key, after),
                        None => entries.remove(&key),
                    };
                }
            }
            let before = &self.part.told.map(|told| &told.config.required_state);
            if let Some(before) = before
                && *before != required
            {
                let mut more = self.when.wanted(view, self.room, required)?;
                more.retain(|(of, key), _| !before.wants(of, key));
                entries.append(&mut more);
            }
        }
        if required.is_lazy() {
            self.lazy_members(piece, changes, told, &mut entries)?;
        } else {
            told.lazy_members = Arc::default();
        }
        Ok(entries)
    }

    /// Members of whom the timeline speaks; and all that changed, if there is no gap.
    fn lazy_members(
        &self,
        piece: &Piece,
        changes: &[StateDelta],
        told: &mut Told,
        entries: &mut Entries,
    ) -> Result<()> {
        let view = self.shared.view;
        let required = &self.part.config.required_state;
        // After a gap clients may have let go of the members that they knew.
        let anew = self.initial || piece.limited;
        let mut shown: HashSet<UserSn> = match anew {
            true => HashSet::new(),
            false => HashSet::clone(&told.lazy_members),
        };
        let mut senders: BTreeSet<UserSn> = BTreeSet::new();
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for (_, event) in &piece.events {
            senders.insert(event.sender);
            if let Some(target) = member_of(event)
                && let Some(target) = names::user_sn(view, &target)?
            {
                senders.insert(target);
            }
        }
        senders.retain(|user| shown.insert(*user));
        let senders: Vec<UserSn> = senders.into_iter().collect();
        wanted.extend(names::user_ids(view, &senders)?);
        if !anew {
            for change in changes.iter().filter(|change| change.event_type == MEMBER) {
                let key = (MEMBER.to_owned(), change.state_key.clone());
                match change.after {
                    Some(after) => entries.insert(key, after),
                    None => entries.remove(&key),
                };
                shown.extend(names::user_sn(view, &change.state_key)?);
            }
        }
        // Those asked for by name are there already.
        let unnamed = wanted.into_iter().filter(|id| !required.wants(MEMBER, id));
        self.when.members(view, self.room, unnamed, entries)?;
        told.lazy_members = Arc::new(shown);
        Ok(())
    }
}

/// Appends the timeline. Says whether there is anything in it.
fn write_timeline(
    out: &mut Vec<u8>,
    renderer: &Renderer<'_, View>,
    timeline: &Timeline,
    of: &Open<'_>,
) -> Result<bool> {
    let piece = &timeline.piece;
    if timeline.expanded {
        let name = match of.shared.asked.request.dialect {
            Dialect::Stable => "expanded_timeline",
            Dialect::Unstable => "unstable_expanded_timeline",
        };
        out.extend_from_slice(format!(",\"{name}\":true").as_bytes());
    }
    if !piece.events.is_empty() {
        out.extend_from_slice(b",\"timeline\":");
        renderer.list(out, &piece.events)?;
    }
    let is_live = |event: &StoredEvent| {
        let since = of.shared.since;
        since.is_some_and(|since| event.position > since)
    };
    let newest_first = piece.events.iter().rev();
    let live = newest_first.take_while(|(_, event)| is_live(event)).count();
    let prev_batch = PaginationToken::Place(timeline.start);
    let limited = timeline.piece.limited;
    out.extend_from_slice(
        format!(",\"prev_batch\":\"{prev_batch}\",\"limited\":{limited},\"num_live\":{live}")
            .as_bytes(),
    );
    Ok(!timeline.piece.events.is_empty() || limited)
}

/// The user whom a member event is about.
fn member_of(event: &StoredEvent) -> Option<String> {
    let is_member = json::member(&event.json, "type") == Some("\"m.room.member\"");
    let key = json::member(&event.json, "state_key").and_then(json::string);
    key.filter(|_| is_member).map(|key| key.into_owned())
}
