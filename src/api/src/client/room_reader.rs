//! A room opened for one user to read: whether they may, and up to where.
//!
//! Who is joined reads on to the newest; who has left reads up to their leaving; a room that is open to
//! the world is read by anybody. Nobody else learns that the room exists. Each event is judged besides by
//! [`Visibility`].

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use event::RoomRules;
use event::auth::Membership;
use names::{RoomSn, UserSn};
use node::NodeError;
use node::federation::MEMBERS_PATIENCE;
use rooms::render::{Renderer, Viewer};
use rooms::visibility::Visibility;
use rooms::{
    EventNo, Flags, Point, RoomHead, StoredEvent, event_log, members, partial, relations, state,
};
use store::View;
use sync::room_state::{self, Entries, Members};
use sync::{PaginationToken, filtered};
use users::filters::RoomEventFilter;

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;

/// Waits until all members of a room are known.
///
/// # Errors
/// 503 if they do not become known for long.
pub async fn members_known(app: &App, room: RoomSn) -> Result<(), ApiError> {
    match app.node().wait_for_members(room, MEMBERS_PATIENCE).await? {
        true => Ok(()),
        false => Err(rooms::Error::MembersMissing.into()),
    }
}

/// A room as one user may read it.
pub struct RoomReader {
    /// What everything is read from.
    pub view: View,
    /// The room.
    pub room: RoomSn,
    /// The room's id.
    pub room_id: String,
    /// Where the room has got to.
    pub head: RoomHead,
    /// The rules of the room's version.
    pub rules: &'static RoomRules,
    /// Who reads.
    pub session: Session,
    /// What they may see.
    pub visibility: Visibility,
    /// The place after the last whose state they may know.
    pub end: EventNo,
    now_ms: u64,
}

impl RoomReader {
    /// Opens a room.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user may read nothing of it.
    pub fn open(app: &App, session: &Session, room_id: &str) -> Result<Self, ApiError> {
        let mut reader = Self::find(app, session, room_id)?.ok_or(rooms::Error::UnknownRoom)?;
        let is_joined = reader.visibility.membership_at(EventNo::MAX) == Membership::Join;
        if is_joined || reader.visibility.is_world_readable() {
            return Ok(reader);
        }
        let left_at = reader
            .visibility
            .left_at()
            .ok_or(rooms::Error::UnknownRoom)?;
        let entry = members::room_of(&reader.view, session.user, reader.room)?;
        if entry.is_some_and(|entry| entry.value.forgotten) {
            return Err(rooms::Error::UnknownRoom.into());
        }
        reader.end = left_at.next();
        Ok(reader)
    }

    /// Opens a room for what all of its members belong to: if not all of them are known yet, they are waited for.
    ///
    /// # Errors
    /// As [`RoomReader::open`]; 503 if they do not become known for long.
    pub async fn open_whole(app: &App, session: &Session, room_id: &str) -> Result<Self, ApiError> {
        let reader = Self::open(app, session, room_id)?;
        if !partial::is_partial(&reader.view, reader.room)? {
            return Ok(reader);
        }
        let room = reader.room;
        // A view keeps what is deleted meanwhile.
        drop(reader);
        members_known(app, room).await?;
        Self::open(app, session, room_id)
    }

    /// A room without asking whether the user may read it as a whole: for what is judged event by event.
    pub fn find(app: &App, session: &Session, room_id: &str) -> Result<Option<Self>, ApiError> {
        let node = app.node();
        let view = node.view();
        let Some(room) = node.names().known_room(&view, room_id)? else {
            return Ok(None);
        };
        let Some(head) = event_log::head(&view, room)? else {
            return Ok(None);
        };
        let rules = head
            .rules()
            .ok_or_else(|| rooms::Error::UnsupportedVersion(head.version.clone()))?;
        let viewer = Some((session.user, &*session.user_id));
        let visibility = Visibility::of(&view, room, viewer)?;
        Ok(Some(Self {
            end: head.next,
            view,
            room,
            room_id: room_id.to_owned(),
            head,
            rules,
            session: session.clone(),
            visibility,
            now_ms: node.now_ms(),
        }))
    }

    /// Refuses all but those who are joined.
    pub fn must_be_joined(&self) -> Result<(), ApiError> {
        if self.visibility.membership_at(EventNo::MAX) != Membership::Join {
            return Err(rooms::Error::UnknownRoom.into());
        }
        Ok(())
    }

