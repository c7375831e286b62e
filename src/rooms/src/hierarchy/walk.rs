//! Walking down a space: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy>.
//!
//! Depth first, each room once, children in their order; what the viewer may not know of is left out
//! together with what is below it. Pages are cut from one and the same walk. What this server is not in is asked for:
//! the walk stops there and goes on with the answer, or without one.

use std::collections::HashSet;
use std::sync::Arc;

use names::UserSn;
use store::Read;

use super::for_server::resident;
use super::told::{Told, ToldLevel};
use super::{Child, Room, children};
use crate::about::About;
use crate::{Result, event_log, servers, summary};

/// What is asked of a space.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The room at the top.
    pub root: String,
    /// Who asks.
    pub viewer: UserSn,
    /// How far down to go; the root is at depth 0.
    pub max_depth: Option<u64>,
    /// Only children that the space suggests.
    pub suggested_only: bool,
    /// Rooms of earlier pages.
    pub skip: usize,
    /// The most rooms of this page.
    pub limit: usize,
}

/// A room of the hierarchy.
#[derive(Clone, Debug)]
pub enum Shown {
    /// This server is in it.
    Here(Box<Room>),
    /// Another server tells of it.
    Elsewhere(Arc<Told>),
}

/// A page of the hierarchy.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The rooms.
    pub rooms: Vec<Shown>,
    /// There are more.
    pub more: bool,
}

/// How far a walk has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The page is complete.
    Done,
    /// One of the servers is to be asked about a room.
    Ask {
        /// The room.
        room_id: String,
        /// Servers that are likely to be in it.
        via: Vec<String>,
    },
}

/// Rooms visited in one walk.
const MOST_VISITED: usize = 10_000;

/// A room that is to be looked at.
struct Visit {
    room_id: String,
    via: Vec<String>,
    depth: u64,
    /// What the server that told of its parent told of it.
    told: Option<Arc<Told>>,
    /// That server said that this one can't enter the room: it is not asked for.
    is_shut: bool,
}

/// A walk under way.
pub struct Walk {
    asked: Asked,
    seen: HashSet<String>,
    to_visit: Vec<Visit>,
    /// The room that another server is asked about.
    waiting: Option<Visit>,
    shown: usize,
    page: Page,
}

impl Walk {
    /// A walk that begins.
    pub fn new(asked: Asked) -> Self {
        let root = Visit {
            room_id: asked.root.clone(),
            via: Vec::new(),
            depth: 0,
            told: None,
            is_shut: false,
        };
        Self {
            asked,
            seen: HashSet::new(),
            to_visit: vec![root],
            waiting: None,
            shown: 0,
            page: Page::default(),
        }
    }

    /// The page; nothing if the viewer may not know of the root.
    pub fn page(self) -> Option<Page> {
        (self.shown > 0).then_some(self.page)
    }

    /// Goes on until the page is complete, or another server must be asked.
    ///
    /// # Errors
    /// If the rooms can't be read.
    pub fn go_on(&mut self, from: &impl Read) -> Result<Step> {
        while !self.page.more
            && let Some(visit) = self.to_visit.pop()
        {
            if !self.seen.insert(visit.room_id.clone()) {
                continue;
            }
            let room = names::room_sn(from, &visit.room_id)?;
            let here = match room {
                Some(room) => resident(from, room)?,
                None => None,
            };
            if let Some(about) = here {
                self.visit_here(from, &visit, about)?;
                continue;
            }
            if let Some(told) = visit
                .told
                .clone()
                .filter(|told| self.says_enough(&visit, told))
            {
                self.visit_elsewhere(from, &visit, told, None)?;
                continue;
            }
            if visit.is_shut {
                continue;
            }
            let mut via = visit.via.clone();
            if let Some(room) = room {
                via.extend(servers::joined(from, room)?);
            }
            let room_id = visit.room_id.clone();
            self.waiting = Some(visit);
            return Ok(Step::Ask { room_id, via });
        }
        Ok(Step::Done)
    }

    /// What the server said that was asked; nothing if none did.
    ///
    /// # Errors
    /// If the rooms can't be read.
    pub fn answer(&mut self, from: &impl Read, level: Option<&ToldLevel>) -> Result<()> {
        let Some(visit) = self.waiting.take() else {
            return Ok(());
        };
        if let Some(level) = level {
            let room = Arc::new(level.room.clone());
            return self.visit_elsewhere(from, &visit, room, Some(level));
        }
        if let Some(told) = visit.told.clone() {
            return self.visit_elsewhere(from, &visit, told, None);
        }
        // What this server knows of a room that it has left is better than nothing.
        let Some(room) = names::room_sn(from, &visit.room_id)? else {
            return Ok(());
        };
        match event_log::head(from, room)? {
            Some(head) => {
                let about = About::with_head(from, room, &head)?;
                self.visit_here(from, &visit, about)
            }
            None => Ok(()),
        }
    }

    /// Whether nothing more need be known of a room than its parent's server told.
    fn says_enough(&self, visit: &Visit, told: &Told) -> bool {
        !told.is_space() || self.asked.max_depth.is_some_and(|most| visit.depth >= most)
    }

    fn visit_here(&mut self, from: &impl Read, visit: &Visit, about: About) -> Result<()> {
        if !summary::may_know(from, &about, Some(self.asked.viewer))? {
            return Ok(());
        }
        let children = children(from, &about, self.asked.suggested_only)?;
        self.go_down(visit, &children, None);
        self.show(Shown::Here(Box::new(Room { about, children })));
        Ok(())
    }

    fn visit_elsewhere(
        &mut self,
        from: &impl Read,
        visit: &Visit,
        told: Arc<Told>,
        level: Option<&ToldLevel>,
    ) -> Result<()> {
        if told.may_be_known(from, Some(self.asked.viewer))? {
            self.go_down(visit, &told.children, level);
            self.show(Shown::Elsewhere(told));
        }
        Ok(())
    }

    fn go_down(&mut self, visit: &Visit, children: &[Child], level: Option<&ToldLevel>) {
        if self.asked.max_depth.is_some_and(|most| visit.depth >= most) {
            return;
        }
        for child in children.iter().rev() {
            if self.seen.len() + self.to_visit.len() >= MOST_VISITED {
                return;
            }
            let told = level.and_then(|level| level.children.get(&child.room_id));
            self.to_visit.push(Visit {
                room_id: child.room_id.clone(),
                via: child.via.clone(),
                depth: visit.depth + 1,
                told: told.cloned().map(Arc::new),
                is_shut: level.is_some_and(|level| level.inaccessible.contains(&child.room_id)),
            });
        }
    }

    /// Takes a room onto the page; where that is full, there is a next one.
    fn show(&mut self, room: Shown) {
        if self.page.rooms.len() == self.asked.limit {
            self.page.more = true;
            return;
        }
        if self.shown >= self.asked.skip {
            self.page.rooms.push(room);
        }
        self.shown += 1;
    }
}
