//! How long work for other servers keeps a core without a break while users of this server want something.
//!
//! A thread that wakes up for a user may find this work on its core, though another is free or soon will be. The system takes a
//! thread off its core at the ticks of its clock, every few milliseconds, and not by priority alone before that. So the work
//! offers its core after every tenth of a millisecond: where nobody waits for it that costs next to nothing.
//!
//! Invariants:
//! - What is shorter than a stretch, as a transaction of one event is, never offers its core.
//! - Who had to wait long for the core again keeps it for longer: beside others who want all cores, it gets a share.

use std::time::{Duration, Instant};

use crate::Budget;

/// How long the core is kept at least.
const SHORTEST: Duration = Duration::from_micros(100);

/// How long the core is kept at most.
const LONGEST: Duration = Duration::from_millis(1);

/// The breaks of one piece of work.
pub(crate) struct Pace<'a> {
    budget: &'a Budget,
    since: Instant,
    stretch: Duration,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(budget: &'a Budget) -> Self {
        Self {
            budget,
            since: Instant::now(),
            stretch: SHORTEST,
        }
    }

    /// A step of the work is done: if it is time, who waits for the core has it first.
    pub(crate) fn step(&mut self) {
        if self.since.elapsed() < self.stretch || !self.budget.is_wanted_by_users() {
            return;
        }
        let offered = Instant::now();
        std::thread::yield_now();
        self.since = Instant::now();
        self.stretch = stretch_after(self.since.saturating_duration_since(offered));
    }
}

/// How long the core is kept after others had it for so long.
fn stretch_after(away: Duration) -> Duration {
    (away / 2).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_is_offered_while_users_want_something_and_after_a_stretch_alone() {
        let budget = Budget::new(2);
        let long_ago = Instant::now()
            .checked_sub(Duration::from_secs(1))
            .expect("the machine has run for a second");
        let mut pace = Pace::new(&budget);
        pace.since = long_ago;
        pace.step();
        assert_eq!(pace.since, long_ago, "no user is there");
        budget.note_user();
        pace.step();
        assert!(pace.since > long_ago);
        let later = Instant::now() + Duration::from_secs(1);
        pace.since = later;
        budget.note_user();
        pace.step();
        assert_eq!(pace.since, later, "the stretch is not over");
    }

    #[test]
    fn who_waited_long_keeps_the_core_for_longer() {
        assert_eq!(stretch_after(Duration::from_micros(2)), SHORTEST);
        assert_eq!(
            stretch_after(Duration::from_micros(800)),
            Duration::from_micros(400)
        );
        assert_eq!(stretch_after(Duration::from_secs(1)), LONGEST);
    }
}
