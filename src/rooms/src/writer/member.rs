//! What follows for members from a change of the current state: counts, their servers, their list of rooms, and what
//! those who are invited may know.

use std::sync::Arc;

use event::auth::Membership;
use event::{AuthEvent, Pdu};
use names::UserSn;
use store::{At, Blob};

use super::RoomWriter;
use crate::schema::{MEMBERS, OUTSIDE, STRIPPED_STATE, USER_ROOMS};
use crate::types::{Member, StateDelta, UserRoom};
use crate::{EventNo, Result, followed, members, servers};

impl RoomWriter<'_> {
    /// A change of a member in the current state, at `place`.
    pub(crate) fn set_member(
        &mut self,
        target: UserSn,
        place: EventNo,
        change: &StateDelta,
    ) -> Result<()> {
        let room = self.room;
        let event = match change.after {
            Some(no) => {
                let cache = self.context.cache;
                // A room that is entered may have a hundred thousand of them.
                let event = cache.auth_event_in_passing(self.txn, self.rules, room, no)?;
                Some((no, event))
            }
            None => None,
        };
        let now = match &event {
            Some((_, event)) => event.membership().unwrap_or(Membership::Other),
            None => Membership::Leave,
        };
        let before = members::membership(self.txn, room, target)?;
        let count = |of: Membership| u64::from(now == of).wrapping_sub(u64::from(before == of));
        let head = self.head_mut();
        head.joined = head.joined.wrapping_add(count(Membership::Join));
        head.invited = head.invited.wrapping_add(count(Membership::Invite));
        match &event {
            Some((no, _)) => MEMBERS.put(self.txn, &(room, target), &Member::new(now, *no)),
            None => MEMBERS.delete(self.txn, &(room, target)),
        }
        if target.is_local() {
            USER_ROOMS.put(
                self.txn,
                &(target, room),
                &At::now(UserRoom::new(now, place)),
            );
            match &event {
                Some((_, event)) if matches!(now, Membership::Invite | Membership::Knock) => {
                    let state = self.stripped_state_for(event.pdu())?;
                    STRIPPED_STATE.put(self.txn, &(target, room), &Blob(state));
                }
                _ => STRIPPED_STATE.delete(self.txn, &(target, room)),
            }
            // The room says it itself now.
            OUTSIDE.delete(self.txn, &(room, target));
            if before == Membership::Join
                && now != Membership::Join
                && self.lacks_members()
                && !members::is_resident(self.txn, room)?
            {
                self.nobody_is_left(place)?;
            }
        }
        let joined = |of: Membership| of == Membership::Join;
        if !target.is_local() && joined(now) != joined(before) {
            servers::count(self.txn, room, &change.state_key, place, joined(now))?;
            followed::note(self.txn, room, target, joined(now));
        }
        self.effects
            .memberships
            .push((target, now == Membership::Join));
        Ok(())
    }

    /// The events that show an invited or knocking user what the room is, whole, for the user's own server. The create event
    /// is always among them.
    /// <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid>
    pub fn events_for_invited(&self, sender: &str) -> Result<Vec<Arc<AuthEvent>>> {
        let keys = STRIPPED_TYPES
            .iter()
            .map(|of| (*of, ""))
            .chain([("m.room.member", sender)]);
        let mut events = Vec::with_capacity(STRIPPED_TYPES.len() + 1);
        for (event_type, state_key) in keys {
            events.extend(self.state_event(event_type, state_key)?);
        }
        Ok(events)
    }

    /// What an invited or knocking user may know: <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>.
    fn stripped_state_for(&self, member: &Pdu) -> Result<Vec<u8>> {
        let mut out = vec![b'['];
        for event in self.events_for_invited(member.sender())? {
            let is_of_target = event.pdu().event_type() == "m.room.member"
                && event.pdu().state_key() == member.state_key();
            if !is_of_target {
                event::render::stripped_state(&mut out, event.pdu().json());
                out.push(b',');
            }
        }
        event::render::stripped_state(&mut out, member.json());
        out.push(b']');
        Ok(out)
    }
}

/// The types shown to those who are invited or knock, all with an empty state key.
const STRIPPED_TYPES: [&str; 8] = [
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
    "m.room.tombstone",
];
