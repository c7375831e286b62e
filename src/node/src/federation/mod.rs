//! What the shell does with other servers: fetching keys and events, taking in what they send, sending to them.

mod backfill;
mod device_lists;
mod directory;
mod edus;
mod fetch;
mod ingest;
mod join;
mod key_ring;
mod notary;
mod own_keys;
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
pub use ingest::{Outcome, Outcomes};
pub use join::{JoinElsewhere, JoinedElsewhere};
pub(crate) use key_ring::KeyRing;
pub use key_ring::WantedKeys;
pub use own_keys::OwnKeys;
pub(crate) use own_keys::Published;
pub(crate) use profiles::Profiles;
pub(crate) use remote_keys::KeyFetches;
pub use remote_keys::{Answered, KeysOfOther, KeysOfOthers};
pub use resident::{EntryRefusal, JoinAnswer, JoinTemplate};
pub(crate) use transactions::Answers;
