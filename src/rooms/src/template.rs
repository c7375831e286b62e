//! Events that are made here and do not enter the room by that: templates that other servers finish and sign
//! (`make_join`, `make_leave`, `make_knock`), and events of this server that another must sign first (`invite`).
//!
//! Nothing is kept: the change that the writer was opened on is to be dropped, since where a room has forked, a state
//! was written into it to check the event by.

use event::Pdu;

use crate::{Error, Outline, Result, RoomWriter};

/// What a server that is to finish and sign an event is given: an event that follows the room's newest ones and is
/// allowed, without hashes and signatures, and without an id where the one who signs chooses that.
/// <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>
///
/// # Errors
/// [`crate::Error::NotAllowed`], [`crate::Error::BadEvent`], [`crate::Error::TooLarge`].
pub fn template(writer: &mut RoomWriter<'_>, outline: &Outline<'_>) -> Result<String> {
    let pdu = sealed(writer, outline)?;
    event::template(&pdu, writer.server_name()).map_err(Error::from_draft)
}

/// An event of this server, whole, that follows the room's newest ones and is allowed, but that has not entered the
/// room: another server signs it as well, and it comes back through [`RoomWriter::receive`].
///
/// # Errors
/// As [`template`].
pub fn sealed(writer: &mut RoomWriter<'_>, outline: &Outline<'_>) -> Result<Pdu> {
    Ok(writer.compose(outline)?.pdu)
}
