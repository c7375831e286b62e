//! Matrix events: format, canonical JSON, hashes, signatures, redaction, authorisation, state resolution.
//!
//! This crate knows what a valid event is and what it does to a room, for room versions 1 to 12, and nothing
//! else: it reads no store, no clock, no network and no randomness. Whatever it needs is an argument.
//!
//! All differences between room versions are data: one [`RoomRules`] value per [`RoomVersion`], passed into every
//! function that depends on the version.
//!
//! An event's way through the crate:
//! - made here: [`EventDraft`] -> [`auth::check`] -> [`EventDraft::seal`] -> [`Pdu`];
//! - received: bytes -> [`Pdu::from_federation`] -> [`signature::verify_event`] -> [`auth::check_auth_events`] and
//!   [`auth::check`] against the states the specification names;
//! - shown: [`render`] slices the stored bytes into the client-server format;
//! - merged: [`state_res`] picks one state out of several.

pub mod auth;
pub mod canonical;
mod draft;
mod event_id;
pub mod hash;
pub mod identifier;
pub mod json;
mod pdu;
pub mod redaction;
pub mod render;
mod room_version;
pub mod signature;
pub mod signing_key;
pub mod state_res;

pub use auth::{AuthError, AuthEvent, StateLookup};
pub use canonical::CanonicalError;
pub use draft::{
    DraftError, EventDraft, FirstFormat, add_signature, hash_and_sign, template, with_signature,
    with_signatures,
};
pub use event_id::EventId;
pub use pdu::{FormatError, MAX_EVENT_BYTES, Pdu};
pub use room_version::{
    AuthRules, EventIdFormat, NumberRule, RedactionRules, ReferenceFormat, RoomIdFormat, RoomRules,
    RoomVersion, StateResolution, UnknownRoomVersion,
};
pub use signature::SignatureError;
pub use signing_key::{SigningKey, SigningKeyError, VerifyKey};
