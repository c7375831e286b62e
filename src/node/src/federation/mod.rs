//! What the shell does with other servers: fetching keys and events, taking in what they send, sending to them.

mod backfill;
mod device_lists;
mod directory;
mod edus;
mod fetch;
mod hierarchy;
mod ingest;
mod join;
pub mod key_ring;
mod profiles;
mod remote_keys;
mod resident;
mod seams;
mod to_device;
mod transactions;
mod verification;

pub use backfill::has_gaps;
pub(crate) use directory::RemoteAliases;
pub use directory::Resolved;
pub(crate) use hierarchy::ToldSpaces;
pub use ingest::{Outcome, Outcomes};
pub use join::{JoinElsewhere, JoinedElsewhere};
pub(crate) use profiles::Profiles;
pub(crate) use remote_keys::KeyFetches;
pub use remote_keys::{Answered, KeysOfOther, KeysOfOthers};
pub use resident::{EntryRefusal, JoinAnswer, JoinTemplate};
pub(crate) use transactions::Answers;
