//! Configuration: plain structs, defaults, validation, generated reference and example.
//!
//! [`Config::load`] reads a TOML file and the `MEYRIN_*` variables over it. What is not allowed is refused,
//! all of it at once, each with its line and what is allowed. A key is defined in one place (`keys`); it is added
//! there and nowhere else. This crate only reads the configuration file itself: it opens no other file that
//! the configuration names.

mod check;
mod document;
mod environment;
mod keys;
mod pattern;
mod problem;
mod reference;
mod setting;
mod types;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use ipnet::IpNet;
pub use keys::{
    Appservices, Config, Contact, Federation, Guests, Http, Limits, Listen, Log, Media, Partner,
    Password, Presence, Registration, Rooms, Runtime, Sessions, Storage, Turn, UserDirectory,
    WellKnown,
};
pub use pattern::Pattern;
pub use problem::{ConfigError, Problem};
pub use reference::{example, reference};
pub use setting::Change;
pub use types::{
    Api, ApiSet, Bind, ByteSize, ContactRole, DirectoryScope, FileMode, Level, LogFilter,
    LogFormat, Rate, RegistrationMode, RoomVersion, Secret, ServerName, SyncMode,
};

use document::{Table, parse_file};
use setting::{Reader, Section};

/// Where the file is looked for when none is named, in this order.
pub const DEFAULT_FILES: [&str; 2] = ["meyrin.toml", "/etc/meyrin/meyrin.toml"];

impl Config {
    /// Reads the configuration: the file at `path`, or else the first of [`DEFAULT_FILES`] that exists,
    /// or none when the environment names the server; then the `MEYRIN_*` variables of `environment`
    /// over it. Relative paths start at the file's folder, or at the current one without a file.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, ConfigError> {
        let variables = environment::of_meyrin(environment);
        let Some(path) = find_file(path) else {
            if !variables
                .iter()
                .any(|(name, _)| name == "MEYRIN_SERVER_NAME")
            {
                let looked_at = DEFAULT_FILES.iter().map(PathBuf::from).collect();
                return Err(ConfigError::Missing { looked_at });
            }
            let base = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
            return Config::build(None, "", &base, &variables);
        };
        let unreadable = |source| ConfigError::Unreadable {
            path: path.clone(),
            source,
        };
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        let whole = std::path::absolute(&path).map_err(unreadable)?;
        let base = whole.parent().unwrap_or(Path::new("/"));
        Config::build(Some(&path), &text, base, &variables)
    }

    fn build(
        path: Option<&Path>,
        text: &str,
        base: &Path,
        variables: &[(String, String)],
    ) -> Result<Config, ConfigError> {
        let invalid = |mut problems: Vec<Problem>| {
            problems.sort();
            ConfigError::Invalid {
                path: path.map(Path::to_owned),
                problems,
            }
        };
        let mut table = match parse_file(text) {
            Ok(table) => table,
            Err(problem) => return Err(invalid(vec![problem])),
        };
        let mut reader = Reader {
            base,
            problems: Vec::new(),
        };
        environment::overlay(&mut table, variables, &mut reader);
        let config = Config::read(&table, &mut reader);
        if reader.problems.is_empty() {
            Ok(config)
        } else {
            Err(invalid(reader.problems))
        }
    }

    fn read(table: &Table, reader: &mut Reader<'_>) -> Config {
        let config = Config::read_keys("", table, reader);
        // Values that were refused have left their defaults, which say nothing about the others.
        if reader.problems.is_empty() {
            check::check(&config, table, reader);
        }
        config
    }

    /// The keys whose values differ in `new`, and of each whether a reload puts it into effect.
    pub fn changes(&self, new: &Config) -> Vec<Change> {
        let mut out = Vec::new();
        self.changed_keys(new, "", &mut out);
        out
    }

    /// The files that the configuration names and that must be there, with the keys that name them.
    pub fn named_files(&self) -> Vec<(String, &Path)> {
        check::named_files(self)
    }

    /// The folder of the database.
    pub fn database_dir(&self) -> PathBuf {
        self.data_dir.join("db")
    }

    /// The folder of uploaded files.
    pub fn media_dir(&self) -> PathBuf {
        self.media
            .path
            .clone()
            .unwrap_or_else(|| self.data_dir.join("media"))
    }

    /// The socket by which the command line speaks to a running server.
    pub fn admin_socket(&self) -> PathBuf {
        self.data_dir.join("admin.sock")
    }
}

fn find_file(path: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = path {
        return Some(path.to_owned());
    }
    DEFAULT_FILES
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}
