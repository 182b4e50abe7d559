//! What can go wrong with a log.

use dialtone_chassis::Error;
use dialtone_store::StoreError;
use dialtone_vocab::Reason;

/// A log could not be opened, read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The store failed; of a write nobody knows what became.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process owns the log, or this one does not any more: nothing was told, and nothing is to be.
    #[error("this process does not own the log")]
    NotOwner,
    /// An entry that must be there is not: never passed over.
    #[error("entry {idx} is missing between live ones")]
    Hole {
        /// The missing index.
        idx: u64,
    },
    /// A row has a shape that nobody writes.
    #[error("a row of table {table} has no shape of ours")]
    Malformed {
        /// Which table.
        table: &'static str,
    },
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Store(error) => error.into(),
            LogError::NotOwner => Self::new(Reason::Busy, "the log has another owner now"),
            defect => {
                tracing::error!(error = %defect, "log");
                Self::new(Reason::Internal, "a log is damaged")
            }
        }
    }
}
