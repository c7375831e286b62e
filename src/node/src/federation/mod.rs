//! What the shell does with other servers: fetching keys and events, taking in what they send, sending to them.

mod backfill;
mod ephemeral;
mod fetch;
mod ingest;
mod join;
pub mod outgoing;
mod resident;
mod seams;
mod transactions;

pub use backfill::has_gaps;
pub use ingest::{Outcome, Outcomes};
pub use join::{JoinElsewhere, JoinedElsewhere};
pub use resident::{EntryRefusal, JoinAnswer, JoinTemplate};
pub(crate) use transactions::Answers;
