//! Files of the content repository on local disk.
//!
//! Layout below the media directory:
//! ```text
//! incoming/                      what is being written; emptied when the directory is opened
//! content/ab/cd/<key>-<nonce>    uploads and the cache of other servers' media
//! thumbnails/ab/cd/<key>-<nonce> renderings
//! ```
//! `ab` and `cd` are the first two bytes of the key: 65,536 directories, so that ten million files lie
//! about 150 in each.
//!
//! Invariants: a file appears under its name only whole and synced (write, sync, rename, sync the
//! directory); it is never changed afterwards. One process uses a media directory at a time, which the
//! database's lock guarantees.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::range::ByteRange;
use crate::{FileId, FileKind, MediaError};

/// The media directory.
#[derive(Debug)]
pub struct MediaFiles {
    root: PathBuf,
    /// One bit per shard directory and kind: set once this process knows that the directory and its
    /// entry in the parent are on disk, which saves two syncs for each further file.
    durable_shards: [Box<[AtomicU64]>; 2],
}

impl MediaFiles {
    /// Opens a media directory, creates it when it is missing, and throws away what an earlier process
    /// had begun to write.
    ///
    /// # Errors
    /// [`MediaError::Io`] or [`MediaError::DiskFull`] when the directory cannot be made or read.
    pub fn open(root: &Path) -> Result<Self, MediaError> {
        let bits = || {
            (0..1024)
                .map(|_| AtomicU64::new(0))
                .collect::<Box<[AtomicU64]>>()
        };
        let files = MediaFiles {
            root: root.to_owned(),
            durable_shards: [bits(), bits()],
        };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(files.incoming())?;
        builder.create(files.tree(FileKind::Content))?;
        builder.create(files.tree(FileKind::Thumbnail))?;
        sync_directory(root)?;
        for entry in fs::read_dir(files.incoming())? {
            fs::remove_file(entry?.path())?;
        }
        Ok(files)
    }

    /// Begins a file of at most `max_bytes`. Nothing is visible under `id` until
    /// [`Incoming::finish`]; dropping the [`Incoming`] leaves nothing behind.
    ///
    /// # Errors
    /// [`MediaError::DiskFull`], [`MediaError::Io`].
    pub fn begin(self: &Arc<Self>, id: FileId, max_bytes: u64) -> Result<Incoming, MediaError> {
        let path = self.incoming().join(id.file_name());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Incoming {
            files: Arc::clone(self),
            id,
            temporary: Some(Temporary { path }),
            file,
            length: 0,
            max_bytes,
            hasher: Sha256::new(),
        })
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`MediaError::Missing`] when it is not there.
    pub fn read(&self, id: &FileId) -> Result<OpenFile, MediaError> {
        let file = File::open(self.path(id))?;
        let length = file.metadata()?.len();
        Ok(OpenFile { file, length })
    }

    /// Deletes a file. That it is already gone is no error: deletion is repeated after a crash.
    /// Whoever has it open can read it to its end.
    ///
    /// # Errors
    /// [`MediaError::Io`].
    pub fn delete(&self, id: &FileId) -> Result<(), MediaError> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn tree(&self, kind: FileKind) -> PathBuf {
        self.root.join(match kind {
            FileKind::Content => "content",
            FileKind::Thumbnail => "thumbnails",
        })
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    pub(crate) fn shard_directory(&self, kind: FileKind, shard: u16) -> PathBuf {
        let [first, second] = shard.to_be_bytes();
        self.tree(kind)
            .join(format!("{first:02x}"))
            .join(format!("{second:02x}"))
    }

    fn path(&self, id: &FileId) -> PathBuf {
        self.shard_directory(id.kind, id.shard())
            .join(id.file_name())
    }

    /// Makes the directory of `id` and sees to it that it survives a power loss.
    fn make_shard_durable(&self, id: &FileId) -> Result<PathBuf, MediaError> {
        let directory = self.shard_directory(id.kind, id.shard());
        let (word, bit) = (usize::from(id.shard() >> 6), 1_u64 << (id.shard() & 63));
        let tree = match id.kind {
            FileKind::Content => 0,
            FileKind::Thumbnail => 1,
        };
        let durable = &self.durable_shards[tree][word];
        if durable.load(Ordering::Acquire) & bit == 0 {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)?;
            let [first, _] = id.shard().to_be_bytes();
            let tree = self.tree(id.kind);
            sync_directory(&tree.join(format!("{first:02x}")))?;
            sync_directory(&tree)?;
            durable.fetch_or(bit, Ordering::Release);
        }
        Ok(directory)
    }
}

