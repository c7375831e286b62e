//! The entries of a room's state that are wanted: of its current state for who is in the room, of the
//! state at the leaving for who is not any more.

use std::collections::BTreeSet;

use names::RoomSn;
use rooms::{EventNo, Point, state};
use store::View;

use crate::Result;
use crate::room_state::{self, Entries, Members};
use crate::sliding::required_state::{MEMBER, Reach, RequiredState};

/// Which of a room's states.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// The current one.
    Now,
    /// The one right after an event.
    After(EventNo),
}

impl When {
    /// One entry.
    pub fn entry(self, view: &View, room: RoomSn, of: &str, key: &str) -> Result<Option<EventNo>> {
        Ok(match self {
            When::Now => state::current(view, room, of, key)?,
            When::After(event) => state::at(view, room, of, key, Point::main(event))?,
        })
    }

    /// The entries of a type.
    pub fn of_type(self, view: &View, room: RoomSn, of: &str) -> Result<Vec<state::Entry>> {
        Ok(match self {
            When::Now => state::current_of_type(view, room, of)?,
            When::After(event) => state::of_type_at(view, room, of, Point::main(event))?,
        })
    }

    fn entries(
        self,
        view: &View,
        room: RoomSn,
        keys: &[(String, String)],
        into: &mut Entries,
    ) -> Result<()> {
        match self {
            When::Now => {
                let asked: Vec<_> = keys.iter().map(|(t, k)| (t.as_str(), k.as_str())).collect();
                let found = state::current_many(view, room, &asked)?;
                for (key, event) in keys.iter().zip(found) {
                    if let Some(event) = event {
                        into.insert(key.clone(), event);
                    }
                }
            }
            When::After(_) => {
                for key in keys {
                    if let Some(event) = self.entry(view, room, &key.0, &key.1)? {
                        into.insert(key.clone(), event);
                    }
                }
            }
        }
        Ok(())
    }

    fn everything(self, view: &View, room: RoomSn, members: &Members<'_>) -> Result<Entries> {
        let place = match self {
            When::Now => EventNo::MAX,
            When::After(event) => event.next(),
        };
        room_state::before(view, room, place, members)
    }

    /// All entries that are wanted.
    pub fn wanted(self, view: &View, room: RoomSn, of: &RequiredState) -> Result<Entries> {
        let mut found = Entries::new();
        match of.reach() {
            Reach::Named { entries, types } => {
                self.entries(view, room, &entries, &mut found)?;
                for event_type in types {
                    for entry in self.of_type(view, room, &event_type)? {
                        found.insert((entry.event_type, entry.state_key), entry.event);
                    }
                }
            }
            Reach::Everything { members, named } => {
                let named: BTreeSet<String> = named.into_iter().collect();
                let members = match members {
                    true => Members::All,
                    false => Members::Only(&named),
                };
                found = self.everything(view, room, &members)?;
            }
        }
        found.retain(|(event_type, key), _| of.wants(event_type, key));
        Ok(found)
    }

    /// The member events of these users.
    pub fn members(
        self,
        view: &View,
        room: RoomSn,
        user_ids: impl Iterator<Item = String>,
        into: &mut Entries,
    ) -> Result<()> {
        let keys: Vec<_> = user_ids.map(|id| (MEMBER.to_owned(), id)).collect();
        self.entries(view, room, &keys, into)
    }
}
