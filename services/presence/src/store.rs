//! What presence keeps: the table `status`, by user.

#[cfg(test)]
mod contract;

use dialtone_store::{Batch, Db, StoreError};
use dialtone_vocab::UserId;
use prost::Message;

/// The tables.
pub(crate) const TABLES: &[&str] = &["status"];
/// Their meaning.
pub(crate) const SCHEMA: u32 = 1;

/// What a user set, and when it was last there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatusRow {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
    #[prost(bool, tag = "2")]
    pub(crate) invisible: bool,
    /// When the last visible session ended, in unix milliseconds; 0: never.
    #[prost(uint64, tag = "3")]
    pub(crate) seen_ms: u64,
}

/// The rows of presence. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    db: Db,
}

impl Store {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) fn status(&self, user: UserId) -> Result<StatusRow, StoreError> {
        let corrupt = |_| StoreError::Corrupt { table: "status".into() };
        let row = self.db.get("status", user.as_bytes())?;
        row.map_or_else(|| Ok(StatusRow::default()), |value| StatusRow::decode(value).map_err(corrupt))
    }

    pub(crate) async fn put_status(&self, user: UserId, row: &StatusRow) -> Result<(), StoreError> {
        let batch = Batch::new().put("status", user.as_bytes(), row.encode_to_vec());
        self.db.commit(batch).await.map(|_applied| ())
    }
}
