//! What the shell does with other servers: fetching keys and events, taking in what they send, sending to them.

mod fetch;
mod ingest;
mod join;
mod resident;
mod seams;
mod transactions;

pub use ingest::{Outcome, Outcomes};
pub use join::{JoinElsewhere, JoinedElsewhere};
pub use resident::{EntryRefusal, JoinAnswer, JoinTemplate};
pub(crate) use transactions::Answers;