fn sync_directory(path: &Path) -> Result<(), MediaError> {
    Ok(File::open(path)?.sync_all()?)
}

/// A file that was written whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Length in bytes.
    pub length: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
}

/// A file being written.
#[derive(Debug)]
pub struct Incoming {
    files: Arc<MediaFiles>,
    id: FileId,
    /// Removes the temporary file when dropped; taken once the file has its final name.
    temporary: Option<Temporary>,
    file: File,
    length: u64,
    max_bytes: u64,
    hasher: Sha256,
}

impl Incoming {
    /// Appends a piece.
    ///
    /// # Errors
    /// [`MediaError::TooLarge`] as soon as the limit is passed, [`MediaError::DiskFull`],
    /// [`MediaError::Io`]. After an error the value can only be dropped usefully.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), MediaError> {
        let length = self.length.saturating_add(piece.len() as u64);
        if length > self.max_bytes {
            return Err(MediaError::TooLarge {
                limit_bytes: self.max_bytes,
            });
        }
        self.file.write_all(piece)?;
        self.hasher.update(piece);
        self.length = length;
        Ok(())
    }

    /// Syncs the content and gives the file its name. When this returns `Ok`, the file survives power
    /// loss.
    ///
    /// # Errors
    /// [`MediaError::DiskFull`], [`MediaError::Io`]: nothing is kept.
    pub fn finish(mut self) -> Result<Stored, MediaError> {
        self.file.sync_all()?;
        let directory = self.files.make_shard_durable(&self.id)?;
        let Some(temporary) = self.temporary.take() else {
            return Err(MediaError::Missing);
        };
        fs::rename(&temporary.path, directory.join(self.id.file_name()))?;
        sync_directory(&directory)?;
        Ok(Stored {
            length: self.length,
            sha256: self.hasher.finalize().into(),
        })
    }
}

/// A temporary file that goes away with its owner.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename the path is gone, and a failure to delete is mended at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// A file open for reading.
#[derive(Debug)]
pub struct OpenFile {
    /// The file, at its beginning.
    pub file: File,
    /// Its length in bytes.
    pub length: u64,
}

