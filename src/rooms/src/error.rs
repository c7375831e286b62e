//! Why the core of rooms refuses something.

use event::AuthError;
use store::StoreError;

/// A refusal or failure, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such room, or the user may not know of it.
    #[error("unknown room")]
    UnknownRoom,
    /// There is no such event in the room, or the user may not see it.
    #[error("unknown event")]
    UnknownEvent,
    /// The authorisation rules of the room version do not allow the event.
    #[error("not allowed: {0}")]
    NotAllowed(#[from] AuthError),
    /// The room's policy server has not signed the event, or not so that it holds.
    #[error("the room's policy server does not recommend the event")]
    NotRecommended,
    /// Refused for a reason other than the authorisation rules.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Only another server of the room can tell whether the user may enter, or let the user in.
    #[error("{}", .0.text())]
    NotHere(crate::membership::NotHere),
    /// It depends on members of the room who are not known here yet.
    #[error("the members of the room are not known yet")]
    MembersMissing,
    /// The room does not let guests in.
    #[error("guests can't join this room")]
    GuestForbidden,
    /// The event can't be made from what was given.
    #[error("bad event: {0}")]
    BadEvent(String),
    /// The event is larger than events may be.
    #[error("the event is too large: {0}")]
    TooLarge(String),
    /// The room's version is not one that this server can handle.
    #[error("room version {0} is not supported")]
    UnsupportedVersion(String),
    /// The alias is taken.
    #[error("the alias {0} is taken")]
    AliasTaken(String),
    /// An alias in `m.room.canonical_alias` is not one of the room's.
    #[error("the alias {0} is not one of this room's")]
    BadAlias(String, crate::aliases::AliasProblem),
    /// The same reaction was sent before.
    #[error("the same annotation was sent before")]
    DuplicateAnnotation,
    /// Something in the request has a value it can't have.
    #[error("{0}")]
    Invalid(String),
    /// The room's data contradicts itself. The room is left alone; the server goes on.
    #[error("room {room} is damaged: {why}")]
    Damaged {
        /// The room's number.
        room: u32,
        /// What does not fit.
        why: &'static str,
    },
}
