//! Which rooms are in a list.

use event::auth::Membership;
use names::RoomSn;
use rooms::members;
use store::View;

use crate::Memory;
use crate::Result;
use crate::sliding::facts::{RoomFacts, UserFacts};
use crate::sliding::request::Filters;
use crate::sliding::room_list::{Listed, RoomList};
use crate::sliding::{Asked, Changes};

/// What filters are tried with.
pub struct Sieve<'a> {
    /// The view.
    pub view: &'a View,
    /// What is kept in memory.
    pub memory: &'a Memory,
    /// What changed when.
    pub changes: &'a Changes<'a>,
    /// Who asks.
    pub asked: &'a Asked<'a>,
    /// The user's account data.
    pub user: &'a UserFacts,
    /// All rooms.
    pub list: &'a RoomList,
}

/// The filters of one list, with the rooms of its spaces.
pub struct Prepared<'a> {
    filters: &'a Filters,
    spaces: Option<Vec<std::sync::Arc<RoomFacts>>>,
}

impl<'a> Sieve<'a> {
    /// Reads what the rooms are tried against.
    pub fn prepare<'f>(&self, filters: &'f Filters) -> Result<Prepared<'f>> {
        let mut spaces = None;
        if let Some(ids) = &filters.spaces {
            let spaces = spaces.insert(Vec::new());
            for id in ids {
                let Some(room) = names::room_sn(self.view, id)? else {
                    continue;
                };
                let member = members::membership(self.view, room, self.asked.user)?;
                if member == Membership::Join {
                    let facts = &self.memory.sliding.facts;
                    spaces.push(facts.room(self.view, room, self.changes)?);
                }
            }
        }
        Ok(Prepared { filters, spaces })
    }

    /// Whether a room is in a list.
    pub fn passes(&self, of: &Prepared<'_>, listed: &Listed) -> Result<bool> {
        let filters = of.filters;
        let room = listed.room;
        let is = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        if !is(filters.is_dm, self.user.direct.contains(&room))
            || !is(
                filters.is_invited,
                listed.membership() == Membership::Invite,
            )
        {
            return Ok(false);
        }
        if let Some(spaces) = &of.spaces
            && !spaces.iter().any(|space| space.children.contains(&room))
        {
            return Ok(false);
        }
        if let Some(tags) = &filters.not_tags
            && self.has_tag(room, tags)?
        {
            return Ok(false);
        }
        if let Some(tags) = &filters.tags
            && !self.has_tag(room, tags)?
        {
            return Ok(false);
        }
        let asks_room = filters.is_encrypted.is_some()
            || filters.room_types.is_some()
            || filters.not_room_types.is_some()
            || filters.room_name_like.is_some();
        if !asks_room {
            return Ok(true);
        }
        let facts = &self.memory.sliding.facts;
        let facts = match listed.membership() {
            Membership::Join => facts.room(self.view, room, self.changes)?,
            Membership::Invite | Membership::Knock => {
                facts.invited(self.view, self.asked.user, room)?
            }
            _ => facts.left(self.view, room, &listed.of.value)?,
        };
        let name_fits = |like: &String| {
            let name = facts.name.as_deref().unwrap_or_default();
            name.contains(&like.to_lowercase())
        };
        Ok(is(filters.is_encrypted, facts.is_encrypted)
            && (filters.room_types.as_ref()).is_none_or(|types| types.contains(&facts.room_type))
            && !(filters.not_room_types.as_ref())
                .is_some_and(|types| types.contains(&facts.room_type))
            && filters.room_name_like.as_ref().is_none_or(name_fits))
    }

    fn has_tag(&self, room: RoomSn, wanted: &[String]) -> Result<bool> {
        let all = self.list.by_room.iter().map(|listed| listed.room);
        (self.user).has_tag(self.view, self.asked.user, all, room, wanted)
    }
}