impl OpenFile {
    /// A reader of just the given bytes.
    ///
    /// # Errors
    /// [`MediaError::Io`].
    pub fn section(mut self, range: ByteRange) -> Result<io::Take<File>, MediaError> {
        self.file.seek(SeekFrom::Start(range.first))?;
        Ok(self.file.take(range.length()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaKey;

    fn file_id(byte: u8, nonce: u64) -> FileId {
        FileId {
            kind: FileKind::Content,
            key: MediaKey::from_bytes([byte; 32]),
            nonce,
        }
    }

    fn open(directory: &Path) -> Arc<MediaFiles> {
        Arc::new(MediaFiles::open(directory).unwrap())
    }

    fn store(files: &Arc<MediaFiles>, id: FileId, content: &[u8]) -> Stored {
        let mut incoming = files.begin(id, 1 << 20).unwrap();
        for piece in content.chunks(7) {
            incoming.write(piece).unwrap();
        }
        incoming.finish().unwrap()
    }

    fn content_of(files: &Arc<MediaFiles>, id: FileId) -> Vec<u8> {
        let mut content = Vec::new();
        files
            .read(&id)
            .unwrap()
            .file
            .read_to_end(&mut content)
            .unwrap();
        content
    }

    fn incoming_count(directory: &Path) -> usize {
        fs::read_dir(directory.join("incoming")).unwrap().count()
    }

    #[test]
    fn a_finished_file_reads_back_with_its_length_and_hash() {
        let directory = tempfile::tempdir().unwrap();
        let files = open(directory.path());
        let stored = store(&files, file_id(1, 2), b"the content of a file");
        assert_eq!(stored.length, 21);
        assert_eq!(
            stored.sha256,
            <[u8; 32]>::from(Sha256::digest(b"the content of a file"))
        );
        assert_eq!(files.read(&file_id(1, 2)).unwrap().length, 21);
        assert_eq!(content_of(&files, file_id(1, 2)), b"the content of a file");
        assert_eq!(incoming_count(directory.path()), 0);
    }

    #[test]
    fn a_section_holds_exactly_the_bytes_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let files = open(directory.path());
        store(&files, file_id(1, 2), b"0123456789");
        let range = ByteRange { first: 3, last: 5 };
        let mut content = Vec::new();
        let open = files.read(&file_id(1, 2)).unwrap();
        open.section(range)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        assert_eq!(content, b"345");
    }

    #[test]
    fn an_upload_over_the_limit_is_refused_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let files = open(directory.path());
        let mut incoming = files.begin(file_id(1, 2), 10).unwrap();
        incoming.write(b"0123456789").unwrap();
        assert!(matches!(
            incoming.write(b"x"),
            Err(MediaError::TooLarge { limit_bytes: 10 })
        ));
        drop(incoming);
        assert_eq!(incoming_count(directory.path()), 0);
        assert!(matches!(
            files.read(&file_id(1, 2)),
            Err(MediaError::Missing)
        ));
    }

    #[test]
    fn a_file_is_invisible_until_it_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let files = open(directory.path());
        let mut incoming = files.begin(file_id(1, 2), 10).unwrap();
        incoming.write(b"half").unwrap();
        assert!(matches!(
            files.read(&file_id(1, 2)),
            Err(MediaError::Missing)
        ));
        incoming.finish().unwrap();
        assert_eq!(content_of(&files, file_id(1, 2)), b"half");
    }

    #[test]
    fn opening_the_directory_throws_away_unfinished_files_and_keeps_finished_ones() {
        let directory = tempfile::tempdir().unwrap();
        let files = open(directory.path());
        store(&files, file_id(1, 2), b"kept");
        fs::write(directory.path().join("incoming/left-by-a-crash"), b"half").unwrap();
        let files = open(directory.path());
        assert_eq!(incoming_count(directory.path()), 0);
        assert_eq!(content_of(&files, file_id(1, 2)), b"kept");
    }

    #[test]
    fn two_writes_for_one_media_do_not_touch_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let files = open(directory.path());
        let mut first = files.begin(file_id(1, 1), 10).unwrap();
        let mut second = files.begin(file_id(1, 2), 10).unwrap();
        first.write(b"first").unwrap();
        second.write(b"second").unwrap();
        second.finish().unwrap();
        first.finish().unwrap();
        files.delete(&file_id(1, 2)).unwrap();
        files.delete(&file_id(1, 2)).unwrap();
        assert_eq!(content_of(&files, file_id(1, 1)), b"first");
        assert!(matches!(
            files.read(&file_id(1, 2)),
            Err(MediaError::Missing)
        ));
    }

    #[test]
    fn a_full_disk_is_told_apart_from_other_failures() {
        let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = full.write_all(b"x").unwrap_err();
        assert!(matches!(MediaError::from(error), MediaError::DiskFull));
    }

    #[test]
    fn only_the_server_may_read_the_files() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let files = open(directory.path());
        store(&files, file_id(1, 2), b"x");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&files.path(&file_id(1, 2))), 0o600);
        assert_eq!(
            mode(&files.shard_directory(FileKind::Content, 0x0101)),
            0o700
        );
    }
}
