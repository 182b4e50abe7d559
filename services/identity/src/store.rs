//! Identity's tables, in domain words. Everything that two callers could want at once is compare-and-set; what is about
//! more than one partition is cut into steps that may end anywhere and be done again.

mod accounts;
#[cfg(test)]
mod contract;
mod enrolment;
mod facts;
mod flows;
mod sweep;

use bytes::Bytes;
use dialtone_store::{Batch, Db, Schema, StoreError, Table};
use dialtone_vocab::{NumberHash, PhoneNumber};
use prost::Message;

use crate::rows::BudgetRow;
pub(crate) use enrolment::{Enroll, Enrolled, Enrolment};
pub(crate) use facts::Pending;
pub(crate) use sweep::{Sweep, Sweeper};

/// What identity keeps.
pub const SCHEMA: Schema = Schema {
    service: "identity",
    tables: &[
        // number → its owner.
        Table::of_rows("number_owner").conditional(),
        // user, then what: themselves, or one of their 64 devices.
        Table::new("account", 16).conditional(),
        // session id → login.
        Table::of_rows("session").conditional(),
        // flow id → registration or one-time password.
        Table::of_rows("flow").conditional(),
        // text of a phone → flow.
        Table::of_rows("flow_mo"),
        // number's hash, or prefix → SMS.
        Table::of_rows("sms_budget").conditional(),
        // nonce → who asked for it.
        Table::of_rows("nonce").conditional(),
        // one of 64 lots, number, user, epoch → what is to be told.
        // One that comes back is told again, which contacts knows by its epoch; each change has a key of its own.
        Table::new("fact", 1).churning(),
    ],
    version: 2,
};

/// A registration or one-time password: 16 random bytes, which are its secret.
pub(crate) type FlowId = [u8; 16];

/// A row as it was read, to be compared when it is written.
#[derive(Debug, Clone)]
pub(crate) struct Seen<T> {
    pub(crate) row: T,
    bytes: Option<Bytes>,
}

impl<T: Message + Default> Seen<T> {
    fn of(bytes: Option<Bytes>) -> Self {
        // Our own rows behind a checksum: one that does not decode is of a later version.
        let row =
            bytes.as_ref().map(|bytes| T::decode(&bytes[..])).transpose().ok().flatten().unwrap_or_default();
        Self { row, bytes }
    }

    /// The same, to be written with another row.
    pub(crate) fn with(self, row: T) -> Self {
        Self { row, ..self }
    }

    /// As it stands after it was written, whatever others have written since.
    pub(crate) fn written(self) -> Self {
        let bytes = Some(self.row.encode_to_vec().into());
        Self { bytes, ..self }
    }

    fn is_there(&self) -> bool {
        self.bytes.is_some()
    }

    fn there(self) -> Option<Self> {
        self.is_there().then_some(self)
    }
}

/// Identity's store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    db: Db,
    /// A fact waits to be told.
    pending: Pending,
}

impl Store {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, pending: Pending::default() }
    }

    async fn see<T: Message + Default>(&self, table: &str, key: &[u8]) -> Result<Seen<T>, StoreError> {
        Ok(Seen::of(self.db.get(table, key).await?))
    }

    /// Sees also what was written by somebody who never learnt of it; for what is decided without a condition.
    async fn see_serial<T: Message + Default>(&self, table: &str, key: &[u8]) -> Result<Seen<T>, StoreError> {
        Ok(Seen::of(self.db.get_serial(table, key).await?))
    }

    fn expecting<T>(batch: Batch, table: &'static str, key: Vec<u8>, seen: &Seen<T>) -> Batch {
        match &seen.bytes {
            Some(bytes) => batch.expect_value(table, key, bytes.to_vec()),
            None => batch.expect_absent(table, key),
        }
    }

    /// Writes a row if it still is as it was seen.
    async fn swap<T: Message>(
        &self,
        table: &'static str,
        key: impl Into<Vec<u8>>,
        seen: &Seen<T>,
    ) -> Result<bool, StoreError> {
        let key = key.into();
        let batch =
            Self::expecting(Batch::new(), table, key.clone(), seen).put(table, key, seen.row.encode_to_vec());
        Ok(self.db.commit(batch).await?.is_applied())
    }

    /// Writes a row that nobody else has written yet.
    async fn add<T: Message>(
        &self,
        table: &'static str,
        key: impl Into<Vec<u8>>,
        row: &T,
    ) -> Result<bool, StoreError> {
        let key = key.into();
        let batch = Batch::new().expect_absent(table, key.clone()).put(table, key, row.encode_to_vec());
        Ok(self.db.commit(batch).await?.is_applied())
    }

    /// Drops a row if it still has this value.
    async fn drop_as(
        &self,
        table: &'static str,
        key: impl Into<Vec<u8>>,
        value: &[u8],
    ) -> Result<bool, StoreError> {
        let key = key.into();
        let batch = Batch::new().expect_value(table, key.clone(), value).delete(table, key);
        Ok(self.db.commit(batch).await?.is_applied())
    }

    pub(crate) async fn budget(&self, key: &[u8]) -> Result<Seen<BudgetRow>, StoreError> {
        self.see("sms_budget", key).await
    }

    /// Charges a budget, or gives back, if it still is as it was seen.
    pub(crate) async fn swap_budget(&self, key: &[u8], seen: &Seen<BudgetRow>) -> Result<bool, StoreError> {
        self.swap("sms_budget", key, seen).await
    }
}

/// The key of a number's SMS budget.
pub(crate) fn number_budget(hash: NumberHash) -> Vec<u8> {
    [b"number", &hash.as_bytes()[..]].concat()
}

/// The key of a prefix's SMS budget.
pub(crate) fn prefix_budget(number: PhoneNumber) -> Vec<u8> {
    let digits = number.as_u64().to_string();
    format!("prefix{}", digits.get(..4).unwrap_or(&digits)).into_bytes()
}
