//! The data folder and the two small files in it that say whose it is: `server_name` and `signing.key`.
//!
//! Only the server's user may look into the folder. The name never changes, because it is part of everything that is
//! stored; the key is made once, because other servers remember it, and those from before it stay in the file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use config::Config;
use event::SigningKey;
use node::OwnKeys;

/// Why the data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    #[error("cannot use {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{} holds the data of {found}, but the configuration says server_name = \"{configured}\"; \
         the name of a server can't be changed: give another data_dir, or the old name",
        path.display()
    )]
    OtherServer {
        path: PathBuf,
        found: String,
        configured: String,
    },
    #[error(
        "{} is no signing key (a line `ed25519 a_xxxx BASE64`, and one for each key from before it)",
        path.display()
    )]
    SigningKey { path: PathBuf },
}

/// Makes the folder, or makes sure that it is this server's.
pub fn prepare(config: &Config) -> Result<(), DataFolderError> {
    let folder = &config.data_dir;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| DataFolderError::File {
        path: folder.clone(),
        source,
    })?;
    let path = folder.join("server_name");
    let configured = config.server_name.as_str();
    match read(&path)? {
        Some(found) if found.trim() == configured => Ok(()),
        Some(found) => Err(DataFolderError::OtherServer {
            path: folder.clone(),
            found: found.trim().to_owned(),
            configured: configured.to_owned(),
        }),
        None => write_once(&path, &format!("{configured}\n")),
    }
}

/// The keys of the server; the first is made from `random` at the first start.
pub fn signing_keys(config: &Config, random: [u8; 32]) -> Result<OwnKeys, DataFolderError> {
    let path = signing_key_path(config);
    let name = config.server_name.as_str();
    if let Some(text) = read(&path)? {
        return OwnKeys::from_file(name, &text).map_err(|_| DataFolderError::SigningKey { path });
    }
    let keys = OwnKeys::from(SigningKey::generate(name, random));
    write_once(&path, &keys.to_file())?;
    Ok(keys)
}

/// Makes a new key from `random` the one that the server signs with; the one before counts for what it signed until
/// `now_ms`. The server must not run.
pub fn rotate_signing_key(
    config: &Config,
    random: [u8; 32],
    now_ms: u64,
) -> Result<OwnKeys, DataFolderError> {
    let keys = signing_keys(config, rand::random())?.rotated(random, now_ms);
    write_once(&signing_key_path(config), &keys.to_file())?;
    Ok(keys)
}

/// The file of the signing key.
pub fn signing_key_path(config: &Config) -> PathBuf {
    config.data_dir.join("signing.key")
}

fn read(path: &Path) -> Result<Option<String>, DataFolderError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataFolderError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes a file that is there whole or not at all, whatever happens.
fn write_once(path: &Path, text: &str) -> Result<(), DataFolderError> {
    let attempt = || -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    attempt().map_err(|source| DataFolderError::File {
        path: path.to_owned(),
        source,
    })
}
