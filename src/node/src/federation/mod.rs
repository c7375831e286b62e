//! What the shell does with other servers: fetching keys and events, taking in what they send, sending to them.

mod fetch;
mod handover;
mod ingest;
mod invite;
mod invited;
mod join;
mod knock;
mod leave;
mod resident;
mod seams;
mod templates;
mod transactions;

pub use handover::Handover;
pub use ingest::{Outcome, Outcomes};
pub use invite::{InviteElsewhere, invite_content, list as event_list};
pub use invited::{Invitation, accepts_invites};
pub use join::{JoinElsewhere, JoinedElsewhere};
pub use knock::KnockElsewhere;
pub use resident::{EntryRefusal, JoinAnswer, JoinTemplate};
pub(crate) use transactions::Answers;
