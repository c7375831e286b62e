//! What the structured targets share: input bytes read as choices, events made of choices, and rooms of such
//! events.
//!
//! Every event here is signed with keys that are known, so that the targets get past the signatures to what lies
//! behind them.

pub mod choices;
pub mod graph;
pub mod pieces;
pub mod seal;

pub use choices::Choices;
pub use graph::Graph;
