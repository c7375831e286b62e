//! Push rules: which events a user is told about, and how (client-server API, "Push Rules").
//!
//! [`rules`] is what a user may change and how it is kept, [`defaults`] what everybody starts with,
//! [`evaluate`] what the rules say of an event. Sending to push gateways is elsewhere.

pub mod defaults;
pub mod evaluate;
mod glob;
pub mod rules;

pub use evaluate::{Actions, EventFacts, Ruleset, UserFacts, evaluate};
