//! Who may see which event: `m.room.history_visibility` and the user's membership at the event.
//! <https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-5>
//!
//! Both have few changes in a room, so they are read once as lists of (place, value), and every event
//! is then judged in memory. Only history from before this server came, which was filled in later, is
//! judged by the state that it stands on.

use event::auth::Membership;
use names::{RoomSn, UserSn};
use store::Read;

use crate::append::string_member;
use crate::{EventNo, Point, Result, StoredEvent, event_log, graph, members, state};

/// `history_visibility`, ordered from open to closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HistoryVisibility {
    /// Anyone, at any time.
    WorldReadable,
    /// Members, from any time.
    Shared,
    /// Members, from their invitation on.
    Invited,
    /// Members, from their joining on.
    Joined,
}

impl HistoryVisibility {
    pub(crate) fn of_event(event: &StoredEvent) -> Self {
        let content = event::json::member(&event.json, "content").unwrap_or("{}");
        match string_member(content, "history_visibility").as_deref() {
            Some("world_readable") => HistoryVisibility::WorldReadable,
            Some("invited") => HistoryVisibility::Invited,
            Some("joined") => HistoryVisibility::Joined,
            _ => HistoryVisibility::Shared,
        }
    }

    /// The room's visibility now.
    pub fn current(from: &impl Read, room: RoomSn) -> Result<Self> {
        let no = state::current(from, room, "m.room.history_visibility", "")?;
        let event = no
            .map(|no| event_log::get(from, room, no))
            .transpose()?
            .flatten();
        Ok(event.map_or(HistoryVisibility::Shared, |event| Self::of_event(&event)))
    }
}

/// The room's visibility over time.
pub(crate) struct Changes(Vec<(EventNo, HistoryVisibility)>);

impl Changes {
    pub(crate) fn read(from: &impl Read, room: RoomSn) -> Result<Self> {
        let mut changes = Vec::new();
        for (place, no) in state::history_of(from, room, "m.room.history_visibility", "")? {
            let event = match no {
                Some(no) => event_log::get(from, room, no)?,
                None => None,
            };
            let is = event.map_or(HistoryVisibility::Shared, |event| {
                HistoryVisibility::of_event(&event)
            });
            changes.push((place, is));
        }
        Ok(Self(changes))
    }

    /// The visibility of the event at `no`.
    pub(crate) fn at(&self, no: EventNo) -> HistoryVisibility {
        let changes = self.0.partition_point(|(at, _)| *at <= no);
        let value = |index: usize| match index.checked_sub(1) {
            Some(last) => self.0[last].1,
            None => HistoryVisibility::Shared,
        };
        let after = value(changes);
        // A change of visibility is seen by those who see what is before it or what is after it.
        match changes.checked_sub(1).map(|last| self.0[last].0) {
            Some(at) if at == no => after.min(value(changes - 1)),
            _ => after,
        }
    }
}

/// The visibility that a state has.
pub(crate) fn visibility_in(
    from: &impl Read,
    room: RoomSn,
    state: Point,
) -> Result<HistoryVisibility> {
    let no = state::at(from, room, "m.room.history_visibility", "", state)?;
    let event = no
        .map(|no| event_log::get(from, room, no))
        .transpose()?
        .flatten();
    Ok(event.map_or(HistoryVisibility::Shared, |event| {
        HistoryVisibility::of_event(&event)
    }))
}

/// The membership that a user has in a state.
pub(crate) fn membership_in(
    from: &impl Read,
    room: RoomSn,
    user_id: &str,
    state: Point,
) -> Result<Membership> {
    let no = state::at(from, room, "m.room.member", user_id, state)?;
    let event = no
        .map(|no| event_log::get(from, room, no))
        .transpose()?
        .flatten();
    Ok(event.map_or(Membership::Leave, |event| {
        let content = event::json::member(&event.json, "content").unwrap_or("{}");
        Membership::of_content(content).unwrap_or(Membership::Other)
    }))
}

/// What one user may see of one room.
pub struct Visibility {
    room: RoomSn,
    user_id: Option<String>,
    visibility: Changes,
    /// Changes of the user's membership, oldest first.
    membership: Vec<(EventNo, Membership)>,
}

impl Visibility {
    /// Reads what is needed to judge the room's events for a user; for nobody in particular without one.
    pub fn of(from: &impl Read, room: RoomSn, user: Option<(UserSn, &str)>) -> Result<Self> {
        let visibility = Changes::read(from, room)?;
        let mut membership = Vec::new();
        if let Some((user, user_id)) = user {
            membership = memberships(from, room, user, user_id)?;
        }
        Ok(Self {
            room,
            user_id: user.map(|(_, user_id)| user_id.to_owned()),
            visibility,
            membership,
        })
    }

