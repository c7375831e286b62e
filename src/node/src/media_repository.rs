//! The content repository in the shell: disk work off the threads that serve connections, renderings
//! within bounds, and waiting for uploads that were announced.
//!
//! Rules, files and rows are the crate `media`'s; here is only when and where they run.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::Config;
use media::thumbnail::{Limits, Rendered, Thumbnail, ThumbnailSpec, render};
use media::{
    Catalog, Content, FileId, FileKind, Incoming, Lookup, MediaError, MediaFiles, MediaId,
    MediaKey, OpenFile, Stored, SweepCursor, SweepStep, ThumbnailRecord,
};
use names::UserSn;
use store::Store;
use tokio::sync::{Notify, Semaphore};

use crate::{Lane, Lock, Node, NodeError, Touched};

/// Pieces of an upload are gathered to this size before the disk sees them.
const WRITE_BYTES: usize = 256 << 10;

/// How long one rendering may take.
const RENDER_TIMEOUT: Duration = Duration::from_secs(20);

/// Files last written within this time before the start are not swept: clocks of disks are coarse.
const SWEEP_MARGIN: Duration = Duration::from_secs(60);

/// Between two steps of the sweep, so that it takes a hundredth of a disk's time.
const SWEEP_PAUSE: Duration = Duration::from_millis(5);

/// Between two removals of expired ids.
const EXPIRY_EVERY: Duration = Duration::from_secs(3600);

/// Unfinished uploads looked at in one step of the removal.
const EXPIRY_STEP: usize = 1000;

/// The content repository.
pub struct Media {
    files: Arc<MediaFiles>,
    catalog: Catalog,
    /// One permit for each rendering at a time: bounds memory.
    rendering: Semaphore,
    limits: Limits,
    /// Rung whenever an announced upload has come.
    uploaded: Notify,
    opened: SystemTime,
}

impl Media {
    /// Opens the folder of uploaded files.
    pub(crate) fn open(config: &Config) -> Result<Self, NodeError> {
        let limits = Limits {
            max_pixels: u64::from(config.media.max_thumbnail_pixels),
            max_decode_bytes: config.media.max_thumbnail_memory.bytes(),
            max_input_bytes: config.media.max_thumbnail_memory.bytes(),
            ..Limits::default()
        };
        Ok(Media {
            files: Arc::new(MediaFiles::open(&config.media_dir())?),
            catalog: Catalog::new(),
            rendering: Semaphore::new(config.media.thumbnail_threads as usize),
            limits,
            uploaded: Notify::new(),
            opened: SystemTime::now(),
        })
    }

    /// The files.
    pub fn files(&self) -> &Arc<MediaFiles> {
        &self.files
    }

    /// The changes of what is known.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Opens a file and sees that it has the length that was recorded.
    ///
    /// # Errors
    /// [`MediaError::Missing`] also for a file of another length, which no crash of ours leaves.
    pub async fn read(&self, file: FileId, length: u64) -> Result<OpenFile, NodeError> {
        let files = Arc::clone(&self.files);
        let open = on_disk(move || files.read(&file)).await?;
        if open.length != length {
            tracing::error!(key = %file.key, "a media file has another length than was recorded");
            return Err(MediaError::Missing.into());
        }
        Ok(open)
    }

    pub(crate) async fn delete_file(&self, file: FileId) {
        let files = Arc::clone(&self.files);
        if let Err(error) = on_disk(move || files.delete(&file)).await {
            tracing::warn!(%error, "a media file could not be deleted; the next sweep will");
        }
    }
}

/// Runs disk work on a thread that may block.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MediaError> + Send + 'static,
) -> Result<T, NodeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) if error.is_panic() => Err(NodeError::Panicked),
        Err(_) => Err(NodeError::Stopped),
    }
}

/// An upload under way. Dropped before its end, it leaves nothing behind.
pub struct MediaUpload {
    files: Arc<MediaFiles>,
    store: Arc<Store>,
    file: FileId,
    max_bytes: u64,
    length: u64,
    gathered: Vec<u8>,
    incoming: Option<Incoming>,
}

impl MediaUpload {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`MediaError::TooLarge`], [`MediaError::DiskFull`].
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), NodeError> {
        self.length = self.length.saturating_add(piece.len() as u64);
        if self.length > self.max_bytes {
            let limit_bytes = self.max_bytes;
            return Err(MediaError::TooLarge { limit_bytes }.into());
        }
        self.gathered.extend_from_slice(piece);
        if self.gathered.len() >= WRITE_BYTES {
            if self.store.is_full() {
                // It could not be made known either, and would take the room that the database needs.
                return Err(MediaError::DiskFull.into());
            }
            let (incoming, work) = self.next_write();
            self.incoming = Some(on_disk(move || work(incoming)).await?);
        }
        Ok(())
    }

    /// Ends the upload: when this returns, the file survives power loss.
    ///
    /// # Errors
    /// As [`MediaUpload::write`].
    pub async fn finish(mut self) -> Result<(FileId, Stored), NodeError> {
        let (incoming, work) = self.next_write();
        // A small upload goes to the disk in this one step.
        let stored = on_disk(move || work(incoming)?.finish()).await?;
        Ok((self.file, stored))
    }

    /// What was begun, and the work that appends what was gathered.
    fn next_write(
        &mut self,
    ) -> (
        Option<Incoming>,
        impl FnOnce(Option<Incoming>) -> Result<Incoming, MediaError> + Send + 'static,
    ) {
        let (files, file, max_bytes) = (Arc::clone(&self.files), self.file, self.max_bytes);
        let gathered = std::mem::take(&mut self.gathered);
        let work = move |incoming: Option<Incoming>| {
            let mut incoming = match incoming {
                Some(incoming) => incoming,
                None => files.begin(file, max_bytes)?,
            };
            incoming.write(&gathered)?;
            Ok(incoming)
        };
        (self.incoming.take(), work)
    }
}

