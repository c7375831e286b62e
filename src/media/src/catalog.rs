//! What is known about media, and its changes: created, uploaded, fetched, quarantined, deleted.
//!
//! [`Catalog`] makes every change, one at a time, so that a check and the write that follows from it
//! belong together: of two uploads to one id exactly one wins. Reads are functions over any view.
//!
//! Files and rows follow an order that a crash cannot turn into a row without its file: a file is
//! finished before its row is committed, and deleted only after its row is gone. What is left over in
//! between is an orphan, which the sweep removes by asking [`is_current`].

use names::UserSn;
use parking_lot::Mutex;
use store::{Direction, Read, Store, Ticket, Txn};

use crate::schema::{MEDIA, MEDIA_BY_UPLOADER, MEDIA_PENDING, RenditionKey, THUMBNAILS};
use crate::thumbnail::ThumbnailSpec;
use crate::{
    Content, FileId, FileKind, MediaError, MediaId, MediaKey, MediaRecord, MediaState, Quarantine,
    ThumbnailRecord,
};

/// Renderings kept for one media. The sizes of [`ThumbnailSpec::for_request`] are fewer; only oblong
/// crops could be asked for without end.
const MAX_THUMBNAILS: usize = 64;

/// What is behind an `mxc://` URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing, or a created id whose time has passed.
    Unknown,
    /// Created, not uploaded yet.
    Pending {
        /// Until when the upload may come, in milliseconds since the epoch.
        expires_ms: u64,
    },
    /// Content that an administrator keeps from being served.
    Quarantined,
    /// Content.
    Stored(Content),
}

impl Lookup {
    /// The content, when it may be served.
    ///
    /// # Errors
    /// [`MediaError::UnknownMedia`] also for quarantined content, whose existence is nobody's business;
    /// [`MediaError::NotYetUploaded`].
    pub fn content(self) -> Result<Content, MediaError> {
        match self {
            Lookup::Unknown | Lookup::Quarantined => Err(MediaError::UnknownMedia),
            Lookup::Pending { .. } => Err(MediaError::NotYetUploaded),
            Lookup::Stored(content) => Ok(content),
        }
    }
}

/// Looks up an `mxc://` URI.
///
/// # Errors
/// [`MediaError::Store`].
pub fn lookup(from: &impl Read, key: MediaKey, now_ms: u64) -> Result<Lookup, MediaError> {
    let Some(record) = MEDIA.get(from, &key)? else {
        return Ok(Lookup::Unknown);
    };
    Ok(match record.state {
        MediaState::Pending { expires_ms } if expires_ms <= now_ms => Lookup::Unknown,
        MediaState::Pending { expires_ms } => Lookup::Pending { expires_ms },
        MediaState::Stored(_) if record.quarantine.is_some() => Lookup::Quarantined,
        MediaState::Stored(content) => Lookup::Stored(content),
    })
}

/// The rendering of a media that was made for `spec` before.
///
/// # Errors
/// [`MediaError::Store`].
pub fn thumbnail_of(
    from: &impl Read,
    key: MediaKey,
    spec: ThumbnailSpec,
) -> Result<Option<ThumbnailRecord>, MediaError> {
    Ok(THUMBNAILS.get(from, &(key, RenditionKey(spec)))?)
}