    /// Renders events as the reader sees them.
    pub fn renderer(&self) -> Renderer<'_, View> {
        let viewer = Viewer {
            user: self.session.user,
            user_id: &self.session.user_id,
            device: Some(&self.session.device),
        };
        let (room, rules) = (self.room, self.rules);
        Renderer::new(
            &self.view,
            room,
            rules,
            viewer,
            &self.visibility,
            self.now_ms,
        )
    }

    /// The place of a token of this server.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if it is none.
    pub fn place_of(&self, token: &str) -> Result<EventNo, ApiError> {
        let token = PaginationToken::parse(token)
            .ok_or_else(|| ApiError::invalid_param("This is not a token of this server"))?;
        Ok(token.place(&self.view, self.room)?)
    }

    /// The event of an id, if the reader may see it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is none, or not for this reader.
    pub fn event(&self, event_id: &str) -> Result<(EventNo, StoredEvent), ApiError> {
        let unknown = || ApiError::from(rooms::Error::UnknownEvent);
        let no = event_log::find_in(&self.view, self.room, event_id)?.ok_or_else(unknown)?;
        let event = event_log::get(&self.view, self.room, no)?.ok_or_else(unknown)?;
        if !self.visibility.allows(&self.view, no, &event)? {
            return Err(unknown());
        }
        Ok((no, event))
    }

    /// What the reader sees of the room through `filter`.
    pub fn lens<'a>(&'a self, filter: &'a RoomEventFilter) -> Result<Lens<'a>, ApiError> {
        Ok(Lens {
            ignored: sync::ignored_users(&self.view, self.session.user).map_err(NodeError::from)?,
            shows_room: filter.shows_room(&self.room_id),
            reader: self,
            filter,
        })
    }

    /// The event that sets an entry of the state as far as the reader may know it.
    pub fn state(&self, event_type: &str, state_key: &str) -> Result<Option<EventNo>, ApiError> {
        let (view, room) = (&self.view, self.room);
        if self.end >= self.head.next {
            return Ok(state::current(view, room, event_type, state_key)?);
        }
        let last = EventNo(self.end.0.saturating_sub(1));
        Ok(state::at(
            view,
            room,
            event_type,
            state_key,
            Point::main(last),
        )?)
    }

    /// The state right before `place`.
    pub fn state_before(&self, place: EventNo, members: &Members<'_>) -> Result<Entries, ApiError> {
        Ok(room_state::before(&self.view, self.room, place, members).map_err(NodeError::from)?)
    }

    /// The member events of those who sent `events`, as the state was at `at`.
    /// <https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members>
    pub fn members_of(
        &self,
        events: &[(EventNo, StoredEvent)],
        at: EventNo,
    ) -> Result<Vec<EventNo>, ApiError> {
        const MEMBER: &str = "m.room.member";
        let (view, room) = (&self.view, self.room);
        let ids = senders(view, events.iter().map(|(_, event)| event))?;
        let keys: Vec<(&str, &str)> = ids.iter().map(|id| (MEMBER, id.as_str())).collect();
        let mut places = Vec::with_capacity(keys.len());
        for (id, current) in ids.iter().zip(state::current_many(view, room, &keys)?) {
            match current {
                Some(current) if current > at => {
                    // Who came later is shown as they are: a client needs to know how to name them.
                    let then = state::at(view, room, MEMBER, id, Point::main(at))?;
                    places.push(then.unwrap_or(current));
                }
                Some(current) => places.push(current),
                None => {}
            }
        }
        places.retain(|place| *place < self.end);
        Ok(places)
    }
}

/// The ids of those who sent events.
pub fn senders<'e>(
    view: &View,
    events: impl Iterator<Item = &'e StoredEvent>,
) -> Result<BTreeSet<String>, ApiError> {
    let mut users: Vec<UserSn> = events.map(|event| event.sender).collect();
    users.sort_unstable();
    users.dedup();
    Ok(names::user_ids(view, &users)?.into_iter().collect())
}

/// A filter as it applies to one reader of one room.
pub struct Lens<'a> {
    reader: &'a RoomReader,
    filter: &'a RoomEventFilter,
    ignored: HashSet<UserSn>,
    shows_room: bool,
}

impl Lens<'_> {
    /// Whether the event is shown.
    pub fn shows(&self, no: EventNo, event: &StoredEvent) -> rooms::Result<bool> {
        let wanted = self.shows_room && filtered::shows(self.filter, event);
        Ok(wanted && self.sees(no, event)? && self.is_related(event)?)
    }

    /// Whether the event would be shown without the filter.
    pub fn sees(&self, no: EventNo, event: &StoredEvent) -> rooms::Result<bool> {
        let ignored = self.ignored.contains(&event.sender) && !event.flags.has(Flags::STATE);
        let reader = self.reader;
        Ok(!ignored && reader.visibility.allows(&reader.view, no, event)?)
    }

    /// `related_by_rel_types` and `related_by_senders`: one relation has to match both.
    fn is_related(&self, event: &StoredEvent) -> rooms::Result<bool> {
        let types = self.filter.related_by_rel_types.as_ref();
        let senders = self.filter.related_by_senders.as_ref();
        if types.is_none() && senders.is_none() {
            return Ok(true);
        }
        let reader = self.reader;
        for (_, relation) in relations::of(&reader.view, reader.room, &event.event_id)? {
            let of_type = types.is_none_or(|types| types.contains(&relation.rel_type));
            if !of_type {
                continue;
            }
            let Some(senders) = senders else {
                return Ok(true);
            };
            let sender = names::user_id(&reader.view, relation.sender)?;
            if senders.contains(&sender) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A room event filter of a query: JSON.
///
/// # Errors
/// `M_INVALID_PARAM` if it is none.
pub fn event_filter(text: Option<&str>) -> Result<Arc<RoomEventFilter>, ApiError> {
    match text.filter(|text| !text.is_empty()) {
        Some(text) => Ok(Arc::new(RoomEventFilter::parse(text.as_bytes())?)),
        None => Ok(Arc::default()),
    }
}