/// A thumbnail to be sent.
pub enum ThumbnailAnswer {
    /// The content itself, under the content type that its bytes show.
    Original {
        /// `image/...`
        content_type: String,
    },
    /// A file that holds the rendering.
    File {
        /// The file.
        file: FileId,
        /// Its length in bytes.
        length: u64,
        /// `image/...`
        content_type: String,
    },
    /// A rendering that was made just now.
    Fresh {
        /// The encoded picture.
        bytes: Vec<u8>,
        /// `image/...`
        content_type: String,
        /// The nonce of its file, which tells it from other renderings.
        nonce: u64,
    },
}

impl ThumbnailAnswer {
    fn stored(record: ThumbnailRecord, key: MediaKey) -> Self {
        match record {
            ThumbnailRecord::Original { content_type } => Self::Original { content_type },
            ThumbnailRecord::Rendered {
                nonce,
                content_type,
                length,
                ..
            } => Self::File {
                file: FileId {
                    kind: FileKind::Thumbnail,
                    key,
                    nonce,
                },
                length,
                content_type,
            },
        }
    }
}

impl Node {
    /// Begins an upload of at most `max_bytes` for the media `key`.
    pub fn begin_upload(&self, key: MediaKey, max_bytes: u64) -> MediaUpload {
        MediaUpload {
            files: Arc::clone(&self.media.files),
            store: Arc::clone(&self.store),
            file: FileId {
                kind: FileKind::Content,
                key,
                nonce: u64::from_be_bytes(self.random()),
            },
            max_bytes,
            length: 0,
            gathered: Vec::new(),
            incoming: None,
        }
    }

    /// Makes a finished upload known under a new id of this server.
    ///
    /// # Errors
    /// Those of [`Catalog::add`]; the file is deleted then.
    pub async fn add_media(
        &self,
        media_id: &MediaId,
        uploader: UserSn,
        content: Content,
    ) -> Result<(), NodeError> {
        let file = content.file(MediaKey::new(self.server_name(), media_id));
        let uri = (self.server_name(), media_id);
        let catalog = &self.media.catalog;
        match catalog.add(&self.store, uri, Some(uploader), content) {
            Ok(ticket) => {
                self.durable(ticket, Touched::nobody()).await?;
                Ok(())
            }
            Err(error) => {
                self.media.delete_file(file).await;
                Err(error.into())
            }
        }
    }

    /// Gives an announced id its content, and wakes who waits for it.
    ///
    /// # Errors
    /// Those of [`Catalog::complete`]; the file is deleted then.
    pub async fn complete_media(
        &self,
        key: MediaKey,
        uploader: UserSn,
        content: Content,
    ) -> Result<(), NodeError> {
        let file = content.file(key);
        match self
            .media
            .catalog
            .complete(&self.store, key, uploader, content)
        {
            Ok(ticket) => {
                self.durable(ticket, Touched::nobody()).await?;
                self.media.uploaded.notify_waiters();
                Ok(())
            }
            Err(error) => {
                self.media.delete_file(file).await;
                Err(error.into())
            }
        }
    }

    /// The content behind a URI; waits at most `timeout` for an announced upload.
    ///
    /// # Errors
    /// [`MediaError::UnknownMedia`], [`MediaError::NotYetUploaded`].
    pub async fn media_content(
        &self,
        key: MediaKey,
        timeout: Duration,
    ) -> Result<Content, NodeError> {
        let waiting = async {
            loop {
                let mut uploaded = std::pin::pin!(self.media.uploaded.notified());
                // Before looking, so that an upload in between is not missed.
                uploaded.as_mut().enable();
                match media::lookup(&self.view(), key, self.now_ms())? {
                    Lookup::Pending { .. } => uploaded.await,
                    found => return Ok(found.content()?),
                }
            }
        };
        tokio::select! {
            biased;
            found = waiting => found,
            () = tokio::time::sleep(timeout) => Err(MediaError::NotYetUploaded.into()),
            () = self.shutdown.cancelled() => Err(MediaError::NotYetUploaded.into()),
        }
    }

