//! A service's database.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use dialtone_chassis::{Chassis, Tasks};
use dialtone_vocab::Epoch;
use tokio::sync::oneshot;

use crate::batch::table_of;
use crate::embedded::Embedded;
use crate::engine::KeyRange;
use crate::limits::{DELETE_STEP, PAGE_ROWS};
use crate::plan::number;
use crate::replicas::Tables as Simulated;
use crate::scylla::Tables;
use crate::table::next_prefix;
use crate::{Batch, Commit, MemoryDisk, Stats, StoreError, StoreUrl, Table};

/// Rows in key order: key and value.
pub type Rows = Vec<(Bytes, Bytes)>;

/// What a room keeps.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// The room, in lower-case letters.
    pub service: &'static str,
    /// Its tables. Some may be added; a change in the meaning of one needs another version.
    pub tables: &'static [Table],
    /// The meaning of the tables.
    pub version: u32,
}

/// A service's database: tables of byte keys and values. Cheap to clone; clones are the same database.
///
/// Reads see what is committed, which may be a moment before its answer arrives. A folder is free for another process
/// when the last clone has been dropped and the writer has ended.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    schema: Schema,
    store_id: [u8; 16],
    backend: Backend,
    tasks: Tasks,
}

enum Backend {
    Embedded(Embedded),
    Scylla(Tables),
    Replicas(Simulated),
}

impl Db {
    /// Opens the database of a room; an embedded one begins a new epoch. Needs a runtime, for the writer.
    ///
    /// # Errors
    /// Every [`StoreError`] that speaks of folders, servers, versions or damage.
    pub async fn open(url: StoreUrl, schema: Schema, chassis: &Chassis) -> Result<Self, StoreError> {
        let (store_id, backend) = match url {
            StoreUrl::Folder(folder) => {
                let (opened, embedded) = Embedded::in_folder(&folder, schema, chassis)?;
                (opened, Backend::Embedded(embedded))
            }
            StoreUrl::Memory(disk) => return Self::open_memory(&disk, schema, chassis),
            StoreUrl::Scylla(scylla) => {
                let tables = scylla.tables(schema).await?;
                (scylla.store_id().await?, Backend::Scylla(tables))
            }
            StoreUrl::Replicas(replicas) => {
                let store_id = replicas.store_id();
                (store_id, Backend::Replicas(Simulated::new(replicas, schema, &chassis.clock)))
            }
        };
        Ok(Self::of(schema, store_id, backend, chassis))
    }

    /// Opens the database of a room on a disk of memory; see [`Db::open`].
    ///
    /// # Errors
    /// [`StoreError::WrongSchema`].
    pub fn open_memory(disk: &MemoryDisk, schema: Schema, chassis: &Chassis) -> Result<Self, StoreError> {
        let (store_id, embedded) = Embedded::in_memory(disk, schema, chassis)?;
        Ok(Self::of(schema, store_id, Backend::Embedded(embedded), chassis))
    }

    fn of(schema: Schema, store_id: [u8; 16], backend: Backend, chassis: &Chassis) -> Self {
        Self(Arc::new(Inner { schema, store_id, backend, tasks: chassis.tasks.clone() }))
    }

    /// Which opening of an embedded database this is: grows by one each time, and was on disk before anything was
    /// read. `None` if processes share it: then leases say who may write what.
    pub fn epoch(&self) -> Option<Epoch> {
        match &self.0.backend {
            Backend::Embedded(embedded) => Some(embedded.epoch()),
            Backend::Scylla(_) | Backend::Replicas(_) => None,
        }
    }

    /// Made at random when the store was made; log ids are computed from it.
    pub fn store_id(&self) -> [u8; 16] {
        self.0.store_id
    }

