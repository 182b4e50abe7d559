//! The tables of contacts.
//!
//! | table | key | value |
//! |---|---|---|
//! | `book` | user | [`BookRow`] |
//! | `contact` | user, generation, number hash | [`ContactRow`] |
//! | `friend` | user, generation, number hash | the friend: 16 bytes |
//! | `contact_of` | number hash, user | nothing: the book may hold the number |
//! | `pending` | user | [`PendingRow`] |
//! | `asked` | user, number hash | nothing |
//! | `budget` | user | [`BudgetRow`] |
//! | `block` | by, user | nothing |
//! | `block_head` | by | [`BlockHead`] |
//! | `fact` | by, user | `BlockFact`, not yet taken |

#[cfg(test)]
mod contract;

use std::ops::Bound;

use bytes::Bytes;
use dialtone_proto::bus::v1::BlockFact;
use dialtone_store::{Batch, Db, StoreError};
use dialtone_vocab::{NumberHash, UserId};
use prost::Message;

use crate::limits::{CLEAN_STEP, FACT_BATCH};
use crate::rows::{BlockHead, BookRow, BudgetRow, ContactRow, PendingRow};

/// The tables.
pub(crate) const TABLES: &[&str] =
    &["book", "contact", "friend", "contact_of", "pending", "asked", "budget", "block", "block_head", "fact"];
/// Their meaning.
pub(crate) const SCHEMA: u32 = 1;

type Result<T> = std::result::Result<T, StoreError>;

/// The rows of contacts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    db: Db,
}

fn entry(user: UserId, generation: u64, hash: NumberHash) -> Vec<u8> {
    [user.as_bytes().as_slice(), &generation.to_be_bytes(), hash.as_bytes()].concat()
}

fn pair(first: &[u8; 16], second: &[u8; 16]) -> Vec<u8> {
    [first.as_slice(), second].concat()
}

fn after(prefix: &[u8], last: Option<&[u8; 16]>) -> Bound<Vec<u8>> {
    match last {
        None => Bound::Included([prefix, &[0; 16]].concat()),
        Some(last) => Bound::Excluded([prefix, last.as_slice()].concat()),
    }
}

/// The last 16 bytes of a key.
fn tail(key: &[u8]) -> Option<[u8; 16]> {
    key.last_chunk::<16>().copied()
}

impl Store {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    fn row<M: Message + Default>(&self, table: &'static str, key: &[u8]) -> Result<Option<M>> {
        let corrupt = |_| StoreError::Corrupt { table: table.to_owned() };
        self.db.get(table, key)?.map(|value| M::decode(value).map_err(corrupt)).transpose()
    }

