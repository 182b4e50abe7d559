//! A service's database.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use dialtone_chassis::{Chassis, Tasks};
use dialtone_vocab::Epoch;
use tokio::sync::{mpsc, oneshot};

use crate::engine::{Engine, KeyRange, META};
use crate::limits::{DELETE_STEP, QUEUE};
use crate::memory::Delay;
use crate::metrics::Counters;
use crate::plan::{number, table_number};
use crate::writer::{Poison, Request, Writer};
use crate::{Batch, Commit, MemoryDisk, Stats, StoreError, StoreUrl, file, meta};

/// Rows in key order: key and value.
pub type Rows = Vec<(Bytes, Bytes)>;

/// A service's database: tables of byte keys and values. Cheap to clone; clones are the same database.
///
/// Reads are quick and don't wait; they see what is committed, which may be a moment before its answer arrives.
/// A folder is free for another process when the last clone has been dropped and the writer has ended.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    service: &'static str,
    engine: Arc<dyn Engine>,
    tables: Arc<[&'static str]>,
    poison: Arc<Poison>,
    counters: Arc<Counters>,
    queue: mpsc::Sender<Request>,
    tasks: Tasks,
    epoch: Epoch,
    store_id: [u8; 16],
}

impl Db {
    /// Opens the database of `service` (lower-case letters) and begins a new epoch. Needs a runtime, for the writer.
    ///
    /// `tables` may be added to; a change in the meaning of a table needs another `schema_version`.
    ///
    /// # Errors
    /// Every [`StoreError`] that speaks of folders, versions or damage.
    pub fn open(
        url: StoreUrl,
        service: &'static str,
        tables: &'static [&'static str],
        schema_version: u32,
        chassis: &Chassis,
    ) -> Result<Self, StoreError> {
        match url {
            StoreUrl::Folder(folder) => {
                let (engine, opened) = file::open(&folder, service, tables, schema_version, &chassis.rng)?;
                Ok(Self::start(service, Arc::new(engine), tables, &opened, None, chassis))
            }
            StoreUrl::Memory(disk) => Self::open_memory(&disk, service, tables, schema_version, chassis),
        }
    }

    /// Opens the database of `service` on a disk of memory; see [`Db::open`].
    ///
    /// # Errors
    /// [`StoreError::WrongSchema`].
    pub fn open_memory(
        disk: &MemoryDisk,
        service: &'static str,
        tables: &'static [&'static str],
        schema_version: u32,
        chassis: &Chassis,
    ) -> Result<Self, StoreError> {
        let engine = disk.open(service, with_meta(tables));
        let opened = meta::open(&engine, tables.len(), service, schema_version, &chassis.rng)?;
        Ok(Self::start(service, Arc::new(engine), tables, &opened, disk.delay(), chassis))
    }

    fn start(
        service: &'static str,
        engine: Arc<dyn Engine>,
        tables: &'static [&'static str],
        opened: &meta::Opened,
        delay: Option<Delay>,
        chassis: &Chassis,
    ) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let tables: Arc<[&'static str]> = tables.into();
        let (poison, counters) = (Arc::<Poison>::default(), Arc::<Counters>::default());
        let writer = Writer {
            service,
            engine: engine.clone(),
            tables: tables.clone(),
            poison: poison.clone(),
            counters: counters.clone(),
            delay,
            chassis: chassis.clone(),
        };
        chassis.tasks.spawn("store writer", writer.run(requests));
        let (epoch, store_id) = (opened.epoch, opened.id);
        tracing::info!(service, epoch = epoch.0, "store open");
        let tasks = chassis.tasks.clone();
        Self(Arc::new(Inner { service, engine, tables, poison, counters, queue, tasks, epoch, store_id }))
    }

    /// Which opening this is: grows by one each time, and was on disk before anything was read.
    pub fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    /// Made at random when the database was made; log ids are computed from it.
    pub fn store_id(&self) -> [u8; 16] {
        self.0.store_id
    }

    /// Whose database this is.
    pub fn service(&self) -> &'static str {
        self.0.service
    }

    /// What it has done since it was opened.
    pub fn stats(&self) -> Stats {
        self.0.counters.stats(QUEUE - self.0.queue.capacity())
    }

    /// Whether it still reads and writes.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] after a failed write, [`StoreError::Closed`] when the writer has ended.
    pub fn check(&self) -> Result<(), StoreError> {
        self.0.poison.check()?;
        if self.0.queue.is_closed() { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Read`], [`StoreError::Poisoned`], [`StoreError::UnknownTable`].
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0.poison.check()?;
        self.0.engine.get(table_number(&self.0.tables, table)?, key)
    }

    /// A number that [`Batch::max`] keeps.
    ///
    /// # Errors
    /// As [`Db::get`]; [`StoreError::Corrupt`] also if the value is no number.
    pub fn get_u64(&self, table: &str, key: &[u8]) -> Result<Option<u64>, StoreError> {
        self.get(table, key)?.map(|value| number(table, &value)).transpose()
    }

    /// At most `limit` rows from the beginning of a range of keys.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub fn scan(
        &self,
        table: &str,
        range: impl RangeBounds<Vec<u8>>,
        limit: usize,
    ) -> Result<Rows, StoreError> {
        self.rows(table, owned(&range), limit, false)
    }

    /// At most `limit` rows from the end of a range of keys, the last one first.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub fn scan_rev(
        &self,
        table: &str,
        range: impl RangeBounds<Vec<u8>>,
        limit: usize,
    ) -> Result<Rows, StoreError> {
        self.rows(table, owned(&range), limit, true)
    }

    /// At most `limit` rows whose keys begin with `prefix`, in key order.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub fn scan_prefix(&self, table: &str, prefix: &[u8], limit: usize) -> Result<Rows, StoreError> {
        self.rows(table, prefixed(prefix), limit, false)
    }

    /// At most `limit` rows whose keys begin with `prefix`, the last one first.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub fn scan_prefix_rev(&self, table: &str, prefix: &[u8], limit: usize) -> Result<Rows, StoreError> {
        self.rows(table, prefixed(prefix), limit, true)
    }

    fn rows(&self, table: &str, range: KeyRange, limit: usize, backwards: bool) -> Result<Rows, StoreError> {
        self.0.poison.check()?;
        self.0.engine.scan(table_number(&self.0.tables, table)?, range, limit, backwards)
    }

    /// Writes a batch, or refuses it by one of its conditions. On disk when this returns `Ok`.
    ///
    /// Whoever drops the call before it returns doesn't know whether the batch was written.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], [`StoreError::UnknownTable`] and [`StoreError::Corrupt`] (of what a condition or
    /// maximum reads): nothing was written. [`StoreError::Poisoned`], [`StoreError::Closed`]: nobody knows.
    pub async fn commit(&self, batch: Batch) -> Result<Commit, StoreError> {
        let (answer, outcome) = oneshot::channel();
        self.submit(batch, move |outcome| {
            let _caller_is_gone = answer.send(outcome);
        });
        outcome.await.map_err(|_| StoreError::Closed)?
    }

    /// As [`Db::commit`], for those who don't wait: `done` is called with the outcome, on the writer's thread, and must
    /// be quick. Batches of one caller are committed in the order in which they were submitted, unless the queue is
    /// full. When the process stops `done` may be dropped instead.
    pub fn submit(&self, batch: Batch, done: impl FnOnce(Result<Commit, StoreError>) + Send + 'static) {
        if let Err(error) = self.0.poison.check().and_then(|()| batch.check()) {
            return done(Err(error));
        }
        let request = Request { batch, answer: Box::new(done) };
        match self.0.queue.try_send(request) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(request)) => (request.answer)(Err(StoreError::Closed)),
            Err(mpsc::error::TrySendError::Full(request)) => {
                let queue = self.0.queue.clone();
                self.0.tasks.spawn("store queue", async move {
                    if let Err(mpsc::error::SendError(request)) = queue.send(request).await {
                        (request.answer)(Err(StoreError::Closed));
                    }
                });
            }
        }
    }

    /// Removes all rows of a range of keys, step by step; returns how many. A row written meanwhile may stay.
    ///
    /// # Errors
    /// As [`Db::commit`]; some rows may be gone then.
    pub async fn delete_range(
        &self,
        table: &'static str,
        range: impl RangeBounds<Vec<u8>>,
    ) -> Result<u64, StoreError> {
        let KeyRange { mut lower, upper } = owned(&range);
        let mut deleted = 0;
        loop {
            let range = KeyRange { lower: lower.clone(), upper: upper.clone() };
            let rows = self.rows(table, range, DELETE_STEP, false)?;
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
        f.debug_struct("Db").field("service", &self.0.service).field("epoch", &self.0.epoch).finish()
    }
}

/// The declared tables and, after them, the store's own.
pub(crate) fn with_meta(tables: &[&'static str]) -> Vec<&'static str> {
    tables.iter().copied().chain([META]).collect()
}

fn owned(range: &impl RangeBounds<Vec<u8>>) -> KeyRange {
    KeyRange { lower: range.start_bound().cloned(), upper: range.end_bound().cloned() }
}

/// All keys that begin with `prefix`: up to the prefix with its last byte raised.
fn prefixed(prefix: &[u8]) -> KeyRange {
    let mut end = prefix.to_vec();
    while end.last() == Some(&u8::MAX) {
        end.pop();
    }
    let upper = match end.last_mut() {
        Some(last) => {
            *last += 1;
            Bound::Excluded(end)
        }
        None => Bound::Unbounded,
    };
    KeyRange { lower: Bound::Included(prefix.to_vec()), upper }
}
