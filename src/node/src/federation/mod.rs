//! What the shell does with other servers: fetching keys and events, taking in what they send, sending to them.

mod backfill;
mod device_lists;
mod directory;
mod edus;
mod fetch;
mod handover;
mod ingest;
mod invite;
mod invited;
mod join;
pub mod key_ring;
mod knock;
mod leave;
pub(crate) mod profiles;
pub(crate) mod remote_keys;
mod resident;
mod seams;
mod templates;
mod third_party;
mod to_device;
mod transactions;
mod verification;

pub use backfill::has_gaps;
pub(crate) use directory::RemoteAliases;
pub use directory::Resolved;
pub use handover::Handover;
pub use ingest::{Outcome, Outcomes};
pub use invite::{InviteElsewhere, invite_content, list as event_list};
pub use invited::{Invitation, accepts_invites};
pub use join::{JoinElsewhere, JoinedElsewhere};
pub use knock::KnockElsewhere;
pub use remote_keys::{Answered, KeysOfOther, KeysOfOthers};
pub use resident::{EntryRefusal, JoinAnswer, JoinTemplate};
pub use third_party::{Proof, ProvedInvite};
pub(crate) use transactions::Answers;