    /// The user's membership right after the event at `no`.
    pub fn membership_at(&self, no: EventNo) -> Membership {
        match self
            .membership
            .partition_point(|(at, _)| *at <= no)
            .checked_sub(1)
        {
            Some(last) => self.membership[last].1,
            None => Membership::Leave,
        }
    }

    /// Whether the user may see the event at `no`.
    pub fn allows(&self, from: &impl Read, no: EventNo, event: &StoredEvent) -> Result<bool> {
        if !event.flags.is_visible() {
            return Ok(false);
        }
        match no.is_past() {
            true => self.allows_past(from, no, event),
            false => Ok(self.allows_place(no)),
        }
    }

    /// Whether the user may see an event that was filled in: judged by the states that it stands between.
    fn allows_past(&self, from: &impl Read, no: EventNo, event: &StoredEvent) -> Result<bool> {
        let (Some(before), Some(after)) = (graph::state_before(no, event), event.state_after(no))
        else {
            return Ok(false);
        };
        let visibility = visibility_in(from, self.room, before)?;
        let visibility = visibility.min(visibility_in(from, self.room, after)?);
        let (before, after) = (
            self.membership_in(from, before)?,
            self.membership_in(from, after)?,
        );
        // As in `allows_place`: whoever was in, or has just left, sees what happened.
        if visibility == HistoryVisibility::WorldReadable
            || after == Membership::Join
            || before != after
        {
            return Ok(true);
        }
        Ok(match visibility {
            HistoryVisibility::WorldReadable => true,
            HistoryVisibility::Shared => {
                self.joins_after(no) || self.membership_at(no) == Membership::Join
            }
            HistoryVisibility::Invited => after == Membership::Invite,
            HistoryVisibility::Joined => false,
        })
    }

    fn membership_in(&self, from: &impl Read, state: Point) -> Result<Membership> {
        match &self.user_id {
            Some(user_id) => membership_in(from, self.room, user_id, state),
            None => Ok(Membership::Leave),
        }
    }

    /// Whether the user may see what happened at `no`, and the state there.
    pub fn allows_place(&self, no: EventNo) -> bool {
        let visibility = self.visibility.at(no);
        if visibility == HistoryVisibility::WorldReadable {
            return true;
        }
        let membership = self.membership_at(no);
        // Whoever leaves, is kicked or refuses an invitation sees that, and nothing after it.
        if membership == Membership::Join || self.is_own_change(no) {
            return true;
        }
        match visibility {
            HistoryVisibility::WorldReadable => true,
            HistoryVisibility::Shared => self.joins_after(no),
            HistoryVisibility::Invited => membership == Membership::Invite,
            HistoryVisibility::Joined => false,
        }
    }

    fn is_own_change(&self, no: EventNo) -> bool {
        self.membership
            .binary_search_by_key(&no, |(at, _)| *at)
            .is_ok()
    }

    fn joins_after(&self, no: EventNo) -> bool {
        self.membership
            .iter()
            .any(|(at, is)| *at > no && *is == Membership::Join)
    }

    /// Where the user's present time in the room began: the first of their unbroken joins.
    pub fn joined_since(&self) -> Option<EventNo> {
        let joins = self
            .membership
            .iter()
            .rev()
            .take_while(|(_, is)| *is == Membership::Join);
        joins.last().map(|(at, _)| *at)
    }

    /// Where the user's last time in the room ended; nothing if they are in it, or never were.
    pub fn left_at(&self) -> Option<EventNo> {
        let last_join = self
            .membership
            .iter()
            .rposition(|(_, is)| *is == Membership::Join)?;
        self.membership.get(last_join + 1).map(|(at, _)| *at)
    }

    /// Whether anybody may look into the room now.
    pub fn is_world_readable(&self) -> bool {
        self.visibility.at(EventNo::MAX) == HistoryVisibility::WorldReadable
    }

    /// Whether the user was ever joined.
    pub fn was_joined(&self) -> bool {
        self.was_joined_from(EventNo::MIN)
    }

    /// Whether the user was joined right before `from`, or at any time since.
    pub fn was_joined_from(&self, from: EventNo) -> bool {
        let until = self.membership.partition_point(|(at, _)| *at < from);
        self.membership[until.saturating_sub(1)..]
            .iter()
            .any(|(_, is)| *is == Membership::Join)
    }
}

