//! What can go wrong at the storage boundary, by what the caller can do about it.

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data directory open.
    #[error("the database in {path} is in use by another process")]
    InUse {
        /// The directory of the database.
        path: String,
    },
    /// The database was written by a newer Meyrin. Nothing was changed.
    #[error(
        "the database has schema {found}, this binary knows schemas up to {known}: \
         install the newer version again, or restore a backup made with this one (meyrin db restore FOLDER --replace)"
    )]
    NewerSchema {
        /// The schema version found in the database.
        found: u32,
        /// The newest schema version this binary knows.
        known: u32,
    },
    /// The files of the database are not what was written: found when it is opened.
    #[error(
        "the database in {path} is damaged: {why}. Keep a copy of that folder, look after the disk, \
         and put a backup in its place (meyrin db restore FOLDER --replace)"
    )]
    Damaged {
        /// The directory of the database.
        path: String,
        /// What was found.
        why: String,
    },
    /// The disk has too little room left. Reads go on; writes work again when there is space.
    #[error("the disk that holds the database is full: make room")]
    Full,
    /// A row does not decode as its table says.
    #[error("corrupt row in table {table}: {why}")]
    Corrupt {
        /// The table's name.
        table: &'static str,
        /// What did not fit.
        why: &'static str,
    },
    /// The engine failed. After a failed sync nothing more is written.
    #[error("storage engine: {0}")]
    Engine(String),
}