    /// The thumbnail of some content, rendered now if it was not before.
    ///
    /// # Errors
    /// Those of [`render`]; [`NodeError::Overloaded`].
    pub async fn thumbnail(
        &self,
        key: MediaKey,
        content: &Content,
        spec: ThumbnailSpec,
    ) -> Result<ThumbnailAnswer, NodeError> {
        if let Some(record) = media::thumbnail_of(&self.view(), key, spec)? {
            return Ok(ThumbnailAnswer::stored(record, key));
        }
        // Many ask for a new picture at once; one renders it.
        let _one_at_a_time = self
            .lock(Lock::Named(format!("thumbnail {key} {spec:?}")))
            .await;
        if let Some(record) = media::thumbnail_of(&self.store.head(), key, spec)? {
            return Ok(ThumbnailAnswer::stored(record, key));
        }
        let permit = self.media.rendering.acquire().await;
        let (files, limits) = (Arc::clone(&self.media.files), self.media.limits);
        let (source, nonce) = (content.file(key), u64::from_be_bytes(self.random()));
        let file = FileId {
            kind: FileKind::Thumbnail,
            key,
            nonce,
        };
        let work = move || render_to_file(&files, source, file, spec, limits);
        let thumbnail = self.run(Lane::Bulk, work).await??;
        drop(permit);
        let (record, answer) = described(thumbnail, nonce);
        match self
            .media
            .catalog
            .add_thumbnail(&self.store, key, spec, &record)?
        {
            Some(ticket) => {
                self.durable(ticket, Touched::nobody()).await?;
            }
            None => self.media.delete_file(file).await,
        }
        Ok(answer)
    }

    /// Sweeps orphaned files once and removes expired ids now and then; returns when the server drains.
    pub async fn run_media_upkeep(&self) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = async {
                if let Err(error) = self.sweep_media().await {
                    tracing::warn!(%error, "the sweep of media files was given up until the next start");
                }
                loop {
                    if let Err(error) = self.forget_expired_media() {
                        tracing::warn!(%error, "removing expired media ids failed and will be tried again");
                    }
                    tokio::time::sleep(EXPIRY_EVERY).await;
                }
            } => {}
        }
    }

    async fn sweep_media(&self) -> Result<(), NodeError> {
        let settled_before = self.media.opened - SWEEP_MARGIN;
        let mut cursor = SweepCursor::start();
        let (mut orphans, mut bytes) = (0, 0);
        loop {
            let (files, head) = (Arc::clone(&self.media.files), self.store.head());
            let step = on_disk(move || {
                let keep = |file: &FileId| media::is_current(&head, file);
                let step = files.sweep_step::<MediaError>(&mut cursor, settled_before, keep)?;
                Ok((step, cursor))
            });
            let (step, next) = step.await?;
            cursor = next;
            match step {
                SweepStep::Done => break,
                SweepStep::Swept {
                    deleted,
                    deleted_bytes,
                    ..
                } => {
                    orphans += deleted;
                    bytes += deleted_bytes;
                }
            }
            tokio::time::sleep(SWEEP_PAUSE).await;
        }
        if orphans > 0 {
            tracing::info!(orphans, bytes, "orphaned media files were deleted");
        }
        Ok(())
    }

    fn forget_expired_media(&self) -> Result<(), NodeError> {
        let mut cursor = None;
        loop {
            let now_ms = self.now_ms();
            let catalog = &self.media.catalog;
            cursor = catalog.forget_expired(&self.store, cursor, now_ms, EXPIRY_STEP)?;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}

/// Renders and, if there is something to keep, writes it to `file`.
fn render_to_file(
    files: &Arc<MediaFiles>,
    source: FileId,
    file: FileId,
    spec: ThumbnailSpec,
    limits: Limits,
) -> Result<Thumbnail, MediaError> {
    let limits = Limits {
        deadline: Some(Instant::now() + RENDER_TIMEOUT),
        ..limits
    };
    let mut source = files.read(&source)?;
    let thumbnail = render(&mut source.file, &spec, &limits)?;
    if let Thumbnail::Rendered(Rendered { bytes, .. }) = &thumbnail {
        let mut incoming = files.begin(file, bytes.len() as u64)?;
        incoming.write(bytes)?;
        incoming.finish()?;
    }
    Ok(thumbnail)
}

/// What is noted of a rendering, and what is answered.
fn described(thumbnail: Thumbnail, nonce: u64) -> (ThumbnailRecord, ThumbnailAnswer) {
    match thumbnail {
        Thumbnail::Original { content_type } => {
            let content_type = content_type.to_owned();
            let record = ThumbnailRecord::Original {
                content_type: content_type.clone(),
            };
            (record, ThumbnailAnswer::Original { content_type })
        }
        Thumbnail::Rendered(rendered) => {
            let content_type = rendered.content_type.to_owned();
            let record = ThumbnailRecord::Rendered {
                nonce,
                content_type: content_type.clone(),
                length: rendered.bytes.len() as u64,
                width: rendered.width,
                height: rendered.height,
                animated: rendered.animated,
            };
            let answer = ThumbnailAnswer::Fresh {
                bytes: rendered.bytes,
                content_type,
                nonce,
            };
            (record, answer)
        }
    }
}