    /// Whose database this is.
    pub fn service(&self) -> &'static str {
        self.0.schema.service
    }

    /// What it has done since it was opened; nothing is counted of a shared one.
    pub fn stats(&self) -> Stats {
        match &self.0.backend {
            Backend::Embedded(embedded) => embedded.stats(),
            Backend::Scylla(_) | Backend::Replicas(_) => Stats::default(),
        }
    }

    /// Whether it still reads and writes. A shared one always may: what fails is tried again.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] after a failed write, [`StoreError::Closed`] when the writer has ended.
    pub fn check(&self) -> Result<(), StoreError> {
        match &self.0.backend {
            Backend::Embedded(embedded) => embedded.check(),
            Backend::Scylla(_) | Backend::Replicas(_) => Ok(()),
        }
    }

    fn table(&self, name: &str) -> Result<&'static Table, StoreError> {
        table_of(self.0.schema.tables, name)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Read`], [`StoreError::Poisoned`], [`StoreError::UnknownTable`],
    /// [`StoreError::Scattered`].
    pub async fn get(&self, table: &str, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.value(table, key, false).await
    }

    /// The value of a key of a conditional table, after every conditional write before it: one whose outcome was
    /// unknown is done then, or never will be.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub async fn get_serial(&self, table: &str, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.value(table, key, true).await
    }

    async fn value(&self, table: &str, key: &[u8], is_serial: bool) -> Result<Option<Bytes>, StoreError> {
        let table = self.table(table)?;
        let (partition, rest) = table.split(key)?;
        match &self.0.backend {
            Backend::Embedded(embedded) => embedded.get(table, key),
            Backend::Scylla(tables) => tables.get(table, partition, rest, is_serial).await,
            Backend::Replicas(tables) => tables.get(table, partition, rest, is_serial).await,
        }
    }

    /// A number that [`Batch::max`] keeps.
    ///
    /// # Errors
    /// As [`Db::get`]; [`StoreError::Corrupt`] also if the value is no number.
    pub async fn get_u64(&self, table: &str, key: &[u8]) -> Result<Option<u64>, StoreError> {
        self.get(table, key).await?.map(|value| number(table, &value)).transpose()
    }

    /// At most `limit` rows from the beginning of a range of keys, which lies in one partition.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub async fn scan(
        &self,
        table: &str,
        range: impl RangeBounds<Vec<u8>> + Send,
        limit: usize,
    ) -> Result<Rows, StoreError> {
        self.rows(table, owned(&range), limit, false).await
    }

    /// At most `limit` rows from the end of a range of keys, the last one first.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub async fn scan_rev(
        &self,
        table: &str,
        range: impl RangeBounds<Vec<u8>> + Send,
        limit: usize,
    ) -> Result<Rows, StoreError> {
        self.rows(table, owned(&range), limit, true).await
    }

    /// At most `limit` rows whose keys begin with `prefix`, a partition or more, in key order.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub async fn scan_prefix(&self, table: &str, prefix: &[u8], limit: usize) -> Result<Rows, StoreError> {
        self.rows(table, prefixed(prefix), limit, false).await
    }

    /// At most `limit` rows whose keys begin with `prefix`, a partition or more, the last one first.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub async fn scan_prefix_rev(
        &self,
        table: &str,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Rows, StoreError> {
        self.rows(table, prefixed(prefix), limit, true).await
    }

    async fn rows(
        &self,
        table: &str,
        range: KeyRange,
        limit: usize,
        backwards: bool,
    ) -> Result<Rows, StoreError> {
        let table = self.table(table)?;
        let Some(slice) = table.slice(&range)? else { return Ok(Rows::new()) };
        match &self.0.backend {
            Backend::Embedded(embedded) => embedded.scan(table, range, limit, backwards),
            Backend::Scylla(tables) => tables.scan(table, &slice, limit, backwards).await,
            Backend::Replicas(tables) => tables.scan(table, slice, limit, backwards).await,
        }
    }

    /// Every row of a range of keys of one partition, read a page at a time.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub async fn all(
        &self,
        table: &str,
        range: impl RangeBounds<Vec<u8>> + Send,
    ) -> Result<Rows, StoreError> {
        let KeyRange { mut lower, upper } = owned(&range);
        let mut all = Rows::new();
        loop {
            let range = KeyRange { lower, upper: upper.clone() };
            let page = self.rows(table, range, PAGE_ROWS, false).await?;
            let (is_last, last) = (page.len() < PAGE_ROWS, page.last().map(|(key, _)| key.to_vec()));
            all.extend(page);
            match last {
                Some(last) if !is_last => lower = Bound::Excluded(last),
                _ => return Ok(all),
            }
        }
    }

    /// Every row whose key begins with `prefix`, a partition or more.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub async fn all_of(&self, table: &str, prefix: &[u8]) -> Result<Rows, StoreError> {
        let KeyRange { lower, upper } = prefixed(prefix);
        self.all(table, (lower, upper)).await
    }

    /// At most `limit` rows of a whole table, partition after partition, in an order of the engine's own, behind the
    /// row with the key `after`; from the first one if that is empty. For sweepers and whoever counts.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub async fn walk(&self, table: &str, after: &[u8], limit: usize) -> Result<Rows, StoreError> {
        let table = self.table(table)?;
        match &self.0.backend {
            Backend::Embedded(embedded) => {
                let lower = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after.to_vec()) };
                embedded.scan(table, KeyRange { lower, upper: Bound::Unbounded }, limit, false)
            }
            Backend::Scylla(tables) => tables.walk(table, after, limit).await,
            Backend::Replicas(tables) => Ok(tables.walk(table, after, limit)),
        }
    }

    /// Writes a batch, or refuses it by one of its conditions. Durable when this returns `Ok`.
    ///
    /// Whoever drops the call before it returns doesn't know whether the batch was written.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], [`StoreError::Scattered`], [`StoreError::UnknownTable`] and [`StoreError::Corrupt`] (of
    /// what a condition or maximum reads): nothing was written. [`StoreError::Unknown`], [`StoreError::Poisoned`],
    /// [`StoreError::Closed`]: nobody knows.
    pub async fn commit(&self, batch: Batch) -> Result<Commit, StoreError> {
        if !matches!(self.0.backend, Backend::Embedded(_)) {
            batch.check(self.0.schema.tables)?;
        }
        match &self.0.backend {
            Backend::Embedded(_) => {}
            Backend::Scylla(tables) => return tables.commit(batch).await,
            Backend::Replicas(tables) => return tables.commit(batch).await,
        }
        let (answer, outcome) = oneshot::channel();
        self.submit(batch, move |outcome| {
            let _caller_is_gone = answer.send(outcome);
        });
        outcome.await.map_err(|_| StoreError::Closed)?
    }

    /// As [`Db::commit`], for those who don't wait: `done` is called with the outcome, on another thread, and must be
    /// quick. Batches that one caller submits to an embedded database are committed in their order, unless the queue is
    /// full; a shared one may commit them in any. When the process stops `done` may be dropped instead.
    pub fn submit(&self, batch: Batch, done: impl FnOnce(Result<Commit, StoreError>) + Send + 'static) {
        if let Err(error) = batch.check(self.0.schema.tables) {
            return done(Err(error));
        }
        match &self.0.backend {
            Backend::Embedded(embedded) => embedded.submit(batch, Box::new(done)),
            Backend::Scylla(tables) => {
                let tables = tables.clone();
                self.0.tasks.spawn("store commit", async move { done(tables.commit(batch).await) });
            }
            Backend::Replicas(tables) => {
                let tables = tables.clone();
                self.0.tasks.spawn("store commit", async move { done(tables.commit(batch).await) });
            }
        }
    }

    /// Removes all rows of a range of keys of one partition, step by step; returns how many. A row written meanwhile
    /// may stay. Not for conditional tables.
    ///
    /// # Errors
    /// As [`Db::commit`]; some rows may be gone then.
    pub async fn delete_range(
        &self,
        table: &'static str,
        range: impl RangeBounds<Vec<u8>> + Send,
    ) -> Result<u64, StoreError> {
        let KeyRange { mut lower, upper } = owned(&range);
        let mut deleted = 0;
        loop {
            let range = KeyRange { lower: lower.clone(), upper: upper.clone() };
            let rows = self.rows(table, range, DELETE_STEP, false).await?;
            let Some((last, _)) = rows.last() else { return Ok(deleted) };
            lower = Bound::Excluded(last.to_vec());
            deleted += rows.len() as u64;
            let batch = rows.iter().fold(Batch::new(), |batch, (key, _)| batch.delete(table, key.to_vec()));
            let _always_applied = self.commit(batch).await?;
        }
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("service", &self.service()).field("epoch", &self.epoch()).finish()
    }
}

fn owned(range: &impl RangeBounds<Vec<u8>>) -> KeyRange {
    KeyRange { lower: range.start_bound().cloned(), upper: range.end_bound().cloned() }
}

/// All keys that begin with `prefix`.
fn prefixed(prefix: &[u8]) -> KeyRange {
    let upper = next_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
    KeyRange { lower: Bound::Included(prefix.to_vec()), upper }
}
