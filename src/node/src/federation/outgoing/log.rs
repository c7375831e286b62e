//! Putting events into the log of what goes to other servers, in the change that makes them.

use ::servers::outbox::{self, Outgoing};
use event::auth::Membership;
use event::{identifier, json};
use names::{RoomSn, UserSn};
use rooms::{Effects, event_log, members, servers};
use store::Txn;

use crate::{Node, Touched};

impl Node {
    /// Puts what this server's users did in a room into the log, where other servers are to know of it.
    ///
    /// # Errors
    /// If the room can't be read.
    pub(crate) fn note_outgoing(
        &self,
        txn: &mut Txn,
        room: RoomSn,
        effects: &Effects,
        touched: &mut Touched,
    ) -> Result<(), rooms::Error> {
        let Some(last) = effects.own.last() else {
            return Ok(());
        };
        if !self.config().federation.enabled {
            return Ok(());
        }
        let also = uninvited(txn, room, &effects.memberships)?;
        if also.is_empty() && !servers::any_known(txn, room)? {
            return Ok(());
        }
        let joined = entered(txn, room, &effects.memberships)?;
        for place in &effects.own {
            let to = Outgoing {
                also: also.clone(),
                joined: joined.filter(|_| place == last).map(|user| user.0),
                ..Outgoing::default()
            };
            outbox::note_event(txn, room, place.0, &to);
        }
        touched.outgoing = true;
        Ok(())
    }

    /// Notes that a user of this server came into a room by way of another server, which sends the join to the others:
    /// they are to be told of the user's devices.
    ///
    /// # Errors
    /// If the room can't be read.
    pub(crate) fn note_joined(
        &self,
        txn: &mut Txn,
        room: RoomSn,
        effects: &Effects,
        touched: &mut Touched,
    ) -> Result<(), rooms::Error> {
        let Some(place) = effects.own.last() else {
            return Ok(());
        };
        if let Some(user) = entered(txn, room, &effects.memberships)? {
            let to = Outgoing {
                only: true,
                joined: Some(user.0),
                ..Outgoing::default()
            };
            outbox::note_event(txn, room, place.0, &to);
            touched.outgoing = true;
        }
        Ok(())
    }

    /// Notes an event of another server that comes into the room by this one, in the change that it comes in with: it is sent on to the
    /// servers of the room. If it brings that server into the room, it is sent the newest events there: those that
    /// it may not know of.
    ///
    /// # Errors
    /// If the room can't be read.
    pub(crate) fn note_passed_on(
        &self,
        txn: &mut Txn,
        room: RoomSn,
        event_id: &str,
        touched: &mut Touched,
    ) -> Result<(), rooms::Error> {
        if !self.config().federation.enabled || !servers::any_known(txn, room)? {
            return Ok(());
        }
        let Some(place) = event_log::find_in(txn, room, event_id)? else {
            return Ok(());
        };
        let Some(event) = event_log::get(txn, room, place)? else {
            return Ok(());
        };
        let sender = self.names().user_id(txn, event.sender)?;
        let from = identifier::domain(&sender).unwrap_or_default();
        // What was made in a user's name by the server of another, as an invitation of an address is, their own lacks too.
        let has_it = json::member(&event.json, "signatures")
            .is_some_and(|signatures| json::member(signatures, from).is_some());
        let to = match has_it {
            true => Outgoing {
                except: from.to_owned(),
                ..Outgoing::default()
            },
            false => Outgoing::default(),
        };
        outbox::note_event(txn, room, place.0, &to);
        if has_it && servers::is_joined(txn, room, from)? {
            let to = Outgoing {
                also: vec![from.to_owned()],
                only: true,
                ..Outgoing::default()
            };
            let head = event_log::head(txn, room)?;
            let newest = head.into_iter().flat_map(|head| head.extremities);
            for (newest, _) in newest.filter(|(newest, _)| *newest != place) {
                outbox::note_event(txn, room, newest.0, &to);
            }
        }
        touched.outgoing = true;
        Ok(())
    }
}

/// The servers of users who were invited or knocked, and are not let in: they may not be in the room.
fn uninvited(
    txn: &Txn,
    room: RoomSn,
    changes: &[(UserSn, bool)],
) -> Result<Vec<String>, rooms::Error> {
    let mut found = Vec::new();
    for (user, _) in changes.iter().filter(|(user, _)| !user.is_local()) {
        let before = members::membership(txn.base(), room, *user)?;
        let now = members::membership(txn, room, *user)?;
        let may_have_come = matches!(before, Membership::Invite | Membership::Knock);
        if may_have_come && matches!(now, Membership::Leave | Membership::Ban) {
            let user_id = names::user_id(txn, *user)?;
            found.extend(identifier::domain(&user_id).map(str::to_owned));
        }
    }
    Ok(found)
}

/// The user of this server who came into the room.
fn entered(
    txn: &Txn,
    room: RoomSn,
    changes: &[(UserSn, bool)],
) -> Result<Option<UserSn>, rooms::Error> {
    for (user, is_joined) in changes {
        if *is_joined
            && user.is_local()
            && members::membership(txn.base(), room, *user)? != Membership::Join
        {
            return Ok(Some(*user));
        }
    }
    Ok(None)
}
