//! Content repository: files on local disk, thumbnails with bounded memory, and the headers that make
//! serving strangers' files safe (client-server API, section "Content repository").
//!
//! Owns the layout of the media directory, the tables that say what lies in it, and every decision about content that needs no network:
//! where a file lies, which thumbnail answers a request, which content types may be shown inline, which
//! bytes a range request gets. Everything is synchronous; the shell runs it on its blocking pool and
//! bounds how many renderings run at once.
//!
//! Invariants: no path is ever built from user input, only from hashes and random numbers; a file that
//! was acknowledged is synced; a picture is decoded only after its claimed size was checked.
//!
//! Not here: HTTP, fetching from other servers, who may see what.

mod catalog;
pub mod content_type;
mod error;
mod files;
pub mod headers;
mod id;
pub mod multipart;
pub mod range;
mod schema;
mod sweep;
pub mod thumbnail;

pub use catalog::{
    Catalog, ListedMedia, Lookup, PendingCursor, check, is_current, list_by_uploader, lookup,
    may_upload, thumbnail_of,
};
pub use error::MediaError;
pub use files::{Incoming, MediaFiles, OpenFile, Stored};
pub use id::{FileId, FileKind, MediaId, MediaKey};
pub use schema::{Content, MediaRecord, MediaState, Quarantine, TABLES, ThumbnailRecord};
pub use sweep::{SweepCursor, SweepStep};
