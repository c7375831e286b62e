//! What the shell does with other servers: fetching keys and events, taking in what they send, sending to them.

mod backfill;
mod device_lists;
mod edus;
mod fetch;
mod ingest;
mod join;
mod media;
mod profiles;
mod remote_keys;
mod resident;
mod seams;
mod to_device;
mod transactions;

pub use backfill::has_gaps;
pub use ingest::{Outcome, Outcomes};
pub use join::{JoinElsewhere, JoinedElsewhere};
pub(crate) use media::MediaFetches;
pub(crate) use profiles::Profiles;
pub(crate) use remote_keys::KeyFetches;
pub use remote_keys::{Answered, KeysOfOther, KeysOfOthers};
pub use resident::{EntryRefusal, JoinAnswer, JoinTemplate};
pub(crate) use transactions::Answers;
