//! What presence keeps.
//!
//! | table | partition | key | value |
//! |---|---|---|---|
//! | `status` | user | user | [`StatusRow`]: what the user set last |
//! | `seen` | user | user | when it was there last, in unix milliseconds: a number that only grows |
//!
//! Several processes may have an actor of the same user for a moment. What the user sets and what an actor notes by
//! itself are therefore rows of their own, and both are written blindly: an actor that knows an older text never writes
//! it back, and of two that note when the user was there the later time stays. Neither row is ever removed.

#[cfg(test)]
mod contract;

use dialtone_store::{Batch, Db, Schema, StoreError, Table};
use dialtone_vocab::{UnixMillis, UserId};
use prost::Message;

/// What presence keeps.
pub const SCHEMA: Schema =
    Schema { service: "presence", tables: &[Table::of_rows("status"), Table::of_rows("seen")], version: 1 };

#[derive(Clone, PartialEq, Message)]
struct StatusRow {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(bool, tag = "2")]
    invisible: bool,
}

/// What a user set, and when it was last there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Status {
    pub(crate) text: String,
    pub(crate) invisible: bool,
    /// When it was last there visibly; 0: never.
    pub(crate) seen: UnixMillis,
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

    pub(crate) async fn status(&self, user: UserId) -> Result<Status, StoreError> {
        let corrupt = |_| StoreError::Corrupt { table: "status".into() };
        let row = self.db.get("status", user.as_bytes()).await?;
        let StatusRow { text, invisible } =
            row.map(StatusRow::decode).transpose().map_err(corrupt)?.unwrap_or_default();
        let seen = UnixMillis(self.db.get_u64("seen", user.as_bytes()).await?.unwrap_or_default());
        Ok(Status { text, invisible, seen })
    }

    /// Keeps what a user set, and that it was there: both or neither.
    pub(crate) async fn put_status(&self, user: UserId, status: &Status) -> Result<(), StoreError> {
        let row = StatusRow { text: status.text.clone(), invisible: status.invisible };
        let mut batch = Batch::new().put("status", user.as_bytes(), row.encode_to_vec());
        if status.seen != UnixMillis(0) {
            batch = batch.max("seen", user.as_bytes(), status.seen.0);
        }
        self.db.commit(batch).await.map(|_applied| ())
    }

    /// Notes that a user was there.
    pub(crate) async fn note_seen(&self, user: UserId, at: UnixMillis) -> Result<(), StoreError> {
        let batch = Batch::new().max("seen", user.as_bytes(), at.0);
        self.db.commit(batch).await.map(|_applied| ())
    }
}
