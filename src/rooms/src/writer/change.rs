//! What events change in the state: on the main line, which is the current state, or on a side line.

use std::cmp::Reverse;

use event::identifier;
use names::UserSn;

use super::{Before, RoomWriter};
use crate::resolve::Difference;
use crate::schema::{LINES, STATE, STATE_HISTORY, STATE_LOG};
use crate::types::{Line, Point, StateDelta};
use crate::{Error, EventNo, Result, graph, lines, state};

impl RoomWriter<'_> {
    /// A line to change the state at `point` on: the one it is on, if that ends there, or a new one.
    pub(crate) fn line_from(&mut self, point: Point) -> Result<u32> {
        // History that is filled in lies below what it may stand on, and a line only goes on upwards.
        let is_next = point.place < self.past.unwrap_or(self.head.next);
        if point.line != 0 && is_next && !lines::goes_on(self.txn, self.room, point)? {
            return Ok(point.line);
        }
        let depth = lines::depth(self.txn, self.room, point.line)?;
        let deep = depth >= lines::MOST_DEEP;
        let base = match deep {
            false => point,
            true => *lines::path(self.txn, self.room, point)?
                .last()
                .unwrap_or(&point),
        };
        let line = self.head.side_lines + 1;
        self.head_mut().side_lines = line;
        let depth = if deep { 1 } else { depth + 1 };
        LINES.put(self.txn, &(self.room, line), &Line { base, depth });
        if deep {
            let difference = self.states().between(base, point)?;
            let place = self.take_place();
            self.write_line(line, place, base, &difference)?;
        }
        Ok(line)
    }

    /// Writes what differs from the state at `before` on a side line, at `place`.
    pub(crate) fn write_line(
        &mut self,
        line: u32,
        place: EventNo,
        before: Point,
        difference: &Difference,
    ) -> Result<()> {
        let mut changes = Vec::with_capacity(difference.len());
        for ((event_type, state_key), after) in difference {
            let before = state::at(self.txn, self.room, event_type, state_key, before)?;
            changes.push(StateDelta {
                event_type: event_type.to_string(),
                state_key: state_key.to_string(),
                before,
                after: *after,
            });
        }
        self.write_changes(line, place, &changes);
        Ok(())
    }

    fn write_changes(&mut self, line: u32, place: EventNo, changes: &Vec<StateDelta>) {
        let room = self.room;
        for change in changes {
            let (of, key) = (change.event_type.clone(), change.state_key.clone());
            let after = change.after.unwrap_or(EventNo::MIN);
            STATE_HISTORY.put(self.txn, &(room, of, key, line, Reverse(place)), &after);
        }
        STATE_LOG.put(self.txn, &(room, line, place), changes);
    }

    /// A state on a side line that differs from the state at `base`.
    pub(crate) fn write_state(&mut self, base: Point, difference: &Difference) -> Result<Point> {
        if difference.is_empty() {
            return Ok(base);
        }
        let line = self.line_from(base)?;
        let place = self.take_place();
        self.write_line(line, place, base, difference)?;
        Ok(Point { line, place })
    }

    /// The state that resolution makes of several.
    pub(crate) fn merge(&mut self, points: &[Point]) -> Result<Point> {
        let Some(base) = points.first() else {
            return Ok(Point::NOTHING);
        };
        let difference = self.states().resolve(*base, points)?;
        self.write_state(*base, &difference)
    }

    /// What the next event of this server follows, and the state there.
    pub(crate) fn next_prev_events(&mut self) -> Result<(Vec<(EventNo, String)>, Before)> {
        let prev_events = graph::next_prev_events(self);
        if prev_events.len() == self.head.extremities.len() {
            return Ok((prev_events, Before::Current));
        }
        let points = graph::states_of(self.txn, self.room, &prev_events)?;
        let point = self.merge(&points)?;
        Ok((prev_events, Before::Point(point)))
    }

    /// Makes the current state what resolution makes of the extremities.
    pub(super) fn resolve_current(&mut self, no: EventNo) -> Result<()> {
        let points = graph::states_of(self.txn, self.room, &self.head.extremities)?;
        let difference = self.states().resolve(Point::main(no), &points)?;
        if !difference.is_empty() {
            self.set_current(no, &difference, None)?;
        }
        Ok(())
    }

    /// Changes the current state, and all that follows from it. `target` is the user of a member event, if
    /// there is one change and the user is known.
    pub(crate) fn set_current(
        &mut self,
        no: EventNo,
        difference: &Difference,
        target: Option<UserSn>,
    ) -> Result<()> {
        let mut changes = Vec::with_capacity(difference.len());
        for ((event_type, state_key), after) in difference {
            let key = (self.room, event_type.to_string(), state_key.to_string());
            let before = STATE.get(self.txn, &key)?;
            match after {
                Some(after) => STATE.put(self.txn, &key, after),
                None => STATE.delete(self.txn, &key),
            }
            changes.push(StateDelta {
                event_type: key.1,
                state_key: key.2,
                before,
                after: *after,
            });
        }
        self.write_changes(0, no, &changes);
        for change in &changes {
            if change.event_type == "m.room.member" && identifier::is_user_id(&change.state_key) {
                let target = match target {
                    Some(target) => target,
                    None => names::user_sn(self.txn, &change.state_key)?.ok_or(Error::Damaged {
                        room: self.room.0,
                        why: "a member has no number",
                    })?,
                };
                self.set_member(target, no, change)?;
            }
        }
        Ok(())
    }
}