    /// Writes; a batch without conditions always applies.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<()> {
        self.db.commit(batch).await.map(|_applied| ())
    }

    pub(crate) fn book(&self, user: UserId) -> Result<BookRow> {
        Ok(self.row("book", user.as_bytes())?.unwrap_or_default())
    }

    pub(crate) fn put_book(batch: Batch, user: UserId, row: &BookRow) -> Batch {
        batch.put("book", user.as_bytes(), row.encode_to_vec())
    }

    pub(crate) fn contact(
        &self,
        user: UserId,
        generation: u64,
        hash: NumberHash,
    ) -> Result<Option<ContactRow>> {
        self.row("contact", &entry(user, generation, hash))
    }

    /// Puts a number into a book, and among its friends or not.
    pub(crate) fn put_contact(
        batch: Batch,
        user: UserId,
        generation: u64,
        hash: NumberHash,
        row: &ContactRow,
    ) -> Batch {
        let key = entry(user, generation, hash);
        let batch = batch.put("contact", key.clone(), row.encode_to_vec());
        if row.user.is_empty() || row.user == user.as_bytes() {
            batch.delete("friend", key)
        } else {
            batch.put("friend", key, row.user.clone())
        }
    }

    pub(crate) fn drop_contact(batch: Batch, user: UserId, generation: u64, hash: NumberHash) -> Batch {
        let key = entry(user, generation, hash);
        batch.delete("contact", key.clone()).delete("friend", key)
    }

    /// Numbers of a generation, at most a clean-up's step.
    pub(crate) fn numbers(&self, user: UserId, generation: u64) -> Result<Vec<NumberHash>> {
        let prefix = [user.as_bytes().as_slice(), &generation.to_be_bytes()].concat();
        let rows = self.db.scan_prefix("contact", &prefix, CLEAN_STEP)?;
        Ok(rows.iter().filter_map(|(key, _)| tail(key).map(NumberHash::new)).collect())
    }

    /// Friends in the order of their numbers' hashes.
    pub(crate) fn friends(
        &self,
        user: UserId,
        generation: u64,
        last: Option<NumberHash>,
        limit: usize,
    ) -> Result<Vec<(NumberHash, UserId)>> {
        let prefix = [user.as_bytes().as_slice(), &generation.to_be_bytes()].concat();
        let end = Bound::Included([prefix.as_slice(), &[0xff; 16]].concat());
        let start = after(&prefix, last.as_ref().map(NumberHash::as_bytes));
        let rows = self.db.scan("friend", (start, end), limit)?;
        let friend = |(key, value): &(Bytes, Bytes)| {
            Some((NumberHash::new(tail(key)?), UserId::from_slice(value).ok()?))
        };
        Ok(rows.iter().filter_map(friend).collect())
    }

    pub(crate) fn note_holder(batch: Batch, hash: NumberHash, user: UserId) -> Batch {
        batch.put("contact_of", pair(hash.as_bytes(), user.as_bytes()), [])
    }

    pub(crate) fn drop_holder(batch: Batch, hash: NumberHash, user: UserId) -> Batch {
        batch.delete("contact_of", pair(hash.as_bytes(), user.as_bytes()))
    }

    /// Users whose books may hold a number, in order.
    pub(crate) fn holders(
        &self,
        hash: NumberHash,
        last: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>> {
        let end = Bound::Included(pair(hash.as_bytes(), &[0xff; 16]));
        let start = after(hash.as_bytes(), last.as_ref().map(UserId::as_bytes));
        let rows = self.db.scan("contact_of", (start, end), limit)?;
        Ok(rows.iter().filter_map(|(key, _)| tail(key).map(UserId::new)).collect())
    }

    pub(crate) fn pending(&self, user: UserId) -> Result<Option<PendingRow>> {
        self.row("pending", user.as_bytes())
    }

    pub(crate) fn put_pending(batch: Batch, user: UserId, row: &PendingRow) -> Batch {
        batch.put("pending", user.as_bytes(), row.encode_to_vec())
    }

    pub(crate) fn drop_pending(batch: Batch, user: UserId) -> Batch {
        batch.delete("pending", user.as_bytes())
    }

    pub(crate) fn was_asked(&self, user: UserId, hash: NumberHash) -> Result<bool> {
        Ok(self.db.get("asked", &pair(user.as_bytes(), hash.as_bytes()))?.is_some())
    }

    pub(crate) fn budget(&self, user: UserId) -> Result<BudgetRow> {
        Ok(self.row("budget", user.as_bytes())?.unwrap_or_default())
    }

    /// Notes numbers as asked, and what is used of the budget now.
    pub(crate) fn charge(
        batch: Batch,
        user: UserId,
        hashes: impl IntoIterator<Item = NumberHash>,
        budget: &BudgetRow,
    ) -> Batch {
        let batch = batch.put("budget", user.as_bytes(), budget.encode_to_vec());
        hashes
            .into_iter()
            .fold(batch, |batch, hash| batch.put("asked", pair(user.as_bytes(), hash.as_bytes()), []))
    }

    /// Forgets which numbers a user ever asked about; what is used of the budget stays.
    pub(crate) async fn forget_asked(&self, user: UserId) -> Result<()> {
        let all = pair(user.as_bytes(), &[0; 16])..=pair(user.as_bytes(), &[0xff; 16]);
        self.db.delete_range("asked", all).await.map(|_rows| ())
    }

    pub(crate) fn blocks(&self, by: UserId, user: UserId) -> Result<bool> {
        Ok(self.db.get("block", &pair(by.as_bytes(), user.as_bytes()))?.is_some())
    }

    pub(crate) fn block_head(&self, by: UserId) -> Result<BlockHead> {
        Ok(self.row("block_head", by.as_bytes())?.unwrap_or_default())
    }

    /// A block or its end, with the fact that tells it.
    pub(crate) fn put_block(head: &BlockHead, by: UserId, user: UserId, on: bool) -> Batch {
        let key = pair(by.as_bytes(), user.as_bytes());
        let fact = BlockFact { by: by.to_vec(), user: user.to_vec(), on, version: head.version };
        let batch = Batch::new().put("block_head", by.as_bytes(), head.encode_to_vec()).put(
            "fact",
            key.clone(),
            fact.encode_to_vec(),
        );
        if on { batch.put("block", key, []) } else { batch.delete("block", key) }
    }

    /// Facts that nobody has taken yet.
    pub(crate) fn facts(&self) -> Result<Vec<(Bytes, BlockFact)>> {
        let rows = self.db.scan("fact", .., FACT_BATCH)?;
        let decode = |(key, value): (Bytes, Bytes)| {
            let corrupt = |_| StoreError::Corrupt { table: "fact".into() };
            Ok((key, BlockFact::decode(value).map_err(corrupt)?))
        };
        rows.into_iter().map(decode).collect()
    }

    /// A fact was taken; a newer one of the same pair stays.
    pub(crate) async fn drop_fact(&self, key: &[u8], fact: &BlockFact) -> Result<()> {
        let batch = Batch::new().expect_value("fact", key, fact.encode_to_vec()).delete("fact", key);
        self.db.commit(batch).await.map(|_applied_or_newer| ())
    }
}
