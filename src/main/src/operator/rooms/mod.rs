//! The rooms in the operator's hands: reading only, from one view of the database each time.
//!
//! What other servers put into rooms is printed here, so nothing of it reaches the terminal as a control character
//! ([`text::printable`]).

mod check;
mod graph;
mod list;
mod show;
mod state;
mod text;

use clap::{Args, ValueEnum};
use names::RoomSn;
use node::Node;
use rooms::{RoomHead, aliases, event_log, inspect};
use serde::{Deserialize, Serialize};
use store::View;

pub use check::check;
pub use graph::graph;
pub use list::list;
pub use show::show;
pub use state::{Wanted, state};

/// What makes a room large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// About the number of its events
    Events,
    /// Joined members
    Members,
    /// Forward extremities: branches of the graph that nothing joins
    Extremities,
    /// Side lines of the state history: states other than the current one that events stood on
    SideLines,
}

/// Which part of a long list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct Page {
    /// The most entries to print
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// How many entries to leave out first
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip: usize,
}

/// Which state of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The current one.
    Now,
    /// Right after an event.
    After(String),
    /// Right before an event.
    Before(String),
    /// What differs between the states right after two events.
    Difference(String, String),
}

/// Why nothing can be told of a room.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    #[error("this server has no room {0}; `meyrin room list` prints those it has")]
    UnknownRoom(String),
    #[error(
        "no room of this server has the alias {0}; `meyrin room list` prints the rooms, give the id of one"
    )]
    UnknownAlias(String),
    #[error("this server knows of {0}, but has nothing of it: none of its users has joined")]
    NotJoined(String),
    #[error("the id of the {0} is empty; put it in single quotes, or the shell changes it")]
    EmptyId(&'static str),
    #[error("there is no event {event} in {room}")]
    UnknownEvent { event: String, room: String },
    #[error(
        "event {0} is here only because others name it; it has no place in the history, and no state"
    )]
    Outlier(String),
    #[error("room {room} has version {version}, which this server does not know")]
    UnknownVersion { room: String, version: String },
    #[error("room {room} is damaged: {problems} problems")]
    Damaged { room: String, problems: u64 },
    #[error("not finished: nobody reads any more")]
    GivenUp,
    #[error(transparent)]
    Rooms(#[from] rooms::Error),
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

/// A room as it is in one view.
struct Found {
    view: View,
    room: RoomSn,
    room_id: String,
    head: RoomHead,
}

/// Looks a room up by its id or an alias. `!` may be left out, and the server of an alias of this one.
fn find(node: &Node, name: &str) -> Result<Found, RoomError> {
    let view = node.view();
    let room = match name.chars().next() {
        None => return Err(RoomError::EmptyId("room")),
        Some('#') => {
            let alias = match name.contains(':') {
                true => name.to_owned(),
                false => format!("{name}:{}", node.server_name()),
            };
            let found = aliases::get(&view, &alias)?;
            found.ok_or(RoomError::UnknownAlias(alias))?.room
        }
        Some('!') => room_by_id(&view, name)?,
        Some(_) => room_by_id(&view, &format!("!{name}"))?,
    };
    let room_id = names::room_id(&view, room)?;
    match event_log::head(&view, room)? {
        Some(head) => Ok(Found {
            view,
            room,
            room_id,
            head,
        }),
        None => Err(RoomError::NotJoined(room_id)),
    }
}

fn room_by_id(view: &View, room_id: &str) -> Result<RoomSn, RoomError> {
    let found = names::room_sn(view, room_id)?;
    found.ok_or_else(|| RoomError::UnknownRoom(room_id.to_owned()))
}

impl Found {
    /// The rules of the room's version.
    fn rules(&self) -> Result<&'static event::RoomRules, RoomError> {
        self.head.rules().ok_or_else(|| RoomError::UnknownVersion {
            room: self.room_id.clone(),
            version: self.head.version.clone(),
        })
    }

    /// The id of an event as it was given; `$` may be left out.
    fn event_id(&self, name: &str) -> Result<String, RoomError> {
        match name.chars().next() {
            None | Some('$') if name.len() < 2 => Err(RoomError::EmptyId("event")),
            Some('$') => Ok(name.to_owned()),
            _ => Ok(format!("${name}")),
        }
    }

    /// Why an event was not found.
    fn no_event(&self, event_id: &str) -> Result<RoomError, RoomError> {
        Ok(
            match inspect::is_outlier(&self.view, self.room, event_id)? {
                true => RoomError::Outlier(event_id.to_owned()),
                false => RoomError::UnknownEvent {
                    event: event_id.to_owned(),
                    room: self.room_id.clone(),
                },
            },
        )
    }
}
