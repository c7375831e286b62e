//! The sweep for orphans: files that no metadata names any more, left by a crash between the rename of
//! an upload and the commit of its metadata, or between that of a deletion and the removal of its file.
//!
//! Runs as a job in small steps after the start. A file younger than the settling time is never
//! touched, because its metadata may be about to be committed.

use std::fs;
use std::io;
use std::time::SystemTime;

use crate::{FileId, FileKind, MediaError, MediaFiles};

/// Where a sweep stands: the next directory to look at. Plain data, so that a job can keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepCursor {
    kind: FileKind,
    /// 65,536 when the kind is done.
    shard: u32,
}

impl SweepCursor {
    /// The beginning of a sweep.
    pub fn start() -> Self {
        SweepCursor {
            kind: FileKind::Content,
            shard: 0,
        }
    }
}

/// What one step of a sweep did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepStep {
    /// One directory was looked through; call again.
    Swept {
        /// Files of ours in the directory.
        seen: u64,
        /// Orphans deleted.
        deleted: u64,
        /// Bytes that their deletion freed.
        deleted_bytes: u64,
    },
    /// Every directory was visited.
    Done,
}

impl MediaFiles {
    /// Looks through the next directory that exists (about 150 files with ten million in all) and
    /// deletes each file last changed before `settled_before` for which `keep` answers `false`.
    /// Files whose names Meyrin did not give are left alone.
    ///
    /// # Errors
    /// Those of the disk, and whatever `keep` returns; the cursor then still names this directory.
    pub fn sweep_step<E: From<MediaError>>(
        &self,
        cursor: &mut SweepCursor,
        settled_before: SystemTime,
        mut keep: impl FnMut(&FileId) -> Result<bool, E>,
    ) -> Result<SweepStep, E> {
        let Some((kind, shard)) = self.next_shard(*cursor) else {
            return Ok(SweepStep::Done);
        };
        let (mut seen, mut deleted, mut deleted_bytes) = (0, 0, 0);
        let directory = self.shard_directory(kind, shard);
        for entry in fs::read_dir(directory).map_err(MediaError::from)? {
            let entry = entry.map_err(MediaError::from)?;
            let name = entry.file_name();
            let Some(id) = name
                .to_str()
                .and_then(|name| FileId::parse_file_name(kind, name))
            else {
                continue;
            };
            seen += 1;
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(MediaError::from)?,
            };
            let modified = metadata.modified().map_err(MediaError::from)?;
            if modified < settled_before && !keep(&id)? {
                self.delete(&id)?;
                deleted += 1;
                deleted_bytes += metadata.len();
            }
        }
        *cursor = SweepCursor {
            kind,
            shard: u32::from(shard) + 1,
        };
        Ok(SweepStep::Swept {
            seen,
            deleted,
            deleted_bytes,
        })
    }

    /// The first directory at or after the cursor that exists.
    fn next_shard(&self, cursor: SweepCursor) -> Option<(FileKind, u16)> {
        let SweepCursor {
            mut kind,
            mut shard,
        } = cursor;
        loop {
            let Ok(number) = u16::try_from(shard) else {
                if kind == FileKind::Thumbnail {
                    return None;
                }
                (kind, shard) = (FileKind::Thumbnail, 0);
                continue;
            };
            let directory = self.shard_directory(kind, number);
            if directory.is_dir() {
                return Some((kind, number));
            }
            // A missing parent stands for 256 missing directories.
            let parent_exists = directory.parent().is_some_and(|parent| parent.is_dir());
            shard = if parent_exists {
                shard + 1
            } else {
                (shard | 0xff) + 1
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaKey;
    use std::sync::Arc;
    use std::time::Duration;

    fn store(files: &Arc<MediaFiles>, kind: FileKind, byte: u8, nonce: u64) -> FileId {
        let id = FileId {
            kind,
            key: MediaKey::from_bytes([byte; 32]),
            nonce,
        };
        let mut incoming = files.begin(id, 100).unwrap();
        incoming.write(b"12345").unwrap();
        incoming.finish().unwrap();
        id
    }

    fn sweep(
        files: &Arc<MediaFiles>,
        settled_before: SystemTime,
        keep: &[FileId],
    ) -> (u64, u64, u64) {
        let mut cursor = SweepCursor::start();
        let mut total = (0, 0, 0);
        loop {
            let step = files.sweep_step(&mut cursor, settled_before, |id| {
                Ok::<bool, MediaError>(keep.contains(id))
            });
            match step.unwrap() {
                SweepStep::Done => return total,
                SweepStep::Swept {
                    seen,
                    deleted,
                    deleted_bytes,
                } => {
                    total = (total.0 + seen, total.1 + deleted, total.2 + deleted_bytes);
                }
            }
        }
    }

    #[test]
    fn a_sweep_deletes_orphans_of_both_kinds_and_keeps_what_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let files = Arc::new(MediaFiles::open(directory.path()).unwrap());
        let kept = store(&files, FileKind::Content, 0, 1);
        let orphan = store(&files, FileKind::Content, 0, 2);
        let kept_thumbnail = store(&files, FileKind::Thumbnail, 255, 3);
        let orphan_thumbnail = store(&files, FileKind::Thumbnail, 7, 4);
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(sweep(&files, later, &[kept, kept_thumbnail]), (4, 2, 10));
        assert!(files.read(&kept).is_ok() && files.read(&kept_thumbnail).is_ok());
        assert!(matches!(files.read(&orphan), Err(MediaError::Missing)));
        assert!(matches!(
            files.read(&orphan_thumbnail),
            Err(MediaError::Missing)
        ));
    }

    #[test]
    fn a_file_whose_metadata_may_still_come_is_not_swept() {
        let directory = tempfile::tempdir().unwrap();
        let files = Arc::new(MediaFiles::open(directory.path()).unwrap());
        let young = store(&files, FileKind::Content, 3, 1);
        let earlier = SystemTime::now() - Duration::from_secs(60);
        assert_eq!(sweep(&files, earlier, &[]), (1, 0, 0));
        assert!(files.read(&young).is_ok());
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let files = Arc::new(MediaFiles::open(directory.path()).unwrap());
        store(&files, FileKind::Content, 3, 1);
        let foreign = files
            .shard_directory(FileKind::Content, 0x0303)
            .join("notes.txt");
        fs::write(&foreign, b"x").unwrap();
        sweep(&files, SystemTime::now() + Duration::from_secs(60), &[]);
        assert!(foreign.exists());
    }

    #[test]
    fn a_failed_question_stops_the_sweep_at_the_same_directory() {
        let directory = tempfile::tempdir().unwrap();
        let files = Arc::new(MediaFiles::open(directory.path()).unwrap());
        store(&files, FileKind::Content, 3, 1);
        let mut cursor = SweepCursor::start();
        let later = SystemTime::now() + Duration::from_secs(60);
        let step = files.sweep_step(&mut cursor, later, |_| Err(MediaError::DiskFull));
        assert!(step.is_err());
        assert_eq!(cursor, SweepCursor::start());
    }
}
