//! What the shell does with other servers: fetching keys and events, taking in what they send, sending to them.

mod backfill;
mod device_lists;
mod edus;
mod fetch;
mod ingest;
mod join;
pub mod key_ring;
mod notary;
pub(crate) mod own_keys;
pub(crate) mod profiles;
pub(crate) mod remote_keys;
mod resident;
mod seams;
mod to_device;
mod transactions;
mod verification;

pub use backfill::has_gaps;
pub use ingest::{Outcome, Outcomes};
pub use join::{JoinElsewhere, JoinedElsewhere};
pub use own_keys::OwnKeys;
pub use remote_keys::{Answered, KeysOfOther, KeysOfOthers};
pub use resident::{EntryRefusal, JoinAnswer, JoinTemplate};
pub(crate) use transactions::Answers;
