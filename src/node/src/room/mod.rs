//! Changing rooms: the shell's part, from the lock to the commit. What a change means is decided by the
//! core ([`rooms::RoomWriter`] and the functions around it); here it is run under the room's lock, put
//! together with what the users' side knows (profiles, push rules), and committed as one.
//!
//! Invariant: whoever begins or ceases to be joined is told to [`crate::Audience`] in the same commit.

mod carry_over;
mod change;
mod create;
mod guests;
mod upgrade;

pub use change::member_profile;
pub(crate) use change::touched;
pub use create::{CreateRoom, predecessor_in, predecessor_of};
pub use guests::expel_guests;
pub use upgrade::UpgradeRoom;
