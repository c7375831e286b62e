//! Backups of the database: a folder with a copy of it (`db`), the signing key and a description.
//!
//! Uploaded files are not in it: they never change once written, and are copied after the database by any means, so that
//! no file is missing which the database knows (`docs/operating.md`).

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use config::Config;
use node::Node;
use serde::{Deserialize, Serialize};
use store::rocks::{Limits, Rocks};
use store::{Read, StoreError};

use crate::{data_folder, database};

const DESCRIPTION: &str = "backup.json";
const DATABASE: &str = "db";
const SIGNING_KEY: &str = "signing.key";

/// Why there is no backup, or it was not restored. What was there before is untouched.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{} is there already; name a new folder", path.display())]
    Exists { path: PathBuf },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is no backup: {why}", path.display())]
    NoBackup { path: PathBuf, why: String },
    #[error("the backup is of {found}, but the configuration says server_name = \"{configured}\"")]
    OtherServer { found: String, configured: String },
    #[error(
        "the backup has schema {found}, this binary knows schemas up to {known}: use the version that made it, or a newer one"
    )]
    NewerSchema { found: u32, known: u32 },
    #[error("there is a database in {}; --replace puts it aside", path.display())]
    Occupied { path: PathBuf },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is in a backup.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    server_name: String,
    /// The version of `meyrin` that wrote it.
    version: String,
    schema: u32,
    /// Everything up to this position is in it.
    position: u64,
    created_ms: u64,
}

/// Writes a backup of a running or stopped server into the new folder `folder`. The description is written last: a
/// folder without one is no backup.
pub fn write(node: &Node, folder: &Path) -> Result<(), BackupError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::File { path, source }
    };
    if folder.exists() {
        return Err(BackupError::Exists {
            path: folder.to_owned(),
        });
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed(folder))?;
    // The position is read first, so that the copy holds it and perhaps more.
    let description = Description {
        server_name: node.server_name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema: database::SCHEMA,
        position: node.view().position().0,
        created_ms: node.now_ms(),
    };
    node.store().checkpoint(&folder.join(DATABASE))?;
    let key = data_folder::signing_key_path(&node.config());
    fs::copy(&key, folder.join(SIGNING_KEY)).map_err(failed(&key))?;
    let text =
        serde_json::to_string_pretty(&description).map_err(|error| failed(folder)(error.into()))?;
    let path = folder.join(DESCRIPTION);
    fs::write(&path, text + "\n").map_err(failed(&path))?;
    sync_tree(folder).map_err(failed(folder))
}

/// Puts the backup in `folder` in place of the database. The server must not run. With `replace`, a database that is there
/// is put aside as `db.replaced`, and so is the signing key when it differs.
pub fn restore(config: &Config, folder: &Path, replace: bool) -> Result<(), BackupError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::File { path, source }
    };
    describe(config, folder)?;
    let database = config.database_dir();
    if database.exists() {
        if !replace {
            return Err(BackupError::Occupied { path: database });
        }
        // A server that runs on it keeps it; a damaged one may go. Closed again at once: it is moved.
        if let Err(error @ StoreError::InUse { .. }) = Rocks::open(&database, Limits::default()) {
            return Err(error.into());
        }
    }
    let restoring = config.data_dir.join("db.restoring");
    remove_tree(&restoring).map_err(failed(&restoring))?;
    copy_tree(&folder.join(DATABASE), &restoring).map_err(failed(&restoring))?;
    sync_tree(&restoring).map_err(failed(&restoring))?;
    put_aside(&database).map_err(failed(&database))?;
    fs::rename(&restoring, &database).map_err(failed(&database))?;
    let (kept, there) = (
        folder.join(SIGNING_KEY),
        data_folder::signing_key_path(config),
    );
    if fs::read(&kept).map_err(failed(&kept))? != fs::read(&there).unwrap_or_default() {
        put_aside(&there).map_err(failed(&there))?;
        fs::copy(&kept, &there).map_err(failed(&there))?;
    }
    sync_tree(&config.data_dir.join(SIGNING_KEY)).map_err(failed(&there))
}

/// Reads the description and makes sure that the backup is one that can be restored here.
fn describe(config: &Config, folder: &Path) -> Result<(), BackupError> {
    let no_backup = |why: String| BackupError::NoBackup {
        path: folder.to_owned(),
        why,
    };
    let text = fs::read(folder.join(DESCRIPTION)).map_err(|error| no_backup(error.to_string()))?;
    let description: Description =
        serde_json::from_slice(&text).map_err(|error| no_backup(error.to_string()))?;
    let configured = config.server_name.as_str();
    if description.server_name != configured {
        return Err(BackupError::OtherServer {
            found: description.server_name,
            configured: configured.to_owned(),
        });
    }
    if description.schema > database::SCHEMA {
        return Err(BackupError::NewerSchema {
            found: description.schema,
            known: database::SCHEMA,
        });
    }
    Ok(())
}

/// Renames `path` to `path.replaced`; one that was put aside before goes.
fn put_aside(path: &Path) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".replaced");
    remove_tree(Path::new(&aside))?;
    fs::rename(path, aside)
}

fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Copies a folder without links; RocksDB's has no folders in it.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Has everything under `path`, and that it is there, written to the disk.
fn sync_tree(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            sync_tree(&entry?.path())?;
        }
    }
    File::open(path)?.sync_all()?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
