//! State resolution on random graphs: against an independent implementation, and by laws.

mod agreement;
mod laws;
#[path = "../room/mod.rs"]
mod room;
mod theirs;
mod version_1;