/// Whether a row names the file: the question that a sweep asks.
///
/// # Errors
/// [`MediaError::Store`].
pub fn is_current(from: &impl Read, file: &FileId) -> Result<bool, MediaError> {
    match file.kind {
        FileKind::Content => {
            let record = MEDIA.get(from, &file.key)?;
            Ok(matches!(
                record.map(|record| record.state),
                Some(MediaState::Stored(content)) if content.nonce == file.nonce
            ))
        }
        FileKind::Thumbnail => {
            for row in THUMBNAILS.scan(from, &(file.key,), Direction::Forward) {
                let (_, record) = row?;
                if record.file(file.key) == Some(*file) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// One entry of a user's media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMedia {
    /// Stands for the URI.
    pub key: MediaKey,
    /// What is known.
    pub record: MediaRecord,
}

/// At most `limit` media of a user, newest first, of those older than `before`: the `created_ms` and key
/// of the last one that was listed.
///
/// # Errors
/// [`MediaError::Store`].
pub fn list_by_uploader(
    from: &impl Read,
    uploader: UserSn,
    before: Option<(u64, MediaKey)>,
    limit: usize,
) -> Result<Vec<ListedMedia>, MediaError> {
    let rows = match before {
        None => MEDIA_BY_UPLOADER.scan(from, &(uploader,), Direction::Backward),
        Some((created_ms, key)) => {
            MEDIA_BY_UPLOADER.scan_before(from, &(uploader,), &(uploader, created_ms, key))
        }
    };
    let mut keys = Vec::new();
    for row in rows.take(limit) {
        let ((_, _, key), ()) = row?;
        keys.push(key);
    }
    let records = MEDIA.multi_get(from, &keys)?;
    let mut listed = Vec::with_capacity(keys.len());
    for (key, record) in keys.into_iter().zip(records) {
        if let Some(record) = record {
            listed.push(ListedMedia { key, record });
        }
    }
    Ok(listed)
}

/// Where the removal of expired ids stands.
pub type PendingCursor = (UserSn, u64, MediaKey);

/// Makes the changes. One for each store; the lock makes a check and its write one step.
#[derive(Debug, Default)]
pub struct Catalog {
    changing: Mutex<()>,
}

impl Catalog {
    /// A catalog for a store.
    pub fn new() -> Self {
        Catalog::default()
    }

    /// Makes an id whose content comes later (`POST /_matrix/media/v1/create`). The user's expired ids
    /// are forgotten on the way.
    ///
    /// # Errors
    /// [`MediaError::TooManyPending`] when the user has `max_pending` unfinished uploads;
    /// [`MediaError::AlreadyUploaded`] when the id is taken, which random ids are not.
    pub fn create(
        &self,
        store: &Store,
        (server_name, media_id): (&str, &MediaId),
        uploader: UserSn,
        now_ms: u64,
        expires_ms: u64,
        max_pending: usize,
    ) -> Result<Ticket, MediaError> {
        let key = MediaKey::new(server_name, media_id);
        let _one_at_a_time = self.changing.lock();
        let mut txn = store.begin();
        let pending: Vec<PendingCursor> = MEDIA_PENDING
            .scan(&txn, &(uploader,), Direction::Forward)
            .map(|row| row.map(|(key, ())| key))
            .collect::<Result<_, _>>()?;
        let (expired, waiting): (Vec<_>, Vec<_>) = pending
            .into_iter()
            .partition(|(_, expires_ms, _)| *expires_ms <= now_ms);
        if let Some((_, until_ms, _)) = waiting.first().filter(|_| waiting.len() >= max_pending) {
            return Err(MediaError::TooManyPending {
                until_ms: *until_ms,
            });
        }
        for (_, _, key) in expired {
            remove(&mut txn, key)?;
        }
        if MEDIA.contains(&txn, &key)? {
            return Err(MediaError::AlreadyUploaded);
        }
        let record = MediaRecord {
            server_name: server_name.to_owned(),
            media_id: media_id.as_str().to_owned(),
            uploader: Some(uploader),
            created_ms: now_ms,
            state: MediaState::Pending { expires_ms },
            quarantine: None,
        };
        put(&mut txn, key, &record);
        Ok(store.commit(txn)?)
    }

    /// Gives a created id its content (`PUT /_matrix/media/v3/upload/...`). The file is finished.
    ///
    /// # Errors
    /// Those of [`may_upload`]; the caller then deletes the file.
    pub fn complete(
        &self,
        store: &Store,
        key: MediaKey,
        uploader: UserSn,
        content: Content,
    ) -> Result<Ticket, MediaError> {
        let _one_at_a_time = self.changing.lock();
        let mut txn = store.begin();
        let mut record = may_upload(&txn, key, uploader, content.stored_ms)?;
        remove(&mut txn, key)?;
        record.state = MediaState::Stored(content);
        put(&mut txn, key, &record);
        Ok(store.commit(txn)?)
    }

    /// Adds media with its content: an upload in one step, or a copy of another server's media
    /// (`uploader` is `None`). The file is finished.
    ///
    /// # Errors
    /// [`MediaError::AlreadyUploaded`] when the URI is known: of two fetches of one remote media the
    /// first counts. The caller then deletes the file.
    pub fn add(
        &self,
        store: &Store,
        (server_name, media_id): (&str, &MediaId),
        uploader: Option<UserSn>,
        content: Content,
    ) -> Result<Ticket, MediaError> {
        let key = MediaKey::new(server_name, media_id);
        let _one_at_a_time = self.changing.lock();
        let mut txn = store.begin();
        if MEDIA.contains(&txn, &key)? {
            return Err(MediaError::AlreadyUploaded);
        }
        let record = MediaRecord {
            server_name: server_name.to_owned(),
            media_id: media_id.as_str().to_owned(),
            uploader,
            created_ms: content.stored_ms,
            state: MediaState::Stored(content),
            quarantine: None,
        };
        put(&mut txn, key, &record);
        Ok(store.commit(txn)?)
    }

    /// Notes a rendering. When another was noted first, or the media is gone, or has very many
    /// renderings, nothing is noted and `None` returned: the caller serves its rendering and deletes
    /// the file.
    ///
    /// # Errors
    /// [`MediaError::Store`].
    pub fn add_thumbnail(
        &self,
        store: &Store,
        key: MediaKey,
        spec: ThumbnailSpec,
        record: &ThumbnailRecord,
    ) -> Result<Option<Ticket>, MediaError> {
        let _one_at_a_time = self.changing.lock();
        let mut txn = store.begin();
        let row = (key, RenditionKey(spec));
        let others = THUMBNAILS
            .scan(&txn, &(key,), Direction::Forward)
            .take(MAX_THUMBNAILS)
            .count();
        if others == MAX_THUMBNAILS
            || THUMBNAILS.contains(&txn, &row)?
            || !MEDIA.contains(&txn, &key)?
        {
            return Ok(None);
        }
        THUMBNAILS.put(&mut txn, &row, record);
        Ok(Some(store.commit(txn)?))
    }

    /// Puts content into quarantine, or releases it.
    ///
    /// # Errors
    /// [`MediaError::UnknownMedia`].
    pub fn set_quarantine(
        &self,
        store: &Store,
        key: MediaKey,
        quarantine: Option<Quarantine>,
    ) -> Result<Ticket, MediaError> {
        let _one_at_a_time = self.changing.lock();
        let mut txn = store.begin();
        let mut record = MEDIA.get(&txn, &key)?.ok_or(MediaError::UnknownMedia)?;
        record.quarantine = quarantine;
        MEDIA.put(&mut txn, &key, &record);
        Ok(store.commit(txn)?)
    }

    /// Forgets media and its renderings. Returns the files to delete once the change is durable.
    ///
    /// # Errors
    /// [`MediaError::UnknownMedia`].
    pub fn delete(
        &self,
        store: &Store,
        key: MediaKey,
    ) -> Result<(Ticket, Vec<FileId>), MediaError> {
        let _one_at_a_time = self.changing.lock();
        let mut txn = store.begin();
        let record = remove(&mut txn, key)?.ok_or(MediaError::UnknownMedia)?;
        let mut files = Vec::new();
        if let MediaState::Stored(content) = record.state {
            files.push(content.file(key));
        }
        for row in remove_thumbnails(&mut txn, key)? {
            files.extend(row.file(key));
        }
        Ok((store.commit(txn)?, files))
    }

    /// Forgets the renderings of a media, to have them made again. Returns the files to delete once the
    /// change is durable.
    ///
    /// # Errors
    /// [`MediaError::Store`].
    pub fn delete_thumbnails(
        &self,
        store: &Store,
        key: MediaKey,
    ) -> Result<(Ticket, Vec<FileId>), MediaError> {
        let _one_at_a_time = self.changing.lock();
        let mut txn = store.begin();
        let records = remove_thumbnails(&mut txn, key)?;
        let files = records
            .iter()
            .filter_map(|record| record.file(key))
            .collect();
        Ok((store.commit(txn)?, files))
    }

    /// One step of the job that forgets created ids whose time has passed: looks at `limit` of them
    /// after the cursor. Returns the new cursor, or `None` at the end.
    ///
    /// # Errors
    /// [`MediaError::Store`].
    pub fn forget_expired(
        &self,
        store: &Store,
        after: Option<PendingCursor>,
        now_ms: u64,
        limit: usize,
    ) -> Result<Option<PendingCursor>, MediaError> {
        let _one_at_a_time = self.changing.lock();
        let mut txn = store.begin();
        let rows = match after {
            None => MEDIA_PENDING.scan(&txn, &(), Direction::Forward),
            Some(after) => MEDIA_PENDING.scan_from(&txn, &(), &after),
        };
        let mut looked_at = Vec::new();
        for row in rows
            .filter(|row| !matches!(row, Ok((key, ())) if Some(*key) == after))
            .take(limit)
        {
            looked_at.push(row?.0);
        }
        for (_, expires_ms, key) in &looked_at {
            if *expires_ms <= now_ms {
                remove(&mut txn, *key)?;
            }
        }
        store.commit(txn)?;
        Ok(looked_at
            .last()
            .copied()
            .filter(|_| looked_at.len() == limit))
    }
}

/// Whether this user may upload to this id now; asked before the body is read and again when it is
/// there.
///
/// # Errors
/// In the order of the specification's answers: [`MediaError::UnknownMedia`] when it was never created
/// or has expired, [`MediaError::NotTheCreator`], [`MediaError::AlreadyUploaded`].
pub fn may_upload(
    from: &impl Read,
    key: MediaKey,
    uploader: UserSn,
    now_ms: u64,
) -> Result<MediaRecord, MediaError> {
    let record = MEDIA.get(from, &key)?.ok_or(MediaError::UnknownMedia)?;
    if record.uploader != Some(uploader) {
        return Err(MediaError::NotTheCreator);
    }
    match record.state {
        MediaState::Stored(_) => Err(MediaError::AlreadyUploaded),
        MediaState::Pending { expires_ms } if expires_ms <= now_ms => Err(MediaError::UnknownMedia),
        MediaState::Pending { .. } => Ok(record),
    }
}

/// Writes a media with the rows that follow from it.
fn put(txn: &mut Txn, key: MediaKey, record: &MediaRecord) {
    MEDIA.put(txn, &key, record);
    let Some(uploader) = record.uploader else {
        return;
    };
    MEDIA_BY_UPLOADER.put(txn, &(uploader, record.created_ms, key), &());
    if let MediaState::Pending { expires_ms } = record.state {
        MEDIA_PENDING.put(txn, &(uploader, expires_ms, key), &());
    }
}

/// Removes a media with the rows that follow from it.
fn remove(txn: &mut Txn, key: MediaKey) -> Result<Option<MediaRecord>, MediaError> {
    let Some(record) = MEDIA.get(txn, &key)? else {
        return Ok(None);
    };
    MEDIA.delete(txn, &key);
    if let Some(uploader) = record.uploader {
        MEDIA_BY_UPLOADER.delete(txn, &(uploader, record.created_ms, key));
        if let MediaState::Pending { expires_ms } = record.state {
            MEDIA_PENDING.delete(txn, &(uploader, expires_ms, key));
        }
    }
    Ok(Some(record))
}

fn remove_thumbnails(txn: &mut Txn, key: MediaKey) -> Result<Vec<ThumbnailRecord>, MediaError> {
    let rows: Vec<_> = THUMBNAILS
        .scan(txn, &(key,), Direction::Forward)
        .collect::<Result<_, _>>()?;
    let mut records = Vec::with_capacity(rows.len());
    for (row, record) in rows {
        THUMBNAILS.delete(txn, &row);
        records.push(record);
    }
    Ok(records)
}

/// Proves the invariants between the tables, and that each file named by a row is there: `has_file` is
/// asked with the file's length. Reports each contradiction in a sentence.
///
/// # Errors
/// [`MediaError::Store`] when a row cannot be read.
pub fn check(
    from: &impl Read,
    mut has_file: impl FnMut(&FileId, u64) -> bool,
    mut report: impl FnMut(String),
) -> Result<(), MediaError> {
    let (mut listed, mut pending) = (0_u64, 0_u64);
    for row in MEDIA.scan(from, &(), Direction::Forward) {
        let (key, record) = row?;
        let uri = format!("mxc://{}/{}", record.server_name, record.media_id);
        let named =
            MediaId::parse(&record.media_id).map(|id| MediaKey::new(&record.server_name, &id));
        if !named.is_ok_and(|named| named == key) {
            report(format!("{uri}: stored under another key"));
        }
        if let Some(uploader) = record.uploader {
            listed += 1;
            if !MEDIA_BY_UPLOADER.contains(from, &(uploader, record.created_ms, key))? {
                report(format!("{uri}: missing in its uploader's list"));
            }
        }
        match (&record.state, record.uploader) {
            (MediaState::Stored(content), _) => {
                if !has_file(&content.file(key), content.length) {
                    report(format!("{uri}: its file is missing or has another length"));
                }
            }
            (MediaState::Pending { expires_ms }, Some(uploader)) => {
                pending += 1;
                if !MEDIA_PENDING.contains(from, &(uploader, *expires_ms, key))? {
                    report(format!("{uri}: missing among the unfinished uploads"));
                }
            }
            (MediaState::Pending { .. }, None) => report(format!("{uri}: unfinished, by nobody")),
        }
    }
    let in_lists = MEDIA_BY_UPLOADER
        .scan(from, &(), Direction::Forward)
        .count() as u64;
    if in_lists != listed {
        report(format!(
            "uploaders' lists have {in_lists} entries for {listed} media"
        ));
    }
    let in_pending = MEDIA_PENDING.scan(from, &(), Direction::Forward).count() as u64;
    if in_pending != pending {
        report(format!(
            "unfinished uploads have {in_pending} entries for {pending} media"
        ));
    }
    for row in THUMBNAILS.scan(from, &(), Direction::Forward) {
        let ((key, _), record) = row?;
        if !MEDIA.contains(from, &key)? {
            report("a thumbnail of media that is not there".to_owned());
        }
        if let (Some(file), ThumbnailRecord::Rendered { length, .. }) = (record.file(key), &record)
            && !has_file(&file, *length)
        {
            report("a thumbnail's file is missing or has another length".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
pub(crate) mod tests;
