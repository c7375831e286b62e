//! The tables of media: what is known about each `mxc://` URI, and which renderings exist.
//!
//! Invariants: a row of `media` in the state [`MediaState::Stored`] names a file that was synced before
//! the row was committed; `media_by_uploader` and `media_pending` follow from `media`.

use names::UserSn;
use serde::{Deserialize, Serialize};
use store::{Decoder, Encoder, Family, Key, Record, Result, StoreError, Table, TableInfo};

use crate::thumbnail::{Method, ThumbnailSpec};
use crate::{FileId, FileKind, MediaKey};

/// All media, ours and cached from other servers.
pub(crate) const MEDIA: Table<MediaKey, MediaRecord> = Table::source(Family::Media, 1, "media");

/// The media of a user, oldest first.
pub(crate) const MEDIA_BY_UPLOADER: Table<(UserSn, u64, MediaKey), ()> =
    Table::derived(Family::Media, 2, "media_by_uploader", "catalog::check");

/// Media that were created and not yet uploaded, by user and time of expiry.
pub(crate) const MEDIA_PENDING: Table<(UserSn, u64, MediaKey), ()> =
    Table::derived(Family::Media, 3, "media_pending", "catalog::check");

/// Renderings of a media.
pub(crate) const THUMBNAILS: Table<(MediaKey, RenditionKey), ThumbnailRecord> =
    Table::source(Family::Media, 4, "thumbnails");

/// The tables of this crate.
pub const TABLES: &[TableInfo] = &[
    MEDIA.info(),
    MEDIA_BY_UPLOADER.info(),
    MEDIA_PENDING.info(),
    THUMBNAILS.info(),
];

/// What is known about one `mxc://` URI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaRecord {
    /// The server name of the URI.
    pub server_name: String,
    /// The media id of the URI.
    pub media_id: String,
    /// Who uploaded or created it; nobody for the media of another server.
    pub uploader: Option<UserSn>,
    /// When the id was made or the copy was fetched, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Whether there is content.
    pub state: MediaState,
    /// Set while an administrator keeps the content from being served.
    pub quarantine: Option<Quarantine>,
}

/// Whether there is content behind an id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaState {
    /// Created by `POST /_matrix/media/v1/create`, not uploaded yet.
    Pending {
        /// Until when the upload may come, in milliseconds since the epoch.
        expires_ms: u64,
    },
    /// Uploaded or fetched.
    Stored(Content),
}

/// The content behind an id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Tells the file from others of the same media, see [`FileId`].
    pub nonce: u64,
    /// Content type as accepted from the uploader.
    pub content_type: String,
    /// File name as sanitised, if the upload had one.
    pub file_name: Option<String>,
    /// Length in bytes.
    pub length: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// When the content arrived, in milliseconds since the epoch.
    pub stored_ms: u64,
}

impl Content {
    /// The file that holds the content of the media `key`.
    pub fn file(&self, key: MediaKey) -> FileId {
        FileId {
            kind: FileKind::Content,
            key,
            nonce: self.nonce,
        }
    }
}

/// Who put content into quarantine, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The administrator.
    pub by: UserSn,
    /// Milliseconds since the epoch.
    pub since_ms: u64,
}

/// A rendering that was made, or the finding that none is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThumbnailRecord {
    /// The content itself answers the request.
    Original {
        /// The content type that its bytes show.
        content_type: String,
    },
    /// A file holds the rendering.
    Rendered {
        /// Tells the file from others of the same media, see [`FileId`].
        nonce: u64,
        /// Content type of the rendering.
        content_type: String,
        /// Length in bytes.
        length: u64,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Whether it moves.
        animated: bool,
    },
}

impl ThumbnailRecord {
    /// The file that holds the rendering of the media `key`, if there is one of its own.
    pub fn file(&self, key: MediaKey) -> Option<FileId> {
        match self {
            ThumbnailRecord::Original { .. } => None,
            ThumbnailRecord::Rendered { nonce, .. } => Some(FileId {
                kind: FileKind::Thumbnail,
                key,
                nonce: *nonce,
            }),
        }
    }
}

impl Record for MediaRecord {}
impl Record for ThumbnailRecord {}

