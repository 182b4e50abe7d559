//! What can go wrong with a store.

use std::path::PathBuf;
use std::sync::Arc;

use dialtone_chassis::Error;
use dialtone_vocab::Reason;

/// A store could not be opened, read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The configured address names no store that we have.
    #[error("{url:?} is no store: {why}")]
    BadUrl {
        /// As configured.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The folder holds something that no store of ours made; it is left alone.
    #[error("{} is not empty and has no file `dialtone-store`: not a store of Dialtone, left alone", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// Another process has this service's database open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The service's folder.
        path: PathBuf,
    },
    /// Something that the store had written is gone.
    #[error("{} is missing: restore the folder from a copy", path.display())]
    Missing {
        /// What is gone.
        path: PathBuf,
    },
    /// The store was written by a version with other tables.
    #[error("the data of {service} has schema version {found}, this program needs {wanted}")]
    WrongSchema {
        /// Whose database.
        service: String,
        /// In the store.
        found: u32,
        /// In this program.
        wanted: u32,
    },
    /// The store was written with another number of shards, so its users are filed elsewhere.
    #[error("the store has {found} shards, this program {wanted}: they never change")]
    WrongShards {
        /// In the store.
        found: u32,
        /// In this program.
        wanted: u32,
    },
    /// The database is older than what this folder has already seen: parts of it were put back from a copy.
    #[error("{} was opened {seen} times, its data knows of {found}: restore the whole folder, not parts", path.display())]
    WentBack {
        /// The service's folder.
        path: PathBuf,
        /// Epoch that the folder has seen.
        seen: u64,
        /// Epoch in the data.
        found: u64,
    },
    /// A value does not have the checksum it was written with, or not the shape its table has.
    #[error("a value in table {table} is damaged")]
    Corrupt {
        /// The table.
        table: String,
    },
    /// The engine can't make sense of its files.
    #[error("the files in {} are damaged: {why}", path.display())]
    Damaged {
        /// The service's folder.
        path: PathBuf,
        /// In the engine's words.
        why: String,
    },
    /// A table that was not declared at opening: a defect of the caller.
    #[error("no table {table}")]
    UnknownTable {
        /// As asked for.
        table: String,
    },
    /// A key, range or batch that is about more than one partition where only one is meant, or a condition where there
    /// must be none, or none where there must be one: a defect of the caller.
    #[error("table {table}: not one partition, or not the conditions that the table wants")]
    Scattered {
        /// The table.
        table: &'static str,
    },
    /// A key or batch over the limits; see [`crate::limits`].
    #[error("{what} is too large or empty")]
    TooLarge {
        /// Which part.
        what: &'static str,
    },
    /// A read from disk failed.
    #[error("reading failed: {why}")]
    Read {
        /// In the system's words.
        why: String,
    },
    /// A write failed, so nobody knows what is on disk: nothing more is read or written until the process starts
    /// again and looks.
    #[error("a write failed earlier ({why}); the store takes nothing more in this process")]
    Poisoned {
        /// The first failure.
        why: Arc<str>,
    },
    /// No CQL server can be reached, or none lets us in.
    #[error("no CQL server can be used: {why}")]
    Unreachable {
        /// In the driver's words.
        why: String,
    },
    /// A file that the configuration names.
    #[error("{}: {why}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The keyspace was never made.
    #[error("there is no keyspace {keyspace}: `dialtone migrate` makes it")]
    NoKeyspace {
        /// As configured.
        keyspace: String,
    },
    /// The server may forget what it acknowledged.
    #[error("the CQL server is not safe: {why}")]
    Unsafe {
        /// What is missing.
        why: &'static str,
    },
    /// Nobody knows what became of a write: it may be applied now, later, or never.
    #[error("nobody knows what became of a write: {why}")]
    Unknown {
        /// In the driver's words, without the server's message.
        why: String,
    },
    /// The store has been closed. A commit that gets this may or may not have been applied.
    #[error("the store is closed")]
    Closed,
}

impl From<StoreError> for Error {
    /// Callers see that the store is not there now; the cause stays with us.
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "store");
        Self::new(Reason::StoreUnavailable, "the store could not read or write")
    }
}
