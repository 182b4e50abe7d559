//! The tables of contacts.
//!
//! | table | partition | conditional | key | value |
//! |---|---|---|---|---|
//! | `book` | user | yes | user | [`BookRow`]: what counts of the other tables |
//! | `contact` | user, generation | no | …, number hash | a number that grows: in the book or not, by the chunk that said so last |
//! | | | | …, number hash, epoch | whose the number is since then: 16 bytes, or empty: nobody's |
//! | | | | …, number hash, epoch, 1 | the book's owner was told that |
//! | `contact_of` | number hash, bucket | no | …, user, generation | nothing: that generation of the book may hold the number |
//! | `pending` | user, version of `book` | no | …, token, 0, number hash | [`PendingEntry`](crate::rows::PendingEntry): a number that a chunk adds |
//! | | | | …, token, 1, number hash | nothing: a number that it removes |
//! | `asked` | user, times forgotten | no | …, number hash | nothing |
//! | `block` | by | yes | by | [`BlockHead`](crate::rows::BlockHead) |
//! | | | | by, user | nothing |
//! | `fact` | hour | no | …, by, user, version | nothing: that version of by's blocks is still to be told |
//!
//! # Who may write what, and when
//! Several processes may work on one book. Only the conditional rows decide; each is replaced as a whole, by whoever
//! has seen what it was. All other rows are written so that writing them again, later, or by two says the same:
//!
//! - A row of `contact` about a number's user names the epoch of that binding, and what belongs to an epoch is true for
//!   ever; the highest one counts. Whether a number is in the book is said by the chunk with the highest number, and the
//!   store keeps the maximum. So a writer that comes late changes nothing, and nobody need keep it from writing.
//! - A generation counts if the head says so, and never again once it doesn't: then its rows may go, by anybody.
//! - The numbers of a chunk stand in `pending` under a token before the head names it; what no head names is swept.

mod blocks;
mod contacts;
#[cfg(test)]
mod contract;
mod pending;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use dialtone_chassis::Clock;
use dialtone_store::{Batch, Db, Schema, StoreError, Table};
use dialtone_vocab::UserId;
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;

use crate::limits::{STEP_ITEMS, STEPS_AT_ONCE};
use crate::rows::BookRow;
pub(crate) use contacts::{Held, Holder};
pub(crate) use pending::Chunk;

/// What contacts keeps.
pub const SCHEMA: Schema = Schema {
    service: "contacts",
    tables: &[
        Table::of_rows("book").conditional(),
        Table::new("contact", 24),
        Table::new("contact_of", 17),
        Table::new("pending", 24),
        Table::new("asked", 24),
        Table::new("block", 16).conditional(),
        Table::new("fact", 4),
    ],
    version: 2,
};

type Result<T> = std::result::Result<T, StoreError>;

/// The rows of contacts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    db: Db,
    clock: Clock,
    /// The hour before which no fact is left.
    oldest: Arc<AtomicU32>,
}

/// A row that decides, as it was read: it is replaced only if it is still that.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen<M> {
    pub(crate) row: M,
    stored: Option<Bytes>,
}

/// A part of a table's partition, and what comes after it in a key.
fn join<const N: usize>(parts: [&[u8]; N]) -> Vec<u8> {
    parts.concat()
}

impl Store {
    pub(crate) fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, oldest: Arc::default() }
    }

    /// Writes items, so many with each batch and so many batches at a time. Some may be written if it fails.
    async fn in_steps<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        add: impl Fn(Batch, T) -> Batch,
    ) -> Result<()> {
        let mut batches = vec![Batch::new()];
        for (index, item) in items.into_iter().enumerate() {
            if index % STEP_ITEMS == 0 {
                batches.push(Batch::new());
            }
            let batch = batches.pop().unwrap_or_default();
            batches.push(add(batch, item));
        }
        let commits =
            batches.into_iter().filter(|batch| !batch.is_empty()).map(|batch| self.db.commit(batch));
        stream::iter(commits)
            .buffer_unordered(STEPS_AT_ONCE)
            .try_for_each(|_always_applied| std::future::ready(Ok(())))
            .await
    }

    fn seen<M: Message + Default>(table: &'static str, stored: Option<Bytes>) -> Result<Seen<M>> {
        let corrupt = |_| StoreError::Corrupt { table: table.to_owned() };
        let row = stored.clone().map(M::decode).transpose().map_err(corrupt)?.unwrap_or_default();
        Ok(Seen { row, stored })
    }

    /// Replaces a row that decides, together with `with`, if it is still what was seen.
    async fn replace<M: Message>(
        &self,
        table: &'static str,
        key: &[u8],
        seen: &Seen<M>,
        row: &M,
        with: Batch,
    ) -> Result<bool> {
        let batch = match &seen.stored {
            None => Batch::new().expect_absent(table, key),
            Some(stored) => Batch::new().expect_value(table, key, stored.to_vec()),
        };
        let batch = batch.put(table, key, row.encode_to_vec()).and(with);
        Ok(self.db.commit(batch).await?.is_applied())
    }

    /// The head of a book, for who only looks.
    pub(crate) async fn book(&self, user: UserId) -> Result<BookRow> {
        Ok(Self::seen("book", self.db.get("book", user.as_bytes()).await?)?.row)
    }

    /// The head of a book, for who replaces it.
    pub(crate) async fn book_to_change(&self, user: UserId) -> Result<Seen<BookRow>> {
        Self::seen("book", self.db.get_serial("book", user.as_bytes()).await?)
    }

    /// Replaces the head of a book by `row` with the next version; what stands then, or `None` if it was no longer what
    /// was seen.
    pub(crate) async fn replace_book(
        &self,
        user: UserId,
        seen: &Seen<BookRow>,
        mut row: BookRow,
    ) -> Result<Option<Seen<BookRow>>> {
        row.version = seen.row.version + 1;
        let is_replaced = self.replace("book", user.as_bytes(), seen, &row, Batch::new()).await?;
        let stored = Some(Bytes::from(row.encode_to_vec()));
        Ok(is_replaced.then_some(Seen { row, stored }))
    }
}

#[cfg(test)]
impl Store {
    /// How many rows a table has.
    pub(crate) async fn rows(&self, table: &str) -> usize {
        self.db.walk(table, &[], crate::limits::CHUNK_ROWS).await.expect("read").len()
    }
}