impl Key for MediaKey {
    fn encode(&self, out: &mut Encoder) {
        self.as_bytes().encode(out);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        Ok(MediaKey::from_bytes(from.array()?))
    }
}

/// A [`ThumbnailSpec`] as part of a key: width, height, method, animated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RenditionKey(pub ThumbnailSpec);

impl Key for RenditionKey {
    fn encode(&self, out: &mut Encoder) {
        let method = match self.0.method {
            Method::Scale => 0_u8,
            Method::Crop => 1,
        };
        (self.0.width, self.0.height, method, self.0.animated).encode(out);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self, StoreError> {
        let (width, height, method, animated) = <(u32, u32, u8, bool)>::decode(from)?;
        let method = match method {
            0 => Method::Scale,
            1 => Method::Crop,
            _ => return Err(from.corrupt("unknown thumbnail method")),
        };
        Ok(RenditionKey(ThumbnailSpec {
            width,
            height,
            method,
            animated,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use store::{Direction, Read as _};

    use crate::catalog::tests::memory_store;
    use crate::id::hex;

    /// The rows that a change to the tables leaves, as hexadecimal `key value`.
    fn stored_rows(write: impl FnOnce(&mut store::Txn)) -> Vec<String> {
        let store = memory_store();
        let mut txn = store.begin();
        write(&mut txn);
        let mut cursor = txn.scan_raw(Family::Media, &[], &[], Direction::Forward);
        let mut rows = Vec::new();
        while let Some((key, value)) = cursor.next().unwrap() {
            rows.push(format!("{} {}", hex(key), hex(value)));
        }
        rows
    }

    #[test]
    fn the_stored_form_of_media_stays_what_it_is() {
        let key = MediaKey::from_bytes([0xab; 32]);
        let record = MediaRecord {
            server_name: "a.b".to_owned(),
            media_id: "id".to_owned(),
            uploader: Some(UserSn(7)),
            created_ms: 300,
            state: MediaState::Stored(Content {
                nonce: 5,
                content_type: "t/s".to_owned(),
                file_name: Some("f".to_owned()),
                length: 129,
                sha256: [0xcd; 32],
                stored_ms: 301,
            }),
            quarantine: Some(Quarantine {
                by: UserSn(8),
                since_ms: 2,
            }),
        };
        let rows = stored_rows(|txn| MEDIA.put(txn, &key, &record));
        let expected = format!(
            "01{} 0103612e620269640107ac02010503742f7301016681{}{}ad02010802",
            "ab".repeat(32),
            "01",
            "cd".repeat(32)
        );
        assert_eq!(rows, [expected]);
    }

    #[test]
    fn the_stored_form_of_a_thumbnail_stays_what_it_is() {
        let key = MediaKey::from_bytes([0xab; 32]);
        let spec = ThumbnailSpec {
            width: 96,
            height: 95,
            method: Method::Crop,
            animated: true,
        };
        let record = ThumbnailRecord::Rendered {
            nonce: 5,
            content_type: "t/s".to_owned(),
            length: 129,
            width: 96,
            height: 94,
            animated: true,
        };
        let rows = stored_rows(|txn| THUMBNAILS.put(txn, &(key, RenditionKey(spec)), &record));
        let expected = format!(
            "04{}00000060000000{}0101 01010503742f738101605e01",
            "ab".repeat(32),
            "5f"
        );
        assert_eq!(rows, [expected]);
    }

    proptest! {
        #[test]
        fn a_rendition_reads_back_under_its_own_key(
            width: u32, height: u32, crop: bool, animated: bool,
        ) {
            let method = if crop { Method::Crop } else { Method::Scale };
            let spec = ThumbnailSpec { width, height, method, animated };
            let store = memory_store();
            let mut txn = store.begin();
            let key = (MediaKey::from_bytes([1; 32]), RenditionKey(spec));
            let record = ThumbnailRecord::Original { content_type: "image/png".to_owned() };
            THUMBNAILS.put(&mut txn, &key, &record);
            let rows: Vec<_> = THUMBNAILS
                .scan(&txn, &(key.0,), Direction::Forward)
                .collect::<Result<_>>()
                .unwrap();
            prop_assert_eq!(rows, vec![(key, record)]);
        }
    }
}