/// A user's membership over time, oldest first.
pub(crate) fn memberships(
    from: &impl Read,
    room: RoomSn,
    user: UserSn,
    user_id: &str,
) -> Result<Vec<(EventNo, Membership)>> {
    let Some(current) = members::get(from, room, user)? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for (place, no) in state::history_of(from, room, "m.room.member", user_id)? {
        let is = match no {
            None => Membership::Leave,
            Some(no) if no == current.event => current.membership(),
            Some(no) => match event_log::get(from, room, no)? {
                Some(event) => {
                    let content = event::json::member(&event.json, "content").unwrap_or("{}");
                    Membership::of_content(content).unwrap_or(Membership::Other)
                }
                None => continue,
            },
        };
        found.push((place, is));
    }
    Ok(found)
}

/// Whether a user may look into a room now: joined, or the room is open to the world. Users who left may
/// see what was there until then; the caller bounds the place.
pub fn may_peek(from: &impl Read, room: RoomSn, user: UserSn) -> Result<bool> {
    if members::membership(from, room, user)? == Membership::Join {
        return Ok(true);
    }
    Ok(HistoryVisibility::current(from, room)? == HistoryVisibility::WorldReadable)
}

/// Whether clients may be shown the event at all.
pub fn is_shown(event: &StoredEvent) -> bool {
    event.flags.is_visible()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: [(u64, HistoryVisibility); 1] = [(2, HistoryVisibility::Shared)];

    fn seen_by(
        visibility: &[(u64, HistoryVisibility)],
        membership: &[(u64, Membership)],
    ) -> Visibility {
        let place = |no: u64| EventNo(no);
        Visibility {
            room: RoomSn(1),
            user_id: None,
            visibility: Changes(
                visibility
                    .iter()
                    .map(|(no, is)| (place(*no), *is))
                    .collect(),
            ),
            membership: membership
                .iter()
                .map(|(no, is)| (place(*no), *is))
                .collect(),
        }
    }

    /// The places from 1 to 12 that are seen.
    fn places(of: &Visibility) -> Vec<u64> {
        (1..=12)
            .filter(|no| of.allows_place(EventNo(*no)))
            .collect()
    }

    #[test]
    fn who_has_left_sees_up_to_their_leaving() {
        use Membership::{Invite, Join, Leave};
        let left = seen_by(&OPEN, &[(4, Invite), (6, Join), (9, Leave)]);
        assert_eq!(places(&left), (1..=9).collect::<Vec<_>>());
        assert_eq!(left.left_at(), Some(EventNo(9)));
        let back = seen_by(&OPEN, &[(4, Join), (6, Leave), (9, Join)]);
        assert_eq!(places(&back), (1..=12).collect::<Vec<_>>());
        assert_eq!(
            (back.left_at(), back.joined_since()),
            (None, Some(EventNo(9)))
        );
        let again = seen_by(&OPEN, &[(4, Join), (6, Leave), (9, Invite)]);
        assert_eq!(again.left_at(), Some(EventNo(6)));
        assert_eq!(seen_by(&OPEN, &[(4, Invite), (6, Leave)]).left_at(), None);
    }

    #[test]
    fn who_was_in_from_a_place_on_was_in_before_it_or_came_later() {
        use Membership::{Ban, Join, Leave};
        let banned = seen_by(&OPEN, &[(4, Join), (6, Leave), (9, Ban)]);
        let from = |first: u64| banned.was_joined_from(EventNo(first));
        assert!(from(0) && from(4) && from(5) && from(6));
        assert!(!from(7) && !from(9) && !from(10));
        assert!(!seen_by(&OPEN, &[]).was_joined_from(EventNo(0)));
    }

    #[test]
    fn a_closed_history_begins_with_the_invitation_or_the_join() {
        use Membership::{Invite, Join};
        let mine = [(4, Invite), (6, Join)];
        let from = |first| (first..=12).collect::<Vec<_>>();
        let invited = seen_by(&[(2, HistoryVisibility::Invited)], &mine);
        // What is said where nothing was said of the visibility yet is shared.
        assert_eq!(places(&invited)[2..], from(4));
        let joined = seen_by(&[(2, HistoryVisibility::Joined)], &mine);
        assert!(!joined.allows_place(EventNo(5)));
        assert!(joined.allows_place(EventNo(6)) && joined.allows_place(EventNo(12)));
    }

    #[test]
    fn the_world_sees_what_happens_while_a_room_is_open_to_it() {
        let visibility = [
            (2, HistoryVisibility::Shared),
            (5, HistoryVisibility::WorldReadable),
            (8, HistoryVisibility::Joined),
        ];
        let stranger = seen_by(&visibility, &[]);
        assert_eq!(places(&stranger), [5, 6, 7, 8]);
        assert!(!stranger.is_world_readable());
        assert!(seen_by(&visibility[..2], &[]).is_world_readable());
    }
}
